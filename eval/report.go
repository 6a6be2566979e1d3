package eval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
)

// ReportSchema is the version of the report format that this package writes.
const ReportSchema = 1

// Kinds of reports. Both have the same form, so gates read either.
const (
	KindEvaluation = "evaluation"
	KindExposure   = "exposure"
	KindGate       = "gate" // the result of gates, which is a report of its own
)

// Verdicts of a result.
const (
	VerdictOK        = "ok"        // the score means what it says
	VerdictUndefined = "undefined" // there is no score: nothing to score, or no way to compute it
	VerdictVoid      = "void"      // a control failed, so the score says nothing
)

// Number is a float64 that JSON writes as null where it is not a number.
type Number float64

// MarshalJSON writes the shortest digits that read back to the same bits.
func (n Number) MarshalJSON() ([]byte, error) {
	if !n.Defined() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON reads null as not a number.
func (n *Number) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = Number(math.NaN())
		return nil
	}
	return json.Unmarshal(b, (*float64)(n))
}

// Defined reports whether there is a number, and a finite one.
func (n Number) Defined() bool {
	return !math.IsNaN(float64(n)) && !math.IsInf(float64(n), 0)
}

// Format shows the number with two decimals, or a dash.
func (n Number) Format() string {
	if !n.Defined() {
		return "–"
	}
	return strconv.FormatFloat(float64(n), 'f', 2, 64)
}

// Result is one score with all that is needed to judge it.
type Result struct {
	Name           string     `json:"name"`                // as gates call it
	Label          string     `json:"label,omitempty"`     // as people write it
	Spec           string     `json:"spec,omitempty"`      // metric and options
	Score          Number     `json:"score"`               // null: undefined
	Signature      string     `json:"signature,omitempty"` // how it was computed
	Detail         string     `json:"detail,omitempty"`    // the parts of the score, as the reference tool prints them
	HigherIsBetter bool       `json:"higher_is_better"`
	Mean           *Number    `json:"mean,omitempty"` // of the resamples, where they are sacreBLEU's
	CI             *[2]Number `json:"ci"`             // null: not computed
	N              int        `json:"n"`              // rows
	Slice          string     `json:"slice"`          // "" is all rows
	Verdict        string     `json:"verdict"`
	Note           string     `json:"note,omitempty"`

	short string // the signature in short
}

// DataFacts say what was scored.
type DataFacts struct {
	Fingerprint string `json:"fingerprint"`
	N           int    `json:"n"`
}

// RowsFacts point to the file of per-row scores, relative to the report.
type RowsFacts struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

// Report is what an evaluation or an exposure test found out.
type Report struct {
	Schema    int               `json:"schema"`
	Kind      string            `json:"kind"`
	Name      string            `json:"name,omitempty"` // of the suite
	Model     string            `json:"model"`          // reference or folder
	ModelHash string            `json:"model_digest,omitempty"`
	Data      DataFacts         `json:"data"`
	Decoding  json.RawMessage   `json:"decoding"`
	Setup     map[string]string `json:"setup,omitempty"` // what else decides the outputs: prefix, tokenizer
	Bootstrap *Bootstrap        `json:"bootstrap,omitempty"`
	Metrics   []Result          `json:"metrics"`
	Rows      *RowsFacts        `json:"rows"`
	Details   json.RawMessage   `json:"details,omitempty"` // of the kind: canaries of an exposure test
}

// Find returns the results of that name or specification in that slice.
func (r *Report) Find(metric, slice string) []Result {
	var out []Result
	for _, m := range r.Metrics {
		if m.Slice == slice && (m.Name == metric || m.Spec == metric) {
			out = append(out, m)
		}
	}
	return out
}

// ReportError says why a file is not a report that this package reads.
type ReportError struct{ Path, Reason string }

func (e *ReportError) Error() string { return fmt.Sprintf("report %s: %s", e.Path, e.Reason) }

// ParseReport reads a report; path is for messages. An unknown key is an error.
func ParseReport(path string, data []byte) (Report, error) {
	var head struct {
		Schema *int   `json:"schema"`
		Kind   string `json:"kind"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return Report{}, &ReportError{path, "is not JSON: " + err.Error()}
	}
	switch {
	case head.Schema == nil:
		return Report{}, &ReportError{path, "has no schema, so it is no report"}
	case *head.Schema != ReportSchema:
		return Report{}, &ReportError{path, fmt.Sprintf("has schema %d, this version reads %d", *head.Schema, ReportSchema)}
	case head.Kind != KindEvaluation && head.Kind != KindExposure:
		return Report{}, &ReportError{path, fmt.Sprintf("is of kind %q, neither an evaluation nor an exposure test", head.Kind)}
	}
	var r Report
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return Report{}, &ReportError{path, err.Error()}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Report{}, &ReportError{path, "something follows the report"}
	}
	return r, nil
}

// KindOf is what a report says of itself, "" where it is none.
func KindOf(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var head struct {
		Kind string `json:"kind"`
	}
	if json.Unmarshal(data, &head) != nil {
		return "", nil
	}
	return head.Kind, nil
}

// Encode writes the report as indented JSON.
func (r *Report) Encode(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}
