// Package meteor scores a text by the words that it shares with a reference and by how few runs they
// form, as nltk 3.10.4's meteor_score does with a WordNet that knows no synonyms: words match as they
// are, or by their stems.
package meteor

import (
	"cmp"
	"math"
	"slices"

	"github.com/t5ctl/t5ctl/eval/pytext"
	"github.com/t5ctl/t5ctl/eval/rouge"
)

// Version is the release whose scores are reproduced.
const Version = "nltk-3.10.4"

// Options weigh the parts of the score.
type Options struct {
	Alpha float64 // weight of precision in the mean, 0.9
	Beta  float64 // exponent of the penalty for order, 3
	Gamma float64 // the most that the penalty takes, 0.5
}

// Default are the weights of nltk.
func Default() Options { return Options{Alpha: 0.9, Beta: 3, Gamma: 0.5} }

// place is a word with where it stands.
type place struct {
	at   int
	word string
}

// pair is a match: where the word stands in the output and in the reference.
type pair struct{ hyp, ref int }

// Score is from 0 to 1: the best over the references. All texts are words already.
func Score(o Options, hyp []string, refs [][]string) float64 {
	best := 0.0
	for _, ref := range refs {
		best = max(best, o.single(hyp, ref))
	}
	return best
}

func (o Options) single(hyp, ref []string) float64 {
	matches := align(places(hyp), places(ref))
	if len(matches) == 0 {
		return 0
	}
	precision, recall := float64(len(matches))/float64(len(hyp)), float64(len(matches))/float64(len(ref))
	mean := float64(precision*recall) / (float64(o.Alpha*precision) + float64((1-o.Alpha)*recall))
	penalty := float64(o.Gamma * math.Pow(float64(chunks(matches))/float64(len(matches)), o.Beta))
	return (1 - penalty) * mean
}

func places(words []string) []place {
	out := make([]place, len(words))
	for i, w := range words {
		out[i] = place{i, pytext.Lower(w)}
	}
	return out
}

// align matches equal words first, then what is left by stems.
func align(hyp, ref []place) []pair {
	matches, hyp, ref := match(nil, hyp, ref)
	stem(hyp)
	stem(ref)
	matches, _, _ = match(matches, hyp, ref)
	slices.SortFunc(matches, func(a, b pair) int { return cmp.Compare(a.hyp, b.hyp) })
	return matches
}

func stem(words []place) {
	for i := range words {
		words[i].word = rouge.Stem(words[i].word)
	}
}

// match pairs each word, from the last to the first, with the last free one like it; it returns what
// is left of both sides.
func match(matches []pair, hyp, ref []place) (all []pair, hypLeft, refLeft []place) {
	free := map[string][]int{}
	for j, r := range ref {
		free[r.word] = append(free[r.word], j)
	}
	taken := make([]bool, len(ref))
	for i := len(hyp) - 1; i >= 0; i-- {
		at := free[hyp[i].word]
		if len(at) == 0 {
			hypLeft = append(hypLeft, hyp[i])
			continue
		}
		j := at[len(at)-1]
		free[hyp[i].word] = at[:len(at)-1]
		taken[j] = true
		matches = append(matches, pair{hyp[i].at, ref[j].at})
	}
	slices.Reverse(hypLeft)
	for j, r := range ref {
		if !taken[j] {
			refLeft = append(refLeft, r)
		}
	}
	return matches, hypLeft, refLeft
}

// chunks counts the runs that are adjacent and in the same order in both texts.
func chunks(matches []pair) int {
	n := 1
	for i := 1; i < len(matches); i++ {
		if matches[i].hyp != matches[i-1].hyp+1 || matches[i].ref != matches[i-1].ref+1 {
			n++
		}
	}
	return n
}
