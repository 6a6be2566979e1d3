package trainer_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
	"github.com/t5ctl/t5ctl/trainer"
)

// A trial tells the size and the time of each step, and leaves no weights behind.
func TestTrialKeepsNothing(t *testing.T) {
	batches := readTraining(t, filepath.Join(trainData, "training.json")).Batches
	devicetest.Each(t, func(t *testing.T, b *device.Backend) {
		base := openBase(t, filepath.Join(trainData, "model"))
		o := trainer.DefaultOptions()
		o.Method, o.Steps, o.LogEvery = trainer.Full, 2, 1
		dir, steps := t.TempDir(), 0
		_, err := trainer.Run(t.Context(), trainer.Job{
			Options: o, Config: base.Config, Base: base, Train: newFixedBatches(batches), Backend: b, Dir: dir, Trial: true,
			Sink: func(e trainer.Event) {
				if s, ok := e.(trainer.Stepped); ok {
					batch := batches[steps]
					elements := 0
					for _, row := range slices.Concat(batch.Inputs, batch.Labels) {
						elements += len(row)
					}
					if s.Elements != elements || s.Took <= 0 {
						t.Errorf("step %d: %d elements in %v, the batch has %d", s.Step, s.Elements, s.Took, elements)
					}
					steps++
				}
			},
		})
		if left, readErr := os.ReadDir(filepath.Join(dir, "checkpoints")); err != nil || readErr != nil || len(left) > 0 || steps != 2 {
			t.Errorf("%d steps, %d checkpoints, %v, %v", steps, len(left), err, readErr)
		}
	})
}
