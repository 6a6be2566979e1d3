// Package trainer trains T5 models: the loop, its optimizers, checkpoints and resume.
//
// A run is a pure function of its options, its data and its starting weights: every random
// choice comes from the seed and the step, none from a clock or from what ran before, so a run
// that is resumed continues exactly as if it had not stopped. A checkpoint counts once it has
// been read back. The trainer says what happens as Events; it never writes to a terminal.
package trainer

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/internal/lora"
)

// Methods of training.
const (
	Full     = "full"     // every weight of the base learns
	LoRA     = "lora"     // the base is frozen; a low-rank adapter learns
	Pretrain = "pretrain" // every weight learns, from fresh ones or a base, on a pretraining objective
)

// Options are the recipe's train section.
type Options struct {
	Method         string       `yaml:"method"`           // full, lora or pretrain
	LoRA           lora.Options `yaml:"lora"`             // the adapter, where method is lora
	Optimizer      Optimizer    `yaml:"optimizer"`        // what makes a step of a gradient
	Schedule       Schedule     `yaml:"schedule"`         // learning rate over the run
	Steps          int          `yaml:"steps"`            // optimizer steps of the run; or give epochs
	Epochs         float64      `yaml:"epochs"`           // passes over the training data; or give steps
	Batch          int          `yaml:"batch"`            // examples in a micro-batch; or give tokens_per_batch
	TokensPerBatch int          `yaml:"tokens_per_batch"` // padded tokens in a micro-batch, so that short examples come many at a time
	Accumulate     int          `yaml:"accumulate"`       // micro-batches whose gradients make one step, weighted by their tokens
	ClipNorm       float64      `yaml:"clip_norm"`        // largest global norm of a gradient; 0 does not clip
	LabelSmoothing float64      `yaml:"label_smoothing"`  // share of the target spread over the vocabulary
	ZLoss          float64      `yaml:"z_loss"`           // weight of the squared log normaliser
	Distill        Distillation `yaml:"distill"`          // a model to learn from beside the labels
	DPO            Preference   `yaml:"dpo"`              // learn from pairs of a better and a worse text
	DP             Privacy      `yaml:"dp"`               // differential privacy of the training rows
	Dropout        *float64     `yaml:"dropout"`          // instead of the model's dropout_rate
	Precision      string       `yaml:"precision"`        // fp32, or bf16 for the matrix products (weights stay fp32); auto is bf16 on a GPU
	Devices        Devices      `yaml:"devices"`          // of this machine that share each batch: a number, or all; auto is all GPUs, and 1 elsewhere
	GPU            GPU          `yaml:"gpu"`              // how NVIDIA devices are opened

	GradientCheckpointing bool `yaml:"gradient_checkpointing"` // compute activations and logits again in the backward pass instead of keeping them: less memory, more time

	SaveDType     string        `yaml:"save_dtype"`     // of the finished model's weights on disk: fp32 or bf16; checkpoints are always fp32
	Seed          uint64        `yaml:"seed"`           // of fresh weights, data order and dropout
	LogEvery      int           `yaml:"log_every"`      // steps between two lines of the log
	EvaluateEvery int           `yaml:"evaluate_every"` // steps between two evaluations on the validation data; 0: at the end only
	SaveEvery     int           `yaml:"save_every"`     // steps between two checkpoints; 0: at the end only
	Keep          Keep          `yaml:"keep"`           // checkpoints that stay on disk
	Metric        string        `yaml:"metric"`         // by which the best checkpoint is chosen: loss, or a metric of the recipe's eval section
	EarlyStopping EarlyStopping `yaml:"early_stopping"` // when to give up
}

// Distillation lets a run learn the distributions of a teacher over the next token, beside the
// labels: (1 − weight)·loss + weight·temperature²·KL(teacher ‖ student).
type Distillation struct {
	Teacher     string  `yaml:"teacher"`     // the model to learn from, of the same vocabulary; empty: none
	Temperature float64 `yaml:"temperature"` // softens both distributions
	Weight      float64 `yaml:"weight"`      // of the teacher's part, in (0, 1]
}

