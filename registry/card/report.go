package card

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/t5ctl/t5ctl/internal/digest"
)

// The kinds of reports that a card speaks of.
const (
	kindEvaluation = "evaluation"
	kindExposure   = "exposure"
	kindGate       = "gate"
)

// roleBaseline is what an evaluation of another model is called on a card.
const roleBaseline = "baseline"

// report is what a card needs of an evaluation or exposure report.
type report struct {
	Kind      string `json:"kind"`
	Title     string `json:"name"`
	Model     string `json:"model"`
	ModelHash string `json:"model_digest"`
	Data      struct {
		Fingerprint string `json:"fingerprint"`
		N           int    `json:"n"`
	} `json:"data"`
	Metrics []metric `json:"metrics"`

	file   string // its name
	digest string // of the file
	role   string
	gate   gateFile // of a gate result
}

// metric is one score.
type metric struct {
	Name      string      `json:"name"`
	Label     string      `json:"label"`
	Score     *float64    `json:"score"` // nil: undefined
	Signature string      `json:"signature"`
	Higher    bool        `json:"higher_is_better"`
	CI        *[2]float64 `json:"ci"`
	N         int         `json:"n"`
	Slice     string      `json:"slice"`
	Verdict   string      `json:"verdict"`
	Note      string      `json:"note"`
}

// title is how people write the metric.
func (m metric) title() string {
	name := cmp.Or(m.Label, m.Name)
	if m.Slice != "" {
		name += " (" + m.Slice + ")"
	}
	return name
}

// defined says whether there is a finite score.
func (m metric) defined() bool {
	return m.Score != nil && !math.IsNaN(*m.Score) && !math.IsInf(*m.Score, 0) && m.Verdict != "void"
}

// reports reads the reports and says which role each has: those of the subject are its own, an
// evaluation of anything else is a baseline to compare with.
func reports(files []Named, subject string) ([]report, error) {
	var list []report
	for _, file := range files {
		r, err := readReport(file)
		if err != nil {
			return nil, fmt.Errorf("report %s: %w", file.Name, err)
		}
		if r.Kind == kindEvaluation && subject != "" && r.ModelHash != "" && r.ModelHash != subject {
			r.role = roleBaseline
		}
		list = append(list, r)
	}
	slices.SortStableFunc(list, func(a, b report) int { return strings.Compare(a.file, b.file) })
	return list, nil
}

// readReport reads what the card needs of a report of any kind.
func readReport(file Named) (report, error) {
	r := report{file: file.Name, digest: digest.Bytes(file.Data)}
	var head struct {
		Kind string `json:"kind"`
	}
	err := json.Unmarshal(file.Data, &head)
	switch {
	case err != nil:
		return r, err
	case head.Kind == kindGate:
		r.gate, err = readGate(file.Data)
	case head.Kind == kindEvaluation || head.Kind == kindExposure:
		err = json.Unmarshal(file.Data, &r)
	}
	r.Kind, r.role = head.Kind, head.Kind
	return r, err
}

func withRole(list []report, role string) []report {
	var found []report
	for _, r := range list {
		if r.role == role {
			found = append(found, r)
		}
	}
	return found
}

// find is the score of the same metric, slice and data in a baseline.
func find(list []report, of report, m metric) (metric, bool) {
	for _, r := range list {
		if r.Data.Fingerprint != of.Data.Fingerprint {
			continue
		}
		for _, other := range r.Metrics {
			if other.Name == m.Name && other.Slice == m.Slice && other.Signature == m.Signature {
				return other, true
			}
		}
	}
	return metric{}, false
}

// figure writes a score for people.
func figure(m metric) string {
	if !m.defined() {
		return "–"
	}
	if *m.Score != 0 && math.Abs(*m.Score) < 0.005 {
		return strconv.FormatFloat(*m.Score, 'g', 3, 64)
	}
	return strconv.FormatFloat(*m.Score, 'f', 2, 64)
}

func interval(m metric) string {
	if m.CI == nil {
		return ""
	}
	return fmt.Sprintf("%.2f – %.2f", m.CI[0], m.CI[1])
}
