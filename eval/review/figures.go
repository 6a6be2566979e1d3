package review

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/t5ctl/t5ctl/eval"
)

// Scale says what ratings are, which decides how far apart two of them are.
type Scale string

// Scales of Krippendorff's alpha.
const (
	Nominal  Scale = "nominal"  // equal or not
	Interval Scale = "interval" // the square of the distance
)

// Scales lists them.
func Scales() []string { return []string{string(Nominal), string(Interval)} }

func (s Scale) distance(a, b float64) float64 {
	if s == Nominal {
		if a == b {
			return 0
		}
		return 1
	}
	return float64((a - b) * (a - b))
}

// Alpha is Krippendorff's alpha: 1 is full agreement of raters, 0 what chance would give. It is not a
// number where no item has two ratings, or all ratings are equal.
func Alpha(raters []map[string]float64, scale Scale) float64 {
	units := byItem(raters)
	var all []float64
	observed := 0.0
	for _, id := range slices.Sorted(maps.Keys(units)) {
		u := units[id]
		if len(u) < 2 {
			continue
		}
		all = append(all, u...)
		sum := 0.0
		for i, a := range u {
			for _, b := range u[i+1:] {
				sum += 2 * scale.distance(a, b)
			}
		}
		observed += sum / float64(len(u)-1)
	}
	expected := 0.0
	for i, a := range all {
		for _, b := range all[i+1:] {
			expected += 2 * scale.distance(a, b)
		}
	}
	if expected == 0 {
		return math.NaN()
	}
	return 1 - float64(len(all)-1)*observed/expected
}

func byItem(raters []map[string]float64) map[string][]float64 {
	out := map[string][]float64{}
	for _, r := range raters {
		for id, v := range r {
			out[id] = append(out[id], v)
		}
	}
	for _, u := range out {
		slices.Sort(u) // no order of raters reaches a sum
	}
	return out
}

// Report makes a report that gates read: review_quality is the mean over items of the mean rating, with
// its bootstrap interval, review_agreement is Krippendorff's alpha, where there are two raters or more.
func Report(raters []map[string]float64, scale Scale, model string, b eval.Bootstrap) eval.Report {
	units := byItem(raters)
	ids := slices.Sorted(maps.Keys(units))
	means := make([]float64, len(ids))
	sum := sha256.New()
	for i, id := range ids {
		total := 0.0
		for _, v := range units[id] {
			total += v
		}
		means[i] = total / float64(len(units[id]))
		_, _ = fmt.Fprintf(sum, "%q\n", id) // a hash takes everything
	}
	quality := eval.Result{Name: "review_quality", Label: "rating by people", Score: eval.Number(mean(means)), HigherIsBetter: true,
		Signature: fmt.Sprintf("raters:%d|agg:mean", len(raters)), N: len(ids), Verdict: eval.VerdictOK, CI: interval(means, b)}
	out := eval.Report{Schema: eval.ReportSchema, Kind: eval.KindEvaluation, Name: "review", Model: model, Bootstrap: &b,
		Data: eval.DataFacts{Fingerprint: "sha256:" + hex.EncodeToString(sum.Sum(nil)), N: len(ids)}, Metrics: []eval.Result{quality}}
	if len(raters) < 2 {
		return out
	}
	agreement := eval.Result{Name: "review_agreement", Label: "Krippendorff's alpha", Score: eval.Number(Alpha(raters, scale)), HigherIsBetter: true,
		Signature: fmt.Sprintf("raters:%d|scale:%s", len(raters), scale), N: len(ids), Verdict: eval.VerdictOK}
	if !agreement.Score.Defined() {
		agreement.Verdict, agreement.Note = eval.VerdictUndefined, "no item has two ratings, or all ratings are equal"
	}
	out.Metrics = append(out.Metrics, agreement)
	return out
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

// interval is the percentile interval of the mean over resampled items.
func interval(v []float64, b eval.Bootstrap) *[2]eval.Number {
	if b.Samples == 0 {
		return nil
	}
	scores := make([]float64, b.Samples)
	for i := range scores {
		rng := rand.New(rand.NewPCG(b.Seed, uint64(i)))
		sum := 0.0
		for range v {
			sum += v[rng.IntN(len(v))]
		}
		scores[i] = sum / float64(len(v))
	}
	slices.Sort(scores)
	out := int(float64(len(scores)) * (1 - b.Confidence) / 2)
	return &[2]eval.Number{eval.Number(scores[out]), eval.Number(scores[len(scores)-1-out])}
}
