package datasets

import (
	"math"

	"github.com/t5ctl/t5ctl/internal/seq2seq"
)

// lots makes of each step a lot: every row is taken or left by itself with the same probability
// (Poisson sampling), which is what accounts of differential privacy assume. A lot may have any
// size, none included; it comes as batches of the plan's shapes, the last of which is not More.
type lots struct {
	plan *bucketPlan
	rate float64
}

// newStream gives a plan's batches, or lots of its rows where the options ask for lots.
func newStream(plan *bucketPlan, o BatchOptions) *Stream {
	s := &Stream{plan: plan}
	if o.Lot > 0 {
		s.lots = &lots{plan: plan, rate: min(1, float64(o.Lot)/float64(plan.rows.len()))}
	}
	return s
}

// Rate is the probability with which a row is in a lot; 0 where every row comes once a pass.
func (s *Stream) Rate() float64 {
	if s.lots == nil {
		return 0
	}
	return s.lots.rate
}

// perEpoch is how many lots have as many rows, on average, as there are.
func (l *lots) perEpoch() int64 { return max(1, int64(math.Round(1/l.rate))) }

// nextOfLot gives the next batch of the lot at the position. The position moves on with the last.
func (s *Stream) nextOfLot() seq2seq.Batch {
	if len(s.rest) == 0 {
		s.rest = s.lots.lot(uint64(s.at.Epoch)*uint64(s.PerEpoch()) + uint64(s.at.Offset))
	}
	b := s.rest[0]
	if s.rest = s.rest[1:]; len(s.rest) > 0 {
		return b
	}
	if s.at.Offset++; s.at.Offset == s.PerEpoch() {
		s.at = seq2seq.Position{Epoch: s.at.Epoch + 1}
	}
	return b
}

// lot draws the rows of a step and puts them into batches, bucket by bucket.
func (l *lots) lot(step uint64) []seq2seq.Batch {
	random := newRandom(forLots, l.plan.options.Seed, step)
	drawn := make([][]seq2seq.Example, len(l.plan.buckets))
	for k, b := range l.plan.buckets {
		for i := range b.n {
			if random.float() >= l.rate {
				continue
			}
			examples := l.plan.rows.examples(0, l.plan.members.at(b.from+i))
			drawn[k] = append(drawn[k], examples...)
		}
	}
	var batches []seq2seq.Batch
	for k, b := range l.plan.buckets {
		for from := 0; from < len(drawn[k]); from += b.batchRows {
			batch := seq2seq.New(b.batchRows, b.Input, b.Target)
			for _, e := range drawn[k][from:min(from+b.batchRows, len(drawn[k]))] {
				batch.Append(e)
			}
			batch.More = true
			batches = append(batches, batch)
		}
	}
	if len(batches) == 0 { // nobody was drawn: the step is noise alone
		b := l.plan.buckets[0]
		batches = []seq2seq.Batch{seq2seq.New(b.batchRows, b.Input, b.Target)}
	}
	batches[len(batches)-1].More = false
	return batches
}
