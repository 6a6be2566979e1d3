//go:build unix

// Program exposure measures how fast candidates of a canary are scored, against an evaluation's forward
// pass over as many pairs.
//
//	go run ./bench/exposure --model models/g2p-base --input qwfp --alphabet 'AA AE AH B D K S T' --symbols 5
//
// Both sides score the same targets after the same input by teacher forcing, in turns: what exposure run
// does (LogProbs: one input, many targets) and what the perplexity of eval run does (ScorePairs: each
// target after its own copy of the input). The measure is target tokens, ends included, a second of
// processor time, which other load disturbs less than the clock. Programs are compiled before.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/model"
)

type settings struct {
	model, backend, input, alphabet string
	candidates, symbols, rounds     int
}

func main() {
	var s settings
	flag.StringVar(&s.model, "model", "models/g2p-base", "model `folder`")
	flag.StringVar(&s.backend, "backend", device.Auto, "compute `backend`")
	flag.StringVar(&s.input, "input", "the secret number of the account is", "the canary's `input`")
	flag.StringVar(&s.alphabet, "alphabet", "0 1 2 3 4 5 6 7 8 9", "`symbols` of the secrets, with spaces between")
	flag.IntVar(&s.symbols, "symbols", 9, "symbols of a secret")
	flag.IntVar(&s.candidates, "candidates", 1024, "candidates")
	flag.IntVar(&s.rounds, "rounds", 5, "turns of each side")
	flag.Parse()
	if err := run(context.Background(), s); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// side is one way to score the targets; it gives the sum of all logarithms.
type side struct {
	Name   string    `json:"name"`
	Turns  []float64 `json:"tokens_a_second"` // of processor time
	Median float64   `json:"median"`
	score  func() (float64, error)
}

func run(ctx context.Context, s settings) error {
	backend, err := device.Open(s.backend)
	if err != nil {
		return err
	}
	defer backend.Finalize()
	m, err := model.Open(backend, s.model, model.Options{})
	if err != nil {
		return err
	}
	defer m.Close()
	targets, tokens := s.targets(m)
	sources := slices.Repeat([]string{s.input}, len(targets))
	sides := []*side{
		{Name: "exposure", score: func() (sum float64, err error) {
			logs, err := m.LogProbs(ctx, s.input, targets)
			for _, l := range logs {
				sum += l
			}
			return sum, err
		}},
		{Name: "evaluation", score: func() (sum float64, err error) {
			pairs, err := m.ScorePairs(ctx, sources, targets)
			for _, p := range pairs {
				for _, l := range p.LogProbs {
					sum += float64(l)
				}
			}
			return sum, err
		}},
	}
	sums := map[string]float64{}
	for round := range s.rounds + 1 {
		for k := range sides { // another side begins each time
			side := sides[(k+round)%len(sides)]
			before := processor()
			if sums[side.Name], err = side.score(); err != nil {
				return err
			}
			if round > 0 { // the first compiles
				side.Turns = append(side.Turns, float64(tokens)/(processor()-before))
			}
		}
	}
	if a, b := sums["exposure"], sums["evaluation"]; math.Abs(a-b) > 1e-4*math.Abs(b) {
		return fmt.Errorf("the sides differ: %v and %v", a, b)
	}
	for _, side := range sides {
		sorted := slices.Sorted(slices.Values(side.Turns))
		side.Median = sorted[len(sorted)/2]
	}
	out := map[string]any{"sides": sides, "ratio": sides[0].Median / sides[1].Median, "candidates": len(targets), "tokens": tokens,
		"model": s.model, "backend": backend.Name()}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(out)
}

// targets are secrets, and how many tokens all have.
func (s settings) targets(m *model.Model) (targets []string, tokens int) {
	random := rand.New(rand.NewPCG(1, 2))
	symbols := strings.Fields(s.alphabet)
	for range s.candidates {
		parts := make([]string, s.symbols)
		for i := range parts {
			parts[i] = symbols[random.IntN(len(symbols))]
		}
		text := strings.Join(parts, " ")
		targets = append(targets, text)
		tokens += len(m.Tokenizer.Sequence(text))
	}
	return targets, tokens
}

// processor is the processor time of the process, in seconds.
func processor() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail for oneself
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(u.Utime) + seconds(u.Stime)
}
