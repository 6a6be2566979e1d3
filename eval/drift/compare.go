package drift

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"gonum.org/v1/gonum/mat"
)

// Sample is what is known of some inputs: an embedding a row, and figures by name.
type Sample struct {
	Embeddings [][]float64
	Scalars    map[string][]float64 // as characters, tokens, unknown share
}

// Size is the number of rows.
func (s Sample) Size() int { return len(s.Embeddings) }

// pick gives some of the rows.
func (s Sample) pick(rows []int) Sample {
	out := Sample{Scalars: map[string][]float64{}}
	for _, r := range rows {
		out.Embeddings = append(out.Embeddings, s.Embeddings[r])
		for name, x := range s.Scalars {
			out.Scalars[name] = append(out.Scalars[name], x[r])
		}
	}
	return out
}

// Options say how samples are compared.
type Options struct {
	Permutations int     // of the p-value, at least 500
	Splits       int     // of the reference against itself, for thresholds
	Alpha        float64 // p-value below which a distance counts
	Seed         uint64
}

// WithDefaults fills in what is left out.
func (o Options) WithDefaults() Options {
	if o.Permutations == 0 {
		o.Permutations = 500
	}
	if o.Splits == 0 {
		o.Splits = 200
	}
	if o.Alpha == 0 {
		o.Alpha = 0.01
	}
	return o
}

// Schema is the version of the report and of baselines that this package writes.
const Schema = 1

// Result is one figure.
type Result struct {
	Name   string   `json:"name"`
	Value  float64  `json:"value"`
	Warn   float64  `json:"warn"`   // 95 % of random splits of the reference lie below
	Fail   float64  `json:"fail"`   // 99 %
	Effect float64  `json:"effect"` // value over warn
	P      *float64 `json:"p"`      // null: the splits alone decide
	State  string   `json:"state"`  // ok, warn or fail
	Judged bool     `json:"judged"` // decides whether inputs have drifted
}

// States of a result.
const (
	OK   = "ok"
	Warn = "warn"
	Fail = "fail"
)

// Report is what a comparison found.
type Report struct {
	Schema    int      `json:"schema"`
	Kind      string   `json:"kind"` // "drift"
	Model     string   `json:"model"`
	Encoder   string   `json:"encoder_digest"`
	Baseline  string   `json:"baseline,omitempty"`
	Reference int      `json:"reference_rows"`
	Current   int      `json:"current_rows"`
	Results   []Result `json:"results"`
	Drifted   bool     `json:"drifted"`
}

// leastRows is how many rows either sample needs.
const leastRows = 20

// SizeError says that a sample is too small to be compared.
type SizeError struct {
	What string
	Rows int
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("%s has %d rows, at least %d are needed to tell drift from chance", e.What, e.Rows, leastRows)
}

// Compare judges today's inputs against the reference. Half of the reference, or as much as there is of
// today's, is compared; thresholds come from random splits of the reference into such sizes.
func Compare(reference, current Sample, o Options) (Report, error) {
	o = o.WithDefaults()
	if current.Size() < leastRows {
		return Report{}, &SizeError{"the current data", current.Size()}
	}
	if reference.Size() < 2*leastRows {
		return Report{}, &SizeError{"half of the reference", reference.Size() / 2}
	}
	rng := rand.New(rand.NewPCG(o.Seed, 1))
	n := min(current.Size(), reference.Size()/2)
	mine := reference.pick(rng.Perm(reference.Size())[:n])
	theirs := current.pick(rng.Perm(current.Size())[:n])
	r := Report{Schema: Schema, Kind: "drift", Reference: n, Current: n}
	null := calibrate(reference, n, o.Splits, rng)
	kernel := NewKernel(mine.Embeddings, theirs.Embeddings)
	axes := newAxes(reference.Embeddings, n)
	_, mmd := kernel.MMD2(nil)
	p := kernel.P(o.Permutations, rng)
	r.add(null, "mmd2", mmd, &p, o.Alpha, true)
	r.add(null, "frechet", Frechet(axes.project(mine.Embeddings), axes.project(theirs.Embeddings)), nil, o.Alpha, false)
	r.add(null, "nearest_neighbour", kernel.Neighbour(nil), nil, o.Alpha, false)
	r.add(null, "cosine_distance", CosineDistance(mine.Embeddings, theirs.Embeddings), nil, o.Alpha, false)
	names := sortedNames(reference.Scalars)
	for _, name := range names {
		d, p := KolmogorovSmirnov(mine.Scalars[name], theirs.Scalars[name])
		p = math.Min(1, p*float64(len(names))) // Bonferroni: there are several
		r.add(null, "ks_"+name, d, &p, o.Alpha, true)
		r.add(null, "psi_"+name, PSI(mine.Scalars[name], theirs.Scalars[name]), nil, o.Alpha, false)
	}
	return r, nil
}

