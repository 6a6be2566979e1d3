package eval

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/t5ctl/t5ctl/eval/significance"
	"github.com/t5ctl/t5ctl/internal/strictyaml"
)

// Gates are the conditions under which a model may go on.
type Gates struct {
	// Version is the format of the file, now 1.
	Version int `yaml:"version,omitempty"`
	// Gates are all to hold.
	Gates []Gate `yaml:"gates,omitempty"`
}

// Gate bounds one metric.
type Gate struct {
	// Metric is the name of a result in the report, or its whole specification.
	Metric string `yaml:"metric,omitempty" json:"metric"`
	// Slice is the subset that the gate looks at; empty is all rows.
	Slice string `yaml:"slice,omitempty" json:"slice,omitempty"`
	// Min is the least that the score may be.
	Min *float64 `yaml:"min,omitempty" json:"min,omitempty"`
	// Max is the most that the score may be.
	Max *float64 `yaml:"max,omitempty" json:"max,omitempty"`
	// MaxDrop is how much worse than the baseline the score may be. With confidence, a drop fails only
	// if a paired test finds that it is larger than that, not merely larger than none.
	MaxDrop *float64 `yaml:"max_drop,omitempty" json:"max_drop,omitempty"`
	// Confidence, as 0.95: min and max must hold for the whole interval; a drop fails only if it is
	// beyond max_drop at this level, at least 0.5 there.
	Confidence *float64 `yaml:"confidence,omitempty" json:"confidence,omitempty"`
	// NonInferior turns the burden of proof of max_drop: the gate passes only if the paired test shows,
	// with confidence, that the drop is no larger. Too few rows to tell do not pass then.
	NonInferior bool `yaml:"non_inferior,omitempty" json:"non_inferior,omitempty"`
	// Required says whether a report without the metric fails; it does unless this is false.
	Required *bool `yaml:"required,omitempty" json:"required,omitempty"`
}

// GatesError says what is wrong with a gates file.
type GatesError struct {
	Path string
	Err  error
}

func (e *GatesError) Error() string { return fmt.Sprintf("gates %s: %v", e.Path, e.Err) }
func (e *GatesError) Unwrap() error { return e.Err }

// ParseGates reads a gates file; path is for messages. An unknown key is an error.
func ParseGates(path string, data []byte) (Gates, error) {
	var g Gates
	if _, err := strictyaml.Unmarshal(path, data, &g); err != nil {
		return Gates{}, err
	}
	if err := g.Validate(); err != nil {
		return Gates{}, &GatesError{path, err}
	}
	return g, nil
}

// Validate says everything that is wrong with the gates. None at all is wrong: it would let
// everything pass.
func (g Gates) Validate() error {
	var errs []error
	if g.Version != 1 {
		errs = append(errs, fmt.Errorf("version %d: this version reads 1", g.Version))
	}
	if len(g.Gates) == 0 {
		errs = append(errs, errors.New("gates: none are given"))
	}
	for i, gate := range g.Gates {
		if err := gate.validate(); err != nil {
			errs = append(errs, fmt.Errorf("gates[%d] %s: %w", i, gate.Metric, err))
		}
	}
	return errors.Join(errs...)
}

func (g Gate) validate() error {
	if g.Metric == "" {
		return errors.New("metric is missing")
	}
	if g.Min == nil && g.Max == nil && g.MaxDrop == nil {
		return errors.New("min, max or max_drop is missing")
	}
	for name, v := range map[string]*float64{"min": g.Min, "max": g.Max, "max_drop": g.MaxDrop, "confidence": g.Confidence} {
		if v != nil && (math.IsNaN(*v) || math.IsInf(*v, 0)) {
			return fmt.Errorf("%s %v is not a number", name, *v)
		}
	}
	switch {
	case g.MaxDrop != nil && *g.MaxDrop < 0:
		return fmt.Errorf("max_drop %v is negative", *g.MaxDrop)
	case g.Confidence != nil && (*g.Confidence <= 0 || *g.Confidence >= 1):
		return fmt.Errorf("confidence %v is not between 0 and 1", *g.Confidence)
	case g.MaxDrop != nil && g.Confidence != nil && *g.Confidence < 0.5:
		return fmt.Errorf("confidence %v is below 0.5, which no test of max_drop can mean", *g.Confidence)
	case g.NonInferior && (g.MaxDrop == nil || g.Confidence == nil):
		return errors.New("non_inferior needs max_drop and confidence")
	case g.Min != nil && g.Max != nil && *g.Min > *g.Max:
		return fmt.Errorf("min %v is above max %v", *g.Min, *g.Max)
	}
	return nil
}

