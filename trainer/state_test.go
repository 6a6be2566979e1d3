package trainer_test

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
	"github.com/t5ctl/t5ctl/internal/safetensors"
	"github.com/t5ctl/t5ctl/trainer"
)

// A number between two of bfloat16 becomes one of them, so often that the mean is the number; one
// that bfloat16 has stays.
func TestRoundingIsRightOnAverage(t *testing.T) {
	const n = 1 << 14
	devicetest.Each(t, func(t *testing.T, b *device.Backend) {
		for _, x := range []float64{1, -2.5, 0, 1 + 1./1024, -(1 + 3./512), 3.1e-9, 777.77} {
			inputs := []device.Input{{Name: "x", Shape: shapes.Make(dtypes.Float32, n)}, {Name: "key", Shape: shapes.Make(dtypes.Uint32)}}
			p, err := b.Compile("rounded", inputs, func(in []*Node) []*Node {
				return []*Node{ConvertDType(trainer.Rounded(in[0], in[1]), dtypes.Float32)}
			})
			if err != nil {
				t.Fatal(err)
			}
			values := make([]float32, n)
			for i := range values {
				values[i] = float32(x)
			}
			in, err := b.Float32(values, n)
			if err != nil {
				t.Fatal(err)
			}
			key, err := tensors.FromRaw(b.Backend, 0, shapes.Make(dtypes.Uint32), dtypes.UnsafeByteSlice([]uint32{12345}))
			if err != nil {
				t.Fatal(err)
			}
			out, err := p.Run([]*tensors.Tensor{in, key}, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := tensors.CopyFlatData[float32](out[0])
			if err != nil {
				t.Fatal(err)
			}
			p.Close()
			step := math.Abs(x) / 128 // of bfloat16, at most
			sum := 0.0
			for _, v := range got {
				if d := math.Abs(float64(v) - x); d > step {
					t.Fatalf("%g became %g", x, v)
				}
				if exact := math.Float32bits(float32(x))&0xFFFF == 0; exact && float64(v) != x {
					t.Fatalf("%g, which is exact, became %g", x, v)
				}
				sum += float64(v)
			}
			if off := math.Abs(sum/n - float64(float32(x))); off > 4*step/2/math.Sqrt(n) {
				t.Errorf("%g is %g on average", x, sum/n)
			}
		}
	})
}

// Moments in bfloat16 take half the room, keep up with those in float32, and resume bit for bit.
func TestMomentsInBFloat16(t *testing.T) {
	b := devicetest.Go(t)
	start := func(dir, state string) trainer.Job {
		j := job(t, b, dir, trainer.Full)
		none := 0.0
		j.Options.Optimizer.State, j.Options.Dropout, j.Options.Steps, j.Options.Optimizer.Beta2 = state, &none, 60, 0.99
		j.Options.Accumulate, j.Options.SaveEvery, j.Options.EvaluateEvery, j.Options.Optimizer.LearningRate = 1, 20, 0, 3e-4
		return j
	}
	sums := map[string]float64{}
	sizes := map[string]int{}
	final := map[string]float64{}
	var kept string
	for _, state := range []string{"fp32", "bf16"} {
		result, err := trainer.Run(context.Background(), start(t.TempDir(), state))
		if err != nil {
			t.Fatal(err)
		}
		final[state] = result.Metrics["loss"]
		kept = result.Checkpoint
		file, err := safetensors.Open(filepath.Join(result.Checkpoint, "optimizer.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range file.Names() {
			tensor, _ := file.Tensor(name)
			sizes[state] += len(tensor.Data)
			if len(name) > 11 && name[:11] == "exp_avg_sq." {
				for _, v := range values(t, file, name) {
					sums[state] += float64(v)
				}
			}
		}
		_ = file.Close()
	}
	if sizes["fp32"] != 2*sizes["bf16"] {
		t.Errorf("moments of %d bytes in fp32 and %d in bf16", sizes["fp32"], sizes["bf16"])
	}
	t.Logf("second moments %.6g and %.6g, validation losses %.6f and %.6f", sums["fp32"], sums["bf16"], final["fp32"], final["bf16"])
	if off := math.Abs(sums["bf16"]/sums["fp32"] - 1); off > 0.01 {
		t.Errorf("the second moments are %.2g off", off)
	}
	if off := math.Abs(final["bf16"]/final["fp32"] - 1); off > 0.005 {
		t.Errorf("the loss is %.2g off", off)
	}
	broken := start(t.TempDir(), "bf16")
	ctx, sink := stopAt(33)
	broken.Sink = sink
	if _, err := trainer.Run(ctx, broken); err == nil {
		t.Fatal("was not stopped")
	}
	again := start(broken.Dir, "bf16")
	again.Resume = true
	resumed, err := trainer.Run(context.Background(), again)
	if err != nil {
		t.Fatal(err)
	}
	if weightsOf(t, resumed.Checkpoint) != weightsOf(t, kept) {
		t.Error("the resumed run ends with other weights")
	}
}
