package decode

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/internal/t5"
)

// Options say how text is generated. The keys are the recipe's generation section; most are
// those of a model's generation_config.json and mean what they mean there.
type Options struct {
	MaxNewTokens       int       `yaml:"max_new_tokens" json:"max_new_tokens"`                                   // tokens after which an output is cut, the end token included
	MinNewTokens       int       `yaml:"min_new_tokens,omitempty" json:"min_new_tokens,omitempty"`               // tokens before which an output may not end
	Beams              int       `yaml:"num_beams" json:"num_beams"`                                             // 1 searches greedily
	LengthPenalty      float64   `yaml:"length_penalty" json:"length_penalty"`                                   // beams: a finished output's score is divided by its length to this power
	EarlyStopping      string    `yaml:"early_stopping" json:"early_stopping"`                                   // beams: true, false or never, as in transformers
	NumReturnSequences int       `yaml:"num_return_sequences" json:"num_return_sequences"`                       // outputs for one input; with beams at most as many
	Sample             bool      `yaml:"do_sample" json:"do_sample"`                                             // draw tokens instead of taking the best
	Temperature        float64   `yaml:"temperature" json:"temperature"`                                         // sampling: the logits are divided by it
	TopK               int       `yaml:"top_k" json:"top_k"`                                                     // sampling: only the k likeliest tokens; 0 all
	TopP               float64   `yaml:"top_p" json:"top_p"`                                                     // sampling: only the likeliest tokens that together reach this probability
	MinP               float64   `yaml:"min_p,omitempty" json:"min_p,omitempty"`                                 // sampling: only tokens at least this share as likely as the likeliest; 0 all
	TypicalP           float64   `yaml:"typical_p" json:"typical_p"`                                             // sampling: only the most typical tokens that together reach this probability; 1 all
	RepetitionPenalty  float64   `yaml:"repetition_penalty" json:"repetition_penalty"`                           // above 1 makes tokens that were written less likely; 1 none
	NoRepeatNGram      int       `yaml:"no_repeat_ngram_size,omitempty" json:"no_repeat_ngram_size,omitempty"`   // no sequence of this many tokens comes twice; 0 off
	BadWords           [][]int32 `yaml:"bad_words_ids,omitempty" json:"bad_words_ids,omitempty"`                 // sequences of tokens that must not appear
	SuppressTokens     []int32   `yaml:"suppress_tokens,omitempty" json:"suppress_tokens,omitempty"`             // tokens that must not appear
	BeginSuppress      []int32   `yaml:"begin_suppress_tokens,omitempty" json:"begin_suppress_tokens,omitempty"` // tokens that must not come first
	ForcedFirst        int32     `yaml:"forced_bos_token_id,omitempty" json:"forced_bos_token_id,omitempty"`     // the first token; 0: the model's choice
	ForcedLast         int32     `yaml:"forced_eos_token_id,omitempty" json:"forced_eos_token_id,omitempty"`     // the token at max_new_tokens; 0: the model's choice
	Seed               uint64    `yaml:"seed" json:"seed"`                                                       // sampling: same seed, same text, whatever the batch
	BatchRows          int       `yaml:"batch" json:"-"`                                                         // inputs decoded at a time

	// Constraint, where there is one, says which tokens may come next.
	Constraint Constraint `yaml:"-" json:"-"`
}

