// Package ter computes the translation edit rate as sacreBLEU 2.6.0 does, to the last digit.
//
// Edits are insertions, deletions, substitutions and shifts of runs of words; shifts are found
// greedily, with Tercom's limits. References are tokenized twice, as the reference tool does, which
// shows with some options.
package ter

import (
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/eval/ngram"
	"github.com/t5ctl/t5ctl/eval/pytext"
	"github.com/t5ctl/t5ctl/eval/signature"
)

// Options are sacreBLEU's constructor arguments. The zero value of each is the default.
type Options struct {
	Normalized    bool // split punctuation
	NoPunct       bool // drop punctuation
	AsianSupport  bool // extend both to Chinese, Japanese and Korean
	CaseSensitive bool
}

// TER scores with one set of options. It is safe for concurrent use.
type TER struct {
	opts Options
	tok  *tokenizer
}

// New makes a TER.
func New(o Options) *TER { return &TER{o, newTokenizer(o)} }

// Columns names the statistics.
func (t *TER) Columns() []string { return []string{"edits", "ref_len"} }

// Signature says how the score is computed.
func (t *TER) Signature(refs int) signature.Signature {
	c := "lc"
	if t.opts.CaseSensitive {
		c = "mixed"
	}
	return signature.Signature{Refs: refs, Version: signature.SacreBLEU, Fields: []signature.Field{
		{Name: "case", Short: "c", Value: c}, {Name: "tok", Short: "t", Value: "tercom"},
		{Name: "norm", Short: "nr", Value: signature.YesNo(t.opts.Normalized)},
		{Name: "punct", Short: "pn", Value: signature.YesNo(!t.opts.NoPunct)},
		{Name: "asian", Short: "as", Value: signature.YesNo(t.opts.AsianSupport)},
	}}
}

// Score makes the score, in percent and lower for better, of summed statistics.
func (t *TER) Score(sum []float64) float64 { return score(sum) }

// Score32 is the score of sums in single precision, as NumPy 2 computes it in sacreBLEU's resampling.
func (t *TER) Score32(sum []float32) float32 { return score(sum) }

func score[T float32 | float64](sum []T) T {
	switch edits, length := sum[0], sum[1]; {
	case length > 0:
		return 100 * (edits / length)
	case edits > 0:
		return 100
	}
	return 0
}

// Counter computes the statistics of segments one after the other. It is for one goroutine.
type Counter struct {
	t      *TER
	words  ngram.Words
	names  []string // by number
	fields []string
	hyp    []int32
	ref    []int32
	e      editor
}

// NewCounter makes a Counter.
func (t *TER) NewCounter() *Counter { return &Counter{t: t} }

// Count writes edits against the nearest reference and the mean reference length to dst. At least one
// reference is needed; an empty string is one.
func (c *Counter) Count(dst []float64, hyp string, refs []string) {
	c.words.Reset()
	c.names = c.names[:0]
	c.hyp = c.numbers(c.hyp, c.t.tok.tokenize(hyp))
	best, total := -1, 0
	for _, r := range refs {
		c.ref = c.numbers(c.ref, c.t.tok.twice(r))
		total += len(c.ref)
		if n := c.e.edits(c.hyp, c.ref, c.names); best < 0 || n < best {
			best = n
		}
	}
	dst[0], dst[1] = float64(best), float64(total)/float64(len(refs))
}

func (c *Counter) numbers(dst []int32, line string) []int32 {
	c.fields = pytext.AppendFields(c.fields[:0], line)
	dst = dst[:0]
	for _, f := range c.fields {
		id := c.words.ID(f)
		if int(id) == len(c.names) {
			c.names = append(c.names, f)
		}
		dst = append(dst, id)
	}
	return dst
}

// Tercom's limits.
const (
	maxShiftWords    = 10
	maxShiftDistance = 50
	beam             = 25
	maxCandidates    = 1000
)