// NeedsBaseline reports whether some gate compares with one.
func (g Gates) NeedsBaseline() bool {
	for _, gate := range g.Gates {
		if gate.MaxDrop != nil {
			return true
		}
	}
	return false
}

// Evidence is a report with the place where its rows file lies.
type Evidence struct {
	Path   string // of the report, for messages and to find the rows
	SHA256 string // of the report's file, with "sha256:" before it
	Report Report
}

// ReadEvidence reads a report from a file.
func ReadEvidence(path string) (Evidence, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Evidence{}, err
	}
	r, err := ParseReport(path, data)
	return Evidence{path, digestBytes(data), r}, err
}

// Rows reads the rows file that the report names: the statistics of some metrics, or of all.
func (e Evidence) Rows(metrics ...string) (*Rows, error) {
	if e.Report.Rows == nil || e.Report.Rows.Path == "" {
		return nil, fmt.Errorf("report %s names no rows file", e.Path)
	}
	return ReadRows(e.rowsPath(), e.Report.Rows.SHA256, metrics...)
}

func (e Evidence) rowsPath() string {
	path := e.Report.Rows.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(e.Path), filepath.FromSlash(path))
	}
	return path
}

// rowsSize is the size of the rows file; 0 where there is none.
func (e Evidence) rowsSize() int64 {
	if e.Report.Rows == nil || e.Report.Rows.Path == "" {
		return 0
	}
	info, err := os.Stat(e.rowsPath())
	if err != nil {
		return 0 // reading it will say why
	}
	return info.Size()
}

// Outcome of one check.
type Outcome string

// What a check can come to. Only pass and skipped let a model through.
const (
	Pass         Outcome = "pass"
	Fail         Outcome = "fail"
	Inconclusive Outcome = "inconclusive" // the question cannot be answered; this fails too
	Skipped      Outcome = "skipped"      // a gate that is not required found no metric
)

// Check is what came of one bound of one gate.
type Check struct {
	Metric   string     `json:"metric"`
	Slice    string     `json:"slice"`
	Bound    string     `json:"bound"` // as in "min 30" or "max_drop 0.5"
	Value    Number     `json:"value"`
	CI       *[2]Number `json:"ci"`
	Baseline *Number    `json:"baseline,omitempty"`
	Drop     *Number    `json:"drop,omitempty"`    // how much worse than the baseline
	DropCI   *[2]Number `json:"drop_ci,omitempty"` // each end on its own holds with the gate's confidence
	PValue   *Number    `json:"p_value,omitempty"` // of a drop of exactly max_drop
	Verdict  Outcome    `json:"verdict"`
	Reason   string     `json:"reason"`
}

// GateResult is what came of all gates.
type GateResult struct {
	Schema    int      `json:"schema"`
	Kind      string   `json:"kind"` // "gate"
	Model     string   `json:"model"`
	ModelHash string   `json:"model_digest,omitempty"` // where all reports are about one model
	Passed    bool     `json:"passed"`
	Checks    []Check  `json:"checks"`
	Reports   []Judged `json:"reports"`            // what was judged
	Baseline  *Judged  `json:"baseline,omitempty"` // what it was compared with
}

// Judged names a report by its file and content.
type Judged struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Model  string `json:"model,omitempty"`
}

func judged(e Evidence) Judged { return Judged{filepath.Base(e.Path), e.SHA256, e.Report.Model} }

// GateError says that gates did not let the model through.
type GateError struct {
	Failed []Check
	Of     int // how many checks there were
}

func (e *GateError) Error() string {
	lines := make([]string, len(e.Failed))
	for i, c := range e.Failed {
		name := c.Metric
		if c.Slice != "" {
			name += " (" + c.Slice + ")"
		}
		lines[i] = fmt.Sprintf("%s: %s", name, c.Reason)
	}
	return fmt.Sprintf("%d of %d gate checks did not pass: %s", len(e.Failed), e.Of, strings.Join(lines, "; "))
}

