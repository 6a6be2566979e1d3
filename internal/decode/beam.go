package decode

import (
	"cmp"
	"math"
	"slices"

	"github.com/t5ctl/t5ctl/internal/matvec"
	"github.com/t5ctl/t5ctl/internal/t5"
)

// hypothesis is one beam: what it says and the sum of its tokens' log-probabilities; once
// finished, that sum over its length.
type hypothesis struct {
	tokens []int32 // the start token first
	score  float32
	done   bool  // it may be returned
	row    int32 // the beam it grew from
}

// dead is the score of what must not be chosen: transformers uses a number, not −Inf.
const dead = float32(-1e9)

// search is beam search over one source, step by step as GenerationMixin._beam_search of
// transformers 5.23 does it, in float32.
type search struct {
	options  Options
	config   t5.Config
	adjust   *adjuster
	made     int // tokens so far
	running  []hypothesis
	finished []hypothesis
	open     bool // something better may still come
}

func newSearch(o Options, c t5.Config, a *adjuster) *search {
	s := &search{options: o, config: c, adjust: a, open: true}
	for i := range o.Beams {
		h := hypothesis{tokens: []int32{int32(c.DecoderStartTokenID)}, row: int32(i)}
		if i > 0 {
			h.score = dead // all beams are alike at first: only one may grow
		}
		s.running = append(s.running, h)
		s.finished = append(s.finished, hypothesis{score: dead})
	}
	return s
}

// candidate is one token after one beam.
type candidate struct {
	beam  int
	token int32
	score float32
}

// top finds the k best continuations, best first; of equals the one that comes first.
//
//	logProbs [beams, vocab]
func (s *search) top(logProbs []float32, k int) []candidate {
	vocab := len(logProbs) / s.options.Beams
	best := make([]candidate, 0, k+1)
	for beam, h := range s.running {
		row := logProbs[beam*vocab : (beam+1)*vocab]
		for token := 0; token < vocab; token++ {
			if len(best) == k {
				if token = matvec.Above(row, token, h.score, best[k-1].score); token == vocab {
					break
				}
			}
			score := row[token] + h.score
			at, _ := slices.BinarySearchFunc(best, score, func(c candidate, score float32) int {
				if c.score >= score {
					return -1
				}
				return 1
			})
			best = slices.Insert(best, at, candidate{beam, int32(token), score})[:min(len(best)+1, k)]
		}
	}
	return best
}

func (s *search) feed(tokens, order []int32) {
	for i, h := range s.running {
		tokens[i], order[i] = h.tokens[len(h.tokens)-1], h.row
	}
}

// take grows the beams by one token.
func (s *search) take(_ []int32, logProbs []float32) {
	s.made++
	beams, vocab, made := s.options.Beams, s.config.VocabSize, s.made
	for i, h := range s.running {
		s.adjust.apply(logProbs[i*vocab:(i+1)*vocab], h.tokens)
	}
	candidates := s.top(logProbs, 2*beams)
	grown := make([]hypothesis, len(candidates))
	ends := make([]bool, len(candidates))
	for i, c := range candidates {
		from := s.running[c.beam]
		grown[i] = hypothesis{tokens: append(slices.Clone(from.tokens), c.token), score: c.score, row: int32(c.beam)}
		ends[i] = c.token == int32(s.config.EOSTokenID) || made == s.options.MaxNewTokens
	}
	s.finish(grown, ends, made)
	s.running = s.running[:0]
	next := slices.Clone(grown)
	for i := range next {
		if ends[i] {
			next[i].score += dead
		}
	}
	s.running = append(s.running, best(next, beams)...)
	s.open = s.open && s.improvable(made)
}

// finish puts the continuations that end among the finished, if they are good enough.
func (s *search) finish(grown []hypothesis, ends []bool, made int) {
	full := s.options.EarlyStopping == "true" && s.complete()
	length := float32(math.Pow(float64(made), s.options.LengthPenalty))
	merged := slices.Clone(s.finished)
	for i, h := range grown {
		h.score /= length
		h.done = ends[i] && i < s.options.Beams
		if full {
			h.score += dead
		}
		if !s.open {
			h.score += dead
		}
		if !h.done {
			h.score += dead
		}
		merged = append(merged, h)
	}
	s.finished = best(merged, s.options.Beams)
}

func (s *search) complete() bool {
	return !slices.ContainsFunc(s.finished, func(h hypothesis) bool { return !h.done })
}

// improvable says whether the best running beam may still beat a finished one.
func (s *search) improvable(made int) bool {
	length := made
	if s.options.EarlyStopping == "never" && s.options.LengthPenalty > 0 {
		length = s.options.MaxNewTokens
	}
	hope := s.running[0].score / float32(math.Pow(float64(length), s.options.LengthPenalty))
	if !s.complete() {
		return hope > dead
	}
	worst := slices.MinFunc(s.finished, func(a, b hypothesis) int { return cmp.Compare(a.score, b.score) })
	return hope > worst.score
}

// over says that nothing can change any more.
func (s *search) over() bool {
	return !s.open || s.options.EarlyStopping == "true" && s.complete()
}

// best gives the k of the highest scores, of equals those that come first.
func best(hs []hypothesis, k int) []hypothesis {
	slices.SortStableFunc(hs, func(a, b hypothesis) int { return cmp.Compare(b.score, a.score) })
	return hs[:k]
}

func (s *search) sequences() []Sequence {
	var out []Sequence
	for _, h := range s.finished[:s.options.NumReturnSequences] {
		if len(h.tokens) == 0 { // there was no way on
			out = append(out, Sequence{Score: float64(h.score), Cut: true})
			continue
		}
		cut := h.tokens[len(h.tokens)-1] != int32(s.config.EOSTokenID)
		out = append(out, Sequence{Tokens: h.tokens[1:], Score: float64(h.score), Cut: cut})
	}
	return out
}
