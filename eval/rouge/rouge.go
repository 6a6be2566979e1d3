// Package rouge computes ROUGE as Google's rouge-score 0.1.2 does: ROUGE-N, ROUGE-L and the
// summary-level ROUGE-Lsum, with its tokens and NLTK's stemmer.
//
// The score of a corpus is the mean of the segments' F-measures, which is the same every time. The
// "mid" of rouge-score, a median of resampled means that varies with an unseeded generator, is had
// from Aggregate.
package rouge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/eval/ngram"
	"github.com/t5ctl/t5ctl/eval/numpy"
	"github.com/t5ctl/t5ctl/eval/pytext"
)

// Version is the release whose scores are reproduced.
const Version = "0.1.2"

// Type is a kind of ROUGE: N > 0 counts n-grams; N = L or Lsum compares subsequences.
type Type int

// L is the longest common subsequence of whole texts, Lsum the union of those of their lines.
const (
	L    Type = 0
	Lsum Type = -1
)

// ParseType reads rouge1 to rouge9, rougeL, rougeLsum.
func ParseType(name string) (Type, error) {
	switch n, ok := strings.CutPrefix(name, "rouge"); {
	case ok && n == "L":
		return L, nil
	case ok && n == "Lsum":
		return Lsum, nil
	case ok && len(n) == 1 && n[0] >= '1' && n[0] <= '9':
		return Type(n[0] - '0'), nil
	}
	return 0, fmt.Errorf("rouge: no type %q (there are rouge1 to rouge9, rougeL, rougeLsum)", name)
}

// Triple is one score of one segment, from 0 to 1.
type Triple struct{ Precision, Recall, F float64 }

func triple(hits, prediction, target int) Triple {
	if prediction == 0 || target == 0 {
		return Triple{}
	}
	p, r := float64(hits)/float64(prediction), float64(hits)/float64(target)
	if p+r == 0 {
		return Triple{}
	}
	return Triple{p, r, 2 * p * r / (p + r)}
}

// appendTokens appends the runs of ASCII letters and digits of the lower-cased text, those of more
// than three characters stemmed if asked. Text in other scripts has none and scores 0.
func appendTokens(dst []string, text string, stem bool, memo map[string]string) []string {
	text = pytext.Lower(text)
	for i := 0; i < len(text); i++ {
		if !alnum(text[i]) {
			continue
		}
		start := i
		for i < len(text) && alnum(text[i]) {
			i++
		}
		word := text[start:i]
		if stem && len(word) > 3 {
			word = stemmed(word, memo)
		}
		dst = append(dst, word)
	}
	return dst
}

// stemmed keeps the stems of up to 65,536 words, since texts repeat them.
func stemmed(word string, memo map[string]string) string {
	if s, ok := memo[word]; ok {
		return s
	}
	s := Stem(word)
	if memo != nil && len(memo) < 1<<16 {
		memo[strings.Clone(word)] = strings.Clone(s)
	}
	return s
}

func alnum(c byte) bool { return ('a' <= c && c <= 'z') || ('0' <= c && c <= '9') }

// Counter scores segments one after the other. It is for one goroutine. It keeps the tokens of the
// last segment, so asking for one type after the other costs no more than asking for all at once.
type Counter struct {
	stem    bool
	memo    map[string]string
	words   ngram.Words
	chains  ngram.Chains
	pred    text
	targets []text
	table   []int32
	left    []int32
	strings []string
}

// text is a text as numbers: all its tokens, and those of each line.
type text struct {
	source string
	all    []int32
	lines  [][]int32
}

// NewCounter makes a Counter.
func NewCounter(stem bool) *Counter { return &Counter{stem: stem, memo: map[string]string{}} }

// Score is the score of a prediction against its best target; the first of several as good.
func (c *Counter) Score(t Type, prediction string, targets []string) Triple {
	c.load(prediction, targets)
	var best Triple
	for i := range targets {
		var s Triple
		switch t {
		case L:
			s = c.sequence(c.targets[i].all, c.pred.all)
		case Lsum:
			s = c.summary(&c.targets[i], &c.pred)
		default:
			s = c.grams(int(t), c.targets[i].all, c.pred.all)
		}
		if i == 0 || s.F > best.F {
			best = s
		}
	}
	return best
}

func (c *Counter) load(prediction string, targets []string) {
	same := c.pred.source == prediction && len(c.targets) == len(targets) && c.pred.lines != nil
	for i := 0; same && i < len(targets); i++ {
		same = c.targets[i].source == targets[i]
	}
	if same {
		return
	}
	c.words.Reset()
	c.number(&c.pred, prediction)
	c.targets = slices.Grow(c.targets[:0], len(targets))[:len(targets)]
	for i := range targets {
		c.number(&c.targets[i], targets[i])
	}
}

