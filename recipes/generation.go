package recipes

import (
	"errors"
	"fmt"
)

// Generation is the generation section of a recipe: how outputs are searched for.
type Generation struct {
	// Beams is how many hypotheses are kept; 1 is greedy.
	Beams int `yaml:"beams"`
	// MaxNewTokens is the most tokens of an output, </s> included. 0 means as many as data.max_target.
	MaxNewTokens int `yaml:"max_new_tokens"`
	// MinNewTokens is the fewest tokens before </s> may come.
	MinNewTokens int `yaml:"min_new_tokens"`
	// LengthPenalty divides a hypothesis' log-probability by its length to this power.
	LengthPenalty float64 `yaml:"length_penalty"`
	// NoRepeatNGram is the length of token sequences that must not come twice; 0 allows all.
	NoRepeatNGram int `yaml:"no_repeat_ngram"`
	// Sample draws tokens at random instead of taking the best.
	Sample bool `yaml:"sample"`
	// Temperature flattens (above 1) or sharpens (below 1) the distribution that is drawn from.
	Temperature float64 `yaml:"temperature"`
	// TopK draws from the k best tokens only; 0 from all.
	TopK int `yaml:"top_k"`
	// TopP draws from the fewest tokens that hold this share of the probability.
	TopP float64 `yaml:"top_p"`
	// Seed is where drawing starts.
	Seed uint64 `yaml:"seed"`
	// Batch is how many inputs are decoded side by side.
	Batch int `yaml:"batch"`
}

// DefaultGeneration is greedy search.
func DefaultGeneration() Generation {
	return Generation{Beams: 1, LengthPenalty: 1, Temperature: 1, TopP: 1, Batch: 32}
}

// Validate tells all that is wrong with the section.
func (g Generation) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(g.Beams >= 1 && g.Beams <= 1024, "beams: %d is not between 1 and 1024", g.Beams)
	check(g.MaxNewTokens >= 0, "max_new_tokens: %d is negative", g.MaxNewTokens)
	check(g.MinNewTokens >= 0, "min_new_tokens: %d is negative", g.MinNewTokens)
	check(g.MaxNewTokens == 0 || g.MinNewTokens <= g.MaxNewTokens, "min_new_tokens: %d is more than max_new_tokens, %d", g.MinNewTokens, g.MaxNewTokens)
	check(g.NoRepeatNGram >= 0, "no_repeat_ngram: %d is negative", g.NoRepeatNGram)
	check(g.Temperature > 0, "temperature: %g must be above 0; greedy search is sample: false", g.Temperature)
	check(g.TopK >= 0, "top_k: %d is negative", g.TopK)
	check(g.TopP > 0 && g.TopP <= 1, "top_p: %g is not above 0 and at most 1", g.TopP)
	check(g.Batch >= 1, "batch: %d must be at least 1", g.Batch)
	check(!g.Sample || g.Beams == 1, "sample: draws one sequence at a time; set beams to 1")
	return errors.Join(errs...)
}
