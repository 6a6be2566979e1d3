// Package page shows an evaluation to people: one HTML file that needs nothing else, or Markdown, of
// the same facts. Plots are inline SVG; there is no script and no address in it.
package page

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/pytext"
)

// Facts are all that a page says; they are its JSON form too.
type Facts struct {
	Title     string      `json:"title"`
	Kind      string      `json:"kind"`
	Model     string      `json:"model"`
	Baseline  string      `json:"baseline,omitempty"`
	Rows      int         `json:"rows"`
	Data      string      `json:"data"`
	Settings  string      `json:"settings,omitempty"`
	Metrics   []Metric    `json:"metrics"`
	Histogram []Histogram `json:"histograms"`
	Worst     []Worst     `json:"worst"`
	WorstBy   string      `json:"worst_by,omitempty"`
	Void      string      `json:"void,omitempty"`      // why nothing here counts
	Signature string      `json:"signature,omitempty"` // of all metrics, where it is one
	Pictures  []Picture   `json:"-"`

	Confidence float64 `json:"-"` // of the intervals, in percent; 0: not told
}

// Picture is a drawing on the page, in trusted SVG.
type Picture struct {
	Title, Text string // the second is told below it
	SVG         template.HTML
}

// Heading is what the page is called.
func (f Facts) Heading() string {
	if f.Kind == eval.KindExposure {
		return "Memorization: " + f.Title
	}
	return "Evaluation " + f.Title
}

// Metric is a result, beside that of the baseline where there is one.
type Metric struct {
	Name      string          `json:"name"`
	Label     string          `json:"label"`
	Slice     string          `json:"slice,omitempty"`
	Score     eval.Number     `json:"score"`
	CI        *[2]eval.Number `json:"ci"`
	N         int             `json:"n"`
	Verdict   string          `json:"verdict"`
	Note      string          `json:"note,omitempty"`
	Signature string          `json:"signature,omitempty"`
	Before    *eval.Number    `json:"baseline,omitempty"`
	BeforeCI  *[2]eval.Number `json:"baseline_ci,omitempty"`
	P         *float64        `json:"p,omitempty"`
}

// Histogram counts values in bins of equal width.
type Histogram struct {
	Title  string  `json:"title"`
	Low    float64 `json:"low"`
	Width  float64 `json:"width"`
	Counts []int   `json:"counts"`
}

// Worst is a row with a low score, with what its output lacks and has too much.
type Worst struct {
	ID        string      `json:"id"`
	Score     eval.Number `json:"score"`
	Input     string      `json:"input"`
	Reference string      `json:"reference"`
	Output    string      `json:"output"`
	Diff      []Span      `json:"-"`
}

// Span is a run of words: in both texts, only in the reference, or only in the output.
type Span struct {
	Kind string // same, lacks, extra
	Text string
}

// Options say what goes into a page.
type Options struct {
	Baseline    *eval.Evidence
	Comparison  *eval.Comparison // of the baseline and the report
	Predictions []eval.Answered  // of the report, in the order of its rows; may be empty
	Worst       int              // rows to show
	Pictures    []Picture
}

// Gather collects the facts of a report.
func Gather(e eval.Evidence, o Options) (Facts, error) {
	r := e.Report
	f := Facts{Title: r.Name, Kind: r.Kind, Pictures: o.Pictures, Model: r.Model, Rows: r.Data.N, Data: r.Data.Fingerprint, Settings: string(r.Decoding),
		Histogram: []Histogram{}, Worst: []Worst{}}
	if o.Baseline != nil {
		f.Baseline = o.Baseline.Report.Model
	}
	for _, m := range r.Metrics {
		f.Metrics = append(f.Metrics, metric(m, o))
		if m.Verdict == eval.VerdictVoid {
			f.Void = m.Note
		}
	}
	f.sign(r)
	var rows *eval.Rows
	if r.Rows != nil {
		var err error
		if rows, err = e.Rows(); err != nil {
			return Facts{}, err
		}
		defer rows.Close() //nolint:errcheck // read only
	}
	f.scores(r, rows)
	if len(o.Predictions) > 0 {
		f.lengths(o.Predictions)
		if rows != nil {
			f.worst(r, rows, o)
		}
	}
	return f, nil
}

// sign keeps what all metrics have in common: their signature, and how sure their intervals are.
func (f *Facts) sign(r eval.Report) {
	if r.Bootstrap != nil {
		f.Confidence = 100 * r.Bootstrap.Confidence
	}
	for i, m := range r.Metrics {
		if i > 0 && m.Signature != f.Signature {
			f.Signature = ""
			return
		}
		f.Signature = m.Signature
	}
}

func metric(m eval.Result, o Options) Metric {
	out := Metric{Name: m.Name, Label: m.Label, Slice: m.Slice, Score: m.Score, CI: m.CI, N: m.N, Verdict: m.Verdict, Note: m.Note, Signature: m.Signature}
	if o.Baseline != nil {
		if found := o.Baseline.Report.Find(m.Name, m.Slice); len(found) == 1 {
			out.Before, out.BeforeCI = &found[0].Score, found[0].CI
		}
	}
	if o.Comparison != nil {
		for _, d := range o.Comparison.Metrics {
			if d.Name == m.Name && d.Slice == m.Slice {
				out.P = d.BootstrapP
			}
		}
	}
	return out
}