// number fills x with the tokens of a text. A line break parts tokens anyway, so the tokens of the
// whole are those of its lines.
func (c *Counter) number(x *text, source string) {
	x.source, x.all, x.lines = source, x.all[:0], x.lines[:0]
	if x.lines == nil {
		x.lines = [][]int32{}
	}
	ends := []int{}
	for line := range strings.SplitSeq(source, "\n") {
		if line == "" {
			continue
		}
		c.strings = appendTokens(c.strings[:0], line, c.stem, c.memo)
		for _, w := range c.strings {
			x.all = append(x.all, c.words.ID(w))
		}
		ends = append(ends, len(x.all))
	}
	start := 0
	for _, end := range ends {
		x.lines = append(x.lines, x.all[start:end])
		start = end
	}
}

func (c *Counter) grams(n int, target, pred []int32) Triple {
	c.chains.Reset()
	hits := 0
	c.left = c.left[:0]
	for i := 0; i+n <= len(target); i++ {
		id := int32(-1)
		for _, w := range target[i : i+n] {
			id = c.chains.ID(id, w)
		}
		for int(id) >= len(c.left) {
			c.left = append(c.left, 0)
		}
		c.left[id]++
	}
	for i := 0; i+n <= len(pred); i++ {
		id := int32(-1)
		for _, w := range pred[i : i+n] {
			if id = c.chains.Find(id, w); id < 0 {
				break
			}
		}
		if id >= 0 && int(id) < len(c.left) && c.left[id] > 0 {
			c.left[id]--
			hits++
		}
	}
	return triple(hits, max(0, len(pred)-n+1), max(0, len(target)-n+1))
}

// lcs fills the table of common subsequences and returns the length of the longest.
func (c *Counter) lcs(ref, can []int32) int {
	cols := len(can) + 1
	size := (len(ref) + 1) * cols
	c.table = slices.Grow(c.table[:0], size)[:size]
	clear(c.table[:cols])
	for i, r := range ref {
		above, row := c.table[i*cols:(i+1)*cols], c.table[(i+1)*cols:(i+2)*cols]
		row[0] = 0
		for j, x := range can {
			if r == x {
				row[j+1] = above[j] + 1
			} else {
				row[j+1] = max(above[j+1], row[j])
			}
		}
	}
	return int(c.table[size-1])
}

func (c *Counter) sequence(target, pred []int32) Triple {
	if len(target) == 0 || len(pred) == 0 {
		return Triple{}
	}
	return triple(c.lcs(target, pred), len(pred), len(target))
}

// summary counts, for each line of the target, the tokens in the union of its common subsequences
// with the lines of the prediction; a token counts no more often than both texts have it.
func (c *Counter) summary(target, pred *text) Triple {
	most := int32(-1)
	for _, w := range slices.Concat(target.all, pred.all) {
		most = max(most, w)
	}
	left := make([][2]int32, most+1)
	for _, w := range target.all {
		left[w][0]++
	}
	for _, w := range pred.all {
		left[w][1]++
	}
	hits := 0
	for _, ref := range target.lines {
		union := make([]bool, len(ref))
		for _, can := range pred.lines {
			c.lcs(ref, can)
			c.backtrack(union, ref, can)
		}
		for i, in := range union {
			if l := &left[ref[i]]; in && l[0] > 0 && l[1] > 0 {
				hits++
				l[0]--
				l[1]--
			}
		}
	}
	return triple(hits, len(pred.all), len(target.all))
}

// backtrack marks one longest subsequence, going up where two ways are as long.
func (c *Counter) backtrack(in []bool, ref, can []int32) {
	cols := len(can) + 1
	for i, j := len(ref), len(can); i > 0 && j > 0; {
		switch {
		case ref[i-1] == can[j-1]:
			in[i-1] = true
			i--
			j--
		case c.table[i*cols+j-1] > c.table[(i-1)*cols+j]:
			j--
		default:
			i--
		}
	}
}

// Interval is a resampled score: low and high bounds and the median between.
type Interval struct{ Low, Mid, High Triple }

// Aggregate resamples as rouge-score's BootstrapAggregator does after numpy.random.seed(seed): all
// types, each a list of segment scores, draw from one stream in turn.
func Aggregate(types [][]Triple, samples int, confidence float64, seed uint32) []Interval {
	rng := numpy.NewMT19937(seed)
	delta := (1 - confidence) / 2
	qs := [3]float64{100 * delta / 100, 100 * 0.5 / 100, 100 * (1 - delta) / 100}
	out := make([]Interval, len(types))
	for t, scores := range types {
		n := len(scores)
		pick := make([]int32, n)
		var means [3][]float64
		for range samples {
			rng.Choice(pick, n)
			var sum Triple
			for _, k := range pick {
				sum.Precision += scores[k].Precision
				sum.Recall += scores[k].Recall
				sum.F += scores[k].F
			}
			for m, v := range [3]float64{sum.Precision, sum.Recall, sum.F} {
				means[m] = append(means[m], v/float64(n))
			}
		}
		var at [3][3]float64
		for m := range means {
			slices.Sort(means[m])
			for q := range qs {
				at[q][m] = numpy.Quantile(means[m], qs[q])
			}
		}
		out[t] = Interval{Triple{at[0][0], at[0][1], at[0][2]}, Triple{at[1][0], at[1][1], at[1][2]}, Triple{at[2][0], at[2][1], at[2][2]}}
	}
	return out
}
