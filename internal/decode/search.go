package decode

import (
	"math/rand/v2"
	"slices"

	"github.com/t5ctl/t5ctl/internal/matvec"
	"github.com/t5ctl/t5ctl/internal/t5"
)

// scoreKind is what a decoder step gives for each row.
type scoreKind int

const (
	bestToken scoreKind = iota // the token of the highest logit
	logits                     // of every token
	logProbs                   // of every token
)

// searcher is the search for the outputs of one source. It takes as many decoder rows as
// Options.share says, at each step.
type searcher interface {
	// feed says what each row continues with: a token, and the row whose past it has.
	feed(tokens, order []int32)
	// take is told the step's result: the best token of each row, or their scores [rows, vocab],
	// which it may change.
	take(best []int32, scores []float32)
	over() bool
	sequences() []Sequence
}

// kind says what the steps must give for the options.
func (o Options) kind(adjusts bool) scoreKind {
	switch {
	case o.Beams > 1:
		return logProbs
	case o.Sample || adjusts:
		return logits
	default:
		return bestToken
	}
}

// newSearcher starts the search for one source.
func newSearcher(o Options, c t5.Config, a *adjuster, stream uint64) searcher {
	if o.Beams > 1 {
		return newSearch(o, c, a)
	}
	w := &writer{options: o, config: c, adjust: a}
	for i := range o.share() {
		row := written{tokens: []int32{int32(c.DecoderStartTokenID)}}
		if o.Sample {
			row.random = rand.New(rand.NewPCG(o.Seed, stream+uint64(i)<<40))
		}
		w.rows = append(w.rows, row)
	}
	return w
}

// writer takes one token at a time for each of its rows: the best, or one it draws. Each row has
// its own stream of random numbers, so that what is drawn does not depend on the batch.
type writer struct {
	options Options
	config  t5.Config
	adjust  *adjuster
	rows    []written
}

// written is one output under way, the start token included.
type written struct {
	tokens []int32
	random *rand.Rand
	done   bool // it ended, or there was no way on
}

func (w *writer) feed(tokens, order []int32) {
	for i, r := range w.rows {
		tokens[i], order[i] = r.tokens[len(r.tokens)-1], int32(i)
	}
}

func (w *writer) take(best []int32, scores []float32) {
	vocab := w.config.VocabSize
	for i := range w.rows {
		r := &w.rows[i]
		if r.done {
			continue
		}
		token, ok := int32(0), true
		if scores == nil {
			token = best[i]
		} else {
			row := scores[i*vocab : (i+1)*vocab]
			w.adjust.apply(row, r.tokens)
			if w.options.Sample {
				token, ok = draw(row, r.random.Float64(), w.options)
			} else {
				token = highest(row)
				ok = row[token] != forbidden
			}
		}
		if !ok {
			r.done = true
			continue
		}
		r.tokens = append(r.tokens, token)
		r.done = token == int32(w.config.EOSTokenID) || len(r.tokens) > w.options.MaxNewTokens
	}
}

// highest is the index of the largest value, of equals the first.
func highest(values []float32) int32 {
	return int32(max(0, slices.Index(values, matvec.Max(values))))
}

func (w *writer) over() bool {
	for _, r := range w.rows {
		if !r.done {
			return false
		}
	}
	return true
}

func (w *writer) sequences() []Sequence {
	out := make([]Sequence, len(w.rows))
	for i, r := range w.rows {
		out[i] = Sequence{Tokens: r.tokens[1:], Cut: r.tokens[len(r.tokens)-1] != int32(w.config.EOSTokenID)}
	}
	return out
}
