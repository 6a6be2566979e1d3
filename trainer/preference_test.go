package trainer_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
	"github.com/t5ctl/t5ctl/internal/lora"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
	"github.com/t5ctl/t5ctl/trainer"
)

// pairsOf makes pairs of batches as testdata/gen/make_preferences.py does: the rejected labels are
// those of the next row. Empty rows follow, which must not count.
func pairsOf(batches []matrixPair) *fixedBatches {
	f := &fixedBatches{}
	for _, p := range batches {
		rows := len(p.Inputs)
		b := seq2seq.New(2*rows+2, len(p.Inputs[0]), len(p.Labels[0]))
		for i := range rows {
			for _, labels := range [][]int32{p.Labels[i], p.Labels[(i+1)%rows]} {
				b.Append(seq2seq.Example{ID: "pair", Input: p.Inputs[i], Target: labels})
			}
		}
		f.batches = append(f.batches, b)
	}
	return f
}

type preferences struct {
	Settings struct {
		Beta           float64 `json:"beta"`
		LabelSmoothing float64 `json:"label_smoothing"`
		LearningRate   float64 `json:"learning_rate"`
	} `json:"settings"`
	Losses []float64 `json:"losses"`
	Right  []float64 `json:"right"`
}

func readPreferences(t *testing.T) (runs map[string]preferences) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(loraData, "preferences.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Runs map[string]preferences `json:"runs"`
	}
	if err := json.Unmarshal(data, &file); err != nil || len(file.Runs) != 2 {
		t.Fatalf("%d runs, %v", len(file.Runs), err)
	}
	return file.Runs
}

// preferring is a run of the reference.
func preferring(t *testing.T, b *device.Backend, p preferences) trainer.Job {
	t.Helper()
	base := openBase(t, filepath.Join(trainData, "model"))
	start, err := lora.Read(filepath.Join(loraData, "train", "q-v", "init"), base.Config)
	if err != nil {
		t.Fatal(err)
	}
	o := trainer.DefaultOptions()
	o.Steps, o.LogEvery, o.ClipNorm, o.LoRA = len(p.Losses), 1, 0, start.Adapter.Options
	o.Optimizer.LearningRate, o.Schedule = p.Settings.LearningRate, trainer.Schedule{Name: "constant"}
	o.DPO = trainer.Preference{Beta: p.Settings.Beta, LabelSmoothing: p.Settings.LabelSmoothing}
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	batches := readTraining(t, filepath.Join(trainData, "training.json")).Batches
	return trainer.Job{
		Options: o, Config: base.Config, Base: base, Adapter: start.Values, Train: pairsOf(batches), Backend: b,
		Dir: t.TempDir(), Fingerprint: "test",
	}
}

// The losses come from TRL 0.11.4 (internal/lora/testdata/gen/make_preferences.py).
func TestPreferenceLossesAgreeWithTRL(t *testing.T) {
	devicetest.Each(t, func(t *testing.T, b *device.Backend) {
		for name, run := range readPreferences(t) {
			t.Run(name, func(t *testing.T) { checkLosses(t, losses(t, preferring(t, b, run)), run.Losses) })
		}
	})
}

// An evaluation tells the loss of the pairs as they stand and how many are the right way round.
func TestPreferencesAreEvaluated(t *testing.T) {
	run := readPreferences(t)["sigmoid"]
	job := preferring(t, devicetest.Go(t), run)
	one := pairsOf(readTraining(t, filepath.Join(trainData, "training.json")).Batches[:1])
	job.Validation, job.Options.EvaluateEvery, job.Options.Metric = one, 1, "preference_accuracy"
	var right, loss []float64
	job.Sink = func(e trainer.Event) {
		if v, ok := e.(trainer.Evaluated); ok {
			right, loss = append(right, v.Metrics["preference_accuracy"]), append(loss, v.Metrics["loss"])
		}
	}
	if _, err := trainer.Run(context.Background(), job); err != nil {
		t.Fatal(err)
	}
	every := len(readTraining(t, filepath.Join(trainData, "training.json")).Batches)
	for step := every; step < len(run.Losses); step += every { // the step that saw this batch again, before its update
		if d := math.Abs(loss[step-1]-run.Losses[step]) / run.Losses[step]; !(d < 1e-4) || math.Abs(right[step-1]-run.Right[step]) > 1e-6 {
			t.Errorf("after step %d: loss %g and %g right, want %g and %g", step, loss[step-1], right[step-1], run.Losses[step], run.Right[step])
		}
	}
	if slices.Max(right) <= 0.5 || every >= len(run.Losses) {
		t.Errorf("right %v", right)
	}
}
