// Command probe says what this project makes of a model folder, for interop.py to hold against
// what transformers makes of it.
//
//	probe -model DIR [-adapter DIR] [-backend go] < probe.json > said.json
//
// The probe is {"sources": […], "targets": […], "max_new_tokens": N}; the answer holds the
// log-probability of each target after each source and the greedy and beam-4 outputs.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/model"
)

// probe is what is asked.
type probe struct {
	Sources      []string `json:"sources"`
	Targets      []string `json:"targets"`
	MaxNewTokens int      `json:"max_new_tokens"`
}

// answer is what the model says.
type answer struct {
	LogProbs [][]float64 `json:"log_probs"` // [source][target]
	Greedy   []string    `json:"greedy"`
	Beam4    []string    `json:"beam4"`
}

func main() {
	dir := flag.String("model", "", "model `folder`")
	adapter := flag.String("adapter", "", "PEFT `folder` on top of it")
	backend := flag.String("backend", device.Auto, "auto, cuda, cpu or go")
	flag.Parse()
	if err := run(*dir, *adapter, *backend); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(dir, adapter, backend string) error {
	var p probe
	if err := json.NewDecoder(os.Stdin).Decode(&p); err != nil {
		return fmt.Errorf("reading the probe: %w", err)
	}
	b, err := device.Open(backend)
	if err != nil {
		return err
	}
	defer b.Finalize()
	m, err := model.Open(b, dir, model.Options{Adapter: adapter})
	if err != nil {
		return err
	}
	defer m.Close()
	a, err := ask(context.Background(), m, p)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(a)
}

func ask(ctx context.Context, m *model.Model, p probe) (answer, error) {
	var a answer
	for _, source := range p.Sources {
		scores, err := m.LogProbs(ctx, source, p.Targets)
		if err != nil {
			return a, err
		}
		a.LogProbs = append(a.LogProbs, scores)
	}
	m.Generation.MaxNewTokens = p.MaxNewTokens
	var err error
	m.Generation.Beams = 1
	if a.Greedy, err = m.Predict(ctx, p.Sources); err != nil {
		return a, err
	}
	m.Generation.Beams = 4
	a.Beam4, err = m.Predict(ctx, p.Sources)
	return a, err
}
