package trainer_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
	"github.com/t5ctl/t5ctl/trainer"
)

// The losses come from torch (internal/t5/testdata/gen/make_distillation.py).
func TestDistillationAgreesWithTorch(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(trainData, "distillation.json"))
	if err != nil {
		t.Fatal(err)
	}
	var reference struct {
		Settings struct {
			Temperature  float64 `json:"temperature"`
			Weight       float64 `json:"weight"`
			LearningRate float64 `json:"learning_rate"`
		} `json:"settings"`
		Losses []float64 `json:"losses"`
	}
	if err := json.Unmarshal(data, &reference); err != nil {
		t.Fatal(err)
	}
	batches := readTraining(t, filepath.Join(trainData, "training.json")).Batches
	devicetest.Each(t, func(t *testing.T, b *device.Backend) {
		for _, checkpointing := range []bool{false, true} {
			base, teacher := openBase(t, filepath.Join(trainData, "model")), openBase(t, filepath.Join(trainData, "teacher"))
			o := trainer.DefaultOptions()
			o.Method, o.Steps, o.LogEvery, o.ClipNorm, o.GradientCheckpointing = trainer.Full, len(reference.Losses), 1, 0, checkpointing
			o.Optimizer.LearningRate, o.Schedule = reference.Settings.LearningRate, trainer.Schedule{Name: "constant"}
			o.Distill = trainer.Distillation{Teacher: "teacher", Temperature: reference.Settings.Temperature, Weight: reference.Settings.Weight}
			checkLosses(t, losses(t, trainer.Job{
				Options: o, Config: base.Config, Base: base, Teacher: teacher, Train: newFixedBatches(batches), Backend: b,
			}), reference.Losses)
		}
	})
}
