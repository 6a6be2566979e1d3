// Package significance tests whether two systems differ, by paired bootstrap and approximate
// randomization, with the figures of sacreBLEU 2.6.0 on NumPy 2: the same random streams, the same
// single precision, the same sums.
//
// One figure is kept though it misleads: a system compared with itself has the least p-value there
// is, since no resample strays further than nothing. Result.Same marks that case.
package significance

import (
	"math"
	"math/big"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/t5ctl/t5ctl/eval/numpy"
)

// Metric scores sums of statistics.
type Metric struct {
	Score   func(sum []float64) float64
	Score32 func(sum []float32) float64 // in single precision, as NumPy does while resampling
	Single  bool                        // Score32 is single precision itself (chrF and TER), not only its input (BLEU)
}

// Stats are the statistics of a system, one row a segment.
type Stats [][]float64

func (s Stats) sum() []float64 {
	out := make([]float64, len(s[0]))
	for _, row := range s {
		for k, v := range row {
			out[k] += v
		}
	}
	return out
}

// flat holds statistics in single precision, row after row.
type flat struct {
	rows, width int
	v           []float32
}

func (s Stats) single() flat {
	f := flat{len(s), len(s[0]), make([]float32, 0, len(s)*len(s[0]))}
	for _, row := range s {
		for _, v := range row {
			f.v = append(f.v, float32(v))
		}
	}
	return f
}

// Result is what a test says of one system.
type Result struct {
	Score float64
	P     *float64 // nil for the baseline
	Mean  *float64 // of the resamples; nil where none were asked for
	CI    *float64 // half the width of the 95 % interval
	Same  bool     // the system's statistics are those of the baseline

	Deltas []float64 // of a bootstrap: each resample's score less the baseline's
}

// Interval is the bootstrap of one system on its own: all resampled scores in the order drawn, their
// mean rounded once, and half the width of their 95 % interval.
func Interval(m Metric, s Stats, samples int, seed uint64) (scores []float64, mean, ci float64) {
	scores = resample(m, s.single(), draw(numpy.NewPCG64(seed), len(s), samples))
	sorted := slices.Sorted(slices.Values(scores))
	return scores, exactMean(sorted, m.Single), m.halfWidth(sorted)
}

// Bootstrap compares systems with a baseline by paired bootstrap resampling. The first result is the
// baseline's.
func Bootstrap(m Metric, baseline Stats, systems []Stats, samples int, seed uint64) []Result {
	out := []Result{m.baseline(baseline, samples, seed)}
	picks := draw(numpy.NewPCG64(seed), len(baseline), samples)
	before := resample(m, baseline.single(), picks)
	for _, s := range systems {
		r := Result{Score: m.Score(s.sum()), Same: same(baseline, s)}
		scores := resample(m, s.single(), picks)
		m.estimate(&r, scores)
		p := m.bootstrapP(scores, before, math.Abs(out[0].Score-r.Score))
		r.P = &p
		r.Deltas = make([]float64, len(scores))
		for i := range scores {
			r.Deltas[i] = scores[i] - before[i]
		}
		out = append(out, r)
	}
	return out
}

// Randomization compares systems with a baseline by approximate randomization: the outputs of both are
// swapped at random. confidence, where above 0, is the number of resamples for intervals beside it.
func Randomization(m Metric, baseline Stats, systems []Stats, trials, confidence int, seed uint64) []Result {
	out := []Result{m.baseline(baseline, confidence, seed)}
	n := len(baseline)
	rng := numpy.NewPCG64(seed)
	mask := make([]bool, trials*n)
	rng.Bools(mask)
	var picks []int32
	if confidence > 0 {
		picks = draw(rng, n, confidence)
	}
	for _, s := range systems {
		r := Result{Score: m.Score(s.sum()), Same: same(baseline, s)}
		real := math.Abs(out[0].Score - r.Score)
		var beyond atomic.Int64
		parallel(trials, func(i int) {
			a, b := shuffled(baseline, s, mask[i*n:(i+1)*n])
			if math.Abs(m.Score(a)-m.Score(b)) > real {
				beyond.Add(1)
			}
		})
		p := float64(beyond.Load()+1) / float64(trials+1)
		r.P = &p
		if confidence > 0 {
			m.estimate(&r, resample(m, s.single(), picks))
		}
		out = append(out, r)
	}
	return out
}

