package decode

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// sample draws a token at each step. Each source has its own stream, so that what is drawn for
// it does not depend on what it is batched with.
func (s *state) sample(sources []Source, o Options) ([][]Sequence, error) {
	c := s.engine.weights.Config
	streams := make([]*rand.Rand, len(sources))
	for i, src := range sources {
		streams[i] = rand.New(rand.NewPCG(o.Seed, src.Stream))
	}
	tokens := make([]int32, s.shape.sources)
	for i := range tokens {
		tokens[i] = int32(c.DecoderStartTokenID)
	}
	drawn := newRows(len(sources))
	for position := range s.shape.steps {
		out, err := s.step(tokens, position, nil)
		if err != nil {
			return nil, err
		}
		logProbs, err := read[float32](out)
		if err != nil {
			return nil, err
		}
		for i, stream := range streams {
			tokens[i] = draw(logProbs[i*c.VocabSize:(i+1)*c.VocabSize], stream.Float64(), o)
		}
		if drawn.append(tokens[:len(sources)], c) {
			break
		}
	}
	return drawn.sequences(), nil
}

// draw picks the token at point u in [0, 1) of the distribution that is left after temperature,
// top-k and top-p, in this order, as transformers warps it.
func draw(logProbs []float32, u float64, o Options) int32 {
	ids := make([]int32, len(logProbs))
	for i := range ids {
		ids[i] = int32(i)
	}
	slices.SortStableFunc(ids, func(a, b int32) int { return cmp.Compare(logProbs[b], logProbs[a]) })
	if o.TopK > 0 && o.TopK < len(ids) {
		ids = ids[:o.TopK]
	}
	weights := make([]float64, len(ids))
	total := 0.0
	for i, id := range ids {
		weights[i] = math.Exp(float64(logProbs[id]-logProbs[ids[0]]) / o.Temperature)
		total += weights[i]
	}
	ids, total = nucleus(ids, weights, total, o.TopP)
	point, sum := u*total, 0.0
	for i, id := range ids {
		if sum += weights[i]; point < sum {
			return id
		}
	}
	return ids[len(ids)-1]
}

// nucleus keeps the likeliest tokens until their share reaches p; the one that crosses it stays.
func nucleus(ids []int32, weights []float64, total, p float64) ([]int32, float64) {
	if p >= 1 {
		return ids, total
	}
	sum := 0.0
	for i := range ids {
		sum += weights[i]
		if sum >= p*total {
			return ids[:i+1], sum
		}
	}
	return ids, total
}