// Err is nil if all gates let the model through, else a *GateError.
func (r GateResult) Err() error {
	if r.Passed {
		return nil
	}
	var failed []Check
	for _, c := range r.Checks {
		if c.Verdict == Fail || c.Verdict == Inconclusive {
			failed = append(failed, c)
		}
	}
	return &GateError{failed, len(r.Checks)}
}

// Judge holds reports against gates. Each gate must find its metric exactly once, in any of the
// reports (an evaluation and an exposure test, say). baseline may be nil. Whatever cannot be judged
// does not pass.
func Judge(gates Gates, reports []Evidence, baseline *Evidence) GateResult {
	out := GateResult{Schema: ReportSchema, Kind: KindGate, Passed: true, Checks: []Check{}, Reports: []Judged{}}
	var models, hashes []string
	for _, r := range reports {
		models, hashes = append(models, r.Report.Model), append(hashes, r.Report.ModelHash)
		out.Reports = append(out.Reports, judged(r))
	}
	out.Model = strings.Join(slices.Compact(models), ", ")
	if hashes = slices.Compact(hashes); len(hashes) == 1 {
		out.ModelHash = hashes[0]
	}
	if baseline != nil {
		b := judged(*baseline)
		out.Baseline = &b
	}
	j := judge{reports: reports, baseline: baseline, read: map[string]*Rows{}}
	defer j.close()
	for _, g := range gates.Gates {
		if g.MaxDrop != nil && g.Confidence != nil {
			j.tested = append(j.tested, g.Metric)
		}
	}
	for _, g := range gates.Gates {
		out.Checks = append(out.Checks, j.gate(g)...)
	}
	for _, c := range out.Checks {
		out.Passed = out.Passed && (c.Verdict == Pass || c.Verdict == Skipped)
	}
	if len(out.Checks) == 0 {
		out.Passed = false
	}
	return out
}

type judge struct {
	reports  []Evidence
	baseline *Evidence
	tested   []string         // metrics that are resampled
	read     map[string]*Rows // by the report's path
}

func (j *judge) gate(g Gate) []Check {
	base := Check{Metric: g.Metric, Slice: g.Slice, Value: Number(math.NaN())}
	found, where := j.find(g)
	if len(found) != 1 {
		return []Check{j.notOne(g, base, found)}
	}
	r := found[0]
	base.Value, base.CI = r.Score, r.CI
	if why := unusable(r); why != "" {
		base.Bound, base.Verdict, base.Reason = g.bounds(), Inconclusive, why
		return []Check{base}
	}
	var out []Check
	if g.Min != nil {
		out = append(out, bound(g, base, r, where, "min", *g.Min, 0, 1))
	}
	if g.Max != nil {
		out = append(out, bound(g, base, r, where, "max", *g.Max, 1, -1))
	}
	if g.MaxDrop != nil {
		out = append(out, j.drop(g, base, r, where))
	}
	return out
}

func (j *judge) find(g Gate) (found []Result, where Evidence) {
	for _, e := range j.reports {
		if hits := e.Report.Find(g.Metric, g.Slice); len(hits) > 0 {
			found = append(found, hits...)
			where = e
		}
	}
	return found, where
}

// notOne is the check of a gate that found no metric, or several.
func (j *judge) notOne(g Gate, c Check, found []Result) Check {
	c.Bound = g.bounds()
	switch {
	case len(found) > 1:
		c.Verdict, c.Reason = Inconclusive, fmt.Sprintf("%d results have this name; name the whole specification", len(found))
	case g.Required != nil && !*g.Required:
		c.Verdict, c.Reason = Skipped, "the report has no such metric, and it is not required"
	default:
		c.Verdict, c.Reason = Fail, "the report has no such metric"
	}
	return c
}

// bounds names all of a gate's bounds.
func (g Gate) bounds() string {
	var parts []string
	for _, b := range []struct {
		name string
		v    *float64
	}{{"min", g.Min}, {"max", g.Max}, {"max_drop", g.MaxDrop}} {
		if b.v != nil {
			parts = append(parts, b.name+" "+digits(*b.v))
		}
	}
	return strings.Join(parts, ", ")
}

func digits(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }

