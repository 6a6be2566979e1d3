package eval

import (
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/t5ctl/t5ctl/eval/pytext"
	"github.com/t5ctl/t5ctl/eval/signature"
)

// simple is a metric whose rows have one value and whose score is made of its sum.
func simple(label string, higher bool, sig func(int) signature.Signature, score func([]float64, int) float64, value func(*Sample) (float64, bool)) *Metric {
	return &Metric{
		Label: label, HigherIsBetter: higher, columns: []string{"value"}, signature: sig, score: score,
		counter: func(*worker) func([]float64, *Sample) bool {
			return func(dst []float64, s *Sample) bool {
				v, ok := value(s)
				dst[0] = v
				return ok
			}
		},
	}
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// newExactMatch is the share of outputs that are one of the references, character for character.
func newExactMatch(o *options) *Metric {
	strip := o.flag("strip", false)
	return simple("exact match", true, own(field("strip", yesNo(strip))), mean100, func(s *Sample) (float64, bool) {
		return truth(slices.ContainsFunc(s.References, func(r string) bool {
			if strip {
				return pytext.Trim(r) == pytext.Trim(s.Output)
			}
			return r == s.Output
		})), true
	})
}

func yesNo(on bool) string {
	if on {
		return "yes"
	}
	return "no"
}

// newWordError is the word error rate of pronunciation: the share of words whose output, taken as a
// sequence of symbols, is none of the accepted ones. White space between symbols does not matter.
func newWordError(*options) *Metric {
	return simple("word error rate", false, own(field("match", "any")), mean100, func(s *Sample) (float64, bool) {
		out := pytext.Fields(s.Output)
		return truth(!slices.ContainsFunc(s.References, func(r string) bool {
			return slices.Equal(pytext.Fields(r), out)
		})), true
	})
}

// newEditRate is the number of edits to the nearest reference over the lengths of those references:
// the phoneme error rate where words are phonemes, the character error rate by characters.
func newEditRate(unit string) maker {
	return func(*options) *Metric {
		label := map[string]string{"word": "phoneme error rate", "char": "character error rate"}[unit]
		return &Metric{
			Label: label, columns: []string{"edits", "length"},
			signature: own(field("unit", unit), field("ref", "nearest")),
			score: func(sum []float64, _ int) float64 {
				if sum[1] == 0 {
					return 100 * truth(sum[0] > 0)
				}
				return percent(sum[0], sum[1])
			},
			counter: func(*worker) func([]float64, *Sample) bool {
				var e editor
				return func(dst []float64, s *Sample) bool {
					dst[0], dst[1] = e.nearest(unit, s.Output, s.References)
					return true
				}
			},
		}
	}
}

// editor counts edits, reusing its row.
type editor struct{ row []int }

// nearest is the distance to the nearest reference and its length; the first of several as near.
func (e *editor) nearest(unit, output string, refs []string) (edits, length float64) {
	best, size := -1, 0
	out := units(unit, output)
	for _, r := range refs {
		ref := units(unit, r)
		if d := e.distance(out, ref); best < 0 || d < best {
			best, size = d, len(ref)
		}
	}
	return float64(best), float64(size)
}

func units(unit, text string) []string {
	words := pytext.Fields(text)
	if unit == "word" {
		return words
	}
	var chars []string
	for i, w := range words {
		if i > 0 {
			chars = append(chars, " ")
		}
		for len(w) > 0 {
			_, n := utf8.DecodeRuneInString(w)
			chars = append(chars, w[:n])
			w = w[n:]
		}
	}
	return chars
}

// distance is Levenshtein's.
func (e *editor) distance(a, b []string) int {
	e.row = e.row[:0]
	for j := range len(b) + 1 {
		e.row = append(e.row, j)
	}
	for i, x := range a {
		diagonal := e.row[0]
		e.row[0] = i + 1
		for j, y := range b {
			above := e.row[j+1]
			cost := diagonal
			if x != y {
				cost++
			}
			e.row[j+1] = min(cost, above+1, e.row[j]+1)
			diagonal = above
		}
	}
	return e.row[len(b)]
}

// newLengthLimit is the share of outputs that the length limit cut short. Only a predictor that says
// so can tell; scored files cannot.
func newLengthLimit(*options) *Metric {
	return simple("outputs at the length limit", false, own(), mean100, func(s *Sample) (float64, bool) {
		if s.AtLimit == nil {
			return 0, false
		}
		return truth(*s.AtLimit), true
	})
}

// newEmptyOutputs is the share of outputs that hold nothing but white space.
func newEmptyOutputs(*options) *Metric {
	return simple("empty outputs", false, own(), mean100, func(s *Sample) (float64, bool) {
		return truth(pytext.Trim(s.Output) == ""), true
	})
}

// newOutputWords is the mean number of words that the model writes.
func newOutputWords(*options) *Metric {
	return simple("words per output", true, own(), meanOf, func(s *Sample) (float64, bool) {
		return float64(len(pytext.Fields(s.Output))), true
	})
}

// newRepetition is the share of n-grams of words that an output has written before.
func newRepetition(o *options) *Metric {
	n := o.integer("n", 4)
	if n < 1 || n > 32 {
		o.fail("n", strconv.Itoa(n), "must be from 1 to 32")
	}
	return &Metric{
		Label: "repeated n-grams", columns: []string{"repeated", "total"}, signature: own(field("n", strconv.Itoa(n))),
		score: func(sum []float64, _ int) float64 {
			if sum[1] == 0 {
				return 0
			}
			return percent(sum[0], sum[1])
		},
		counter: func(*worker) func([]float64, *Sample) bool {
			return func(dst []float64, s *Sample) bool {
				words := pytext.Fields(s.Output)
				seen := map[string]bool{}
				dst[0], dst[1] = 0, float64(max(0, len(words)-n+1))
				for i := 0; i+n <= len(words); i++ {
					key := ""
					for _, w := range words[i : i+n] {
						key += w + "\x00"
					}
					dst[0] += truth(seen[key])
					seen[key] = true
				}
				return true
			}
		},
	}
}