// DefaultOptions search greedily. transformers would stop after 20 tokens; nothing here is cut
// that early unless it is asked for.
func DefaultOptions() Options {
	return Options{
		MaxNewTokens: 128, Beams: 1, LengthPenalty: 1, EarlyStopping: "false", NumReturnSequences: 1,
		Temperature: 1, TopK: 50, TopP: 1, TypicalP: 1, RepetitionPenalty: 1, BatchRows: 64,
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
	if o.MinNewTokens < 0 || o.MinNewTokens > o.MaxNewTokens {
		bad("min_new_tokens is %d, must be between 0 and max_new_tokens (%d)", o.MinNewTokens, o.MaxNewTokens)
	}
	if o.Beams < 1 {
		bad("num_beams is %d, must be positive", o.Beams)
	}
	if o.NumReturnSequences < 1 || o.NumReturnSequences > o.Beams && !o.Sample {
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
	if o.NoRepeatNGram < 0 {
		bad("no_repeat_ngram_size is %d, must not be negative", o.NoRepeatNGram)
	}
	if o.BatchRows < 1 {
		bad("batch is %d, must be positive", o.BatchRows)
	}
	return errors.Join(append(errs, o.validateRates()...)...)
}

// validateRates checks the settings that are real numbers, and those of sampling.
func (o Options) validateRates() []error {
	var errs []error
	bad := func(key string, value float64, must string) {
		errs = append(errs, fmt.Errorf("generation.%s is %g, must be %s", key, value, must))
	}
	if o.Temperature <= 0 || math.IsNaN(o.Temperature) {
		bad("temperature", o.Temperature, "positive")
	}
	if o.RepetitionPenalty <= 0 || math.IsNaN(o.RepetitionPenalty) {
		bad("repetition_penalty", o.RepetitionPenalty, "positive")
	}
	if o.TopP <= 0 || o.TopP > 1 {
		bad("top_p", o.TopP, "in (0, 1]")
	}
	if o.TypicalP <= 0 || o.TypicalP > 1 {
		bad("typical_p", o.TypicalP, "in (0, 1]")
	}
	if o.MinP < 0 || o.MinP > 1 {
		bad("min_p", o.MinP, "in [0, 1]")
	}
	if o.TopK < 0 {
		bad("top_k", float64(o.TopK), "0 or more")
	}
	return errs
}

// ValidateFor is Validate with the token ids held against the model's vocabulary.
func (o Options) ValidateFor(c t5.Config) error {
	ids := slices.Concat(append([][]int32{o.SuppressTokens, o.BeginSuppress, {o.ForcedFirst, o.ForcedLast}}, o.BadWords...)...)
	for _, id := range ids {
		if id < 0 || int(id) >= c.VocabSize {
			return errors.Join(o.Validate(), fmt.Errorf("generation: there is no token %d among %d", id, c.VocabSize))
		}
	}
	if slices.ContainsFunc(o.BadWords, func(w []int32) bool { return len(w) == 0 }) {
		return errors.Join(o.Validate(), errors.New("generation.bad_words_ids: a word has no tokens"))
	}
	return o.Validate()
}

// share is how many decoder rows one input takes.
func (o Options) share() int {
	if o.Sample {
		return o.NumReturnSequences
	}
	return o.Beams
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

	MinNewTokens      *int      `json:"min_new_tokens"`
	MinLength         *int      `json:"min_length"`
	MinP              *float64  `json:"min_p"`
	TypicalP          *float64  `json:"typical_p"`
	RepetitionPenalty *float64  `json:"repetition_penalty"`
	NoRepeatNGram     *int      `json:"no_repeat_ngram_size"`
	BadWords          [][]int32 `json:"bad_words_ids"`
	SuppressTokens    []int32   `json:"suppress_tokens"`
	BeginSuppress     []int32   `json:"begin_suppress_tokens"`
	ForcedFirst       *int32    `json:"forced_bos_token_id"`
	ForcedLast        *int32    `json:"forced_eos_token_id"`
}

// unsupported are keys of generation_config.json that would change what transformers writes and
// that nothing here knows, with the value at which they change nothing.
func unsupported() map[string]any {
	return map[string]any{
		"num_beam_groups": 1.0, "diversity_penalty": 0.0, "penalty_alpha": 0.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0,
		"encoder_repetition_penalty": 1.0, "encoder_no_repeat_ngram_size": 0.0, "guidance_scale": 1.0, "top_h": nil,
		"sequence_bias": nil, "exponential_decay_length_penalty": nil, "force_words_ids": nil, "stop_strings": nil, "dola_layers": nil,
	}
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
	var keys map[string]any
	if err := json.Unmarshal(data, &keys); err != nil {
		return o, fmt.Errorf("parsing %s: %w", path, err)
	}
	for key, neutral := range unsupported() {
		if v, given := keys[key]; given && v != nil && !reflect.DeepEqual(v, neutral) {
			return o, fmt.Errorf("%s: %s %v is not supported; remove the key", path, key, v)
		}
	}
	if f.MaxLength != nil {
		o.MaxNewTokens = *f.MaxLength - 1 // it counts the start token
	}
	if f.MinLength != nil {
		o.MinNewTokens = max(0, *f.MinLength-1)
	}
	lay(&o.MaxNewTokens, f.MaxNewTokens)
	lay(&o.Beams, f.Beams)
	lay(&o.LengthPenalty, f.LengthPenalty)
	lay(&o.NumReturnSequences, f.NumReturnSequences)
	lay(&o.Sample, f.Sample)
	lay(&o.Temperature, f.Temperature)
	lay(&o.TopK, f.TopK)
	lay(&o.TopP, f.TopP)
	lay(&o.MinNewTokens, f.MinNewTokens)
	lay(&o.MinP, f.MinP)
	lay(&o.TypicalP, f.TypicalP)
	lay(&o.RepetitionPenalty, f.RepetitionPenalty)
	lay(&o.NoRepeatNGram, f.NoRepeatNGram)
	lay(&o.ForcedFirst, f.ForcedFirst)
	lay(&o.ForcedLast, f.ForcedLast)
	layList(&o.BadWords, f.BadWords)
	layList(&o.SuppressTokens, f.SuppressTokens)
	layList(&o.BeginSuppress, f.BeginSuppress)
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

func layList[T any](over *[]T, value []T) {
	if value != nil {
		*over = value
	}
}
