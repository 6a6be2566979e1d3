package trainer_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
	"github.com/t5ctl/t5ctl/internal/safetensors"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
	"github.com/t5ctl/t5ctl/trainer"
)

// unevenBatches have 5 rows: on 2 or 4 devices some rows are padding.
func unevenBatches(packed bool) *fixedBatches {
	r := rand.New(rand.NewPCG(5, 6))
	ids := func(n int) []int32 {
		out := make([]int32, n)
		for i := range out {
			out[i] = 3 + r.Int32N(80)
		}
		return append(out[:n-1], 1)
	}
	f := &fixedBatches{}
	for range 4 {
		b := seq2seq.New(5, 16, 12)
		if packed {
			b = seq2seq.NewPacked(5, 16, 12)
		}
		for range 5 {
			examples := []seq2seq.Example{{ID: "a", Input: ids(2 + r.IntN(6)), Target: ids(1 + r.IntN(6))}}
			if packed {
				examples = append(examples, seq2seq.Example{ID: "b", Input: ids(2 + r.IntN(6)), Target: ids(1 + r.IntN(6))})
			}
			b.Append(examples...)
		}
		f.batches = append(f.batches, b)
	}
	return f
}

// Each device computes a part of every batch, and keeps a part of the gradients and moments; dropout,
// clipping, accumulation and evaluation are on.
func TestLossesOnSeveralDevicesAreThoseOfOne(t *testing.T) {
	b := devicetest.XLA(t)
	if have := b.NumDevices(); have < 4 {
		t.Fatalf("the plugin shows %d devices", have)
	}
	lora := func(j *trainer.Job) { j.Options.Method = trainer.LoRA }
	runs := map[string]func(*trainer.Job){
		"full, checkpointing, bf16 moments": func(j *trainer.Job) {
			j.Options.GradientCheckpointing, j.Options.Optimizer.State = true, "bf16"
		},
		"full, packed, adafactor": func(j *trainer.Job) {
			j.Options.Optimizer.Name, j.Train = "adafactor", unevenBatches(true)
		},
		"pairs": func(j *trainer.Job) {
			lora(j)
			j.Options.DPO, j.Options.Dropout = trainer.Preference{Beta: 0.1}, nil
			even := newFixedBatches(readTraining(t, filepath.Join(trainData, "training.json")).Batches[:4])
			j.Train, j.Validation = even, nil
		},
		"private": func(j *trainer.Job) {
			lora(j)
			j.Options.Accumulate, j.Options.Batch = 1, 5
			j.Options.DP = trainer.Privacy{Noise: 0.5, Clip: 0.5, Delta: 1e-3, Rows: 5}
			j.Train = lots{unevenBatches(false), 0.1}
		},
	}
	for name, change := range runs {
		t.Run(name, func(t *testing.T) {
			run := func(devices trainer.Devices) []float64 {
				j := job(t, b, "", trainer.Full)
				j.Train, j.Validation = unevenBatches(false), unevenBatches(false)
				j.Options.Devices, j.Options.SaveEvery, j.Options.Steps, j.Options.EvaluateEvery = devices, 0, 4, 2
				change(&j)
				return losses(t, j)
			}
			want, got := run("1"), run(trainer.AllDevices)
			for i := range want {
				if off := math.Abs(got[i]-want[i]) / want[i]; !(off <= 1e-5) {
					t.Errorf("step %d: loss %.7f, on one device %.7f (%.1e off)", i+1, got[i], want[i], off)
				}
			}
		})
	}
}

// A run on two devices ends where it would have, resumed or not, and its checkpoint has one copy of
// everything, as if one device had written it.
func TestRunOnTwoDevicesResumes(t *testing.T) {
	b := devicetest.XLA(t)
	on := func(devices trainer.Devices, dir string) trainer.Job {
		j := job(t, b, dir, trainer.Full)
		j.Options.Devices = devices
		return j
	}
	whole, broken := on("2", t.TempDir()), on("2", t.TempDir())
	if _, err := trainer.Run(context.Background(), whole); err != nil {
		t.Fatal(err)
	}
	ctx, sink := stopAt(7)
	broken.Sink = sink
	if _, err := trainer.Run(ctx, broken); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	again := on("2", broken.Dir)
	again.Resume = true
	if _, err := trainer.Run(context.Background(), again); err != nil {
		t.Fatal(err)
	}
	end := filepath.Join("checkpoints", "00000012")
	if weightsOf(t, filepath.Join(whole.Dir, end)) != weightsOf(t, filepath.Join(broken.Dir, end)) {
		t.Error("the resumed run ends with other weights")
	}
	alone := on("1", t.TempDir())
	if _, err := trainer.Run(context.Background(), alone); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"model.safetensors", "optimizer.safetensors"} {
		checkTensors(t, filepath.Join(whole.Dir, end, name), filepath.Join(alone.Dir, end, name))
	}
}

// checkTensors compares two files tensor by tensor.
func checkTensors(t *testing.T, got, want string) {
	t.Helper()
	open := func(path string) *safetensors.File {
		f, err := safetensors.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	g, w := open(got), open(want)
	for _, name := range w.Names() {
		a, ok := g.Tensor(name)
		b, _ := w.Tensor(name)
		if !ok || !slices.Equal(a.Shape, b.Shape) {
			t.Errorf("%s: %s has shape %v, want %v", got, name, a.Shape, b.Shape)
			continue
		}
		x, err := a.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		y, err := b.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		for i := range y {
			if off := math.Abs(float64(x[i] - y[i])); off > 1e-3 {
				t.Errorf("%s: %s[%d] is %g, on one device %g", got, name, i, x[i], y[i])
				break
			}
		}
	}
}

func TestDevicesThatAreNotThere(t *testing.T) {
	j := job(t, devicetest.Go(t), t.TempDir(), trainer.Full)
	j.Options.Devices = "2"
	_, err := trainer.Run(context.Background(), j)
	if e, ok := errors.AsType[*device.DevicesError](err); !ok || e.Want != 2 || e.Have != 1 {
		t.Errorf("error %v, want one that says how many devices there are", err)
	}
}