// Operations of the trace that rewrites the output into the reference. Of equal costs the least counts.
const (
	keep = iota
	substitute
	remove
	insert
)

// cell is an entry of the distance matrix: four times the cost, and the operation that led there.
type cell int32

const (
	one       = cell(4)                  // a cost of one
	undefined = cell(1<<30 | substitute) // outside the beam
)

// next is the cell behind c, with another operation and a cost of one more.
func (c cell) next(op cell) cell { return c&^3 + one + op }

// editor holds the matrix of one pair; rows of a common start are kept between shifts.
type editor struct {
	ref    []int32
	matrix [][]cell
	last   []int32 // the words that matrix was filled for

	words, spare []int32 // the output under way, and memory for a candidate
	a            alignment
	ops          []cell
}

// edits is the number of edits and shifts that make the output the reference.
func (e *editor) edits(hyp, ref []int32, names []string) int {
	if len(ref) == 0 {
		return len(hyp)
	}
	e.start(ref, len(hyp))
	e.words = append(e.words[:0], hyp...)
	shifts, candidates := 0, 0
	for {
		best, seen := e.shift(e.words, candidates, names)
		candidates = seen
		if candidates >= maxCandidates || best.gain <= 0 {
			break
		}
		shifts++
		e.words = append(e.words[:0], best.words...)
	}
	return shifts + e.distance(e.words)
}

func (e *editor) start(ref []int32, n int) {
	e.ref, e.last = ref, e.last[:0]
	for len(e.matrix) <= n {
		e.matrix = append(e.matrix, nil)
	}
	for i := range e.matrix[:n+1] {
		e.matrix[i] = slices.Grow(e.matrix[i][:0], len(ref)+1)[:len(ref)+1]
	}
	for j := range e.matrix[0] {
		e.matrix[0][j] = cell(j)*one + insert
	}
}

// distance is the number of edits without shifts. The matrix stays filled for trace.
func (e *editor) distance(words []int32) int {
	same := 0
	for same < len(words) && same < len(e.last) && words[same] == e.last[same] {
		same++
	}
	n, m := len(words), len(e.ref)
	if same == n && len(e.last) == n {
		return int(e.matrix[n][m] / one)
	}
	ratio := 1.0
	if n > 0 {
		ratio = float64(m) / float64(n)
	}
	width := beam
	if beam < ratio/2 {
		width = ceil(ratio/2 + beam)
	}
	for i := same + 1; i <= n; i++ {
		diagonal := int(float64(i) * ratio)
		low, high := max(0, diagonal-width), min(m+1, diagonal+width)
		if i == n {
			high = m + 1
		}
		e.fill(i, low, high, words[i-1])
	}
	e.last = append(e.last[:same], words[same:]...)
	return int(e.matrix[n][m] / one)
}

func ceil(x float64) int {
	n := int(x)
	if float64(n) < x {
		n++
	}
	return n
}

// fill computes a row of the matrix inside the beam. Of equal costs the first counts: keep or
// substitute, then remove, then insert.
func (e *editor) fill(i, low, high int, word int32) {
	above, row := e.matrix[i-1], e.matrix[i]
	for j := range row[:min(low, len(row))] {
		row[j] = undefined
	}
	for j := max(high, low, 0); j < len(row); j++ {
		row[j] = undefined
	}
	if low >= high {
		return
	}
	left := undefined
	if low == 0 {
		left = above[0].next(remove)
		row[0] = left
		low = 1
	}
	above, row = above[:high], row[:high]
	ref := e.ref[:high-1]
	for j := low; j < len(row); j++ {
		best := above[j-1] &^ 3 // keep
		if word != ref[j-1] {
			best += one + substitute
		}
		best = min(best, above[j].next(remove), left.next(insert))
		if best >= undefined&^3 {
			best = undefined
		}
		row[j], left = best, best
	}
}

// alignment says where each word of the reference stands in the output, and which words of either
// are part of an edit.
type alignment struct {
	at     []int // by reference word; -1 is before the first
	refErr []bool
	hypErr []bool
}

