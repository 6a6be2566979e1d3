// Package bleu computes BLEU as sacreBLEU 2.6.0 does, to the last digit, its quirks included.
//
// A Counter turns a segment into sufficient statistics, which add up over segments; Score makes the
// corpus score of their sums. Statistics need no texts, so a score can be had again for any subset
// or resample of the segments.
package bleu

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/t5ctl/t5ctl/eval/fpmath"
	"github.com/t5ctl/t5ctl/eval/ngram"
	"github.com/t5ctl/t5ctl/eval/pytext"
	"github.com/t5ctl/t5ctl/eval/signature"
)

// Options are sacreBLEU's constructor arguments. The zero value of each is the default.
type Options struct {
	Tokenize       string   // 13a (default), intl, char, zh, none; or spm with Pieces
	Lowercase      bool     // before tokenizing
	Smooth         string   // exp (default), floor, add-k, none
	SmoothValue    *float64 // of floor (0.1) and add-k (1)
	MaxOrder       int      // longest n-gram, 4
	EffectiveOrder bool     // stop at the longest n-gram that the output has; for sentence scores
	// Pieces cuts a line into pieces for the tokenizer spm; Name is what the signature calls it.
	Pieces func(line string) []string
	Name   string
}

// UnknownError says that an option has no such value.
type UnknownError struct {
	Option, Value string
	Known         []string
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("bleu: no %s %q (there are %s)", e.Option, e.Value, strings.Join(e.Known, ", "))
}

// BLEU scores with one set of options. It is safe for concurrent use.
type BLEU struct {
	opts  Options
	value float64
}

// New checks the options.
func New(o Options) (*BLEU, error) {
	if o.Tokenize == "" {
		o.Tokenize = "13a"
	}
	if o.Smooth == "" {
		o.Smooth = "exp"
	}
	if o.MaxOrder == 0 {
		o.MaxOrder = 4
	}
	if known := Tokenizers(); !slices.Contains(known, o.Tokenize) && (o.Tokenize != "spm" || o.Pieces == nil) {
		return nil, &UnknownError{"tokenizer", o.Tokenize, append(known, "spm with a model file")}
	}
	if known := Smoothings(); !slices.Contains(known, o.Smooth) {
		return nil, &UnknownError{"smoothing", o.Smooth, known}
	}
	if o.MaxOrder < 1 || o.MaxOrder > 16 {
		return nil, &UnknownError{"max_ngram_order", strconv.Itoa(o.MaxOrder), []string{"1 to 16"}}
	}
	b := &BLEU{opts: o, value: 1}
	if o.Smooth == "floor" {
		b.value = 0.1
	}
	if o.SmoothValue != nil {
		b.value = *o.SmoothValue
	}
	if !(b.value >= 0) || math.IsInf(b.value, 0) {
		return nil, &UnknownError{"smooth_value", fmt.Sprint(b.value), []string{"0 and any positive number"}}
	}
	return b, nil
}

// Smoothings are the names that Options.Smooth takes.
func Smoothings() []string { return []string{"exp", "floor", "add-k", "none"} }

// Columns names the statistics of a segment: both lengths, then the matches and the totals of each order.
func (b *BLEU) Columns() []string {
	names := []string{"hyp_len", "ref_len"}
	for _, kind := range []string{"match", "total"} {
		for n := 1; n <= b.opts.MaxOrder; n++ {
			names = append(names, kind+strconv.Itoa(n))
		}
	}
	return names
}

// Signature says how the score is computed. Orders other than four are not in sacreBLEU's signature;
// they are added here, so that such a score is not taken for the usual one.
func (b *BLEU) Signature(refs int) signature.Signature {
	s := signature.Signature{Refs: refs, Version: signature.SacreBLEU}
	smooth := b.opts.Smooth
	if smooth == "floor" || smooth == "add-k" {
		smooth += fmt.Sprintf("[%.2f]", b.value)
	}
	tok := b.opts.Tokenize
	if tok == "spm" && b.opts.Name != "" {
		tok = b.opts.Name
	}
	c := "mixed"
	if b.opts.Lowercase {
		c = "lc"
	}
	s.Fields = []signature.Field{
		{Name: "case", Short: "c", Value: c},
		{Name: "eff", Short: "e", Value: signature.YesNo(b.opts.EffectiveOrder)},
		{Name: "tok", Short: "tok", Value: tok},
		{Name: "smooth", Short: "s", Value: smooth},
	}
	return s
}