// unusable says why a result cannot be judged, "" if it can.
func unusable(r Result) string {
	switch {
	case r.N <= 0:
		return "no rows were scored"
	case r.Verdict != VerdictOK:
		return strings.TrimSuffix(fmt.Sprintf("the result is %s: %s", r.Verdict, r.Note), ": ")
	case !r.Score.Defined():
		return "the score is not a number"
	}
	return ""
}

// bound checks min or max: the score, or with confidence the end of its interval (side 0 or 1) that
// is nearer to the bound. sign is 1 where more is safer.
func bound(g Gate, c Check, r Result, e Evidence, name string, limit float64, side int, sign float64) Check {
	c.Bound = name + " " + digits(limit)
	value, what := float64(r.Score), digits(float64(r.Score))
	if g.Confidence != nil {
		if why := intervalUnusable(r, e.Report, *g.Confidence); why != "" {
			c.Verdict, c.Reason = Inconclusive, why
			return c
		}
		value = float64(r.CI[side])
		what = fmt.Sprintf("%s end of the interval %s", [2]string{"the lower", "the upper"}[side], digits(value))
	}
	if (value-limit)*sign >= 0 {
		c.Verdict, c.Reason = Pass, what+" is within "+c.Bound
		return c
	}
	c.Verdict = Fail
	c.Reason = fmt.Sprintf("%s is %s by %s", what, map[bool]string{true: "below " + c.Bound, false: "above " + c.Bound}[sign > 0], digits(math.Abs(value-limit)))
	return c
}

// intervalUnusable says why the interval of a result does not answer for that confidence.
func intervalUnusable(r Result, report Report, confidence float64) string {
	switch {
	case r.CI == nil || !r.CI[0].Defined() || !r.CI[1].Defined():
		return "the report has no interval for it"
	case report.Bootstrap != nil && report.Bootstrap.Confidence != confidence:
		return fmt.Sprintf("the report's interval is for confidence %v, not %v", report.Bootstrap.Confidence, confidence)
	}
	return ""
}

// drop checks max_drop against the baseline.
func (j *judge) drop(g Gate, c Check, r Result, where Evidence) Check {
	c.Bound = "max_drop " + digits(*g.MaxDrop)
	c.Verdict = Inconclusive
	before, why := j.comparable(g, r, where)
	if why != "" {
		c.Reason = why
		return c
	}
	drop := float64(before.Score - r.Score)
	if !r.HigherIsBetter {
		drop = -drop
	}
	c.Baseline, c.Drop = &before.Score, (*Number)(&drop)
	within := drop <= *g.MaxDrop
	c.Verdict, c.Reason = Pass, fmt.Sprintf("%s against %s is within %s", digits(float64(r.Score)), digits(float64(before.Score)), c.Bound)
	if !within {
		c.Verdict, c.Reason = Fail, fmt.Sprintf("%s is worse than the baseline's %s by %s, more than %s",
			digits(float64(r.Score)), digits(float64(before.Score)), digits(drop), digits(*g.MaxDrop))
	}
	if g.Confidence == nil || (within && !g.NonInferior) {
		return c
	}
	sign := 1.0
	if !r.HigherIsBetter {
		sign = -1
	}
	t, err := j.test(where, g, r.Name, before.Name, sign)
	if err != nil {
		c.Verdict, c.Reason = Inconclusive, c.Reason+"; whether that is noise is not known: "+err.Error()
		return c
	}
	c.PValue = (*Number)(&t.p)
	if t.same {
		c.Reason += ": identical outputs"
		return c
	}
	c.DropCI = &[2]Number{Number(t.ci[0]), Number(t.ci[1])}
	c.weigh(t, within, g)
	return c
}

// weigh says what the paired test makes of a drop.
func (c *Check) weigh(t dropTest, within bool, g Gate) {
	test := fmt.Sprintf("(paired bootstrap p = %.4f against a drop of %s", t.p, digits(*g.MaxDrop))
	certain := t.p < 1-*g.Confidence
	switch {
	case certain && within:
		c.Reason += fmt.Sprintf(", with confidence %s; at most %s)", test, digits(t.ci[1]))
	case certain:
		c.Reason += fmt.Sprintf(", and that is no noise %s; at least %s)", test, digits(t.ci[0]))
	case g.NonInferior:
		c.Verdict = Inconclusive
		c.Reason += fmt.Sprintf(", but the rows do not show that it is no larger %s; up to %s)", test, digits(t.ci[1]))
	default:
		c.Verdict = Pass
		c.Reason += fmt.Sprintf(", but not significantly more %s)", test)
	}
}

