package eval

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/t5ctl/t5ctl/eval/rouge"
	"github.com/t5ctl/t5ctl/eval/signature"
	"github.com/t5ctl/t5ctl/eval/significance"
)

// What Bootstrap.Compat takes.
const (
	CompatSacreBLEU = "sacrebleu"
	CompatROUGE     = "rouge-score"
)

// Compats lists the tools whose resampling can be had.
func Compats() []string { return []string{CompatSacreBLEU, CompatROUGE} }

// compat puts the other tool's figures in place of ours, for the metrics that it resamples.
func (t *taskRun) compat(b Bootstrap, pick []int32, results []Result) error {
	switch b.Compat {
	case CompatSacreBLEU:
		return t.compatSacreBLEU(b, pick, results)
	case CompatROUGE:
		t.compatROUGE(b, pick, results)
	}
	return nil
}

func (t *taskRun) compatSacreBLEU(b Bootstrap, pick []int32, results []Result) error {
	for m, metric := range t.table.metrics {
		r := &results[m]
		if metric.paired == nil || r.Verdict != VerdictOK {
			continue
		}
		from, to := t.table.columns(m)
		stats := significance.NewStats(to - from)
		for _, row := range t.table.rowsOf(from, to, pick) {
			stats.Append(row)
		}
		if err := stats.Settle(); err != nil {
			return err
		}
		_, mean, half := significance.Interval(metric.significance(r.N), stats, b.Samples, b.Seed)
		center := Number(mean)
		r.Mean, r.CI = &center, &[2]Number{Number(mean - half), Number(mean + half)}
		sig := metric.signature(t.table.refs)
		sig.Bootstrap, sig.Seed = b.Samples, strconv.FormatUint(b.Seed, 10)
		r.Signature, r.short = sig.String(), sig.Short()
		if err := stats.Close(); err != nil {
			return err
		}
	}
	return nil
}

// compatROUGE resamples the ROUGE types in the order given, all from one stream.
func (t *taskRun) compatROUGE(b Bootstrap, pick []int32, results []Result) {
	var types [][]rouge.Triple
	var of []int
	for m, metric := range t.table.metrics {
		if !metric.rouge || results[m].Verdict != VerdictOK {
			continue
		}
		from, to := t.table.columns(m)
		var scores []rouge.Triple
		for _, row := range t.table.rowsOf(from, to, pick) {
			scores = append(scores, rouge.Triple{F: row[0]}) // the other parts would see the same draws
		}
		types, of = append(types, scores), append(of, m)
	}
	for k, interval := range rouge.Aggregate(types, b.Samples, b.Confidence, uint32(b.Seed)) {
		r := &results[of[k]]
		r.Score = Number(interval.Mid.F * 100)
		r.CI = &[2]Number{Number(interval.Low.F * 100), Number(interval.High.F * 100)}
		sig := t.table.metrics[of[k]].signature(t.table.refs)
		sig.Bootstrap, sig.Seed = b.Samples, strconv.FormatUint(b.Seed, 10)
		for i, f := range sig.Fields {
			if f.Name == "agg" {
				sig.Fields[i] = field("agg", "mid")
			}
		}
		r.Signature, r.short = sig.String(), sig.Short()
	}
}

// Line is the result as sacreBLEU prints it, with the given number of decimals; short shortens the
// signature.
func (r Result) Line(decimals int, short bool) string {
	sig := r.Signature
	if short && r.short != "" {
		sig = r.short
	}
	name := r.Label
	if r.Slice != "" {
		name += " (" + r.Slice + ")"
	}
	if r.Verdict != VerdictOK {
		return name + "|" + sig + " is " + r.Verdict + ": " + r.Note
	}
	detail := r.Detail
	if r.Mean != nil {
		half := float64(r.CI[1]-r.CI[0]) / 2
		detail = strings.TrimSpace(fmt.Sprintf("(μ = %.*f ± %.*f) %s", decimals, float64(*r.Mean), decimals, half, detail))
	}
	return signature.Format(name, sig, decimals, float64(r.Score), detail)
}
