package decode

import (
	"math"
	"slices"

	"github.com/t5ctl/t5ctl/internal/t5"
)

// Constraint says which tokens may follow those written so far (start token excluded), in
// ascending order; the end token among them where the output may end. None means that there is
// no way on, which ends the output.
type Constraint interface {
	Allowed(written []int32) []int32
}

// adjuster changes the scores of the next token by rules that look at what was written: the
// logits processors of transformers 5.23, in its order.
type adjuster struct {
	options Options
	eos     int32
	scratch []bool
}

var forbidden = float32(math.Inf(-1)) //nolint:gochecknoglobals // there is no constant infinity

// newAdjuster gives nil where the options change no score.
func newAdjuster(o Options, c t5.Config) *adjuster {
	if o.RepetitionPenalty == 1 && o.NoRepeatNGram == 0 && len(o.BadWords) == 0 && o.MinNewTokens == 0 && o.Constraint == nil &&
		o.ForcedFirst == 0 && o.ForcedLast == 0 && len(o.SuppressTokens) == 0 && len(o.BeginSuppress) == 0 {
		return nil
	}
	return &adjuster{options: o, eos: int32(c.EOSTokenID), scratch: make([]bool, c.VocabSize)}
}

// apply changes the scores of one row in place.
//
//	scores [vocab]   context: the start token and what was written
func (a *adjuster) apply(scores []float32, context []int32) {
	if a == nil {
		return
	}
	o := a.options
	if o.RepetitionPenalty != 1 {
		a.penalize(scores, context)
	}
	if o.NoRepeatNGram > 0 {
		banRepeats(scores, context, o.NoRepeatNGram)
	}
	a.banWords(scores, context)
	made := len(context) - 1
	if made < o.MinNewTokens {
		scores[a.eos] = forbidden
	}
	if o.Constraint != nil {
		only(scores, o.Constraint.Allowed(context[1:]))
	}
	if o.ForcedFirst != 0 && made == 0 {
		force(scores, o.ForcedFirst)
	}
	if o.ForcedLast != 0 && made == o.MaxNewTokens-1 {
		force(scores, o.ForcedLast)
	}
	ban(scores, o.SuppressTokens)
	if made == 0 && o.ForcedFirst == 0 || made == 1 && o.ForcedFirst != 0 {
		ban(scores, o.BeginSuppress)
	}
}

// penalize makes every token of the context less likely, once.
func (a *adjuster) penalize(scores []float32, context []int32) {
	penalty := float32(a.options.RepetitionPenalty)
	for _, token := range context {
		if a.scratch[token] {
			continue
		}
		a.scratch[token] = true
		if scores[token] < 0 {
			scores[token] *= penalty
		} else {
			scores[token] /= penalty
		}
	}
	for _, token := range context {
		a.scratch[token] = false
	}
}

// banRepeats forbids what would complete a sequence of n tokens that is there already.
func banRepeats(scores []float32, context []int32, n int) {
	if len(context) < n {
		return
	}
	prefix := context[len(context)+1-n:]
	for i := 0; i+n <= len(context); i++ {
		if slices.Equal(context[i:i+n-1], prefix) {
			scores[context[i+n-1]] = forbidden
		}
	}
}

func (a *adjuster) banWords(scores []float32, context []int32) {
	for _, word := range a.options.BadWords {
		n := len(word) - 1
		if n == 0 && word[0] == a.eos || n > len(context) {
			continue
		}
		if slices.Equal(context[len(context)-n:], word[:n]) {
			scores[word[n]] = forbidden
		}
	}
}

// only forbids all tokens but those, which are in ascending order.
func only(scores []float32, allowed []int32) {
	next := 0
	for token := range scores {
		if next < len(allowed) && int(allowed[next]) == token {
			next++
			continue
		}
		scores[token] = forbidden
	}
}

func ban(scores []float32, tokens []int32) {
	for _, token := range tokens {
		scores[token] = forbidden
	}
}

func force(scores []float32, token int32) {
	for i := range scores {
		scores[i] = forbidden
	}
	scores[token] = 0
}
