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
	"github.com/t5ctl/t5ctl/internal/safetensors"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
	"github.com/t5ctl/t5ctl/internal/t5"
	"github.com/t5ctl/t5ctl/trainer"
)

const (
	trainData = "../internal/t5/testdata/train"
	loraData  = "../internal/lora/testdata"
)

// reference is a run of transformers 5.23.0 (peft 0.21.2): its settings and its losses, one a
// step, before the step's update.
type reference struct {
	Settings struct {
		Optimizer      string          `json:"optimizer"`
		LearningRate   float64         `json:"learning_rate"`
		WeightDecay    float64         `json:"weight_decay"`
		Schedule       string          `json:"schedule"`
		Warmup         int             `json:"warmup"`
		ClipNorm       float64         `json:"clip_norm"`
		Accumulate     int             `json:"accumulate"`
		ScaleParameter bool            `json:"scale_parameter"`
		RelativeStep   bool            `json:"relative_step"`
		R              int             `json:"r"`
		Alpha          float64         `json:"lora_alpha"`
		Targets        json.RawMessage `json:"target_modules"`
		RSLoRA         bool            `json:"use_rslora"`
	} `json:"settings"`
	Losses []float64 `json:"losses"`
}

type training struct {
	Batches []matrixPair         `json:"batches"`
	Runs    map[string]reference `json:"runs"`
}

type matrixPair struct {
	Inputs [][]int32 `json:"input_ids"`
	Labels [][]int32 `json:"labels"`
}

func readTraining(t *testing.T, path string) training {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r training
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// fixedBatches gives the same batches in turn.
type fixedBatches struct {
	batches []seq2seq.Batch
	at      seq2seq.Position
}

func newFixedBatches(pairs []matrixPair) *fixedBatches {
	f := &fixedBatches{}
	for _, p := range pairs {
		b := seq2seq.Batch{
			Rows: len(p.Inputs), InputLen: len(p.Inputs[0]), TargetLen: len(p.Labels[0]),
			Inputs: slices.Concat(p.Inputs...), Labels: slices.Concat(p.Labels...),
		}
		for range p.Inputs {
			b.IDs = append(b.IDs, "row")
		}
		f.batches = append(f.batches, b)
	}
	return f
}

func (f *fixedBatches) Next(context.Context) (seq2seq.Batch, error) {
	b := f.batches[f.at.Offset]
	if f.at.Offset++; f.at.Offset == f.PerEpoch() {
		f.at = seq2seq.Position{Epoch: f.at.Epoch + 1}
	}
	return b, nil
}

func (f *fixedBatches) Position() seq2seq.Position    { return f.at }
func (f *fixedBatches) Seek(p seq2seq.Position) error { f.at = p; return nil }
func (f *fixedBatches) PerEpoch() int64               { return int64(len(f.batches)) }

// options are the settings of a reference run.
func (r reference) options() trainer.Options {
	o := trainer.DefaultOptions()
	s := r.Settings
	o.Method, o.Steps, o.LogEvery, o.ClipNorm, o.Accumulate = trainer.Full, len(r.Losses), 1, s.ClipNorm, max(1, s.Accumulate)
	o.Optimizer.Name, o.Optimizer.LearningRate, o.Optimizer.WeightDecay = s.Optimizer, s.LearningRate, s.WeightDecay
	o.Optimizer.ScaleParameter, o.Optimizer.RelativeStep = s.ScaleParameter, s.RelativeStep
	o.Schedule = trainer.Schedule{Name: "constant"}
	if s.Schedule != "" {
		o.Schedule = trainer.Schedule{Name: s.Schedule, Warmup: s.Warmup}
	}
	return o
}

// losses trains and gives the loss of each step.
func losses(t *testing.T, job trainer.Job) []float64 {
	t.Helper()
	var got []float64
	job.Dir, job.Fingerprint = t.TempDir(), "test"
	job.Sink = func(e trainer.Event) {
		if step, ok := e.(trainer.Stepped); ok {
			got = append(got, step.Loss)
		}
	}
	if _, err := trainer.Run(context.Background(), job); err != nil {
		t.Fatal(err)
	}
	return got
}

func checkLosses(t *testing.T, got, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d losses, want %d", len(got), len(want))
	}
	for i := range want {
		if diff := math.Abs(got[i]-want[i]) / want[i]; !(diff <= 1e-4) {
			t.Errorf("step %d: loss %.7f, want %.7f (%.1e off)", i+1, got[i], want[i], diff)
		}
	}
}