// comparable finds the baseline's result, or says why the two cannot be compared.
func (j *judge) comparable(g Gate, r Result, where Evidence) (Result, string) {
	if j.baseline == nil {
		return Result{}, "there is no baseline"
	}
	found := j.baseline.Report.Find(g.Metric, g.Slice)
	switch {
	case len(found) == 0:
		return Result{}, "the baseline has no such metric"
	case len(found) > 1:
		return Result{}, "the baseline has several results of this name"
	}
	before := found[0]
	if why := unusable(before); why != "" {
		return Result{}, "in the baseline, " + why
	}
	was, is := j.baseline.Report.Data, where.Report.Data
	switch {
	case was.Fingerprint == "" || was.Fingerprint != is.Fingerprint:
		return Result{}, fmt.Sprintf("the baseline was measured on other data (%s, here %s)", orNone(was.Fingerprint), orNone(is.Fingerprint))
	case before.Signature != r.Signature:
		return Result{}, fmt.Sprintf("the baseline's signature is %s, here it is %s", before.Signature, r.Signature)
	case before.Spec != r.Spec:
		return Result{}, fmt.Sprintf("the baseline's metric is %s, here it is %s", before.Spec, r.Spec)
	case before.N != r.N:
		return Result{}, fmt.Sprintf("the baseline has %d rows, here are %d", before.N, r.N)
	case before.HigherIsBetter != r.HigherIsBetter:
		return Result{}, "the baseline says otherwise which way is better"
	}
	return before, ""
}

func orNone(s string) string {
	if s == "" {
		return "none named"
	}
	return s
}

// test resamples the drop of a metric. p is the p-value of a drop of exactly bound: with a bound of 0
// the very one that sacreBLEU gives. The interval holds the given share of the resampled drops, half
// of the rest on either side. same says that the statistics are identical.
func (j *judge) test(candidate Evidence, g Gate, name, baseName string, sign float64) (t dropTest, err error) {
	a, err := j.rows(candidate)
	if err != nil {
		return t, err
	}
	b, err := j.rows(*j.baseline)
	if err != nil {
		return t, err
	}
	p, err := pairRows(a, b, g.Slice, name, baseName)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if p.metric.score == nil {
		return t, fmt.Errorf("metric %s has no paired test", p.metric.Name)
	}
	boot := DefaultBootstrap()
	m := p.metric.significance(p.x.Rows())
	r := significance.Bootstrap(m, p.y, []*significance.Stats{p.x}, boot.Samples, boot.Seed)
	if r[1].Same {
		return dropTest{p: 1, same: true}, nil
	}
	for i := range r[1].Deltas {
		r[1].Deltas[i] *= -sign // drops
	}
	t.p = m.BootstrapP(r[1].Deltas, (r[0].Score-r[1].Score)*sign, *g.MaxDrop)
	t.ci = interval(r[1].Deltas, 1-2*(1-*g.Confidence))
	return t, nil
}

// dropTest is what resampling says of a drop.
type dropTest struct {
	p    float64
	ci   [2]float64 // each end on its own holds with the gate's confidence
	same bool
}

// close lets go of the rows that were read.
func (j *judge) close() {
	for _, r := range j.read {
		_ = r.Close() // read only
	}
}

// rows are the statistics that the gates need, of one report; they are read once.
func (j *judge) rows(e Evidence) (*Rows, error) {
	if r, ok := j.read[e.Path]; ok {
		return r, nil
	}
	r, err := e.Rows(j.tested...)
	if err == nil {
		j.read[e.Path] = r
	}
	return r, err
}

// significance is the metric as the paired tests take it, over n rows.
func (m *Metric) significance(n int) significance.Metric {
	s := significance.Metric{Score: func(sum []float64) float64 { return m.score(sum, n) }, Score32: m.paired, Single: m.single}
	if s.Score32 == nil {
		s.Score32 = func(sum []float32) float64 {
			wide := make([]float64, len(sum))
			for k, v := range sum {
				wide[k] = float64(v)
			}
			return m.score(wide, n)
		}
	}
	return s
}
