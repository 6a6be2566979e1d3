package eval

import (
	"math"
	"slices"
	"strconv"

	"github.com/t5ctl/t5ctl/eval/fpmath"
	"github.com/t5ctl/t5ctl/eval/numpy"
)

// TargetScore is how likely a model finds a right answer after its source.
type TargetScore struct {
	LogProb float64 `json:"log_prob"` // natural logarithm, the end token included
	Tokens  int     `json:"tokens"`   // the end token included
}

// newLikelihood is a figure of the probability that the model gives to the first reference, teacher
// forced. Only a model can tell, not a scored file.
func newLikelihood(name, label string) maker {
	return func(*options) *Metric {
		return &Metric{
			Label: label, columns: []string{"log_prob", "tokens", "bytes"}, signature: own(field("ref", "first")), needsTargets: true,
			counter: func(*worker) func([]float64, *Sample) bool {
				return func(dst []float64, s *Sample) bool {
					if s.Target == nil {
						return false
					}
					dst[0], dst[1], dst[2] = s.Target.LogProb, float64(s.Target.Tokens), float64(len(s.References[0]))
					return true
				}
			},
			score: func(sum []float64, _ int) float64 {
				if name == "bits_per_byte" {
					return -sum[0] / float64(math.Ln2*sum[2])
				}
				return fpmath.Exp(-sum[0] / sum[1])
			},
		}
	}
}

// newLatency is a quantile of the time, in milliseconds, that the batch of a row took to decode: how
// long who asked for that row had to wait.
func newLatency(o *options) *Metric {
	q := 0.95
	if given := o.number("quantile"); given != nil {
		q = *given
	}
	if q < 0 || q > 1 {
		o.fail("quantile", strconv.FormatFloat(q, 'g', -1, 64), "must be from 0 to 1")
	}
	return &Metric{
		Label: "latency in ms", columns: []string{"seconds"}, timed: true,
		signature: own(field("quantile", strconv.FormatFloat(q, 'g', -1, 64))),
		counter: func(*worker) func([]float64, *Sample) bool {
			return func(dst []float64, s *Sample) bool {
				dst[0] = s.Seconds
				return s.Seconds > 0
			}
		},
		whole: func(rows [][]float64) float64 {
			return 1000 * numpy.Quantile(slices.Sorted(slices.Values(column(rows, 0))), q)
		},
	}
}

// newCost is what 1,000 rows cost on a machine that costs so much an hour, loading not included.
func newCost(o *options) *Metric {
	perHour := o.number("per_hour")
	if perHour == nil || *perHour < 0 {
		o.fail("per_hour", o.given["per_hour"], "must say what an hour of the machine costs")
		return &Metric{Label: "cost of 1,000 rows"}
	}
	m := simple("cost of 1,000 rows", false, own(field("per_hour", strconv.FormatFloat(*perHour, 'g', -1, 64))),
		func(sum []float64, n int) float64 { return sum[0] / float64(n) * 1000 / 3600 * *perHour },
		func(s *Sample) (float64, bool) { return s.Share, s.Share > 0 })
	m.columns, m.timed = []string{"seconds"}, true
	return m
}
