package trainer_test

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
	"github.com/t5ctl/t5ctl/trainer"
)

// The last product of a feed-forward layer is linear: with weights a thousand times as large its peak is a thousand times
// as high, and no layer before it changes.
func TestPeaksFollowTheWeightsOfALayer(t *testing.T) {
	batches := newFixedBatches(readTraining(t, filepath.Join(trainData, "training.json")).Batches)
	var two []seq2seq.Batch
	for range 2 {
		batch, err := batches.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		two = append(two, batch)
	}
	const at, factor = "encoder.block.1.layer.1.DenseReluDense.wo", 1000
	devicetest.Each(t, func(t *testing.T, b *device.Backend) {
		base := openBase(t, filepath.Join(trainData, "model"))
		before, err := trainer.Peaks(b, base, two)
		if err != nil {
			t.Fatal(err)
		}
		one, err := trainer.Peaks(b, base, two[:1])
		if err != nil {
			t.Fatal(err)
		}
		base.Change = func(name string, values []float32) []float32 {
			if name != at+".weight" {
				return values
			}
			larger := make([]float32, len(values))
			for i, v := range values {
				larger[i] = factor * v
			}
			return larger
		}
		after, err := trainer.Peaks(b, base, two)
		if err != nil {
			t.Fatal(err)
		}
		passed := false
		for i := range after {
			want := before[i].Largest
			if one[i].Largest > want {
				t.Errorf("%s: a batch alone gives %g, with another one %g", one[i].Layer, one[i].Largest, want)
			}
			if after[i].Layer == at {
				passed, want = true, factor*want
			}
			if off := math.Abs(after[i].Largest/want - 1); (!passed || after[i].Layer == at) && !(off < 1e-4) {
				t.Errorf("%s: %g, want %g", after[i].Layer, after[i].Largest, want)
			}
		}
		if last := after[len(after)-1]; !passed || last.Layer != "logits" || !strings.HasPrefix(after[0].Layer, "encoder.block.0.") {
			t.Errorf("the layers are %v", after)
		}
	})
}