// scores adds a histogram of the rows' own scores for every metric that has such.
func (f *Facts) scores(r eval.Report, rows *eval.Rows) {
	if rows == nil {
		return
	}
	for _, m := range r.Metrics {
		if strings.Contains(m.Slice, "/") || m.Spec == "" {
			continue
		}
		_, scores, ok := rows.Scores(m.Slice, m.Name)
		if h, some := histogram("score of rows by "+named(m.Name, m.Slice), scores); ok && some {
			f.Histogram = append(f.Histogram, h)
		}
	}
}

func named(name, slice string) string {
	if slice == "" {
		return name
	}
	return name + " (" + slice + ")"
}

func (f *Facts) lengths(answers []eval.Answered) {
	var lengths []float64
	for _, a := range answers {
		lengths = append(lengths, float64(len(pytext.Fields(a.Output))))
	}
	if h, ok := histogram("words per output", lengths); ok {
		f.Histogram = append(f.Histogram, h)
	}
}

// bins is how many bars a histogram has at most.
const bins = 20

// histogram counts the values that are numbers; false where there is nothing to show.
func histogram(title string, values []float64) (Histogram, bool) {
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			lo, hi = math.Min(lo, v), math.Max(hi, v)
		}
	}
	if lo >= hi {
		return Histogram{}, false
	}
	h := Histogram{Title: title, Low: lo, Width: (hi - lo) / bins, Counts: make([]int, bins)}
	for _, v := range values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			h.Counts[min(bins-1, int((v-lo)/h.Width))]++
		}
	}
	return h, true
}

// worst finds the rows that score least by the first metric whose rows have scores.
func (f *Facts) worst(r eval.Report, rows *eval.Rows, o Options) {
	for _, m := range r.Metrics {
		ids, scores, ok := rows.Scores(m.Slice, m.Name)
		if !ok || strings.Contains(m.Slice, "/") || m.Spec == "" {
			continue
		}
		texts := map[string]eval.Answered{}
		for _, a := range o.Predictions {
			texts[a.Pair.Task+"\x00"+a.Pair.ID] = a
		}
		order := make([]int, len(ids))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int {
			if !m.HigherIsBetter {
				a, b = b, a
			}
			return cmp.Compare(scores[a], scores[b])
		})
		f.WorstBy = named(m.Name, m.Slice)
		for _, i := range order[:min(o.Worst, len(order))] {
			a, ok := texts[m.Slice+"\x00"+ids[i]]
			if !ok {
				continue
			}
			w := Worst{ID: ids[i], Score: eval.Number(scores[i]), Input: a.Pair.Input, Output: a.Output, Reference: a.Pair.Target}
			if len(a.Pair.References) > 0 {
				w.Reference = a.Pair.References[0]
			}
			w.Diff = diff(w.Reference, w.Output)
			f.Worst = append(f.Worst, w)
		}
		return
	}
}

// diffWords bounds the words of a text that are compared one by one.
const diffWords = 400

// diff aligns the words of an output with those of its reference along a longest common subsequence.
func diff(reference, output string) []Span {
	a, b := pytext.Fields(reference), pytext.Fields(output)
	if len(a) > diffWords || len(b) > diffWords {
		return []Span{{"lacks", reference}, {"extra", output}}
	}
	table := make([][]int, len(a)+1)
	for i := range table {
		table[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				table[i][j] = table[i+1][j+1] + 1
			} else {
				table[i][j] = max(table[i+1][j], table[i][j+1])
			}
		}
	}
	var out []Span
	add := func(kind, word string) {
		if n := len(out); n > 0 && out[n-1].Kind == kind {
			out[n-1].Text += " " + word
			return
		}
		out = append(out, Span{kind, word})
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			add("same", a[i])
			i++
			j++
		case j == len(b) || (i < len(a) && table[i+1][j] >= table[i][j+1]):
			add("lacks", a[i])
			i++
		default:
			add("extra", b[j])
			j++
		}
	}
	return out
}

// Interval shows an interval, or nothing.
func (m Metric) Interval() string {
	if m.CI == nil {
		return ""
	}
	switch lo, hi := m.CI[0].Defined(), m.CI[1].Defined(); {
	case lo && !hi:
		return "at least " + m.CI[0].Format()
	case hi && !lo:
		return "at most " + m.CI[1].Format()
	}
	return m.CI[0].Format() + " to " + m.CI[1].Format()
}

// PValue shows the p-value against the baseline, or nothing.
func (m Metric) PValue() string {
	if m.P == nil {
		return ""
	}
	return fmt.Sprintf("%.4f", *m.P)
}

// Markdown is the facts as Markdown.
func Markdown(f Facts) string {
	var b strings.Builder
	clean := strings.NewReplacer("|", "\\|", "\n", " ", "\r", " ", "<", "&lt;", "`", "'").Replace
	fmt.Fprintf(&b, "# %s\n\nModel `%s`, %d rows", clean(f.Heading()), clean(f.Model), f.Rows)
	if f.Baseline != "" {
		fmt.Fprintf(&b, ", baseline `%s`", clean(f.Baseline))
	}
	b.WriteString("\n\n| metric | score | interval | baseline | p | rows |\n| --- | ---: | --- | ---: | ---: | ---: |\n")
	for _, m := range f.Metrics {
		before := ""
		if m.Before != nil {
			before = m.Before.Format()
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %d |\n", clean(named(m.Name, m.Slice)), m.Score.Format(), m.Interval(), before, m.PValue(), m.N)
	}
	if len(f.Worst) > 0 {
		fmt.Fprintf(&b, "\n## Worst rows by %s\n\n| id | score | reference | output |\n| --- | ---: | --- | --- |\n", clean(f.WorstBy))
		for _, w := range f.Worst {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", clean(w.ID), w.Score.Format(), clean(w.Reference), clean(w.Output))
		}
	}
	return b.String()
}
