package recipes

import (
	_ "embed"

	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/trainer"
)

//go:embed schema.json
var schema []byte //nolint:gochecknoglobals // embedding needs a variable

// Schema is the JSON schema of a recipe: every key, its type, and what it means. It is generated
// from the option structs and their comments.
func Schema() []byte { return schema }

// Enums lists, by dotted key, the values of keys that take one of a few; [] stands for the items
// of a list.
func Enums() map[string][]string {
	return map[string][]string{
		"tokenizer.mode":            TokenizerModes(),
		"model.model_type":          {"t5", "mt5", "umt5"},
		"model.feed_forward_proj":   {"relu", "gelu", "silu", "gated-relu", "gated-gelu", "gated-silu"},
		"data.on_bad_row":           {datasets.Fail, datasets.Skip},
		"data.objectives[].kind":    datasets.Kinds(),
		"train.method":              {trainer.Full, trainer.LoRA, trainer.Pretrain},
		"train.save_dtype":          {"fp32", "bf16"},
		"train.precision":           {trainer.Auto, "fp32", "bf16"},
		"train.gpu.allocator":       trainer.Allocators(),
		"train.optimizer.name":      {"adamw", "adafactor"},
		"generation.early_stopping": {"true", "false", "never"},
		"eval.slices[].of":          {"input", "target"},
		"train.schedule.name":       {"linear", "cosine", "constant", "inverse_sqrt"},
	}
}