func openBase(t *testing.T, dir string) *t5.Checkpoint {
	t.Helper()
	base, err := t5.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = base.Close() })
	return base
}

func TestLossesAgreeWithTransformers(t *testing.T) {
	reference := readTraining(t, filepath.Join(trainData, "training.json"))
	devicetest.Each(t, func(t *testing.T, b *device.Backend) {
		for name, run := range reference.Runs {
			t.Run(name, func(t *testing.T) {
				base := openBase(t, filepath.Join(trainData, "model"))
				checkLosses(t, losses(t, trainer.Job{
					Options: run.options(), Config: base.Config, Base: base, Train: newFixedBatches(reference.Batches), Backend: b,
				}), run.Losses)
			})
		}
	})
}

func TestLoRALossesAgreeWithPEFT(t *testing.T) {
	batches := readTraining(t, filepath.Join(trainData, "training.json")).Batches
	runs := readTraining(t, filepath.Join(loraData, "training.json")).Runs
	devicetest.Each(t, func(t *testing.T, b *device.Backend) {
		for name, run := range runs {
			t.Run(name, func(t *testing.T) {
				base := openBase(t, filepath.Join(trainData, "model"))
				start, err := lora.Read(filepath.Join(loraData, "train", name, "init"), base.Config)
				if err != nil {
					t.Fatal(err)
				}
				o := run.options()
				o.Method, o.LoRA = trainer.LoRA, start.Adapter.Options
				checkLosses(t, losses(t, trainer.Job{
					Options: o, Config: base.Config, Base: base, Adapter: start.Values, Train: newFixedBatches(batches), Backend: b,
				}), run.Losses)
			})
		}
	})
}

// TestFinalWeightsAgreeWithTransformers holds two weights after 50 steps against the reference.
func TestFinalWeightsAgreeWithTransformers(t *testing.T) {
	reference := readTraining(t, filepath.Join(trainData, "training.json"))
	final, err := safetensors.Open(filepath.Join(trainData, "training.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = final.Close() })
	b := devicetest.Go(t)
	for _, name := range []string{"adamw-decay-clip-linear", "adafactor"} {
		base := openBase(t, filepath.Join(trainData, "model"))
		dir := t.TempDir()
		result, err := trainer.Run(context.Background(), trainer.Job{
			Options: reference.Runs[name].options(), Config: base.Config, Base: base,
			Train: newFixedBatches(reference.Batches), Backend: b, Dir: dir, Fingerprint: "test",
		})
		if err != nil {
			t.Fatal(err)
		}
		trained, err := safetensors.Open(filepath.Join(result.Checkpoint, "model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		for _, weight := range []string{"shared.weight", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"} {
			checkClose(t, name+" "+weight, values(t, trained, weight), values(t, final, name+"."+weight))
		}
		_ = trained.Close()
	}
}

func values(t *testing.T, f *safetensors.File, name string) []float32 {
	t.Helper()
	tensor, ok := f.Tensor(name)
	if !ok {
		t.Fatalf("%s has no %s", f.Path(), name)
	}
	v, err := tensor.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func checkClose(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if diff := math.Abs(float64(got[i] - want[i])); !(diff <= 2e-3*math.Max(1, math.Abs(float64(want[i])))) {
			t.Fatalf("%s[%d] = %g, want %g", what, i, got[i], want[i])
		}
	}
}
