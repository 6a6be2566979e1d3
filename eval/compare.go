package eval

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/t5ctl/t5ctl/eval/significance"
)

// CompareOptions say how two evaluations are compared. Zero values are the defaults.
type CompareOptions struct {
	Samples int     // bootstrap resamples, 1,000
	Trials  int     // of approximate randomization, 10,000 as in sacreBLEU
	Seed    uint64  // 12345
	Margin  float64 // how much worse B may be and still count as no worse
	Moved   int     // rows to name that moved most, 10
}

// Comparison is what two evaluations of the same rows say of each other.
type Comparison struct {
	A, B    Judged            `json:"-"`
	Models  [2]string         `json:"models"`
	Data    string            `json:"data"`
	Metrics []MetricDelta     `json:"metrics"`
	Differ  map[string][2]any `json:"settings_differ,omitempty"` // decoding, prefix, tokenizer
}

// MetricDelta compares one metric; B is better where Delta is positive.
type MetricDelta struct {
	Name           string     `json:"name"`
	Label          string     `json:"label"`
	Slice          string     `json:"slice"`
	A              Number     `json:"a"`
	B              Number     `json:"b"`
	Delta          Number     `json:"delta"`       // B less A, turned so that more is better
	CI             *[2]Number `json:"ci"`          // 95 % of the resampled Delta
	BootstrapP     *float64   `json:"bootstrap_p"` // of sacreBLEU's paired bootstrap; 1 for identical outputs
	RandomP        *float64   `json:"randomization_p"`
	McNemarP       *float64   `json:"mcnemar_p,omitempty"` // exact, for metrics whose rows are right or wrong
	Identical      bool       `json:"identical"`
	NonInferior    *bool      `json:"non_inferior,omitempty"` // the interval lies above -margin
	Better         int        `json:"rows_better"`            // rows whose own score is better in B
	Worse          int        `json:"rows_worse"`
	Same           int        `json:"rows_same"`
	Moved          []Moved    `json:"moved,omitempty"`
	Why            string     `json:"why_not,omitempty"` // the two cannot be compared by a test
	HigherIsBetter bool       `json:"higher_is_better"`
}

// Moved is a row whose score differs.
type Moved struct {
	ID string `json:"id"`
	A  Number `json:"a"`
	B  Number `json:"b"`
}

// MismatchError says that two reports are about different things.
type MismatchError struct{ What, A, B string }

func (e *MismatchError) Error() string {
	return fmt.Sprintf("the reports have different %s: %s and %s", e.What, e.A, e.B)
}

// Compare tests every metric that both reports have, from their rows.
func Compare(ctx context.Context, a, b Evidence, o CompareOptions) (Comparison, error) {
	o = o.withDefaults()
	if x, y := a.Report.Data.Fingerprint, b.Report.Data.Fingerprint; x == "" || x != y {
		return Comparison{}, &MismatchError{"data", orNone(x), orNone(y)}
	}
	read, done, err := rowReaders(a, b)
	if err != nil {
		return Comparison{}, err
	}
	defer done()
	c := Comparison{A: judged(a), B: judged(b), Models: [2]string{a.Report.Model, b.Report.Model}, Data: a.Report.Data.Fingerprint,
		Metrics: []MetricDelta{}, Differ: differing(a.Report, b.Report)}
	for _, r := range a.Report.Metrics {
		found := b.Report.Find(r.Name, r.Slice)
		if len(found) != 1 || r.Spec == "" {
			continue
		}
		if err := ctx.Err(); err != nil {
			return c, err
		}
		x, y, err := read(r.Name)
		if err != nil {
			return c, err
		}
		d, err := compareMetric(r, found[0], x, y, o)
		if err != nil {
			return c, err
		}
		c.Metrics = append(c.Metrics, d)
	}
	return c, nil
}

// largeRows is the size of rows files, in bytes, from which on only one metric is in memory at a time.
const largeRows = 64 << 20

// rowReaders gives a function that reads what two reports say of a metric: both files once and whole
// where they are small, else that metric alone; and one that lets go of what was read.
func rowReaders(a, b Evidence) (read func(metric string) (x, y *Rows, err error), done func(), err error) {
	var x, y *Rows
	last := ""
	done = func() {
		_ = errors.Join(x.Close(), y.Close()) // read only
		x, y = nil, nil
	}
	both := func(metrics ...string) (err error) {
		done()
		if x, err = a.Rows(metrics...); err == nil {
			y, err = b.Rows(metrics...)
		}
		return err
	}
	size := a.rowsSize() + b.rowsSize()
	if size < largeRows {
		err = both()
		return func(string) (*Rows, *Rows, error) { return x, y, nil }, done, err
	}
	return func(metric string) (*Rows, *Rows, error) {
		var err error
		if metric != last { // slices of a metric follow one another only in part
			last = metric
			err = both(metric)
		}
		return x, y, err
	}, done, nil
}

func (o CompareOptions) withDefaults() CompareOptions {
	if o.Samples == 0 {
		o.Samples = 1000
	}
	if o.Trials == 0 {
		o.Trials = 10000
	}
	if o.Seed == 0 {
		o.Seed = DefaultBootstrap().Seed
	}
	if o.Moved == 0 {
		o.Moved = 10
	}
	return o
}

