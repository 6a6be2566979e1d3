// Package significance tests whether two systems differ, by paired bootstrap and approximate
// randomization, with the figures of sacreBLEU 2.6.0 on NumPy 2: the same random streams, the same
// single precision, the same sums.
//
// One figure is kept though it misleads: a system compared with itself has the least p-value there
// is, since no resample strays further than nothing. Result.Same marks that case.
package significance

import (
	"errors"
	"math"
	"math/big"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/t5ctl/t5ctl/eval/numpy"
	"github.com/t5ctl/t5ctl/internal/mapped"
)

// Metric scores sums of statistics.
type Metric struct {
	Score   func(sum []float64) float64
	Score32 func(sum []float32) float64 // in single precision, as NumPy does while resampling
	Single  bool                        // Score32 is single precision itself (chrF and TER), not only its input (BLEU)
}

// Stats are the statistics of a system, one row a segment, in single precision as long as all of them
// have one there: counts do, so that a statistic of a long file takes four bytes. Many of them lie in a
// temporary file.
type Stats struct {
	width  int
	single mapped.Array[float32] // what the resampling adds up
	double mapped.Array[float64] // what the scores are made of, once some value needs it
	wide   bool
	err    error
}

// NewStats makes statistics of so many columns and no rows.
func NewStats(width int) *Stats { return &Stats{width: width} }

// Append adds a row, until Settle.
func (s *Stats) Append(row []float64) {
	if !s.wide && slices.ContainsFunc(row, func(v float64) bool { return float64(float32(v)) != v }) {
		s.widen()
	}
	for _, v := range row {
		s.single.Append(float32(v))
	}
	if s.wide {
		s.double.Append(row...)
	}
}

// widen keeps all values, from the first on, in double precision as well.
func (s *Stats) widen() {
	s.wide = true
	err := s.single.Settle()
	var again mapped.Array[float32]
	for _, v := range s.single.All() {
		s.double.Append(float64(v))
		again.Append(v)
	}
	s.err = errors.Join(s.err, err, s.single.Close())
	s.single = again
}

// Settle ends the growing; rows can be read from then on.
func (s *Stats) Settle() error { return errors.Join(s.err, s.single.Settle(), s.double.Settle()) }

// Close lets the rows go.
func (s *Stats) Close() error { return errors.Join(s.single.Close(), s.double.Close()) }

// Rows is the number of rows.
func (s *Stats) Rows() int { return s.single.Len() / s.width }

// Width is the number of columns.
func (s *Stats) Width() int { return s.width }

// Row copies row i to dst, which it returns.
func (s *Stats) Row(dst []float64, i int) []float64 {
	if s.wide {
		copy(dst, s.double.All()[i*s.width:(i+1)*s.width])
		return dst
	}
	for k, v := range s.single.All()[i*s.width : (i+1)*s.width] {
		dst[k] = float64(v)
	}
	return dst
}

