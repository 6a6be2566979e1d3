package audit

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Check is one limit and what was found.
type Check struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"` // rows, or a share where the name says so
	Limit  float64 `json:"limit"`
	Passed bool    `json:"passed"`
}

// Limits are by name. DefaultLimits let nothing leak into held-out rows and no text be empty or damaged.
type Limits map[string]float64

// DefaultLimits are the limits that hold unless others are given.
func DefaultLimits() Limits {
	return Limits{"shared_inputs": 0, "empty_inputs": 0, "empty_targets": 0, "damaged_texts": 0, "bad_rows": 0}
}

// measures are what a limit can be set for.
func measures() map[string]func(r *Report) float64 {
	parts := func(get func(p PartReport) int64) func(*Report) float64 {
		return func(r *Report) float64 {
			n := int64(0)
			for _, p := range r.Parts {
				n += get(p)
			}
			return float64(n)
		}
	}
	cross := func(get func(c Cross) int64) func(*Report) float64 {
		return func(r *Report) float64 {
			n := int64(0)
			for _, c := range r.Cross {
				n += get(c)
			}
			return float64(n)
		}
	}
	training := func(get func(p PartReport) float64) func(*Report) float64 {
		return func(r *Report) float64 { return get(r.Parts[0]) }
	}
	share := func(n, of int64) float64 { return float64(n) / math.Max(1, float64(of)) }
	return map[string]func(*Report) float64{
		"shared_inputs":         cross(func(c Cross) int64 { return c.Inputs }),
		"shared_rows":           cross(func(c Cross) int64 { return c.Pairs }),
		"near_shared":           cross(func(c Cross) int64 { return c.NearPairs }),
		"contaminated_rows":     cross(func(c Cross) int64 { return c.Contaminated }),
		"repeated_inputs":       parts(func(p PartReport) int64 { return p.Inputs.Surplus }),
		"repeated_rows":         parts(func(p PartReport) int64 { return p.Pairs.Surplus }),
		"repeated_inputs_share": training(func(p PartReport) float64 { return share(p.Inputs.Surplus, p.Rows) }),
		"conflicting_inputs":    parts(func(p PartReport) int64 { return p.Conflicting }),
		"near_duplicate_rows":   parts(func(p PartReport) int64 { return p.NearRows }),
		"empty_inputs":          parts(func(p PartReport) int64 { return p.EmptyInputs }),
		"empty_targets":         parts(func(p PartReport) int64 { return p.EmptyTargets }),
		"copied_targets":        parts(func(p PartReport) int64 { return p.Copied }),
		"damaged_texts":         parts(func(p PartReport) int64 { return p.Damaged }),
		"bad_rows":              parts(func(p PartReport) int64 { return p.BadRows }),
		"largest_label_share": training(func(p PartReport) float64 {
			if p.Labels == nil {
				return 0
			}
			return p.Labels.Largest
		}),
		"other_language_share": training(func(p PartReport) float64 {
			most := int64(0)
			for _, n := range p.Languages {
				most = max(most, n)
			}
			return 1 - share(most, p.Rows)
		}),
	}
}

// Measures names what limits can be set for.
func Measures() []string {
	var names []string
	for name := range measures() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// LimitError says that a limit is for nothing that is measured, or no number.
type LimitError struct {
	Name   string
	Reason string
}

func (e *LimitError) Error() string { return fmt.Sprintf("limit %s: %s", e.Name, e.Reason) }

// Judge applies the limits.
func (r *Report) Judge(limits Limits) error {
	r.Checks, r.Passed = []Check{}, true
	for name, limit := range limits {
		measure, ok := measures()[name]
		if !ok {
			return &LimitError{name, "is none of " + strings.Join(Measures(), ", ")}
		}
		c := Check{Name: name, Value: measure(r), Limit: limit}
		c.Passed = c.Value <= limit
		r.Passed = r.Passed && c.Passed
		r.Checks = append(r.Checks, c)
	}
	slices.SortFunc(r.Checks, func(a, b Check) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

func compareFindings(a, b Finding) int {
	return cmp.Or(strings.Compare(a.Rule, b.Rule), strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), strings.Compare(a.Note, b.Note))
}

// WriteJSON writes the report.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// WriteMarkdown writes the report as a page for people.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# Data audit\n\n| part | rows | bad | repeated inputs | distinct | conflicting | near-duplicate rows | empty | copied | damaged |\n")
	b.WriteString("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for _, p := range r.Parts {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d | %d | %d | %d |\n", p.Name, p.Rows, p.BadRows, p.Inputs.Surplus, p.Inputs.Distinct,
			p.Conflicting, p.NearRows, p.EmptyInputs+p.EmptyTargets, p.Copied, p.Damaged)
	}
	if len(r.Cross) > 0 {
		b.WriteString("\n| parts | shared inputs | shared rows | near-duplicate pairs | contaminated rows |\n| --- | ---: | ---: | ---: | ---: |\n")
	}
	for _, c := range r.Cross {
		fmt.Fprintf(&b, "| %s, %s | %d | %d | %d | %d |\n", c.A, c.B, c.Inputs, c.Pairs, c.NearPairs, c.Contaminated)
	}
	b.WriteString("\n| check | found | limit | |\n| --- | ---: | ---: | --- |\n")
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "| %s | %g | %g | %s |\n", c.Name, c.Value, c.Limit, map[bool]string{true: "pass", false: "**fail**"}[c.Passed])
	}
	if len(r.Findings) > 0 {
		b.WriteString("\n## Findings\n\n")
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "- `%s:%d` %s: %s\n", f.File, f.Line, f.Rule, f.Note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// The parts of SARIF 2.1.0 that code-scanning tools read.
type (
	sarif struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool    sarifTool     `json:"tool"`
		Results []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name  string      `json:"name"`
		Rules []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID string `json:"id"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID    string          `json:"ruleId"`
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifLocation struct {
		Physical sarifPhysical `json:"physicalLocation"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   sarifRegion   `json:"region"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine int64 `json:"startLine"`
	}
)

// WriteSARIF writes the findings for code-scanning tools.
func (r *Report) WriteSARIF(w io.Writer) error {
	run := sarifRun{Tool: sarifTool{sarifDriver{Name: "t5ctl data audit", Rules: []sarifRule{}}}, Results: []sarifResult{}}
	for _, f := range r.Findings {
		if n := len(run.Tool.Driver.Rules); n == 0 || run.Tool.Driver.Rules[n-1].ID != f.Rule {
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{f.Rule})
		}
		level := "warning"
		if f.Rule == "shared-input" || f.Rule == "contamination" {
			level = "error"
		}
		run.Results = append(run.Results, sarifResult{RuleID: f.Rule, Level: level, Message: sarifText{f.Note},
			Locations: []sarifLocation{{sarifPhysical{sarifArtifact{strings.ReplaceAll(f.File, "\\", "/")}, sarifRegion{max(1, f.Line)}}}}})
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(sarif{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}})
}
