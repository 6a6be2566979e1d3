package datasets

import (
	"errors"

	"github.com/t5ctl/t5ctl/internal/seq2seq"
)

// mixture deals out the batches of several plans by rate. Every mixBlock batches hold each plan
// exactly as often as its rate says, in an order drawn for that block, so that the share is right
// at any time and any place can be found by counting. A plan that has come to its end starts its
// next pass while others go on.
type mixture struct {
	parts  []batchPlan
	counts []int64  // of each part in a block
	names  []string // of the parts, where they are tasks
	seed   uint64
	total  int64 // batches of a pass: as many as all parts have in one pass of each

	block int64 // whose order follows; -1 at first
	order []int // which part each batch of the block comes from
}

// mixBlock is the number of batches in which the rates are met exactly.
const mixBlock = 1000

// newMixture mixes by rates, which need not add up to anything.
func newMixture(parts []batchPlan, rates []float64, seed uint64) *mixture {
	m := &mixture{parts: parts, counts: shares(rates), seed: seed, block: -1}
	for _, part := range parts {
		m.total += part.perEpoch()
	}
	return m
}

// shares divides a block: each part gets its share rounded down, at least one, and what is left
// goes to those that lost most by the rounding, the first of equals first.
func shares(rates []float64) []int64 {
	sum := 0.0
	for _, rate := range rates {
		sum += rate
	}
	counts, left := make([]int64, len(rates)), int64(mixBlock)
	for i, rate := range rates {
		counts[i] = max(1, int64(rate/sum*mixBlock))
		left -= counts[i]
	}
	for ; left != 0; left -= sign(left) {
		best, most := 0, -1.0
		for i, rate := range rates {
			owed := (rate/sum*mixBlock - float64(counts[i])) * float64(sign(left))
			if owed > most && (left > 0 || counts[i] > 1) {
				best, most = i, owed
			}
		}
		counts[best] += sign(left)
	}
	return counts
}

func sign(n int64) int64 {
	if n < 0 {
		return -1
	}
	return 1
}

func (m *mixture) perEpoch() int64 { return m.total }

func (m *mixture) shapes() (all []Shape) {
	for i, part := range m.parts {
		for _, shape := range part.shapes() {
			share := float64(m.counts[i]) / mixBlock * float64(m.total) / float64(part.perEpoch())
			shape.Batches = int64(float64(shape.Batches)*share + 0.5)
			all = append(all, shape)
		}
	}
	return all
}

func (m *mixture) tokens() (have, padded int64) {
	for _, part := range m.parts {
		h, p := part.tokens()
		have, padded = have+h, padded+p
	}
	return have, padded
}

func (m *mixture) close() error {
	var errs []error
	for _, part := range m.parts {
		errs = append(errs, part.close())
	}
	return errors.Join(errs...)
}

// arrange draws the order of a block.
func (m *mixture) arrange(block int64) {
	if m.block == block {
		return
	}
	m.block, m.order = block, m.order[:0]
	places := newOrder(mixBlock, newRandom(forMixture, m.seed, uint64(block)))
	for i := range uint64(mixBlock) {
		part, place := 0, int64(places.at(i))
		for place >= m.counts[part] {
			place -= m.counts[part]
			part++
		}
		m.order = append(m.order, part)
	}
}

func (m *mixture) batch(epoch int, n int64) (seq2seq.Batch, error) {
	n += int64(epoch) * m.total
	m.arrange(n / mixBlock)
	part := m.order[n%mixBlock]
	done := m.dealt(n, part)
	per := m.parts[part].perEpoch()
	return m.parts[part].batch(int(done/per), done%per)
}
