package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/curves"
	"github.com/t5ctl/t5ctl/internal/model"
)

// tradeOff is one way of decoding, with what it gives and what it costs.
type tradeOff struct {
	Precision string  `json:"precision"`
	Beams     int     `json:"beams"`
	Batch     int     `json:"batch"`
	Quality   float64 `json:"quality"`
	Rows      float64 `json:"rows_per_second"`
	Tokens    float64 `json:"tokens_per_second"`
	P50       float64 `json:"p50_seconds"` // of a batch
	P95       float64 `json:"p95_seconds"`
	Cost      float64 `json:"cost_per_1000_rows,omitempty"`
	Pareto    bool    `json:"pareto"` // none is at once as good and faster, or as fast and better
}

func (t tradeOff) name() string {
	return fmt.Sprintf("%s, %d × %d", t.Precision, t.Batch, t.Beams)
}

// tradeOffs is what bench decode --data shows.
type tradeOffs struct {
	Model   string     `json:"model"`
	Backend string     `json:"backend"`
	Data    string     `json:"data"`
	N       int        `json:"n"`
	Metric  string     `json:"metric"`
	Higher  bool       `json:"higher_is_better"`
	Points  []tradeOff `json:"points"`
	Picture string     `json:"picture,omitempty"`
}

// runTradeOffs decodes the rows of a file in every way that is asked for.
func runTradeOffs(ctx context.Context, app *App, opts benchOptions) error {
	pairs, err := opts.pairs()
	if err != nil {
		return err
	}
	backend, err := app.decodingBackend()
	if err != nil {
		return err
	}
	defer backend.Finalize()
	resolved, err := resolveModel(ctx, app, opts.model)
	if err != nil {
		return err
	}
	result := tradeOffs{Model: opts.model, Data: opts.data, N: len(pairs), Metric: opts.metric}
	ways := len(opts.precisions()) * len(opts.beams) * len(opts.batches)
	progress := app.Term.Progress("measuring", int64(ways), "ways")
	defer progress.Done()
	for _, precision := range opts.precisions() {
		m, err := model.Open(backend, resolved.Dir, model.Options{Adapter: resolved.Adapter, Precision: precision})
		if err != nil {
			return err
		}
		for _, beams := range opts.beams {
			for _, batch := range opts.batches {
				point := tradeOff{Precision: precision, Beams: beams, Batch: batch}
				if err = opts.measure(ctx, m, pairs, &point, &result); err != nil {
					break
				}
				result.Points = append(result.Points, point)
				progress.Add(1)
			}
		}
		m.Close()
		if err != nil {
			return err
		}
	}
	result.Backend = backend.Describe()
	markFront(result.Points, result.Higher)
	if opts.png != "" {
		if err := atomicfile.Write(opts.png, result.draw); err != nil {
			return err
		}
		result.Picture = opts.png
	}
	return app.show(result, result.show)
}

func (o *benchOptions) pairs() ([]eval.Pair, error) {
	var pairs []eval.Pair
	for example, err := range datasets.Read(o.data, datasets.ReadOptions{}) {
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, eval.Pair{ID: example.ID, Input: example.Input, Target: example.Target, References: example.References})
		if len(pairs) == o.limit {
			break
		}
	}
	return pairs, nil
}

