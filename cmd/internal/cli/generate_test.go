package cli_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKilledGenerationGoesOn kills a process that generates, without warning, once it has written
// some rows; the same command goes on, and the rows are those of a run that nobody killed.
func TestKilledGenerationGoesOn(t *testing.T) {
	dir := t.TempDir()
	var rows strings.Builder
	for i := range 300 {
		fmt.Fprintf(&rows, "{\"id\": \"r%d\", \"input\": \"%s\"}\n", i, strings.Repeat("ab ", 1+i%7))
	}
	for name, text := range map[string]string{"tiny.yaml": tinyRecipe, "train.jsonl": strings.Repeat(`{"input": "one", "target": "1"}`+"\n", 8), "in.jsonl": rows.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "t5ctl", append([]string{"--backend", "go", "--json"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_STATE_HOME="+dir)
		return cmd
	}
	must := func(cmd *exec.Cmd) {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
		}
	}
	generate := func(output string) *exec.Cmd {
		return command("generate", "--model", "run", "--input", "in.jsonl", "--output", output, "--window", "10", "--batch", "4", "--max-new-tokens", "8", "--sample", "--seed", "3")
	}
	must(command("train", "tiny.yaml", "--output", "run", "--set", "train.steps=1"))
	must(generate("whole.jsonl"))
	for try := 1; !killedHalfway(t, generate("out.jsonl"), filepath.Join(dir, "out.jsonl")); try++ {
		if try == 20 {
			t.Fatal("the job was done every time before it could be killed")
		}
	}
	must(generate("out.jsonl"))
	whole, errWhole := os.ReadFile(filepath.Join(dir, "whole.jsonl"))
	got, errGot := os.ReadFile(filepath.Join(dir, "out.jsonl"))
	if err := errors.Join(errWhole, errGot); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(whole, got) {
		t.Errorf("the rows differ from those of a run that nobody killed: %d bytes, want %d", len(got), len(whole))
	}
}

// killedHalfway kills a job once it has begun to write. No says that it was done by then; what it
// wrote is removed.
func killedHalfway(t *testing.T, job *exec.Cmd, output string) bool {
	t.Helper()
	part := output + ".part.json"
	there := func(path string) bool { _, err := os.Stat(path); return err == nil }
	if err := job.Start(); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); !there(part) && !there(output); time.Sleep(time.Millisecond) {
		if time.Since(began) > time.Minute {
			_ = job.Process.Kill() // it may have ended by itself
			t.Fatalf("no %s", part)
		}
	}
	_ = job.Process.Kill() // it may have ended by itself
	_ = job.Wait()
	if there(part) {
		return true
	}
	if err := os.Remove(output); err != nil {
		t.Fatal(err)
	}
	return false
}