func sortedNames(m map[string][]float64) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// add judges a figure: beyond 99 of 100 splits of the reference, and where there is a p-value, below
// alpha too, since at large sizes everything is significant and at small ones nothing is.
func (r *Report) add(null map[string][]float64, name string, value float64, p *float64, alpha float64, judged bool) {
	x := slices.Sorted(slices.Values(null[name]))
	at := func(share float64) float64 { return x[min(len(x)-1, int(share*float64(len(x))))] }
	f := Result{Name: name, Value: value, Warn: at(0.95), Fail: at(0.99), P: p, State: OK, Judged: judged}
	if f.Warn > 0 {
		f.Effect = value / f.Warn
	}
	switch {
	case value > f.Fail && (p == nil || *p < alpha):
		f.State = Fail
	case value > f.Warn:
		f.State = Warn
	}
	r.Drifted = r.Drifted || judged && f.State == Fail
	r.Results = append(r.Results, f)
}

// calibrate computes every figure on random splits of the reference into two times n rows.
func calibrate(reference Sample, n, splits int, rng *rand.Rand) map[string][]float64 {
	out := map[string][]float64{}
	put := func(name string, v float64) { out[name] = append(out[name], v) }
	axes := newAxes(reference.Embeddings, n)
	points := axes.project(reference.Embeddings)
	k := NewKernel(reference.Embeddings[:n], reference.Embeddings[n:]) // distances once, for all splits
	for range splits {
		order := rng.Perm(reference.Size())[:2*n]
		x, y := reference.pick(order[:n]), reference.pick(order[n:])
		_, mmd := k.MMD2(order)
		put("mmd2", mmd)
		put("nearest_neighbour", k.Neighbour(order))
		put("cosine_distance", CosineDistance(x.Embeddings, y.Embeddings))
		var px, py [][]float64
		for i, at := range order {
			if i < n {
				px = append(px, points[at])
			} else {
				py = append(py, points[at])
			}
		}
		put("frechet", Frechet(px, py))
		for name := range reference.Scalars {
			d, _ := KolmogorovSmirnov(x.Scalars[name], y.Scalars[name])
			put("ks_"+name, d)
			put("psi_"+name, PSI(x.Scalars[name], y.Scalars[name]))
		}
	}
	return out
}

// axes are the directions in which the reference varies most: Fréchet's distance needs more rows than
// dimensions, ten times as many here.
type axes struct{ vectors *mat.Dense }

func newAxes(x [][]float64, rows int) axes {
	d := len(x[0])
	keep := max(1, min(d, 16, rows/10))
	_, c := meanCovariance(x)
	var eigen mat.EigenSym
	eigen.Factorize(c, true) // values ascend
	var v mat.Dense
	eigen.VectorsTo(&v)
	var out mat.Dense
	out.CloneFrom(v.Slice(0, d, d-keep, d))
	return axes{&out}
}

func (a axes) project(x [][]float64) [][]float64 {
	d, keep := a.vectors.Dims()
	out := make([][]float64, len(x))
	for i, row := range x {
		out[i] = make([]float64, keep)
		for k := range keep {
			for j := range d {
				out[i][k] += row[j] * a.vectors.At(j, k)
			}
		}
	}
	return out
}

// WritePrometheus writes the figures for a node exporter's textfile collector.
func (r Report) WritePrometheus(w io.Writer) error {
	var b strings.Builder
	label := func(extra string) string {
		quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
		return fmt.Sprintf(`{model="%s"%s}`, quote.Replace(r.Model), extra)
	}
	series := func(name, help string, value func(f Result) (float64, bool)) {
		fmt.Fprintf(&b, "# HELP t5ctl_drift_%s %s\n# TYPE t5ctl_drift_%s gauge\n", name, help, name)
		for _, f := range r.Results {
			if v, ok := value(f); ok {
				fmt.Fprintf(&b, "t5ctl_drift_%s%s %g\n", name, label(`,statistic="`+f.Name+`"`), v)
			}
		}
	}
	series("value", "Distance of current inputs from the reference.", func(f Result) (float64, bool) { return f.Value, true })
	series("threshold", "Distance beyond which inputs count as drifted.", func(f Result) (float64, bool) { return f.Fail, true })
	series("p_value", "Chance of such a distance without drift.", func(f Result) (float64, bool) {
		if f.P == nil {
			return 0, false
		}
		return *f.P, true
	})
	drifted := 0
	if r.Drifted {
		drifted = 1
	}
	fmt.Fprintf(&b, "# HELP t5ctl_drift_detected Whether inputs have drifted.\n# TYPE t5ctl_drift_detected gauge\nt5ctl_drift_detected%s %d\n", label(""), drifted)
	fmt.Fprintf(&b, "# HELP t5ctl_drift_rows Rows that were compared.\n# TYPE t5ctl_drift_rows gauge\nt5ctl_drift_rows%s %d\n", label(""), r.Current)
	_, err := io.WriteString(w, b.String())
	return err
}
