// Package chrf computes chrF and chrF++ as sacreBLEU 2.6.0 does, to the last digit.
//
// Like package bleu it splits the work into statistics of a segment, which add up, and a score of
// their sums.
package chrf

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/t5ctl/t5ctl/eval/ngram"
	"github.com/t5ctl/t5ctl/eval/pytext"
	"github.com/t5ctl/t5ctl/eval/signature"
)

// Options are sacreBLEU's constructor arguments; Default gives the usual ones.
type Options struct {
	CharOrder    int // longest n-gram of characters
	WordOrder    int // longest n-gram of words: 0 is chrF, 2 is chrF++
	Beta         int // weight of recall against precision
	Lowercase    bool
	Whitespace   bool // count white space as characters
	EpsSmoothing bool // the formula of chrF++.py, NLTK and Moses
}

// Default is plain chrF2.
func Default() Options { return Options{CharOrder: 6, Beta: 2} }

// RangeError says that an option's value is out of range.
type RangeError struct {
	Option           string
	Value, Low, High int
}

func (e *RangeError) Error() string {
	return fmt.Sprintf("chrf: %s %d is not between %d and %d", e.Option, e.Value, e.Low, e.High)
}

// CHRF scores with one set of options. It is safe for concurrent use.
type CHRF struct{ opts Options }

// New checks the options.
func New(o Options) (*CHRF, error) {
	for _, c := range []RangeError{
		{"char_order", o.CharOrder, 1, 32}, {"word_order", o.WordOrder, 0, 8}, {"beta", o.Beta, 1, 100},
	} {
		if c.Value < c.Low || c.Value > c.High {
			return nil, &c
		}
	}
	return &CHRF{o}, nil
}

// Label is the usual name: chrF2, chrF2++.
func (c *CHRF) Label() string {
	return "chrF" + strconv.Itoa(c.opts.Beta) + strings.Repeat("+", c.opts.WordOrder)
}

func (c *CHRF) orders() int { return c.opts.CharOrder + c.opts.WordOrder }

// Width is how many statistics a segment has: output, reference and matches of each order.
func (c *CHRF) Width() int { return 3 * c.orders() }

// Columns names the statistics.
func (c *CHRF) Columns() []string {
	var names []string
	for i := range c.orders() {
		kind, n := "char", i+1
		if i >= c.opts.CharOrder {
			kind, n = "word", i+1-c.opts.CharOrder
		}
		for _, what := range []string{"hyp", "ref", "match"} {
			names = append(names, fmt.Sprintf("%s_%s%d", what, kind, n))
		}
	}
	return names
}

// Signature says how the score is computed; β is part of the name, not of the signature.
func (c *CHRF) Signature(refs int) signature.Signature {
	lc := "mixed"
	if c.opts.Lowercase {
		lc = "lc"
	}
	return signature.Signature{Refs: refs, Version: signature.SacreBLEU, Fields: []signature.Field{
		{Name: "case", Short: "c", Value: lc},
		{Name: "eff", Short: "e", Value: signature.YesNo(!c.opts.EpsSmoothing)},
		{Name: "nc", Short: "nc", Value: strconv.Itoa(c.opts.CharOrder)},
		{Name: "nw", Short: "nw", Value: strconv.Itoa(c.opts.WordOrder)},
		{Name: "space", Short: "s", Value: signature.YesNo(c.opts.Whitespace)},
	}}
}

// Words splits off one ASCII punctuation mark of each word: at its end, else at its start.
func Words(line string) []string {
	var out []string
	for _, w := range pytext.Fields(line) {
		last := len(w) - 1
		switch {
		case utf8.RuneCountInString(w) == 1:
			out = append(out, w)
		case asciiPunct(w[last]):
			out = append(out, w[:last], w[last:])
		case asciiPunct(w[0]):
			out = append(out, w[:1], w[1:])
		default:
			out = append(out, w)
		}
	}
	return out
}

func asciiPunct(c byte) bool {
	return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~')
}

// Counter computes the statistics of segments one after the other. It is for one goroutine.
type Counter struct {
	c        *CHRF
	words    ngram.Words
	chains   ngram.Chains
	hyp, ref []int32
	hypWords []int32
	prev     []int32
	left     []int32 // by n-gram of the reference: how many are not matched yet
	trial    []float64
}

// NewCounter makes a Counter.
func (c *CHRF) NewCounter() *Counter { return &Counter{c: c, trial: make([]float64, c.Width())} }

