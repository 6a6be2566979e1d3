package decode

import (
	"slices"

	"github.com/t5ctl/t5ctl/internal/matvec"
)

// hostStepper decodes a batch on the CPU. Rows of idle slots cost nothing, and a beam that
// changes its past takes over a list of where that past lies instead of the past itself.
type hostStepper struct {
	states        // of the rows that take part in a step
	shape         shape
	inner         int
	keys, values  [][]float32 // a block: [rows, heads, steps, d_kv]
	places, spare [][]int32   // by row: where in the caches each position of its past begins, for the first head
	buckets       []int32     // of the bias, by distance
	slots         []hostSource
	scores        []float32 // [rows, vocab]
	weights       []float32 // [rows, heads, steps]
	best          []int32
}

func (e *Engine) newHostStepper(sh shape) (*hostStepper, error) {
	if e.host == nil {
		m, err := newHostModel(e.weights)
		if err != nil {
			return nil, err
		}
		e.host = m
	}
	c, rows := e.weights.Config, sh.rows()
	s := &hostStepper{
		states: e.host.newStates(rows), shape: sh, inner: c.NumHeads * c.DKV, slots: make([]hostSource, sh.slots),
		scores: make([]float32, rows*c.VocabSize), weights: make([]float32, rows*c.NumHeads*sh.steps), best: make([]int32, rows),
	}
	for range c.NumDecoderLayers {
		s.keys = append(s.keys, make([]float32, rows*sh.steps*s.inner))
		s.values = append(s.values, make([]float32, rows*sh.steps*s.inner))
	}
	for range rows {
		s.places, s.spare = append(s.places, make([]int32, sh.steps)), append(s.spare, make([]int32, sh.steps))
	}
	for distance := range sh.steps {
		s.buckets = append(s.buckets, c.CausalBucket(distance))
	}
	return s, nil
}

// worth is a quarter of the slots: the encoder runs over the new sources alone.
func (s *hostStepper) worth() int { return (s.shape.slots + 3) / 4 }

func (s *hostStepper) close() {}

func (s *hostStepper) admit(slots []int, sources []Source) error {
	for i, source := range s.encode(sources) {
		s.slots[slots[i]] = source
	}
	return nil
}

// active is one row that takes part in a step.
type active struct {
	row, slot, position int
}

func (s *hostStepper) step(tokens, order, positions []int32) ([]int32, []float32, error) {
	var rows []active
	for row := range tokens {
		slot := row / s.shape.share
		at := int(positions[slot])
		if at < 0 {
			continue
		}
		rows = append(rows, active{row, slot, at})
		copy(s.spare[row][:at], s.places[order[row]][:at])
		s.spare[row][at] = int32(row*s.shape.steps*s.inner + at*s.config.DKV)
	}
	s.places, s.spare = s.spare, s.places
	n := len(rows)
	for i, r := range rows {
		s.embed(i, tokens[r.row])
	}
	for i := range s.decoder.layers {
		s.layer(i, rows)
	}
	s.normalize(s.decoder.norm, n)
	if scale := float32(s.config.HeadScale()); scale != 1 {
		matvec.Scale(s.y[:n*s.config.DModel], scale)
	}
	s.head.Mul(s.scores, s.y, n)
	best, scores := s.finish(rows)
	return best, scores, nil
}

// finish turns the logits of the active rows into what the shape asks for, each at its row.
func (s *hostStepper) finish(rows []active) (best []int32, scores []float32) {
	vocab := s.config.VocabSize
	matvec.Parallel(len(rows), func(i int) {
		row := s.scores[i*vocab : (i+1)*vocab]
		switch s.shape.kind {
		case bestToken:
			s.best[rows[i].row] = highest(row)
		case logProbs:
			matvec.LogSoftmax(row)
		case logits:
		}
	})
	if s.shape.kind == bestToken {
		return s.best, nil
	}
	for i, r := range slices.Backward(rows) { // a row never lies before its place among the active
		if r.row != i {
			copy(s.scores[r.row*vocab:(r.row+1)*vocab], s.scores[i*vocab:(i+1)*vocab])
		}
	}
	return nil, s.scores
}

// layer runs one block over the active rows, in place in x.
func (s *hostStepper) layer(at int, rows []active) {
	l, n, in := &s.decoder.layers[at], len(rows), s.inner
	s.normalize(l.selfNorm, n)
	l.selfIn.Mul(s.wide, s.y, n)
	for i, r := range rows {
		to, size := int(s.places[r.row][r.position]), s.config.DKV
		for head := 0; head < in; head += size {
			copy(s.keys[at][to:to+size], s.wide[(3*i+1)*in+head:])
			copy(s.values[at][to:to+size], s.wide[(3*i+2)*in+head:])
			to += s.shape.steps * size
		}
	}
	s.selfAttend(at, rows)
	s.project(l.selfOut, s.attended, n)

	s.normalize(l.crossNorm, n)
	l.crossIn.Mul(s.wide, s.y, n)
	s.crossAttend(at, rows)
	s.project(l.crossTo, s.attended, n)

	s.feed(l, n)
}

// selfAttend attends each row's query, of [q, k, v] in wide, to its past.
func (s *hostStepper) selfAttend(at int, rows []active) {
	heads, size, in := s.config.NumHeads, s.config.DKV, s.inner
	bias := s.decoder.layers[at].bias
	matvec.Parallel(len(rows)*heads, func(task int) {
		i, head := task/heads, task%heads
		r := rows[i]
		places := s.places[r.row][:r.position+1]
		weights := s.weights[task*s.shape.steps:][:len(places)]
		from := head * s.shape.steps * size
		matvec.Scores(weights, s.wide[3*i*in+head*size:][:size], s.keys[at][from:], places)
		for p := range weights {
			weights[p] += bias[int(s.buckets[r.position-p])*heads+head]
		}
		matvec.Scale(weights, 1/matvec.Exp(weights, matvec.Max(weights)))
		matvec.Blend(s.attended[i*in+head*size:][:size], weights, s.values[at][from:], places)
	})
}

// crossAttend attends each row's query, in wide, to its source; rows of one source read it together.
func (s *hostStepper) crossAttend(at int, rows []active) {
	heads, size, in := s.config.NumHeads, s.config.DKV, s.inner
	matvec.Parallel(len(rows)/s.shape.share*heads, func(task int) {
		i, from := task/heads*s.shape.share, task%heads*size
		source := s.slots[rows[i].slot]
		source.memory[at*heads+task%heads].Attend(s.attended[i*in+from:], in, s.wide[i*in+from:], in, s.shape.share, source.mask, nil)
	})
}
