package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// NoReferenceError says that a row has no answer to compare with.
type NoReferenceError struct{ ID string }

func (e *NoReferenceError) Error() string {
	return fmt.Sprintf("row %s has no reference", e.ID)
}

// table collects the statistics of rows for a list of metrics. Rows are scored side by side and
// added up in their own order, so that sums have the same bits for any number of processors.
type table struct {
	metrics []*Metric
	offsets []int
	width   int
	keep    bool // rows are kept: for intervals and for metrics that need them all

	rows    int
	stats   []float64 // kept rows, one after the other
	sums    []float64
	scored  []int  // by metric: rows that it could score
	unknown []bool // by metric: some row it could not
	refs    int    // references of each row, -1: they differ
	workers []*tableWorker
}

// tableWorker is what one goroutine scores with.
type tableWorker struct {
	count []func([]float64, *Sample) bool
}

func newTable(metrics []*Metric, keep bool) *table {
	t := &table{metrics: metrics, keep: keep, scored: make([]int, len(metrics)), unknown: make([]bool, len(metrics))}
	for _, m := range metrics {
		t.offsets = append(t.offsets, t.width)
		t.width += len(m.columns)
		t.keep = t.keep || m.whole != nil
	}
	t.sums = make([]float64, t.width)
	return t
}

// add scores rows and appends them. The statistics it returns, one row after the other, are valid
// until the next call.
func (t *table) add(ctx context.Context, samples []Sample) ([]float64, error) {
	for i := range samples {
		n := len(samples[i].References)
		if n == 0 {
			return nil, &NoReferenceError{samples[i].ID}
		}
		if t.rows+i == 0 {
			t.refs = n
		} else if n != t.refs {
			t.refs = -1
		}
	}
	start := len(t.stats)
	if !t.keep {
		start = 0
	}
	t.stats = slices.Grow(t.stats[:start], len(samples)*t.width)[:start+len(samples)*t.width]
	rows := t.stats[start:]
	known := make([]bool, len(samples)*len(t.metrics))
	t.count(samples, rows, known)
	if err := t.runBatches(ctx, samples, rows, known); err != nil {
		return nil, err
	}
	for i := range samples {
		t.addRow(rows[i*t.width:(i+1)*t.width], known[i*len(t.metrics):(i+1)*len(t.metrics)])
	}
	t.rows += len(samples)
	return rows, nil
}

func (t *table) addRow(row []float64, known []bool) {
	for k, v := range row {
		t.sums[k] += v
	}
	for m, ok := range known {
		if ok {
			t.scored[m]++
		} else {
			t.unknown[m] = true
		}
	}
}

// runBatches asks the metrics that score many rows at once.
func (t *table) runBatches(ctx context.Context, samples []Sample, rows []float64, known []bool) error {
	for m, metric := range t.metrics {
		if metric.batch == nil {
			continue
		}
		values, err := metric.batch(ctx, samples)
		if err != nil {
			return err
		}
		for i, v := range values {
			if v == nil {
				known[i*len(t.metrics)+m] = false
				continue
			}
			rows[i*t.width+t.offsets[m]] = *v
		}
	}
	return nil
}