// Keep says which checkpoints stay on disk.
type Keep struct {
	Best int `yaml:"best"` // the best by train.metric
	Last int `yaml:"last"` // the newest
}

// EarlyStopping ends a run that no longer gets better.
type EarlyStopping struct {
	Patience int     `yaml:"patience"`  // evaluations without a new best after which the run ends; 0 never
	MinDelta float64 `yaml:"min_delta"` // by how much a new best must be better
}

// DefaultOptions are those of a LoRA fine-tuning.
func DefaultOptions() Options {
	return Options{
		Method: LoRA, LoRA: lora.DefaultOptions(), Optimizer: DefaultOptimizer(), Schedule: DefaultSchedule(),
		Batch: 32, Accumulate: 1, ClipNorm: 1, Precision: Auto, SaveDType: "fp32", LogEvery: 10,
		Keep: Keep{Best: 1, Last: 1}, Metric: "loss", Distill: Distillation{Temperature: 2, Weight: 0.5},
		DP: Privacy{Rows: 8}, Devices: Auto, GPU: GPU{TF32: true, MemoryFraction: 0.75, Allocator: "default"},
	}
}

// Validate says all that is wrong with the options.
func (o Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("train."+format, args...)) }
	oneOf := func(key, value string, known ...string) {
		if !slices.Contains(known, value) {
			bad("%s is %q; it is one of %s", key, value, strings.Join(known, ", "))
		}
	}
	oneOf("method", o.Method, Full, LoRA, Pretrain)
	switch o.Precision {
	case "fp16":
		bad("precision fp16 overflows in T5's feed-forward layers and ends in NaN; use bf16")
	default:
		oneOf("precision", o.Precision, Auto, "fp32", "bf16")
	}
	oneOf("save_dtype", o.SaveDType, "fp32", "bf16")
	if (o.Steps > 0) == (o.Epochs > 0) {
		bad("steps and epochs: give one of them, and it must be positive")
	}
	if o.Batch <= 0 && o.TokensPerBatch <= 0 {
		bad("batch is %d, must be positive", o.Batch)
	}
	if o.Accumulate < 1 {
		bad("accumulate is %d, must be at least 1", o.Accumulate)
	}
	if d := o.Dropout; d != nil && (*d < 0 || *d >= 1) {
		bad("dropout is %g, must be in [0, 1)", *d)
	}
	if d := o.Distill; d.Teacher != "" && (d.Temperature <= 0 || d.Weight <= 0 || d.Weight > 1) {
		bad("distill: temperature must be positive and weight in (0, 1], not %g and %g", d.Temperature, d.Weight)
	}
	if o.LabelSmoothing < 0 || o.LabelSmoothing >= 1 {
		bad("label_smoothing is %g, must be in [0, 1)", o.LabelSmoothing)
	}
	for key, v := range map[string]float64{"clip_norm": o.ClipNorm, "z_loss": o.ZLoss, "log_every": float64(o.LogEvery),
		"evaluate_every": float64(o.EvaluateEvery), "save_every": float64(o.SaveEvery), "early_stopping.patience": float64(o.EarlyStopping.Patience)} {
		if v < 0 {
			bad("%s is %g, must not be negative", key, v)
		}
	}
	if o.Keep.Best < 0 || o.Keep.Last < 1 {
		bad("keep: best must not be negative and last must be at least 1")
	}
	if o.Method == LoRA {
		if err := o.LoRA.Validate(); err != nil {
			bad("%w", err)
		}
	}
	for _, text := range slices.Concat(o.refusals(), o.preferenceRefusals(), o.deviceRefusals()) {
		bad("%s", text)
	}
	slices.SortStableFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(append(errs, o.Optimizer.Validate(), o.Schedule.Validate())...)
}
