// Package golden keeps inputs with the outputs that were accepted for them, and from which model, so
// that a later model, or an old one before a rollback, can be held to them.
//
// A file of samples is JSON lines that an evaluation can read too: accepted outputs are references.
package golden

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"

	"github.com/t5ctl/t5ctl/eval"
)

// Sample is one input with the outputs that may come of it.
type Sample struct {
	ID         string   `json:"id"`
	Input      string   `json:"input"`
	References []string `json:"references"` // accepted outputs
	Models     []string `json:"models"`     // from which model each of them is, as long as References
}

// FileError says what is wrong with a file of samples.
type FileError struct {
	Path   string
	Line   int
	Reason string
}

func (e *FileError) Error() string { return fmt.Sprintf("%s:%d: %s", e.Path, e.Line, e.Reason) }

// Read reads a file of samples.
func Read(path string) ([]Sample, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// Parse reads samples; path is for messages.
func Parse(path string, data []byte) ([]Sample, error) {
	var out []Sample
	seen := map[string]bool{}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		var s Sample
		if err := dec.Decode(&s); err != nil {
			return nil, &FileError{path, number, "is no golden sample: " + err.Error()}
		}
		switch {
		case s.ID == "" || seen[s.ID]:
			return nil, &FileError{path, number, fmt.Sprintf("id %q is empty or stands twice", s.ID)}
		case len(s.References) == 0 || len(s.References) != len(s.Models):
			return nil, &FileError{path, number, "needs as many models as references, and one at least"}
		}
		seen[s.ID] = true
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, &FileError{path, 1, "there is no sample"}
	}
	return out, nil
}

// Write writes samples as Read reads them.
func Write(w io.Writer, samples []Sample) error {
	buf := bufio.NewWriter(w)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	for _, s := range samples {
		if err := enc.Encode(s); err != nil {
			return err
		}
	}
	return buf.Flush()
}

// Record accepts what a model wrote for inputs, beside what samples hold already. It says how many
// outputs are new.
func Record(samples []Sample, model string, inputs, outputs []string) (all []Sample, added int) {
	all = slices.Clone(samples)
	at := map[string]int{}
	for i, s := range all {
		at[s.Input] = i
	}
	for k, input := range inputs {
		i, ok := at[input]
		if !ok {
			i = len(all)
			at[input] = i
			all = append(all, Sample{ID: strconv.Itoa(i), Input: input})
		}
		s := &all[i]
		if slices.Contains(s.References, outputs[k]) && s.has(outputs[k], model) {
			continue
		}
		s.References, s.Models = append(slices.Clone(s.References), outputs[k]), append(slices.Clone(s.Models), model)
		added++
	}
	return all, added
}

func (s *Sample) has(output, model string) bool {
	for i, r := range s.References {
		if r == output && s.Models[i] == model {
			return true
		}
	}
	return false
}

// Rule says when an output is as good as an accepted one.
type Rule struct {
	Metric string  // specification; empty: the same text, character for character
	Min    float64 // the least score of a sample by that metric
	Model  string  // only outputs accepted from this model count; empty: all
}

// Broken is a sample that did not stay.
type Broken struct {
	ID       string      `json:"id"`
	Input    string      `json:"input"`
	Output   string      `json:"output"`
	Accepted []string    `json:"accepted"`
	Score    eval.Number `json:"score"` // 100 or 0 for the same text
}

// BrokenError says that golden samples did not stay.
type BrokenError struct{ Broken, Of int }

func (e *BrokenError) Error() string {
	return fmt.Sprintf("%d of %d golden samples did not stay", e.Broken, e.Of)
}

// Result is what came of a check.
type Result struct {
	Model   string      `json:"model"`
	Samples int         `json:"samples"`
	Broken  []Broken    `json:"broken"`
	Report  eval.Report `json:"-"` // the share of samples that stayed, for gates
}

// Err is nil if all samples stayed.
func (r Result) Err() error {
	if len(r.Broken) == 0 {
		return nil
	}
	return &BrokenError{len(r.Broken), r.Samples}
}

// NoneError says that no sample has an output of the model that a rule names.
type NoneError struct{ Model string }

func (e *NoneError) Error() string { return fmt.Sprintf("no golden output is from %s", e.Model) }

// Check holds outputs, one a sample, to what was accepted.
func Check(samples []Sample, outputs []string, model string, rule Rule) (Result, error) {
	score, err := scorer(rule)
	if err != nil {
		return Result{}, err
	}
	res := Result{Model: model, Broken: []Broken{}}
	sum := sha256.New()
	for i, s := range samples {
		accepted := s.accepted(rule.Model)
		if len(accepted) == 0 {
			continue
		}
		res.Samples++
		line, err := json.Marshal([]any{s.Input, accepted})
		if err != nil {
			return Result{}, err
		}
		_, _ = sum.Write(append(line, '\n')) // a hash takes everything
		got := score(outputs[i], accepted)
		if math.IsNaN(got) || got < rule.min() {
			res.Broken = append(res.Broken, Broken{s.ID, s.Input, outputs[i], accepted, eval.Number(got)})
		}
	}
	if res.Samples == 0 {
		return Result{}, &NoneError{rule.Model}
	}
	share := 100 * float64(res.Samples-len(res.Broken)) / float64(res.Samples)
	signature := "rule:exact"
	if rule.Metric != "" {
		signature = fmt.Sprintf("rule:%s>=%g", rule.Metric, rule.Min)
	}
	res.Report = eval.Report{Schema: eval.ReportSchema, Kind: eval.KindEvaluation, Name: "golden", Model: model,
		Data: eval.DataFacts{Fingerprint: "sha256:" + hex.EncodeToString(sum.Sum(nil)), N: res.Samples},
		Metrics: []eval.Result{{Name: "golden", Label: "golden samples that stayed", Score: eval.Number(share), Signature: signature,
			HigherIsBetter: true, N: res.Samples, Verdict: eval.VerdictOK}}}
	return res, nil
}

func (r Rule) min() float64 {
	if r.Metric == "" {
		return 100
	}
	return r.Min
}

func (s *Sample) accepted(model string) []string {
	var out []string
	for i, r := range s.References {
		if (model == "" || s.Models[i] == model) && !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

// scorer gives the score of one output against its accepted ones.
func scorer(rule Rule) (func(output string, accepted []string) float64, error) {
	spec := rule.Metric
	if spec == "" {
		spec = "exact_match"
	}
	m, err := eval.ParseMetric(spec)
	if err != nil {
		return nil, err
	}
	return m.RowScorer()
}