// count fills rows, a few at a time to whichever worker is free.
func (t *table) count(samples []Sample, rows []float64, known []bool) {
	const grain = 32
	n := min(runtime.GOMAXPROCS(0), (len(samples)+grain-1)/grain)
	for len(t.workers) < n {
		w := newWorker()
		tw := &tableWorker{}
		for _, m := range t.metrics {
			tw.count = append(tw.count, m.counter(w))
		}
		t.workers = append(t.workers, tw)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for _, w := range t.workers[:n] {
		wg.Go(func() {
			for {
				from := int(next.Add(grain)) - grain
				if from >= len(samples) {
					return
				}
				for i := from; i < min(from+grain, len(samples)); i++ {
					for m, count := range w.count {
						at := i*t.width + t.offsets[m]
						known[i*len(t.metrics)+m] = count(rows[at:at+len(t.metrics[m].columns)], &samples[i])
					}
				}
			}
		})
	}
	wg.Wait()
}

// columns are the places of a metric in a row.
func (t *table) columns(m int) (from, to int) {
	return t.offsets[m], t.offsets[m] + len(t.metrics[m].columns)
}

// score is the score of metric m over the given rows; nil means all.
func (t *table) score(m int, pick []int32) float64 {
	metric := t.metrics[m]
	from, to := t.columns(m)
	n := len(pick)
	if pick == nil {
		n = t.rows
	}
	if n == 0 || t.unknown[m] {
		return math.NaN()
	}
	if metric.whole != nil {
		return metric.whole(t.rowsOf(from, to, pick))
	}
	return metric.score(t.sum(m, pick), n)
}

// sum adds up the statistics of metric m over the given rows; nil means all.
func (t *table) sum(m int, pick []int32) []float64 {
	from, to := t.columns(m)
	if pick == nil {
		return t.sums[from:to]
	}
	sum := make([]float64, to-from)
	for _, r := range pick {
		for k, v := range t.stats[int(r)*t.width+from : int(r)*t.width+to] {
			sum[k] += v
		}
	}
	return sum
}

func (t *table) rowsOf(from, to int, pick []int32) [][]float64 {
	var out [][]float64
	if pick == nil {
		for r := range t.rows {
			out = append(out, t.stats[r*t.width+from:r*t.width+to])
		}
		return out
	}
	for _, r := range pick {
		out = append(out, t.stats[int(r)*t.width+from:int(r)*t.width+to])
	}
	return out
}

// Bootstrap says how confidence intervals are made: by drawing rows with replacement.
type Bootstrap struct {
	Samples    int     `yaml:"samples" json:"samples"`       // resamples; 0: no intervals
	Seed       uint64  `yaml:"seed" json:"seed"`             // of the random stream
	Confidence float64 `yaml:"confidence" json:"confidence"` // share of resamples inside the interval; 0 is 0.95
	// Compat makes intervals as another tool does where it has its own way: sacrebleu (mean and
	// interval of BLEU, chrF and TER) or rouge-score (ROUGE is the median of resampled means).
	Compat string `yaml:"compat,omitempty" json:"compat,omitempty"`
}

// DefaultBootstrap is 1,000 resamples for 95 % intervals.
func DefaultBootstrap() Bootstrap { return Bootstrap{Samples: 1000, Seed: 12345, Confidence: 0.95} }

// Validate says what is wrong with the settings.
func (b Bootstrap) Validate() error {
	switch {
	case b.Samples < 0 || b.Samples > 1_000_000:
		return fmt.Errorf("bootstrap.samples %d is not between 0 and 1000000", b.Samples)
	case b.Samples > 0 && (b.Confidence < 0 || b.Confidence >= 1 || math.IsNaN(b.Confidence)):
		return fmt.Errorf("bootstrap.confidence %v is not between 0 and 1", b.Confidence)
	case b.Compat != "" && !slices.Contains(Compats(), b.Compat):
		return fmt.Errorf("bootstrap.compat %q is none of %s", b.Compat, strings.Join(Compats(), ", "))
	case b.Compat != "" && b.Samples == 0:
		return errors.New("bootstrap.compat needs bootstrap.samples")
	case b.Compat == CompatROUGE && b.Seed > math.MaxUint32:
		return fmt.Errorf("bootstrap.seed %d: rouge-score's seeds have 32 bits", b.Seed)
	case b.Compat == CompatSacreBLEU && b.Confidence != 0 && b.Confidence != 0.95:
		return fmt.Errorf("bootstrap.confidence %v: sacrebleu's intervals are those of 0.95", b.Confidence)
	}
	return nil
}

// intervals gives every metric its percentile interval over the given rows (nil: all). All metrics
// see the same resamples. Each resample has a random stream of its own, so that the result does not
// depend on how they are shared out.
func (t *table) intervals(ctx context.Context, b Bootstrap, pick []int32) ([][2]float64, error) {
	n := len(pick)
	if pick == nil {
		n = t.rows
	}
	out := make([][2]float64, len(t.metrics))
	for m := range out {
		out[m] = [2]float64{math.NaN(), math.NaN()}
	}
	if n == 0 || b.Samples == 0 {
		return out, nil
	}
	scores := make([][]float64, len(t.metrics))
	for m := range scores {
		scores[m] = make([]float64, b.Samples)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), b.Samples) {
		wg.Go(func() {
			r := resampler{t: t, pick: pick, n: n, sum: make([]float64, t.width), drawn: make([]int32, n)}
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= b.Samples {
					return
				}
				r.draw(b.Seed, i, scores)
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for m, s := range scores {
		out[m] = interval(s, b.Confidence)
	}
	return out, nil
}

// resampler is one goroutine's share of the bootstrap.
type resampler struct {
	t     *table
	pick  []int32
	n     int
	sum   []float64
	drawn []int32
}

func (r *resampler) draw(seed uint64, i int, scores [][]float64) {
	t := r.t
	rng := rand.New(rand.NewPCG(seed, uint64(i)))
	clear(r.sum)
	for k := range r.drawn {
		row := int32(rng.IntN(r.n))
		if r.pick != nil {
			row = r.pick[row]
		}
		r.drawn[k] = row
		stats := t.stats[int(row)*t.width : int(row)*t.width+t.width]
		sum := r.sum[:len(stats)]
		for c, v := range stats {
			sum[c] += v
		}
	}
	for m, metric := range t.metrics {
		from, to := t.columns(m)
		switch {
		case t.unknown[m]:
			scores[m][i] = math.NaN()
		case metric.whole != nil:
			scores[m][i] = metric.whole(t.rowsOf(from, to, r.drawn))
		default:
			scores[m][i] = metric.score(r.sum[from:to], r.n)
		}
	}
}

// interval is the range that holds the middle share of the scores; a score that is not a number
// makes it undefined.
func interval(scores []float64, confidence float64) [2]float64 {
	if slices.ContainsFunc(scores, math.IsNaN) {
		return [2]float64{math.NaN(), math.NaN()}
	}
	sorted := slices.Sorted(slices.Values(scores))
	out := int(float64(len(sorted)) * (1 - confidence) / 2)
	return [2]float64{sorted[out], sorted[len(sorted)-1-out]}
}
