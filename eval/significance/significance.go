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

// Stats are the statistics of a system, one row a segment, in single precision as long as all of them
// have one there: counts do, so that a statistic of a long file takes four bytes.
type Stats struct {
	width  int
	single []float32
	double []float64 // in place of single, once some value needs it
}

// NewStats makes statistics of so many columns and no rows.
func NewStats(width int) *Stats { return &Stats{width: width} }

// Append adds a row.
func (s *Stats) Append(row []float64) {
	if s.double == nil && slices.ContainsFunc(row, func(v float64) bool { return float64(float32(v)) != v }) {
		s.double = make([]float64, 0, len(s.single)+len(row))
		for _, v := range s.single {
			s.double = append(s.double, float64(v))
		}
		s.single = nil
	}
	if s.double != nil {
		s.double = append(s.double, row...)
		return
	}
	for _, v := range row {
		s.single = append(s.single, float32(v))
	}
}

// Rows is the number of rows.
func (s *Stats) Rows() int { return (len(s.single) + len(s.double)) / s.width }

// Width is the number of columns.
func (s *Stats) Width() int { return s.width }

// Row copies row i to dst, which it returns.
func (s *Stats) Row(dst []float64, i int) []float64 {
	if s.double != nil {
		copy(dst, s.double[i*s.width:(i+1)*s.width])
		return dst
	}
	for k, v := range s.single[i*s.width : (i+1)*s.width] {
		dst[k] = float64(v)
	}
	return dst
}

// Equal reports whether both hold the same values.
func (s *Stats) Equal(o *Stats) bool {
	return s.width == o.width && slices.Equal(s.single, o.single) && slices.Equal(s.double, o.double)
}

func (s *Stats) sum() []float64 {
	out, row := make([]float64, s.width), make([]float64, s.width)
	for i := range s.Rows() {
		for k, v := range s.Row(row, i) {
			out[k] += v
		}
	}
	return out
}