// settings are what decided how outputs were made.
func settings(r Report) map[string]any {
	out := map[string]any{}
	_ = json.Unmarshal(r.Decoding, &out) // a report without settings has none that differ
	for k, v := range r.Setup {
		out[k] = v
	}
	return out
}

// differing lists the settings that are not the same.
func differing(a, b Report) map[string][2]any {
	x, y := settings(a), settings(b)
	out := map[string][2]any{}
	for k := range x {
		if v, w := fmt.Sprint(x[k]), fmt.Sprint(y[k]); v != w {
			out[k] = [2]any{x[k], y[k]}
		}
	}
	for k := range y {
		if _, ok := x[k]; !ok {
			out[k] = [2]any{nil, y[k]}
		}
	}
	return out
}

func compareMetric(a, b Result, rowsA, rowsB *Rows, o CompareOptions) (d MetricDelta, err error) {
	d = MetricDelta{Name: a.Name, Label: a.Label, Slice: a.Slice, A: a.Score, B: b.Score, HigherIsBetter: a.HigherIsBetter, Delta: b.Score - a.Score}
	if !a.HigherIsBetter {
		d.Delta = -d.Delta
	}
	for what, pair := range map[string][2]string{"signature": {a.Signature, b.Signature}, "options": {a.Spec, b.Spec}} {
		if pair[0] != pair[1] {
			d.Why = fmt.Sprintf("%s %s and %s", what, pair[0], pair[1])
			return d, nil
		}
	}
	p, err := pairRows(rowsA, rowsB, a.Slice, a.Name, b.Name)
	if err != nil {
		d.Why = err.Error()
		return d, nil
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if p.metric.score == nil {
		d.Why = "the metric has no paired test"
		return d, nil
	}
	d.test(p, o)
	if !d.Identical {
		d.Moved = d.moved(p, o.Moved)
	}
	return d, nil
}

// moved counts the rows that got better or worse, and names those whose own scores differ most.
func (d *MetricDelta) moved(p *paired, most int) []Moved {
	type row struct {
		at            int
		before, after Number
	}
	var out []row
	sort := func() {
		slices.SortStableFunc(out, func(a, b row) int {
			return cmp.Compare(math.Abs(float64(b.after-b.before)), math.Abs(float64(a.after-a.before)))
		})
		out = out[:min(most, len(out))]
	}
	x, y := make([]float64, p.x.Width()), make([]float64, p.x.Width())
	for i := range p.x.Rows() {
		before, after := Number(p.metric.score(p.x.Row(x, i), 1)), Number(p.metric.score(p.y.Row(y, i), 1))
		switch {
		case !before.Defined() || !after.Defined():
			continue
		case before == after:
			d.Same++
			continue
		case (after > before) == p.metric.HigherIsBetter:
			d.Better++
		default:
			d.Worse++
		}
		if out = append(out, row{i, before, after}); len(out) > 2*most+1000 {
			sort()
		}
	}
	sort()
	named := make([]Moved, len(out))
	for i, r := range out {
		named[i] = Moved{p.id(r.at), r.before, r.after}
	}
	return named
}

// test fills in what the rows say.
func (d *MetricDelta) test(p *paired, o CompareOptions) {
	s := p.metric.significance(p.x.Rows())
	boot := significance.Bootstrap(s, p.x, []*significance.Stats{p.y}, o.Samples, o.Seed)[1]
	one := 1.0
	if d.Identical = boot.Same; d.Identical {
		d.BootstrapP, d.RandomP = &one, &one
		d.CI = &[2]Number{0, 0}
	} else {
		d.BootstrapP = boot.P
		d.RandomP = significance.Randomization(s, p.x, []*significance.Stats{p.y}, o.Trials, 0, o.Seed)[1].P
		d.CI = d.interval(boot.Deltas)
	}
	if o.Margin > 0 && d.CI != nil {
		holds := float64(d.CI[0]) > -o.Margin
		d.NonInferior = &holds
	}
	if p, ok := mcNemar(p.x, p.y); ok {
		d.McNemarP = &p
	}
}

// interval holds the middle 95 % of the resampled differences, turned so that more is better.
func (d *MetricDelta) interval(deltas []float64) *[2]Number {
	turned := slices.Clone(deltas)
	if !d.HigherIsBetter {
		for i := range turned {
			turned[i] = -turned[i]
		}
	}
	ci := interval(turned, 0.95)
	if math.IsNaN(ci[0]) {
		return nil
	}
	return &[2]Number{Number(ci[0]), Number(ci[1])}
}

// mcNemar is the exact test for rows that are right or wrong.
func mcNemar(x, y *significance.Stats) (float64, bool) {
	if x.Width() != 1 {
		return 0, false
	}
	var only [2]int
	for i := range x.Rows() {
		a, b := x.Row([]float64{0}, i)[0], y.Row([]float64{0}, i)[0]
		if (a != 0 && a != 1) || (b != 0 && b != 1) {
			return 0, false
		}
		if a > b {
			only[0]++
		} else if b > a {
			only[1]++
		}
	}
	n := only[0] + only[1]
	if n == 0 {
		return 1, true
	}
	return math.Min(1, 2*distuv.Binomial{N: float64(n), P: 0.5}.CDF(float64(min(only[0], only[1])))), true
}
