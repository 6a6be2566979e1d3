package datasets

import (
	"cmp"
	"errors"
	"math"
	"slices"

	"github.com/t5ctl/t5ctl/internal/seq2seq"
)

// packedRows are rows of one shape that hold several examples each. Which examples share a row is
// decided once, from the seed; a model that masks across examples sees no difference to
// unpacked ones.
type packedRows struct {
	rows  rowSet
	shape Bucket
	real  int64       // tokens of a pass that are not padding
	order *memberList // the examples, row by row
	ends  *memberList // where each row's examples end in order
}

// packWindow is how many examples are packed at a time, so that neither memory nor the search for
// the tightest fit grows with the data.
const packWindow = 1 << 12

// pack fills rows that hold at least the longest example: in windows of a shuffled order, longest
// examples first, each into the open row that it fills best (best-fit decreasing).
func pack(rows rowSet, seed, stream uint64) (*packedRows, error) {
	n := rows.len()
	if n == 0 {
		return nil, errNoRows
	}
	p := &packedRows{rows: rows}
	p.shape, p.real = packedShape(rows)
	var err error
	if p.order, err = newMembers(n); err != nil {
		return nil, err
	}
	if p.ends, err = newMembers(n); err != nil {
		return nil, errors.Join(err, p.close())
	}
	shuffled := newOrder(uint64(n), newRandom(forPacking, seed, stream))
	for from := int64(0); from < n; from += packWindow {
		window := make([]int64, 0, packWindow)
		for i := from; i < min(from+packWindow, n); i++ {
			window = append(window, int64(shuffled.at(uint64(i))))
		}
		if err := p.fill(window); err != nil {
			return nil, errors.Join(err, p.close())
		}
	}
	if err := errors.Join(p.order.done(), p.ends.done()); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// packedShape is the shape of a row: as long as the longest input and the longest target, and
// longer on one side where all inputs and targets together ask for that.
func packedShape(rows rowSet) (shape Bucket, tokens int64) {
	var inputs, targets int64
	for i := range rows.len() {
		input, target := rows.lengths(i)
		shape.Input, shape.Target = max(shape.Input, input), max(shape.Target, target)
		inputs, targets = inputs+int64(input), targets+int64(target)
	}
	if inputs > 0 && targets > 0 {
		ratio := float64(targets) / float64(inputs)
		shape = Bucket{
			Input:  max(shape.Input, int(math.Round(float64(shape.Target)/ratio))),
			Target: max(shape.Target, int(math.Round(float64(shape.Input)*ratio))),
		}
	}
	return shape, inputs + targets
}

// bin is a row that still has room.
type bin struct {
	free     Bucket
	examples []int64
}

// fill packs one window.
func (p *packedRows) fill(window []int64) error {
	lengths := func(i int64) Bucket {
		input, target := p.rows.lengths(i)
		return Bucket{input, target}
	}
	slices.SortStableFunc(window, func(a, b int64) int { return cmp.Compare(size(lengths(b)), size(lengths(a))) })
	var open []bin
	for _, i := range window {
		need := lengths(i)
		best, room := -1, math.MaxInt
		for k, b := range open {
			if b.free.holds(need) && size(b.free) < room {
				best, room = k, size(b.free)
			}
		}
		if best < 0 {
			open = append(open, bin{free: p.shape})
			best = len(open) - 1
		}
		b := &open[best]
		b.free.Input -= need.Input
		b.free.Target -= need.Target
		b.examples = append(b.examples, i)
	}
	for _, b := range open {
		for _, i := range b.examples {
			if err := p.order.add(i); err != nil {
				return err
			}
		}
		if err := p.ends.add(p.order.n); err != nil {
			return err
		}
	}
	return nil
}

func (p *packedRows) len() int64 { return p.ends.n }

// lengths are those of the whole row: all rows have the same.
func (p *packedRows) lengths(int64) (input, target int) { return p.shape.Input, p.shape.Target }

// count is how many examples a row has.
func (p *packedRows) count(i int64) int64 {
	if i == 0 {
		return p.ends.at(0)
	}
	return p.ends.at(i) - p.ends.at(i-1)
}

func (p *packedRows) examples(epoch int, i int64) []seq2seq.Example {
	from := int64(0)
	if i > 0 {
		from = p.ends.at(i - 1)
	}
	var all []seq2seq.Example
	for k := from; k < p.ends.at(i); k++ {
		all = append(all, p.rows.examples(epoch, p.order.at(k))...)
	}
	return all
}

func (p *packedRows) close() error {
	var errs []error
	for _, m := range []*memberList{p.order, p.ends} {
		if m != nil {
			errs = append(errs, m.close())
		}
	}
	return errors.Join(errs...)
}