// narrow holds all values in single precision, row after row.
func (s *Stats) narrow() []float32 {
	if s.double == nil {
		return s.single
	}
	return narrow(s.double)
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
func Interval(m Metric, s *Stats, samples int, seed uint64) (scores []float64, mean, ci float64) {
	scores = resample(m, []*Stats{s}, numpy.NewPCG64(seed), samples)[0]
	sorted := slices.Sorted(slices.Values(scores))
	return scores, exactMean(sorted, m.Single), m.halfWidth(sorted)
}

// Bootstrap compares systems with a baseline by paired bootstrap resampling. The first result is the
// baseline's.
func Bootstrap(m Metric, baseline *Stats, systems []*Stats, samples int, seed uint64) []Result {
	scores := resample(m, append([]*Stats{baseline}, systems...), numpy.NewPCG64(seed), samples)
	first := Result{Score: m.Score(baseline.sum()), Same: true}
	m.estimate(&first, scores[0])
	out := []Result{first}
	for k, s := range systems {
		r := Result{Score: m.Score(s.sum()), Same: baseline.Equal(s)}
		m.estimate(&r, scores[k+1])
		r.Deltas = make([]float64, samples)
		for i := range r.Deltas {
			r.Deltas[i] = scores[k+1][i] - scores[0][i]
		}
		p := m.BootstrapP(r.Deltas, r.Score-first.Score, 0)
		r.P = &p
		out = append(out, r)
	}
	return out
}

// Randomization compares systems with a baseline by approximate randomization: the outputs of both are
// swapped at random. confidence, where above 0, is the number of resamples for intervals beside it.
func Randomization(m Metric, baseline *Stats, systems []*Stats, trials, confidence int, seed uint64) []Result {
	n, width := baseline.Rows(), baseline.Width()
	all := append([]*Stats{baseline}, systems...)
	out := make([]Result, len(all))
	for k, s := range all {
		out[k] = Result{Score: m.Score(s.sum()), Same: baseline.Equal(s)}
	}
	swaps := make([]swapper, len(systems))
	for k, s := range systems {
		swaps[k] = newSwapper(baseline, s)
	}
	beyond := make([]atomic.Int64, len(all))
	rng := numpy.NewPCG64(seed)
	bits := rng.Bools()
	parallel(trials, func() ([]bool, func(i int, mask []bool)) {
		a, b := make([]float64, width), make([]float64, width)
		return make([]bool, n), func(_ int, mask []bool) {
			for k, swap := range swaps {
				swap(a, b, mask)
				if math.Abs(m.Score(a)-m.Score(b)) > math.Abs(out[0].Score-out[k+1].Score) {
					beyond[k+1].Add(1)
				}
			}
		}
	}, bits.Read)
	for k := range systems {
		p := float64(beyond[k+1].Load()+1) / float64(trials+1)
		out[k+1].P = &p
	}
	if confidence > 0 {
		// The baseline's interval has a stream of its own, as in the reference tool.
		m.estimate(&out[0], resample(m, all[:1], numpy.NewPCG64(seed), confidence)[0])
		for k, scores := range resample(m, systems, rng, confidence) {
			m.estimate(&out[k+1], scores)
		}
	}
	return out
}

// swapper sums two pseudo-systems to a and b: where the mask holds, a has the baseline's segment.
type swapper func(a, b []float64, mask []bool)

func newSwapper(baseline, system *Stats) swapper {
	if !baseline.whole() || !system.whole() {
		return func(a, b []float64, mask []bool) { swapRows(a, b, baseline, system, mask) }
	}
	// Sums of whole numbers are exact in any order, so only what differs needs to be added up.
	width := baseline.width
	var differ []int32
	for i := range baseline.Rows() {
		if !slices.Equal(baseline.single[i*width:][:width], system.single[i*width:][:width]) {
			differ = append(differ, int32(i))
		}
	}
	first, second := baseline.sum(), system.sum()
	return func(a, b []float64, mask []bool) {
		clear(b)
		for _, i := range differ {
			if mask[i] {
				continue
			}
			x, y := baseline.single[int(i)*width:][:len(b)], system.single[int(i)*width:][:len(b)]
			for k := range b {
				b[k] += float64(y[k] - x[k])
			}
		}
		for k, v := range b {
			a[k], b[k] = first[k]+v, second[k]-v
		}
	}
}

// swapRows is the swapper for statistics of any kind.
func swapRows(a, b []float64, baseline, system *Stats, mask []bool) {
	x, y := make([]float64, len(a)), make([]float64, len(a))
	clear(a)
	clear(b)
	for i, base := range mask {
		p, q := system.Row(x, i), baseline.Row(y, i)
		if base {
			p, q = q, p
		}
		for k := range a {
			a[k] += p[k]
			b[k] += q[k]
		}
	}
}

// whole reports whether all values are whole numbers so small that their differences are exact.
func (s *Stats) whole() bool {
	return s.double == nil && !slices.ContainsFunc(s.single, func(v float32) bool {
		return v != float32(int32(v)) || v < -1<<22 || v > 1<<22
	})
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

// BootstrapP is the p-value of a difference of at most bound, from the resampled differences: the
// share of resamples whose distance from bound exceeds their mean distance by more than the real one.
// With a bound of 0 it is sacreBLEU's. It serves for differences on either side of the bound.
func (m Metric) BootstrapP(deltas []float64, real, bound float64) float64 {
	if m.Single {
		diffs := make([]float32, len(deltas))
		for i, d := range deltas {
			diffs[i] = float32(math.Abs(d - bound))
		}
		return pValue(diffs, float32(math.Abs(real-bound)))
	}
	diffs := make([]float64, len(deltas))
	for i, d := range deltas {
		diffs[i] = math.Abs(d - bound)
	}
	return pValue(diffs, math.Abs(real-bound))
}

func pValue[T float32 | float64](diffs []T, real T) float64 {
	mean, beyond := numpy.Mean(diffs), 1
	for _, d := range diffs {
		if d-mean > real {
			beyond++
		}
	}
	return float64(beyond) / float64(len(diffs)+1)
}

func narrow(v []float64) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(x)
	}
	return out
}

// resample scores the sums of drawn rows, the same rows of every system: choice(n, size=(samples, n)),
// of which only what is being added up is in memory.
func resample(m Metric, systems []*Stats, rng *numpy.PCG64, samples int) [][]float64 {
	n, width := systems[0].Rows(), systems[0].Width()
	flat, out := make([][]float32, len(systems)), make([][]float64, len(systems))
	for k, s := range systems {
		flat[k], out[k] = s.narrow(), make([]float64, samples)
	}
	parallel(samples, func() ([]int32, func(i int, picks []int32)) {
		sum := make([]float32, width)
		return make([]int32, n), func(i int, picks []int32) {
			for k, v := range flat {
				clear(sum)
				add(sum, v, picks)
				out[k][i] = m.Score32(sum)
			}
		}
	}, func(picks []int32) { rng.Choice(picks, n) })
	return out
}

// add adds the picked rows of v to sum, in order.
func add(sum, v []float32, picks []int32) {
	for _, r := range picks {
		row := v[int(r)*len(sum):][:len(sum)]
		for k := range sum {
			sum[k] += row[k]
		}
	}
}

// parallel works through 0 to n-1, in any order. What each step needs is drawn one after the other,
// in order, into the buffer of whichever worker takes it.
func parallel[T any](n int, worker func() (buffer []T, do func(i int, drawn []T)), draw func([]T)) {
	var mu sync.Mutex
	next := 0
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		wg.Go(func() {
			buffer, do := worker()
			for {
				mu.Lock()
				i := next
				next++
				if i < n {
					draw(buffer)
				}
				mu.Unlock()
				if i >= n {
					return
				}
				do(i, buffer)
			}
		})
	}
	wg.Wait()
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