// align reads the trace of the last distance back. It is valid until the next call.
func (e *editor) align(n int) *alignment {
	e.ops = e.ops[:0]
	for i, j := n, len(e.ref); i > 0 || j > 0; {
		op := e.matrix[i][j] & 3
		e.ops = append(e.ops, op)
		if op != insert {
			i--
		}
		if op != remove {
			j--
		}
	}
	slices.Reverse(e.ops)
	a := &e.a
	a.at, a.refErr, a.hypErr = a.at[:0], a.refErr[:0], a.hypErr[:0]
	hyp := -1
	for _, op := range e.ops {
		wrong := op != keep
		if op != insert { // a word of the output
			hyp++
			a.hypErr = append(a.hypErr, wrong)
		}
		if op != remove { // a word of the reference
			a.at = append(a.at, hyp)
			a.refErr = append(a.refErr, wrong)
		}
	}
	return a
}

// candidate is a possible shift; the greatest in this order wins. The zero value is none.
type candidate struct {
	gain, length, start, target int
	words                       []int32
}

func (c *candidate) better(than *candidate, names []string) bool {
	if than.length == 0 {
		return true
	}
	for _, d := range [4]int{c.gain - than.gain, c.length - than.length, than.start - c.start, than.target - c.target} {
		if d != 0 {
			return d > 0
		}
	}
	for i, w := range c.words {
		if o := than.words[i]; w != o {
			return strings.Compare(names[w], names[o]) > 0
		}
	}
	return false
}

// shift finds the shift that saves most edits.
func (e *editor) shift(words []int32, candidates int, names []string) (best candidate, seen int) {
	before := e.distance(words)
	a := e.align(len(words))
	for start := range words {
		for at := max(0, start-maxShiftDistance); at < min(len(e.ref), start+maxShiftDistance+1); at++ {
			for length := 1; length <= maxShiftWords && start+length <= len(words) && at+length <= len(e.ref) && words[start+length-1] == e.ref[at+length-1]; length++ {
				if !anyOf(a.hypErr[start:start+length]) || !anyOf(a.refErr[at:at+length]) || (start <= a.at[at] && a.at[at] < start+length) {
					continue
				}
				e.tryTargets(words, start, at, length, before, &candidates, &best, names)
				if candidates >= maxCandidates {
					return best, candidates
				}
			}
		}
	}
	return best, candidates
}

func anyOf(flags []bool) bool { return slices.Contains(flags, true) }

// tryTargets tries to put a run of words before each place that the reference suggests.
func (e *editor) tryTargets(words []int32, start, at, length, before int, candidates *int, best *candidate, names []string) {
	previous := -1
	for offset := -1; offset < length; offset++ {
		target := 0
		if at+offset >= len(e.a.at) {
			break
		}
		if at+offset >= 0 {
			target = e.a.at[at+offset] + 1
		}
		if target == previous {
			continue
		}
		previous = target
		c := candidate{length: length, start: start, target: target, words: moveRun(e.spare[:0], words, start, length, target)}
		c.gain = before - e.distance(c.words)
		*candidates++
		e.spare = c.words
		if c.better(best, names) {
			e.spare = best.words
			*best = c
		}
	}
}

// moveRun appends words to dst, with words[start:start+length] taken out and put before what stood at
// target.
func moveRun(dst, words []int32, start, length, target int) []int32 {
	run, after := words[start:start+length], words[start+length:]
	switch {
	case target < start:
		dst = append(append(dst, words[:target]...), run...)
		return append(append(dst, words[target:start]...), after...)
	case target > start+length:
		dst = append(append(dst, words[:start]...), words[start+length:target]...)
		return append(append(dst, run...), words[target:]...)
	}
	end := min(len(words), length+target)
	dst = append(append(dst, words[:start]...), words[start+length:end]...)
	return append(append(dst, run...), words[end:]...)
}
