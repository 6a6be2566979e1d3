package significance_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/eval/bleu"
	"github.com/t5ctl/t5ctl/eval/chrf"
	"github.com/t5ctl/t5ctl/eval/evaltest"
	"github.com/t5ctl/t5ctl/eval/numpy"
	"github.com/t5ctl/t5ctl/eval/significance"
	"github.com/t5ctl/t5ctl/eval/ter"
)

type figure struct {
	Score  float64
	PValue *float64 `json:"p_value"`
	Mean   *float64
	CI     *float64
}

type line struct {
	ID      string
	Seed    uint64
	Systems [][]string
	Refs    [][]*string
	Metrics map[string]evaltest.Options
	CI      []struct {
		Metric          string
		N               int
		Score, Mean, CI float64
		First           []float64 `json:"first_scores"`
	}
	Paired []struct {
		Test       string
		N          int
		Confidence int `json:"ar_confidence_n"`
		Results    map[string][]figure
	}
}

// statistics counts the statistics of every system.
func statistics(t *testing.T, l line, name string) (string, significance.Metric, []*significance.Stats) {
	t.Helper()
	o := l.Metrics[name]
	var m significance.Metric
	var label string
	var count func(dst []float64, hyp string, refs []string)
	width := 0
	switch name, _, _ := strings.Cut(name, "#"); name {
	case "bleu":
		b, err := bleu.New(bleu.Options{Tokenize: o.Tokenize, Lowercase: o.Lowercase, Smooth: o.SmoothMethod, SmoothValue: o.SmoothValue})
		if err != nil {
			t.Fatal(err)
		}
		label, width, count = "BLEU", len(b.Columns()), b.NewCounter().Count
		m = significance.Metric{Score: func(s []float64) float64 { return b.Score(s).Score }, Score32: b.Score32}
	case "chrf":
		opts := chrf.Default()
		opts.WordOrder = o.WordOrder
		c, err := chrf.New(opts)
		if err != nil {
			t.Fatal(err)
		}
		label, width, count = c.Label(), c.Width(), c.NewCounter().Count
		m = significance.Metric{Score: c.Score, Score32: func(s []float32) float64 { return float64(c.Score32(s)) }, Single: true}
	default:
		c := ter.New(ter.Options{})
		label, width, count = "TER", len(c.Columns()), c.NewCounter().Count
		m = significance.Metric{Score: c.Score, Score32: func(s []float32) float64 { return float64(c.Score32(s)) }, Single: true}
	}
	var all []*significance.Stats
	corpus := evaltest.Corpus{Refs: l.Refs}
	for _, hyps := range l.Systems {
		stats := significance.NewStats(width)
		row := make([]float64, width)
		for i, h := range hyps {
			count(row, h, corpus.Segment(i))
			stats.Append(row)
		}
		all = append(all, stats)
	}
	return label, m, all
}

// The figures are sacreBLEU 2.6.0's with numpy 2.4.6: p-values exactly, means and intervals within
// 1e-12.
func TestVectorsSignificance(t *testing.T) {
	n := evaltest.Count{File: "significance.jsonl"}
	bits := 0
	evaltest.JSON(t, "metrics", "significance.jsonl", func(l line) {
		for name := range l.Metrics {
			label, m, stats := statistics(t, l, name)
			for _, want := range l.CI {
				if want.Metric != name {
					continue
				}
				scores, mean, ci := significance.Interval(m, stats[0], want.N, l.Seed)
				ok := evaltest.Near(mean, want.Mean, 1e-12) && evaltest.Near(ci, want.CI, 1e-12)
				for i, f := range want.First {
					ok = ok && evaltest.Near(scores[i], f, 1e-12)
				}
				n.Check(t, ok, "%s %s: mean %v ± %v; want %v ± %v", l.ID, name, mean, ci, want.Mean, want.CI)
			}
			for _, p := range l.Paired {
				var got []significance.Result
				if p.Test == "bs" {
					got = significance.Bootstrap(m, stats[0], stats[1:], p.N, l.Seed)
				} else {
					got = significance.Randomization(m, stats[0], stats[1:], p.N, p.Confidence, l.Seed)
				}
				for i, want := range p.Results[label] {
					ok := evaltest.Near(got[i].Score, want.Score, 1e-12) && equal(got[i].P, want.PValue, 0) &&
						equal(got[i].Mean, want.Mean, 1e-12) && equal(got[i].CI, want.CI, 1e-12)
					n.Check(t, ok, "%s %s %s system %d: %+v; want %+v", l.ID, p.Test, label, i, got[i], want)
					if ok && !equal(got[i].Mean, want.Mean, 0) {
						bits++
					}
				}
			}
		}
	})
	n.Done(t)
	t.Logf("means that differ in a bit: %d", bits)
}

func equal(got, want *float64, rel float64) bool {
	if got == nil || want == nil {
		return got == nil && want == nil
	}
	return evaltest.Near(*got, *want, rel)
}

// Rows beyond what is drawn at a time, and beyond what lies in memory, give what drawing all at once gives.
func TestManyRows(t *testing.T) {
	const n, samples, seed = 150_001, 5, 7
	x, y := significance.NewStats(2), significance.NewStats(2)
	var a, b [][2]float64
	for i := range n {
		p, q := [2]float64{float64(i % 7), 1}, [2]float64{float64(i * 5 % 7), 1}
		a, b = append(a, p), append(b, q)
		x.Append(p[:])
		y.Append(q[:])
	}
	if err := errors.Join(x.Settle(), y.Settle()); err != nil {
		t.Fatal(err)
	}
	m := significance.Metric{
		Score:   func(s []float64) float64 { return s[0] / s[1] },
		Score32: func(s []float32) float64 { return float64(s[0]) / float64(s[1]) },
	}
	got := significance.Bootstrap(m, x, []*significance.Stats{y}, samples, seed)[1]
	rng, drawn := numpy.NewPCG64(seed), make([]int32, n)
	for i := range samples {
		rng.Choice(drawn, n)
		var sums [2]float32
		for _, r := range drawn {
			sums[0], sums[1] = sums[0]+float32(a[r][0]), sums[1]+float32(b[r][0])
		}
		if want := float64(sums[1])/n - float64(sums[0])/n; got.Deltas[i] != want {
			t.Errorf("resample %d differs by %v, want %v", i, got.Deltas[i], want)
		}
	}
	const trials = 20
	real := math.Abs(m.Score([]float64{sum(b), n}) - m.Score([]float64{sum(a), n}))
	rng, beyond := numpy.NewPCG64(seed), 1
	bools, mask := rng.Bools(), make([]bool, n)
	for range trials {
		bools.Read(mask)
		one, two := 0.0, 0.0
		for i, base := range mask {
			p, q := a[i][0], b[i][0]
			if !base {
				p, q = q, p
			}
			one, two = one+p, two+q
		}
		if math.Abs(one/n-two/n) > real {
			beyond++
		}
	}
	random := significance.Randomization(m, x, []*significance.Stats{y}, trials, 0, seed)[1]
	if want := float64(beyond) / (trials + 1); *random.P != want {
		t.Errorf("randomization: p = %v, want %v", *random.P, want)
	}
	if err := errors.Join(x.Close(), y.Close()); err != nil {
		t.Error(err)
	}
}

func sum(rows [][2]float64) (total float64) {
	for _, r := range rows {
		total += r[0]
	}
	return total
}
