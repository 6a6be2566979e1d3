package model

import (
	"context"

	"github.com/t5ctl/t5ctl/internal/decode"
)

// ScorePairs scores each target, its end included, after its own source. Targets are cut at as many
// tokens as inputs.
func (m *Model) ScorePairs(ctx context.Context, sources, targets []string) ([]decode.PairScores, error) {
	inputs, labels := make([][]int32, len(sources)), make([][]int32, len(targets))
	for i := range sources {
		inputs[i], labels[i] = m.encode(sources[i]), m.encode(targets[i])
	}
	return m.engine.ScorePairs(ctx, inputs, labels)
}

// Continuer tells what may follow beginnings of outputs under an input.
type Continuer struct {
	model *Model
	*decode.Continuer
}

// Continuer makes one; it is closed after use.
func (m *Model) Continuer() Continuer { return Continuer{m, m.engine.Continuer()} }

// Continue gives, for each beginning, the log-probability of every token behind it.
func (c Continuer) Continue(ctx context.Context, source string, beginnings [][]int32) ([][]float32, error) {
	return c.Next(ctx, c.model.encode(source), beginnings)
}

// Embed gives the mean encoder state of each source, d_model figures each.
func (m *Model) Embed(ctx context.Context, sources []string) ([][]float32, error) {
	inputs := make([][]int32, len(sources))
	for i, s := range sources {
		inputs[i] = m.encode(s)
	}
	return m.engine.Embed(ctx, inputs)
}
