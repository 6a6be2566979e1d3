//go:build unix

package trainer_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
	"github.com/t5ctl/t5ctl/trainer"
)

// childDir makes this test binary a training process over that run folder, which the parent
// kills or starves of disk.
const childDir = "T5CTL_TEST_TRAIN_IN"

func TestTrainingProcess(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		t.Skip("started by the tests of crashes only")
	}
	j := crashJob(t, devicetest.Go(t), dir)
	j.Resume = true
	if _, err := trainer.Run(context.Background(), j); err != nil {
		t.Fatal(err)
	}
}

// crashJob saves at every step, so that most kills hit a save.
func crashJob(t *testing.T, b *device.Backend, dir string) trainer.Job {
	t.Helper()
	j := job(t, b, dir, trainer.Full)
	j.Options.Steps, j.Options.SaveEvery, j.Options.EvaluateEvery = crashSteps(t), 1, 5
	return j
}

// child starts this test binary as a training process over dir.
func child(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestTrainingProcess$")
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	return cmd
}

func TestKilledTrainingGoesOnAndEndsBitForBitTheSame(t *testing.T) {
	b := devicetest.Go(t)
	whole := crashJob(t, b, t.TempDir())
	if _, err := trainer.Run(context.Background(), whole); err != nil {
		t.Fatal(err)
	}
	last := fmt.Sprintf("%08d", crashSteps(t))
	want := weightsOf(t, filepath.Join(whole.Dir, "checkpoints", last))

	dir := t.TempDir()
	moments := rand.New(rand.NewPCG(1, 2))
	kills := killsWanted(t)
	killed := 0
	for range kills {
		if !killAfterProgress(t, dir, time.Duration(moments.IntN(80))*time.Millisecond) {
			break
		}
		killed++
	}
	if out, err := child(t, dir).CombinedOutput(); err != nil {
		t.Fatalf("the resumed process failed: %v\n%s", err, out)
	}
	if got := weightsOf(t, filepath.Join(dir, "checkpoints", last)); got != want {
		t.Error("the run that was killed ends with other weights")
	}
	checkNoLeftovers(t, dir)
	t.Logf("faults: the trainer alone: %d processes killed; weights and moments are bit for bit those of the run that was not", killed)
}

// killsWanted is few by default; T5CTL_TEST_KILLS asks for more.
func killsWanted(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv("T5CTL_TEST_KILLS"), "8"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// crashSteps is enough for every kill to find the run under way.
func crashSteps(t *testing.T) int { return 30 + 8*max(0, killsWanted(t)-8) }

// killAfterProgress runs a process until it has saved once, lets it go on for a moment, and kills
// it. It says false if the process came to its end before that.
func killAfterProgress(t *testing.T, dir string, moment time.Duration) bool {
	t.Helper()
	cmd := child(t, dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	before := newest(t, dir)
	for newest(t, dir) == before {
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("the process failed by itself: %v", err)
			}
			return false
		case <-time.After(time.Millisecond):
		}
	}
	time.Sleep(moment)
	_ = cmd.Process.Kill() // it may have ended just now
	<-done
	return true
}

func newest(t *testing.T, dir string) int {
	t.Helper()
	steps, err := trainer.Steps(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) == 0 {
		return 0
	}
	return steps[len(steps)-1]
}

// checkNoLeftovers says that every checkpoint is whole and that what killed processes left
// half-written is gone.
func checkNoLeftovers(t *testing.T, dir string) {
	t.Helper()
	steps, err := trainer.Steps(dir)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "checkpoints", ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	for _, step := range steps {
		if _, err := trainer.ReadState(filepath.Join(dir, "checkpoints", fmt.Sprintf("%08d", step))); err != nil {
			t.Errorf("checkpoint %d counts but is not whole: %v", step, err)
		}
	}
}

// TestFullDiskKeepsTheLastCheckpoint bounds the size of files, which fails a save as a full disk
// does, after some checkpoints were saved.
func TestFullDiskKeepsTheLastCheckpoint(t *testing.T) {
	b := devicetest.Go(t)
	dir := t.TempDir()
	first := crashJob(t, b, dir)
	first.Options.Steps = 30
	ctx, sink := stopAt(3)
	first.Sink = sink
	if _, err := trainer.Run(ctx, first); err == nil {
		t.Fatal("the run was not stopped")
	}
	saved := filepath.Join(dir, "checkpoints", "00000003")
	want := weightsOf(t, saved)

	cmd := exec.Command("sh", "-c", "ulimit -f 8; exec \"$0\" -test.run=^TestTrainingProcess$", os.Args[0]) // 4 kB
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); !failed {
		t.Fatalf("the process did not fail: %v", err)
	}
	if !strings.Contains(string(out), "saving checkpoint 4") {
		t.Errorf("the failure does not say what was being saved: %s", out)
	}
	if got := weightsOf(t, saved); got != want {
		t.Error("the last checkpoint changed")
	}
	left, err := filepath.Glob(filepath.Join(dir, "checkpoints", ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
