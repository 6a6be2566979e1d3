//go:build linux

package cli_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/internal/device/devicetest"
)

const planRecipe = `version: 1
name: planned
model: {vocab_size: 16000, d_model: 512, d_kv: 64, d_ff: 1024, num_layers: 3, num_heads: 8}
tokenizer: {mode: bytes}
data: {train: rows.jsonl, max_input: 64, max_target: 32, max_buckets: 1}
train: {method: full, steps: 3, batch: 8}
`

// TestPlanForeseesThePeakOfMemory runs what was planned and compares with the kernel's figure for
// the process, as run.json has it.
func TestPlanForeseesThePeakOfMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("trains models of 24 and 46 million weights")
	}
	devicetest.XLA(t)
	dir := t.TempDir()
	row := `{"input": "` + strings.Repeat("a word ", 9) + `", "target": "` + strings.Repeat("word ", 6) + `"}` + "\n"
	lora := strings.Replace(strings.Replace(planRecipe, "model: {vocab_size: 16000, d_model: 512, d_kv: 64, d_ff: 1024, num_layers: 3, num_heads: 8}\n", "base: large/model\n", 1), "method: full", "method: lora", 1)
	for name, text := range map[string]string{"rows.jsonl": strings.Repeat(row, 16), "recipe.yaml": planRecipe, "lora.yaml": lora} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, command, recipe string
		sets                  []string
	}{
		{"small", "train", "recipe.yaml", nil},
		{"large", "train", "recipe.yaml", []string{"model.vocab_size=384", "model.d_ff=4096", "model.num_layers=4", "train.accumulate=2", "train.save_every=1"}},
		{"adapter", "finetune", "lora.yaml", []string{"train.batch=16"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var sets []string
			for _, s := range c.sets {
				sets = append(sets, "--set", s)
			}
			var plan struct {
				Memory struct {
					Peak     float64 `json:"peak"`
					Compiled bool    `json:"compiled"`
				} `json:"memory"`
			}
			if err := json.Unmarshal(tool(t, dir, append([]string{"--json", "plan", "--measure", "0", c.recipe}, sets...)...), &plan); err != nil {
				t.Fatal(err)
			}
			tool(t, dir, append([]string{"--quiet", c.command, c.recipe, "--output", c.name}, sets...)...)
			var run struct {
				Peak float64 `json:"peak_memory"`
			}
			data, err := os.ReadFile(filepath.Join(dir, c.name, "run.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(data, &run); err != nil {
				t.Fatal(err)
			}
			off := plan.Memory.Peak/run.Peak - 1
			t.Logf("planned %.0f MiB, the run took %.0f MiB (%+.1f %%)", plan.Memory.Peak/(1<<20), run.Peak/(1<<20), 100*off)
			if !plan.Memory.Compiled || !(math.Abs(off) <= 0.15) {
				t.Errorf("planned %.0f bytes (compiled: %v), the run took %.0f", plan.Memory.Peak, plan.Memory.Compiled, run.Peak)
			}
		})
	}
}

// TestPlanNamesTheNearestSettingsThatFit asks for less memory than the run takes, but not much less.
func TestPlanNamesTheNearestSettingsThatFit(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a step of a model of 24 million weights")
	}
	devicetest.XLA(t)
	dir := t.TempDir()
	row := `{"input": "` + strings.Repeat("word ", 12) + `", "target": "` + strings.Repeat("word ", 12) + `"}` + "\n"
	for name, text := range map[string]string{"rows.jsonl": strings.Repeat(row, 32), "recipe.yaml": planRecipe} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sets := []string{"plan", "recipe.yaml", "--json", "--measure", "0", "--set", "data.max_target=64", "--set", "train.batch=32"}
	var plan struct {
		Memory struct{ Peak, Activations float64 } `json:"memory"`
	}
	if err := json.Unmarshal(tool(t, dir, sets...), &plan); err != nil {
		t.Fatal(err)
	}
	less := strconv.Itoa(int(plan.Memory.Peak - plan.Memory.Activations/3))
	cmd := exec.Command("t5ctl", append(sets, "--memory", less)...)
	cmd.Dir = dir
	var problem strings.Builder
	cmd.Stderr = &problem
	_, err := cmd.Output()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 3 || !strings.Contains(problem.String(), "--set train.gradient_checkpointing=true") {
		t.Errorf("%v: %s", err, problem.String())
	}
}

// tool runs t5ctl in dir and gives what it wrote to stdout.
func tool(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("t5ctl", args...)
	cmd.Dir = dir
	var problem strings.Builder
	cmd.Stderr = &problem
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("t5ctl %s: %v\n%s", strings.Join(args, " "), err, problem.String())
	}
	return out
}