// Count writes the statistics of a segment against its best reference to dst, which has Width
// places. At least one reference is needed; an empty string is one.
func (k *Counter) Count(dst []float64, hyp string, refs []string) {
	o := k.c.opts
	k.words.Reset()
	if o.Lowercase {
		hyp = pytext.Lower(hyp)
	}
	k.hyp = k.characters(k.hyp[:0], hyp)
	if o.WordOrder > 0 {
		k.hypWords = k.wordIDs(k.hypWords[:0], hyp)
	}
	best := -1.0
	for i, ref := range refs {
		if o.Lowercase {
			ref = pytext.Lower(ref)
		}
		k.ref = k.characters(k.ref[:0], ref)
		k.compare(k.trial[:3*o.CharOrder], k.hyp, k.ref, o.CharOrder)
		if o.WordOrder > 0 {
			k.ref = k.wordIDs(k.ref[:0], ref)
			k.compare(k.trial[3*o.CharOrder:], k.hypWords, k.ref, o.WordOrder)
		}
		if len(refs) == 1 {
			copy(dst, k.trial)
			return
		}
		if f := k.c.Score(k.trial); f > best || i == 0 {
			best = f
			copy(dst, k.trial)
		}
	}
}

func (k *Counter) characters(dst []int32, line string) []int32 {
	for _, r := range line {
		if k.c.opts.Whitespace || !pytext.IsSpace(r) {
			dst = append(dst, r)
		}
	}
	return dst
}

func (k *Counter) wordIDs(dst []int32, line string) []int32 {
	for _, w := range Words(line) {
		dst = append(dst, k.words.ID(w))
	}
	return dst
}

// compare writes output, reference and matches for each order.
func (k *Counter) compare(dst []float64, hyp, ref []int32, orders int) {
	k.chains.Reset()
	k.left = k.left[:0]
	k.prev = slices.Grow(k.prev[:0], max(len(hyp), len(ref)))[:max(len(hyp), len(ref))]
	for i := range ref {
		k.prev[i] = -1
	}
	for n := range orders {
		for i := 0; i+n < len(ref); i++ {
			id := k.chains.ID(k.prev[i], ref[i+n])
			k.prev[i] = id
			if int(id) == len(k.left) {
				k.left = append(k.left, 0)
			}
			k.left[id]++
		}
	}
	for i := range hyp {
		k.prev[i] = -1
	}
	for n := range orders {
		match := 0
		for i := 0; i+n < len(hyp); i++ {
			if n > 0 && k.prev[i] < 0 {
				continue // a shorter part of it is not in the reference
			}
			id := k.chains.Find(k.prev[i], hyp[i+n])
			k.prev[i] = id
			if id >= 0 && k.left[id] > 0 {
				k.left[id]--
				match++
			}
		}
		nHyp, nRef := max(0, len(hyp)-n), max(0, len(ref)-n)
		if nRef == 0 {
			nHyp = 0 // no hits without a reference n-gram, so no misses either
		}
		dst[3*n], dst[3*n+1], dst[3*n+2] = float64(nHyp), float64(nRef), float64(match)
	}
}

// Score makes the score, from 0 to 100, of summed statistics.
func (c *CHRF) Score(sum []float64) float64 { return score(sum, c.opts, c.orders()) }

// Score32 is the score of sums in single precision, all of it computed so, as NumPy 2 does in
// sacreBLEU's resampling.
func (c *CHRF) Score32(sum []float32) float32 { return score(sum, c.opts, c.orders()) }

func score[T float32 | float64](sum []T, o Options, orders int) T {
	const eps = 1e-16
	factor := T(o.Beta * o.Beta)
	var total, precisions, recalls T
	effective := 0
	for i := range orders {
		hyp, ref, match := sum[3*i], sum[3*i+1], sum[3*i+2]
		prec, rec := T(eps), T(eps)
		if hyp > 0 {
			prec = match / hyp
		}
		if ref > 0 {
			rec = match / ref
		}
		if denom := T(factor*prec) + rec; denom > 0 {
			total += T(T(T(1+factor)*prec)*rec) / denom
		} else {
			total += T(eps)
		}
		if hyp > 0 && ref > 0 {
			precisions += prec
			recalls += rec
			effective++
		}
	}
	if o.EpsSmoothing {
		return T(100*total) / T(orders)
	}
	if effective == 0 {
		return 0
	}
	precisions /= T(effective)
	recalls /= T(effective)
	if precisions+recalls == 0 {
		return 0
	}
	f := T(T(T(1+factor)*precisions) * recalls)
	f /= T(factor*precisions) + recalls
	return 100 * f
}