// shuffled sums two pseudo-systems: where the mask holds, a has the baseline's segment.
func shuffled(baseline, system Stats, mask []bool) (a, b []float64) {
	width := len(baseline[0])
	a, b = make([]float64, width), make([]float64, width)
	for i, base := range mask {
		x, y := system[i], baseline[i]
		if base {
			x, y = y, x
		}
		for k := range width {
			a[k] += x[k]
			b[k] += y[k]
		}
	}
	return a, b
}

func (m Metric) baseline(s Stats, samples int, seed uint64) Result {
	r := Result{Score: m.Score(s.sum()), Same: true}
	if samples > 0 {
		m.estimate(&r, resample(m, s.single(), draw(numpy.NewPCG64(seed), len(s), samples)))
	}
	return r
}

// estimate fills in mean and interval as the paired tests do: NumPy's sum of the sorted scores.
func (m Metric) estimate(r *Result, scores []float64) {
	sorted := slices.Sorted(slices.Values(scores))
	mean, ci := 0.0, m.halfWidth(sorted)
	if m.Single {
		mean = float64(numpy.Mean(narrow(sorted)))
	} else {
		mean = numpy.Mean(sorted)
	}
	r.Mean, r.CI = &mean, &ci
}

// halfWidth is half the 95 % interval of sorted scores.
func (m Metric) halfWidth(sorted []float64) float64 {
	low := len(sorted) / 40
	a, b := sorted[low], sorted[len(sorted)-low-1]
	if m.Single {
		return float64(0.5 * (float32(b) - float32(a)))
	}
	return 0.5 * (b - a)
}

// bootstrapP is the share of resamples whose difference strays from the mean difference by more than
// the real one.
func (m Metric) bootstrapP(scores, before []float64, real float64) float64 {
	beyond := 1
	if m.Single {
		diffs := make([]float32, len(scores))
		for i := range diffs {
			diffs[i] = float32(math.Abs(float64(float32(scores[i]) - float32(before[i]))))
		}
		mean := numpy.Mean(diffs)
		for _, d := range diffs {
			if d-mean > float32(real) {
				beyond++
			}
		}
	} else {
		diffs := make([]float64, len(scores))
		for i := range diffs {
			diffs[i] = math.Abs(scores[i] - before[i])
		}
		mean := numpy.Mean(diffs)
		for _, d := range diffs {
			if d-mean > real {
				beyond++
			}
		}
	}
	return float64(beyond) / float64(len(scores)+1)
}

func narrow(v []float64) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(x)
	}
	return out
}

// draw is choice(n, size=(samples, n)).
func draw(rng *numpy.PCG64, n, samples int) []int32 {
	picks := make([]int32, n*samples)
	rng.Choice(picks, n)
	return picks
}

// resample scores the sums of drawn rows.
func resample(m Metric, f flat, picks []int32) []float64 {
	out := make([]float64, len(picks)/f.rows)
	parallel(len(out), func(i int) {
		sum := make([]float32, f.width)
		for _, r := range picks[i*f.rows : (i+1)*f.rows] {
			row := f.v[int(r)*f.width:][:len(sum)]
			for k := range sum {
				sum[k] += row[k]
			}
		}
		out[i] = m.Score32(sum)
	})
	return out
}

// parallel calls do with 0 to n-1, in any order.
func parallel(n int, do func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				do(i)
			}
		})
	}
	wg.Wait()
}

func same(a, b Stats) bool {
	return slices.EqualFunc(a, b, func(x, y []float64) bool { return slices.Equal(x, y) })
}

// exactMean is Python's statistics.mean: the exact mean, rounded once to the type of the scores.
func exactMean(scores []float64, single bool) float64 {
	sum := new(big.Rat)
	for _, v := range scores {
		sum.Add(sum, new(big.Rat).SetFloat64(v))
	}
	sum.Quo(sum, new(big.Rat).SetInt64(int64(len(scores))))
	mean, _ := sum.Float64()
	if single {
		return float64(float32(mean))
	}
	return mean
}
