package model

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"

	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/device"
)

// Certificate says how near a merged model is to its base with the adapter on it.
type Certificate struct {
	Version         int     `json:"version"` // of this record: 1
	Probes          int     `json:"probes"`  // made-up inputs, always the same ones
	ProbeTokens     int     `json:"probe_tokens"`
	Difference      float64 `json:"largest_logit_difference"`
	Limit           float64 `json:"limit"` // of the difference: 1e-4 of the largest logit
	GreedyTokens    int     `json:"greedy_tokens"`
	GreedyIdentical bool    `json:"greedy_identical"`
	Backend         string  `json:"backend"`
	Base            string  `json:"base_weights"` // what was compared, as Identity tells it
	Adapter         string  `json:"adapter_weights"`
}

// CertificateError says that a merged model is not what it was merged of.
type CertificateError struct{ Certificate Certificate }

func (e *CertificateError) Error() string {
	c := e.Certificate
	return fmt.Sprintf("the merged model differs from its base with the adapter: logits by %.3g (at most %.3g), greedy outputs identical: %t",
		c.Difference, c.Limit, c.GreedyIdentical)
}

const (
	probes      = 8
	probeTokens = 32
)

// Certify compares a merged model with its base and adapter, which are kept apart: the logits of
// made-up inputs and targets, and what greedy search makes of the inputs.
func Certify(ctx context.Context, b device.Opening, base, adapter, merged string) (Certificate, error) {
	apart, err := Open(b, base, Options{Adapter: adapter})
	if err != nil {
		return Certificate{}, err
	}
	defer apart.Close()
	one, err := Open(b, merged, Options{})
	if err != nil {
		return Certificate{}, err
	}
	defer one.Close()
	c := Certificate{
		Version: 1, Probes: probes, ProbeTokens: probeTokens, Backend: b.Describe(),
		Base: identity(base, "model"), Adapter: identity(adapter, "adapter_model"),
	}
	want, wantTokens, err := apart.probe(ctx)
	if err != nil {
		return c, err
	}
	got, gotTokens, err := one.probe(ctx)
	if err != nil {
		return c, err
	}
	largest := 0.0
	for i, v := range want {
		largest = max(largest, math.Abs(float64(v)))
		if d := math.Abs(float64(v) - float64(got[i])); d > c.Difference || math.IsNaN(d) {
			c.Difference = d
		}
	}
	c.Limit, c.GreedyIdentical = 1e-4*largest, reflect.DeepEqual(wantTokens, gotTokens)
	for _, tokens := range wantTokens {
		c.GreedyTokens += len(tokens)
	}
	if !c.GreedyIdentical || !(c.Difference <= c.Limit) {
		return c, &CertificateError{Certificate: c}
	}
	return c, nil
}

// probe gives the logits of the probes and what greedy search makes of them, on the device, where
// an adapter is not merged.
func (m *Model) probe(ctx context.Context) ([]float32, [][]int32, error) {
	rng := rand.New(rand.NewPCG(1, 1))
	draw := func() [][]int32 {
		rows := make([][]int32, probes)
		for i := range rows {
			for range probeTokens {
				rows[i] = append(rows[i], 3+rng.Int32N(int32(m.Config.VocabSize)-3))
			}
		}
		return rows
	}
	inputs, targets := draw(), draw()
	logits, err := m.engine.Logits(inputs, targets)
	if err != nil {
		return nil, nil, err
	}
	o := decode.DefaultOptions()
	o.MaxNewTokens, o.BatchRows = probeTokens, probes
	var sources []decode.Source
	for _, tokens := range inputs {
		sources = append(sources, decode.Source{Tokens: tokens})
	}
	m.engine.OnDevice = true
	found, err := m.engine.Generate(ctx, sources, o)
	if err != nil {
		return nil, nil, err
	}
	outputs := make([][]int32, len(found))
	for i, sequences := range found {
		outputs[i] = sequences[0].Tokens
	}
	return logits, outputs, nil
}