// Equal reports whether both hold the same values.
func (s *Stats) Equal(o *Stats) bool {
	return s.width == o.width && slices.Equal(s.single.All(), o.single.All()) && slices.Equal(s.double.All(), o.double.All())
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
	width := baseline.Width()
	all := append([]*Stats{baseline}, systems...)
	out := make([]Result, len(all))
	for k, s := range all {
		out[k] = Result{Score: m.Score(s.sum()), Same: baseline.Equal(s)}
	}
	swaps := make([]*swapper, len(systems))
	for k, s := range systems {
		swaps[k] = newSwapper(baseline, s)
	}
	beyond := make([]atomic.Int64, len(all))
	rng := numpy.NewPCG64(seed)
	parallel(trials, baseline.Rows(), func() func(i int, mask pieces[bool]) {
		sums := make([]swapSums, len(systems))
		for k := range sums {
			sums[k] = newSwapSums(width)
		}
		return func(_ int, mask pieces[bool]) {
			for k := range sums {
				clear(sums[k].a)
				clear(sums[k].b)
			}
			mask(func(from int, piece []bool) {
				for k := range sums {
					swaps[k].add(sums[k], from, piece)
				}
			})
			for k, sum := range sums {
				swaps[k].end(sum)
				if math.Abs(m.Score(sum.a)-m.Score(sum.b)) > math.Abs(out[0].Score-out[k+1].Score) {
					beyond[k+1].Add(1)
				}
			}
		}
	}, coins{rng.Bools()})
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

// swapSums are the sums of two pseudo-systems, and memory for a row of each.
type swapSums struct{ a, b, x, y []float64 }

func newSwapSums(width int) swapSums {
	return swapSums{make([]float64, width), make([]float64, width), make([]float64, width), make([]float64, width)}
}

// swapper sums two pseudo-systems: where the mask holds, a has the baseline's segment.
type swapper struct {
	baseline, system *Stats
	differ           []uint64  // a bit for each row that differs; nil where sums depend on their order
	first, second    []float64 // the sums of both
}

func newSwapper(baseline, system *Stats) *swapper {
	s := &swapper{baseline: baseline, system: system}
	if !baseline.whole() || !system.whole() {
		return s
	}
	// Sums of whole numbers are exact in any order, so only what differs needs to be added up.
	width := baseline.width
	x, y := baseline.single.All(), system.single.All()
	s.differ = make([]uint64, baseline.Rows()/64+1)
	for i := range baseline.Rows() {
		if !slices.Equal(x[i*width:][:width], y[i*width:][:width]) {
			s.differ[i/64] |= 1 << (i % 64)
		}
	}
	s.first, s.second = baseline.sum(), system.sum()
	return s
}

// add takes in the rows from one on, as far as the piece of the mask goes. Of whole numbers b gets the
// differences alone.
func (s *swapper) add(sums swapSums, from int, mask []bool) {
	if s.differ == nil {
		s.addAll(sums, from, mask)
		return
	}
	b := sums.b
	all, other := s.baseline.single.All(), s.system.single.All()
	for k, base := range mask {
		i := from + k
		if base || s.differ[i/64]>>(i%64)&1 == 0 {
			continue
		}
		x, y := all[i*len(b):][:len(b)], other[i*len(b):][:len(b)]
		for k := range b {
			b[k] += float64(y[k] - x[k])
		}
	}
}

// addAll is add for statistics of any kind.
func (s *swapper) addAll(sums swapSums, from int, mask []bool) {
	for i, base := range mask {
		p, q := s.system.Row(sums.x, from+i), s.baseline.Row(sums.y, from+i)
		if base {
			p, q = q, p
		}
		for k := range sums.a {
			sums.a[k] += p[k]
			sums.b[k] += q[k]
		}
	}
}

// end makes the sums of what add took in.
func (s *swapper) end(sums swapSums) {
	if s.differ == nil {
		return
	}
	for k, v := range sums.b {
		sums.a[k], sums.b[k] = s.first[k]+v, s.second[k]-v
	}
}

// whole reports whether all values are whole numbers so small that their differences are exact.
func (s *Stats) whole() bool {
	return !s.wide && !slices.ContainsFunc(s.single.All(), func(v float32) bool {
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
// of which only a piece of what is being added up is in memory.
func resample(m Metric, systems []*Stats, rng *numpy.PCG64, samples int) [][]float64 {
	n, width := systems[0].Rows(), systems[0].Width()
	out := make([][]float64, len(systems))
	for k := range systems {
		out[k] = make([]float64, samples)
	}
	parallel(samples, n, func() func(i int, picks pieces[int32]) {
		sums := make([][]float32, len(systems))
		for k := range sums {
			sums[k] = make([]float32, width)
		}
		return func(i int, picks pieces[int32]) {
			for k := range sums {
				clear(sums[k])
			}
			picks(func(_ int, piece []int32) {
				for k, s := range systems {
					add(sums[k], s.single.All(), piece)
				}
			})
			for k, sum := range sums {
				out[k][i] = m.Score32(sum)
			}
		}
	}, picks{rng, n})
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

// stream is a random stream of values.
type stream[T any] interface {
	Read(dst []T)
	// Copy gives the same values from here on, whatever is read of the other.
	Copy() stream[T]
}

// picks are rows drawn with replacement.
type picks struct {
	rng *numpy.PCG64
	n   int
}

func (p picks) Read(dst []int32) { p.rng.Choice(dst, p.n) }

func (p picks) Copy() stream[int32] {
	rng := *p.rng
	return picks{&rng, p.n}
}

// coins are truth values.
type coins struct{ *numpy.Bools }

func (c coins) Copy() stream[bool] { return coins{c.Bools.Copy()} }

// pieces gives what was drawn for a step, in order; from is the place of a piece's first value.
type pieces[T any] func(take func(from int, piece []T))

// pieceValues is how many drawn values are in memory at a time.
const pieceValues = 1 << 16

// parallel works through 0 to n-1, in any order. What each step needs, so many values, is drawn one step
// after the other. More than a piece of them is only passed over then, and drawn again from where the
// stream was by whichever worker does the step.
func parallel[T any](n, values int, worker func() (do func(i int, drawn pieces[T])), draws stream[T]) {
	var mu sync.Mutex
	next := 0
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		wg.Go(func() {
			do, buffer := worker(), make([]T, min(values, pieceValues))
			each := func(s stream[T], take func(from int, piece []T)) {
				for from := 0; from < values; from += len(buffer) {
					piece := buffer[:min(len(buffer), values-from)]
					s.Read(piece)
					take(from, piece)
				}
			}
			for {
				mu.Lock()
				i, own := next, stream[T](nil)
				next++
				if i < n {
					if values > len(buffer) {
						own = draws.Copy()
					}
					each(draws, func(int, []T) {})
				}
				mu.Unlock()
				if i >= n {
					return
				}
				do(i, func(take func(from int, piece []T)) {
					if own == nil {
						take(0, buffer)
						return
					}
					each(own, take)
				})
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