// measure decodes all pairs in one way, after a batch that does not count for each shape that it
// compiles, and scores what comes out.
func (o *benchOptions) measure(ctx context.Context, m *model.Model, pairs []eval.Pair, point *tradeOff, result *tradeOffs) error {
	m.Generation.Beams, m.Generation.BatchRows, m.Generation.NumReturnSequences = point.Beams, point.Batch, 1
	m.Generation.Sample, m.Generation.MaxNewTokens = false, o.outputs
	var outputs []string
	var seconds []float64
	tokens := 0
	for pass := range 2 { // the first one compiles
		outputs, seconds, tokens = nil, nil, 0
		for chunk := range slices.Chunk(pairs, point.Batch) {
			rows := make([]model.Row, len(chunk))
			for i, p := range chunk {
				rows[i] = model.Row{Text: p.Input}
			}
			start := time.Now()
			found, err := m.GenerateRows(ctx, rows, model.Rows{Prefix: m.Prefix, Long: model.Truncate})
			if err != nil {
				return err
			}
			seconds = append(seconds, time.Since(start).Seconds())
			for _, r := range found {
				if r.Err != nil {
					return r.Err
				}
				outputs, tokens = append(outputs, r.Outputs[0].Text), tokens+r.Tokens
			}
		}
		if pass == 0 && o.warmup == 0 {
			break
		}
	}
	total := 0.0
	for _, s := range seconds {
		total += s
	}
	slices.Sort(seconds)
	point.P50, point.P95 = rank(seconds, 0.5), rank(seconds, 0.95)
	point.Rows, point.Tokens = float64(len(pairs))/total, float64(tokens)/total
	point.Cost = total / float64(len(pairs)) * 1000 / 3600 * o.pricePerHour
	report, err := eval.Run(ctx, &told{outputs}, func(yield func(eval.Pair, error) bool) {
		for _, p := range pairs {
			if !yield(p, nil) {
				return
			}
		}
	}, eval.Suite{Name: "bench", Metrics: []string{o.metric}})
	if err != nil {
		return usageError{err}
	}
	point.Quality, result.Higher = float64(report.Metrics[0].Score), report.Metrics[0].HigherIsBetter
	return nil
}

// rank is the value of sorted ones that a share of them does not exceed.
func rank(sorted []float64, share float64) float64 {
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

// told predicts what it was told, in order.
type told struct{ outputs []string }

func (t *told) Predict(_ context.Context, sources []string) ([]string, error) {
	if len(sources) > len(t.outputs) {
		return nil, errors.New("more rows are scored than were decoded")
	}
	out := t.outputs[:len(sources)]
	t.outputs = t.outputs[len(sources):]
	return out, nil
}

// markFront marks the points that no other one beats in speed or quality without losing in the
// other.
func markFront(points []tradeOff, higher bool) {
	better := func(a, b float64) bool { return higher && a > b || !higher && a < b }
	for i := range points {
		p := &points[i]
		p.Pareto = !slices.ContainsFunc(points, func(q tradeOff) bool {
			return q.Rows > p.Rows && !better(p.Quality, q.Quality) || q.Rows == p.Rows && better(q.Quality, p.Quality)
		})
	}
}

func (r tradeOffs) draw(w io.Writer) error {
	points := slices.SortedFunc(slices.Values(r.Points), func(a, b tradeOff) int { return cmp.Compare(a.Rows, b.Rows) })
	marks := make([]curves.Mark, len(points))
	for i, p := range points {
		marks[i] = curves.Mark{X: p.Rows, Y: p.Quality, Name: p.name(), Stand: p.Pareto}
	}
	return curves.Scatter(w, "quality and speed of decoding: precision, batch × beams", "rows/s", r.Metric, marks)
}

func (r tradeOffs) show(t *term.Terminal) {
	t.Printf("%d rows of %s on %s\n", r.N, r.Data, r.Backend)
	name, _, _ := strings.Cut(r.Metric, ":")
	table := term.Table{Header: []string{"PRECISION", "BEAMS", "BATCH", strings.ToUpper(name), "ROWS/S", "TOKENS/S", "P50 S", "P95 S", "COST/1000", "PARETO"}}
	for _, p := range r.Points {
		mark, cost := "", "-"
		if p.Pareto {
			mark = "*"
		}
		if p.Cost > 0 {
			cost = fmt.Sprintf("%.4f", p.Cost)
		}
		table.Add(p.Precision, fmt.Sprint(p.Beams), fmt.Sprint(p.Batch), fmt.Sprintf("%.4g", p.Quality), fmt.Sprintf("%.1f", p.Rows),
			fmt.Sprintf("%.0f", p.Tokens), fmt.Sprintf("%.3f", p.P50), fmt.Sprintf("%.3f", p.P95), cost, mark)
	}
	t.Table(table)
}
