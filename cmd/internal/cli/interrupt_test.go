package cli_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

const tinyRecipe = `version: 1
name: tiny
model: {vocab_size: 384, d_model: 16, d_kv: 8, d_ff: 32, num_layers: 1, num_heads: 2}
tokenizer: {mode: bytes}
data: {train: train.jsonl, max_input: 12, max_target: 8, max_buckets: 1}
train: {method: full, steps: 60, batch: 4, log_every: 1}
`

// TestInterruptAndResume sends SIGINT to a process that trains, as Ctrl-C does: it saves, exits
// with 130, tells how to go on, and going on ends the run.
func TestInterruptAndResume(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("windows has no SIGINT that a program can send")
	}
	dir := t.TempDir()
	rows := strings.Repeat(`{"input": "one", "target": "1"}`+"\n", 40)
	for name, text := range map[string]string{"tiny.yaml": tinyRecipe, "train.jsonl": rows} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "t5ctl", append([]string{"train", "tiny.yaml", "--backend", "go", "--json", "--output", "run"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_STATE_HOME="+dir)
		return cmd
	}
	code, hint := interruptAtFirstStep(t, command())
	if code != 130 || hint != "--resume --output run goes on from there" {
		t.Fatalf("exit code %d, hint %q; want 130 and how to go on", code, hint)
	}
	var stdout, stderr bytes.Buffer
	again := command("--resume")
	again.Stdout, again.Stderr = &stdout, &stderr
	if err := again.Run(); err != nil {
		t.Fatalf("going on: %v\n%s", err, stderr.String())
	}
	var result struct{ Steps int }
	if err := json.Unmarshal(stdout.Bytes(), &result); err != nil || result.Steps != 60 {
		t.Errorf("went on to step %d (%v); want 60:\n%s", result.Steps, err, stdout.String())
	}
}

// interruptAtFirstStep starts a training and interrupts it once it has made a step.
func interruptAtFirstStep(t *testing.T, cmd *exec.Cmd) (code int, hint string) {
	t.Helper()
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sent := false
	var last struct {
		Event string
		Error struct{ Hint string }
	}
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
			t.Errorf("stderr has %q, which is no JSON", lines.Text())
		}
		if last.Event == "step" && !sent {
			sent = true
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // the exit code is what is looked at
	return cmd.ProcessState.ExitCode(), last.Error.Hint
}