// Counter computes the statistics of segments one after the other. It is for one goroutine.
type Counter struct {
	b       *BLEU
	tok     tokenizer
	words   ngram.Words
	chains  ngram.Chains
	ids     []int32
	prev    []int32
	clipped []int32 // by n-gram: the most that one reference has
	seen    []int32 // by n-gram: how many the text at hand has
}

// NewCounter makes a Counter.
func (b *BLEU) NewCounter() *Counter { return &Counter{b: b} }

func (c *Counter) tokens(line string) []int32 {
	if c.b.opts.Lowercase {
		line = pytext.Lower(line)
	}
	line = pytext.TrimRight(line)
	var fields []string
	if c.b.opts.Tokenize == "spm" {
		fields = c.b.opts.Pieces(line)
	} else {
		fields = c.tok.fields(c.b.opts.Tokenize, line)
	}
	c.ids = c.ids[:0]
	for _, f := range fields {
		c.ids = append(c.ids, c.words.ID(f))
	}
	return c.ids
}

// Count writes the statistics of a segment to dst, a place for each column. At least one reference is
// needed; an empty string is one.
func (c *Counter) Count(dst []float64, hyp string, refs []string) {
	c.words.Reset()
	c.chains.Reset()
	clear(dst)
	clear(c.clipped)
	var room [8]int
	lengths := room[:0]
	for i, ref := range refs {
		ids := c.tokens(ref)
		lengths = append(lengths, len(ids))
		c.countReference(ids, i == 0)
	}
	ids := c.tokens(hyp)
	dst[0], dst[1] = float64(len(ids)), float64(closest(len(ids), lengths))
	order := c.b.opts.MaxOrder
	for n := range order {
		dst[2+order+n] = float64(max(0, len(ids)-n))
	}
	clear(c.seen)
	prev := append(c.prev[:0], make([]int32, len(ids))...)
	for i := range prev {
		prev[i] = -1
	}
	for n := range order {
		match := 0
		for i := 0; i+n < len(ids); i++ {
			if n > 0 && prev[i] < 0 {
				continue // a shorter part of it is in no reference
			}
			id := c.chains.Find(prev[i], ids[i+n])
			prev[i] = id
			if id >= 0 && c.seen[id] < c.clipped[id] {
				c.seen[id]++
				match++
			}
		}
		dst[2+n] = float64(match)
	}
	c.prev = prev
}

// countReference raises the clip of each n-gram to how often this reference has it.
func (c *Counter) countReference(ids []int32, first bool) {
	if !first {
		clear(c.seen)
	}
	prev := c.prev[:0]
	for range ids {
		prev = append(prev, -1)
	}
	c.prev = prev
	for n := range c.b.opts.MaxOrder {
		for i := 0; i+n < len(ids); i++ {
			id := c.chains.ID(prev[i], ids[i+n])
			prev[i] = id
			for int(id) >= len(c.clipped) {
				c.clipped = append(c.clipped, 0)
				c.seen = append(c.seen, 0)
			}
			if first {
				c.clipped[id]++
				continue
			}
			c.seen[id]++
			c.clipped[id] = max(c.clipped[id], c.seen[id])
		}
	}
}

// closest is the reference length nearest to n, the shorter of two as near.
func closest(n int, lengths []int) int {
	best, diff := -1, -1
	for _, l := range lengths {
		d := max(n-l, l-n)
		if diff < 0 || d < diff || (d == diff && l < best) {
			best, diff = l, d
		}
	}
	return best
}

// Score is a corpus score with its parts, on the scale from 0 to 100.
type Score struct {
	Score          float64
	Counts, Totals []float64 // add-k has raised those of order 2 and up, as in sacreBLEU
	Precisions     []float64
	BP             float64
	SysLen, RefLen int
}

