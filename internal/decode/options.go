package decode

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// Options say how text is generated. The keys are the recipe's generation section; most are
// those of a model's generation_config.json.
type Options struct {
	MaxNewTokens       int     `yaml:"max_new_tokens" json:"max_new_tokens"`             // tokens after which an output is cut, the end token included
	Beams              int     `yaml:"num_beams" json:"num_beams"`                       // 1 searches greedily
	LengthPenalty      float64 `yaml:"length_penalty" json:"length_penalty"`             // beams: a finished output's score is divided by its length to this power
	EarlyStopping      string  `yaml:"early_stopping" json:"early_stopping"`             // beams: true, false or never, as in transformers
	NumReturnSequences int     `yaml:"num_return_sequences" json:"num_return_sequences"` // outputs for one input; at most the beams
	Sample             bool    `yaml:"do_sample" json:"do_sample"`                       // draw tokens instead of taking the best
	Temperature        float64 `yaml:"temperature" json:"temperature"`                   // sampling: the logits are divided by it
	TopK               int     `yaml:"top_k" json:"top_k"`                               // sampling: only the k likeliest tokens; 0 all
	TopP               float64 `yaml:"top_p" json:"top_p"`                               // sampling: only the likeliest tokens that together reach this probability
	Seed               uint64  `yaml:"seed" json:"seed"`                                 // sampling: same seed, same text, whatever the batch
	BatchRows          int     `yaml:"batch" json:"-"`                                   // inputs decoded at a time
}

// DefaultOptions search greedily. transformers would stop after 20 tokens; nothing here is cut
// that early unless it is asked for.
func DefaultOptions() Options {
	return Options{
		MaxNewTokens: 128, Beams: 1, LengthPenalty: 1, EarlyStopping: "false", NumReturnSequences: 1,
		Temperature: 1, TopK: 50, TopP: 1, BatchRows: 64,
	}
}

// Validate says all that is wrong with the options.
func (o Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("generation."+format, args...))
	}
	if o.MaxNewTokens < 1 {
		bad("max_new_tokens is %d, must be positive", o.MaxNewTokens)
	}
	if o.Beams < 1 {
		bad("num_beams is %d, must be positive", o.Beams)
	}
	if o.NumReturnSequences < 1 || o.NumReturnSequences > o.Beams {
		bad("num_return_sequences is %d, must be between 1 and num_beams (%d)", o.NumReturnSequences, o.Beams)
	}
	switch o.EarlyStopping {
	case "true", "false", "never":
	default:
		bad("early_stopping is %q; it is true, false or never", o.EarlyStopping)
	}
	if o.Sample && o.Beams > 1 {
		bad("do_sample and num_beams %d do not go together", o.Beams)
	}
	if o.Temperature <= 0 || math.IsNaN(o.Temperature) {
		bad("temperature is %g, must be positive", o.Temperature)
	}
	if o.TopP <= 0 || o.TopP > 1 {
		bad("top_p is %g, must be in (0, 1]", o.TopP)
	}
	if o.TopK < 0 {
		bad("top_k is %d, must not be negative", o.TopK)
	}
	if o.BatchRows < 1 {
		bad("batch is %d, must be positive", o.BatchRows)
	}
	return errors.Join(errs...)
}

// fileOptions is generation_config.json; absent keys leave what was there.
type fileOptions struct {
	MaxNewTokens       *int     `json:"max_new_tokens"`
	MaxLength          *int     `json:"max_length"`
	Beams              *int     `json:"num_beams"`
	LengthPenalty      *float64 `json:"length_penalty"`
	EarlyStopping      any      `json:"early_stopping"`
	NumReturnSequences *int     `json:"num_return_sequences"`
	Sample             *bool    `json:"do_sample"`
	Temperature        *float64 `json:"temperature"`
	TopK               *int     `json:"top_k"`
	TopP               *float64 `json:"top_p"`
}

// ReadOptions lays a model folder's generation_config.json over the given options. A folder
// without one changes nothing.
func ReadOptions(dir string, o Options) (Options, error) {
	path := filepath.Join(dir, "generation_config.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return o, nil
	}
	if err != nil {
		return o, err
	}
	var f fileOptions
	if err := json.Unmarshal(data, &f); err != nil {
		return o, fmt.Errorf("parsing %s: %w", path, err)
	}
	if f.MaxLength != nil {
		o.MaxNewTokens = *f.MaxLength - 1 // it counts the start token
	}
	lay(&o.MaxNewTokens, f.MaxNewTokens)
	lay(&o.Beams, f.Beams)
	lay(&o.LengthPenalty, f.LengthPenalty)
	lay(&o.NumReturnSequences, f.NumReturnSequences)
	lay(&o.Sample, f.Sample)
	lay(&o.Temperature, f.Temperature)
	lay(&o.TopK, f.TopK)
	lay(&o.TopP, f.TopP)
	if f.EarlyStopping != nil {
		o.EarlyStopping = strings.ToLower(fmt.Sprint(f.EarlyStopping))
	}
	return o, nil
}

func lay[T any](over *T, value *T) {
	if value != nil {
		*over = *value
	}
}
