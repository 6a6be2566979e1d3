//go:build unix

package cli_test

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/trainer"
)

const killRecipe = `version: 1
name: killed
model: {vocab_size: 384, d_model: 16, d_kv: 4, d_ff: 24, num_layers: 1, num_heads: 2}
tokenizer: {mode: bytes}
data: {train: data.jsonl, validation: data.jsonl, max_input: 40, max_target: 40, max_buckets: 3, packing: %t}
train:
  method: full
  steps: %d
  batch: 4
  accumulate: 2
  dropout: 0.1
  seed: 7
  save_every: 1
  evaluate_every: 50
  keep: {best: 1, last: 3}
`

// TestKilledRunsEndBitForBitTheSame kills runs of the tool itself with SIGKILL, over and over, and
// lets each go on: with checkpoints that are written while training goes on, batches by length and
// rows of several examples. T5CTL_TEST_KILLS asks for more kills of each, T5CTL_TEST_KILL_BACKEND for
// another backend than pure Go.
func TestKilledRunsEndBitForBitTheSame(t *testing.T) {
	kills, err := strconv.Atoi(cmp.Or(os.Getenv("T5CTL_TEST_KILLS"), "2"))
	if err != nil {
		t.Fatal(err)
	}
	for name, packing := range map[string]bool{"buckets": false, "packing": true} {
		t.Run(name, func(t *testing.T) {
			steps := 50 + 10*kills
			dir := killData(t, packing, steps)
			if out, err := trainIn(dir, "whole").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			want := finalsOf(t, filepath.Join(dir, "whole"))
			moments := rand.New(rand.NewPCG(11, 12))
			saves, ended := 0, false
			done := 0
			for ; done < kills && !ended; done++ {
				ended = killTraining(t, dir, time.Duration(moments.IntN(150))*time.Millisecond)
				if left, err := filepath.Glob(filepath.Join(dir, "killed", "checkpoints", ".*")); err == nil && len(left) > 0 {
					saves++
				}
			}
			if ended {
				t.Fatalf("the run came to its end after %d of %d kills", done-1, kills)
			}
			if out, err := trainIn(dir, "killed").CombinedOutput(); err != nil {
				t.Fatalf("the last process failed: %v\n%s", err, out)
			}
			if got := finalsOf(t, filepath.Join(dir, "killed")); got != want {
				t.Errorf("the killed run ends with other weights or moments:\n%s\nwant\n%s", got, want)
			}
			t.Logf("faults: training on "+killBackend()+", %s: %d processes killed, %d of them within a save; weights and moments after %d steps are bit for bit those of the run that was not", name, done, saves, steps)
		})
	}
}

func killBackend() string { return cmp.Or(os.Getenv("T5CTL_TEST_KILL_BACKEND"), "go") }

// killData writes the recipe and rows of many lengths.
func killData(t *testing.T, packing bool, steps int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	var rows strings.Builder
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		word := make([]byte, 1+r.IntN(30))
		for i := range word {
			word[i] = 'a' + byte(r.IntN(26))
		}
		fmt.Fprintf(&rows, "{\"input\": %q, \"target\": %q}\n", word, word[:1+len(word)/2])
	}
	for name, text := range map[string]string{"data.jsonl": rows.String(), "recipe.yaml": fmt.Sprintf(killRecipe, packing, steps)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// trainIn is a process that trains in a run folder, or goes on there.
func trainIn(dir, run string) *exec.Cmd {
	cmd := exec.Command("t5ctl", "--backend", killBackend(), "--quiet", "train", "recipe.yaml", "--output", run)
	if _, err := os.Stat(filepath.Join(dir, run, "run.json")); err == nil {
		cmd.Args = append(cmd.Args, "--resume")
	}
	cmd.Dir = dir
	return cmd
}

// killTraining runs a process until it has saved once, lets it go on for a moment, and kills it.
// It says whether the process had ended by itself.
func killTraining(t *testing.T, dir string, moment time.Duration) (ended bool) {
	t.Helper()
	run := filepath.Join(dir, "killed")
	var out strings.Builder
	cmd := trainIn(dir, "killed")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	for before := newestStep(t, run); newestStep(t, run) == before; {
		select {
		case err := <-exited:
			if err != nil {
				t.Fatalf("the process failed by itself: %v\n%s", err, out.String())
			}
			return true
		case <-time.After(time.Millisecond):
		}
	}
	time.Sleep(moment)
	_ = cmd.Process.Kill() // it may have ended just now
	return <-exited == nil
}

func newestStep(t *testing.T, run string) int {
	t.Helper()
	steps, err := trainer.Steps(run)
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) == 0 {
		return 0
	}
	return steps[len(steps)-1]
}

// finalsOf digests the model, and weights and moments of the last checkpoint.
func finalsOf(t *testing.T, run string) string {
	t.Helper()
	var sums []string
	last := filepath.Join(run, "checkpoints", fmt.Sprintf("%08d", newestStep(t, run)))
	for _, path := range []string{filepath.Join(run, "model", "model.safetensors"), filepath.Join(last, "model.safetensors"), filepath.Join(last, "optimizer.safetensors")} {
		sum, _, err := digest.File(path)
		if errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		sums = append(sums, filepath.Base(filepath.Dir(path))+"/"+filepath.Base(path)+" "+sum)
	}
	return strings.Join(sums, "\n")
}
