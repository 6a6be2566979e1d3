package trainer_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
	"github.com/t5ctl/t5ctl/trainer"
)

// Six examples train a model alike whether each has a row of its own or three share one.
func TestPackedLossesAreThoseOfUnpackedRows(t *testing.T) {
	const longest = 9
	r := rand.New(rand.NewPCG(3, 4))
	ids := func(n int) []int32 {
		out := make([]int32, n)
		for i := range out {
			out[i] = 3 + r.Int32N(80)
		}
		out[n-1] = 1
		return out
	}
	var plain, packed fixedBatches
	for range 3 {
		var examples []seq2seq.Example
		for i := range 6 {
			examples = append(examples, seq2seq.Example{ID: fmt.Sprint(i), Input: ids(2 + r.IntN(longest-1)), Target: ids(1 + r.IntN(longest))})
		}
		alone, together := seq2seq.New(6, longest, longest), seq2seq.NewPacked(3, 3*longest, 3*longest+2)
		for _, e := range examples {
			alone.Append(e)
		}
		together.Append(examples[:3]...)
		together.Append(examples[3:]...) // the third row stays empty
		plain.batches, packed.batches = append(plain.batches, alone), append(packed.batches, together)
	}
	for _, name := range []string{"t5-1.0", "t5-1.1", "umt5"} {
		devicetest.Each(t, func(t *testing.T, b *device.Backend) {
			base := openBase(t, filepath.Join("../internal/t5/testdata", name))
			o := trainer.DefaultOptions()
			none := 0.0
			o.Method, o.Steps, o.LogEvery, o.Dropout = trainer.Full, 6, 1, &none
			run := func(batches fixedBatches) []float64 {
				return losses(t, trainer.Job{Options: o, Config: base.Config, Base: base, Train: &batches, Backend: b})
			}
			want, got := run(plain), run(packed)
			for i := range want {
				if off := math.Abs(got[i]-want[i]) / want[i]; !(off <= 1e-5) {
					t.Errorf("%s, step %d: loss %.7f packed, %.7f unpacked (%.1e off)", name, i+1, got[i], want[i], off)
				}
			}
		})
	}
}

// Checkpointing changes what is kept and not what is computed: the dropout masks are the same too.
func TestGradientCheckpointingKeepsTheLosses(t *testing.T) {
	batches := readTraining(t, filepath.Join(trainData, "training.json")).Batches
	devicetest.Each(t, func(t *testing.T, b *device.Backend) {
		base := openBase(t, filepath.Join(trainData, "model"))
		run := func(checkpointing bool) []float64 {
			o := trainer.DefaultOptions()
			dropout := 0.1
			o.Method, o.Steps, o.LogEvery, o.Dropout, o.GradientCheckpointing = trainer.Full, 6, 1, &dropout, checkpointing
			return losses(t, trainer.Job{Options: o, Config: base.Config, Base: base, Train: newFixedBatches(batches), Backend: b})
		}
		want, got := run(false), run(true)
		for i := range want {
			if off := math.Abs(got[i]-want[i]) / want[i]; !(off <= 1e-5) {
				t.Errorf("step %d: loss %.7f, %.7f without checkpointing (%.1e off)", i+1, got[i], want[i], off)
			}
		}
	})
}
