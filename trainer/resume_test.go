package trainer_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/internal/lora"
	"github.com/t5ctl/t5ctl/trainer"
)

// job is a short run of the tiny model with dropout, so that resuming has random numbers to get
// right.
func job(t *testing.T, b *device.Backend, dir, method string) trainer.Job {
	t.Helper()
	o := trainer.DefaultOptions()
	dropout := 0.1
	o.Method, o.Steps, o.SaveEvery, o.EvaluateEvery, o.LogEvery, o.Dropout, o.Seed = method, 12, 3, 4, 1, &dropout, 5
	o.LoRA = lora.Options{Rank: 2, Alpha: 4, Dropout: 0.1, Targets: []string{"q", "wo"}}
	o.Accumulate = 2
	o.Keep = trainer.Keep{Best: 1, Last: 2}
	base := openBase(t, filepath.Join(trainData, "model"))
	batches := readTraining(t, filepath.Join(trainData, "training.json")).Batches
	return trainer.Job{
		Options: o, Config: base.Config, Base: base, Train: newFixedBatches(batches[:5]), Validation: newFixedBatches(batches[5:]),
		Backend: b, Dir: dir, Fingerprint: "sha256:one",
	}
}

// weightsOf digests the tensors of a checkpoint.
func weightsOf(t *testing.T, path string) string {
	t.Helper()
	sums := ""
	for _, name := range []string{"model.safetensors", "adapter_model.safetensors", "optimizer.safetensors"} {
		sum, _, err := digest.File(filepath.Join(path, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		sums += sum
	}
	return sums
}

// stopAt cancels a run after a step, as SIGINT does.
func stopAt(step int) (context.Context, trainer.Sink) {
	ctx, cancel := context.WithCancel(context.Background())
	return ctx, func(e trainer.Event) {
		if s, ok := e.(trainer.Stepped); ok && s.Step == step {
			cancel()
		}
	}
}

func TestResumedRunEndsBitForBitWhereTheOtherDid(t *testing.T) {
	b := devicetest.Go(t)
	for _, method := range []string{trainer.Full, trainer.LoRA} {
		t.Run(method, func(t *testing.T) {
			whole := job(t, b, t.TempDir(), method)
			if _, err := trainer.Run(context.Background(), whole); err != nil {
				t.Fatal(err)
			}
			want := weightsOf(t, filepath.Join(whole.Dir, "checkpoints", "00000012"))
			for _, step := range []int{1, 4, 7, 11} {
				broken := job(t, b, t.TempDir(), method)
				ctx, sink := stopAt(step)
				broken.Sink = sink
				_, err := trainer.Run(ctx, broken)
				if stopped, ok := errors.AsType[*trainer.InterruptedError](err); !ok || stopped.Step != step {
					t.Fatalf("stopped at %d: %v", step, err)
				}
				again := job(t, b, broken.Dir, method)
				again.Resume = true
				result, err := trainer.Run(context.Background(), again)
				if err != nil {
					t.Fatal(err)
				}
				if got := weightsOf(t, filepath.Join(broken.Dir, "checkpoints", "00000012")); got != want {
					t.Errorf("stopped at %d: the resumed run ends with other weights", step)
				}
				if result.Step != 12 {
					t.Errorf("stopped at %d: resumed to %d", step, result.Step)
				}
			}
		})
	}
}

// A device that goes away between two steps ends the run with an error that names the checkpoint,
// which is whole: another process goes on from there and ends where the run would have.
func TestLostDeviceKeepsTheLastCheckpoint(t *testing.T) {
	whole := job(t, devicetest.XLA(t), t.TempDir(), trainer.Full)
	if _, err := trainer.Run(context.Background(), whole); err != nil {
		t.Fatal(err)
	}
	b, err := device.Open(device.CPU)
	if err != nil {
		t.Fatal(err)
	}
	lost := job(t, b, t.TempDir(), trainer.Full)
	lost.Sink = func(e trainer.Event) {
		if s, ok := e.(trainer.Stepped); ok && s.Step == 8 {
			b.Finalize()
		}
	}
	_, err = trainer.Run(context.Background(), lost)
	e, ok := errors.AsType[*trainer.StepError](err)
	if !ok || e.Step != 9 && e.Step != 8 || filepath.Base(e.Checkpoint) == "." {
		t.Fatalf("error %v, want one that names step and checkpoint", err)
	}
	if _, err := trainer.ReadState(e.Checkpoint); err != nil {
		t.Errorf("checkpoint %s: %v", e.Checkpoint, err)
	}
	again := job(t, devicetest.XLA(t), lost.Dir, trainer.Full)
	again.Resume = true
	if _, err := trainer.Run(context.Background(), again); err != nil {
		t.Fatal(err)
	}
	end := filepath.Join("checkpoints", "00000012")
	if weightsOf(t, filepath.Join(lost.Dir, end)) != weightsOf(t, filepath.Join(whole.Dir, end)) {
		t.Error("the run that went on ends with other weights")
	}
}

func TestDamagedCheckpointIsPassedOver(t *testing.T) {
	b := devicetest.Go(t)
	first := job(t, b, t.TempDir(), trainer.Full)
	first.Options.Keep.Last = 3
	if _, err := trainer.Run(context.Background(), first); err != nil {
		t.Fatal(err)
	}
	want := weightsOf(t, filepath.Join(first.Dir, "checkpoints", "00000012"))
	damaged := filepath.Join(first.Dir, "checkpoints", "00000012", "model.safetensors")
	if err := os.Truncate(damaged, 1000); err != nil {
		t.Fatal(err)
	}
	again := job(t, b, first.Dir, trainer.Full)
	again.Options.Keep.Last = 3
	again.Resume = true
	var passed, from int
	again.Sink = func(e trainer.Event) {
		switch e := e.(type) {
		case trainer.Damaged:
			passed++
		case trainer.Started:
			from = e.Step
		}
	}
	if _, err := trainer.Run(context.Background(), again); err != nil {
		t.Fatal(err)
	}
	if passed != 1 || from == 0 || from == 12 {
		t.Errorf("passed over %d, went on from %d", passed, from)
	}
	if got := weightsOf(t, filepath.Join(first.Dir, "checkpoints", "00000012")); got != want {
		t.Error("the run that went past the damaged checkpoint ends with other weights")
	}
}

func TestOtherRunIsNotResumed(t *testing.T) {
	b := devicetest.Go(t)
	first := job(t, b, t.TempDir(), trainer.Full)
	first.Options.Steps = 1
	if _, err := trainer.Run(context.Background(), first); err != nil {
		t.Fatal(err)
	}
	other := job(t, b, first.Dir, trainer.Full)
	other.Resume, other.Fingerprint = true, "sha256:two"
	_, err := trainer.Run(context.Background(), other)
	if _, ok := errors.AsType[*trainer.OtherRunError](err); !ok {
		t.Errorf("resumed another run: %v", err)
	}
}

func TestNotANumberStopsTheRunAndKeepsTheLastCheckpoint(t *testing.T) {
	b := devicetest.Go(t)
	for _, c := range []struct {
		rate, zLoss float64
		step        int
		first       string
	}{
		{rate: 1e30, step: 2, first: "the gradient of shared.weight"},
		{rate: 1e-3, zLoss: 1e38, step: 1, first: "the loss"},
	} {
		j := job(t, b, t.TempDir(), trainer.Full)
		j.Options.Accumulate, j.Options.ClipNorm, j.Options.SaveEvery = 1, 0, 1
		j.Options.Optimizer.LearningRate, j.Options.ZLoss = c.rate, c.zLoss
		j.Validation, j.TraceNaN = nil, true
		_, err := trainer.Run(context.Background(), j)
		bad, ok := errors.AsType[*trainer.NonFiniteError](err)
		if !ok {
			t.Fatalf("want a NonFiniteError, got %v", err)
		}
		if bad.Step != c.step || len(bad.Rows) != 4 || bad.First != c.first {
			t.Errorf("step %d, rows %v, first in %q; want %+v", bad.Step, bad.Rows, bad.First, c)
		}
		if c.step == 1 {
			continue // nothing was saved
		}
		if _, err := trainer.ReadState(bad.Checkpoint); err != nil {
			t.Errorf("the last checkpoint is not whole: %v", err)
		}
	}
}

func TestBestCheckpointAndEarlyStopping(t *testing.T) {
	b := devicetest.Go(t)
	j := job(t, b, t.TempDir(), trainer.Full)
	j.Options.Steps, j.Options.EvaluateEvery, j.Options.SaveEvery = 40, 1, 0
	j.Options.EarlyStopping = trainer.EarlyStopping{Patience: 2}
	j.Options.Optimizer.LearningRate = 0.05 // too large: the validation loss soon rises
	best, bestStep := math.Inf(1), 0
	j.Sink = func(e trainer.Event) {
		if v, ok := e.(trainer.Evaluated); ok && v.Metrics["loss"] < best {
			best, bestStep = v.Metrics["loss"], v.Step
		}
	}
	result, err := trainer.Run(context.Background(), j)
	if err != nil {
		t.Fatal(err)
	}
	if result.Step == 40 || result.Step != bestStep+2 {
		t.Errorf("stopped at %d, best at %d", result.Step, bestStep)
	}
	state, err := trainer.ReadState(result.Checkpoint)
	if err != nil || state.Step != bestStep || result.Metrics["loss"] != best {
		t.Errorf("the result is step %d with loss %g (%v), want step %d with %g", state.Step, result.Metrics["loss"], err, bestStep, best)
	}
}