// Verbose is what sacreBLEU prints after the score.
func (s Score) Verbose() string {
	parts := make([]string, len(s.Precisions))
	for i, p := range s.Precisions {
		parts[i] = fmt.Sprintf("%.1f", p)
	}
	ratio := 0.0
	if s.RefLen != 0 {
		ratio = float64(s.SysLen) / float64(s.RefLen)
	}
	return fmt.Sprintf("%s (BP = %.3f ratio = %.3f hyp_len = %d ref_len = %d)",
		strings.Join(parts, "/"), s.BP, ratio, s.SysLen, s.RefLen)
}

// Score makes the score of summed statistics.
func (b *BLEU) Score(sum []float64) Score {
	order := b.opts.MaxOrder
	s := Score{
		SysLen: int(sum[0]), RefLen: int(sum[1]), Precisions: make([]float64, order),
		Counts: slices.Clone(sum[2 : 2+order]), Totals: slices.Clone(sum[2+order : 2+2*order]),
	}
	s.BP = brevity(s.SysLen, s.RefLen)
	if noneMatches(s.Counts) {
		return s
	}
	effective, doubled := order, 1.0
	for n := range order {
		if b.opts.Smooth == "add-k" && n > 0 {
			s.Counts[n] += b.value
			s.Totals[n] += b.value
		}
		if s.Totals[n] == 0 {
			break
		}
		if b.opts.EffectiveOrder {
			effective = n + 1
		}
		switch {
		case s.Counts[n] != 0:
			s.Precisions[n] = float64(100*s.Counts[n]) / s.Totals[n]
		case b.opts.Smooth == "exp":
			doubled *= 2
			s.Precisions[n] = 100 / float64(doubled*s.Totals[n])
		case b.opts.Smooth == "floor":
			s.Precisions[n] = float64(100*b.value) / s.Totals[n]
		}
	}
	logs := 0.0
	for _, p := range s.Precisions[:effective] {
		logs += logOf(p)
	}
	s.Score = s.BP * fpmath.Exp(logs/float64(effective))
	return s
}

// Score32 is the score of sums held in single precision, as NumPy 2 computes it in sacreBLEU's
// resampling: precisions keep single precision, the rest is double.
func (b *BLEU) Score32(sum []float32) float64 {
	order := b.opts.MaxOrder
	counts, totals := sum[2:2+order], sum[2+order:2+2*order]
	any := false
	for _, c := range counts {
		any = any || c != 0
	}
	if !any {
		return 0
	}
	effective, doubled := order, float32(1)
	k := float32(b.value)
	logs := make([]float64, order)
	for n := range logs {
		logs[n] = logOf(0)
	}
	for n := range order {
		count, total := counts[n], totals[n]
		if b.opts.Smooth == "add-k" && n > 0 {
			count += k
			total += k
		}
		if total == 0 {
			break
		}
		if b.opts.EffectiveOrder {
			effective = n + 1
		}
		switch {
		case count != 0:
			logs[n] = logOf(float64(float32(100*count) / total))
		case b.opts.Smooth == "exp":
			doubled *= 2
			logs[n] = logOf(float64(100 / float32(doubled*total)))
		case b.opts.Smooth == "floor":
			logs[n] = logOf(float64(float32(float64(100*b.value)) / total))
		}
	}
	mean := 0.0
	for _, l := range logs[:effective] {
		mean += l
	}
	return brevity(int(sum[0]), int(sum[1])) * fpmath.Exp(mean/float64(effective))
}

func noneMatches(counts []float64) bool {
	return !slices.ContainsFunc(counts, func(c float64) bool { return c != 0 })
}

func brevity(sys, ref int) float64 {
	switch {
	case sys >= ref:
		return 1
	case sys == 0:
		return 0
	}
	return fpmath.Exp(1 - float64(ref)/float64(sys))
}

// logOf is sacreBLEU's my_log: a very low number in place of minus infinity.
func logOf(x float64) float64 {
	if x == 0 {
		return -9999999999
	}
	return fpmath.Log(x)
}
