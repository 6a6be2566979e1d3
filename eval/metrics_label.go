package eval

import (
	"math"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/eval/labels"
	"github.com/t5ctl/t5ctl/eval/pytext"
	"github.com/t5ctl/t5ctl/eval/qa"
)

// newQA is exact match or F1 of tokens after normalization, against the best answer.
func newQA(label string, best func(prediction string, targets []string) (exact bool, f1 float64), exact bool) maker {
	return func(*options) *Metric {
		m := simple(label, true, own(field("ref", "best")), mean100, func(s *Sample) (float64, bool) {
			em, f1 := best(s.Output, s.References)
			if exact {
				return truth(em), true
			}
			return f1, true
		})
		m.whole = func(rows [][]float64) float64 { return qa.Mean(column(rows, 0)) }
		return m
	}
}

func column(rows [][]float64, k int) []float64 {
	out := make([]float64, len(rows))
	for i, r := range rows {
		out[i] = r[k]
	}
	return out
}

// newAccuracy is the share of outputs that are the label; white space around both does not count. With
// the option labels a target that is none of them is a mistake.
func newAccuracy(o *options) *Metric {
	if o.given["labels"] != "" {
		return ofLabels(o, "accuracy", func(_ int, t, p []int) float64 { return labels.Accuracy(t, p) })
	}
	o.take("labels")
	return simple("accuracy", true, own(field("strip", "yes")), mean100, func(s *Sample) (float64, bool) {
		return truth(slices.ContainsFunc(s.References, func(r string) bool { return pytext.Trim(r) == pytext.Trim(s.Output) })), true
	})
}

// ofLabels is a metric over numbered labels, which the option labels names, as in labels=no|yes. What
// is none of them is -1. The statistics of a row are its target and its prediction.
func ofLabels(o *options, label string, score func(known int, targets, predictions []int) float64) *Metric {
	given := o.text("labels", "")
	names := strings.Split(given, "|")
	if given == "" || len(names) < 2 {
		o.fail("labels", given, "must name at least two labels, as in labels=no|yes")
	}
	number := func(text string) float64 { return float64(slices.Index(names, pytext.Trim(text))) }
	return &Metric{
		Label: label, HigherIsBetter: true, columns: []string{"target", "prediction"}, signature: own(field("labels", strings.Join(names, "/"))),
		counter: func(*worker) func([]float64, *Sample) bool {
			return func(dst []float64, s *Sample) bool {
				dst[0], dst[1] = number(s.References[0]), number(s.Output)
				return dst[0] >= 0 // a target that is no label is a mistake in the data or the option
			}
		},
		whole: func(rows [][]float64) float64 {
			t, p := make([]int, len(rows)), make([]int, len(rows))
			for i, r := range rows {
				t[i], p[i] = int(r[0]), int(r[1])
			}
			return 100 * score(len(names), t, p)
		},
	}
}

func newMCC(o *options) *Metric {
	return ofLabels(o, "Matthews correlation", func(_ int, t, p []int) float64 { return labels.MCC(t, p) })
}

// newLabelScore is precision, recall or F1: of the label that the option label names, of the second of
// two where it names none, or averaged over all of them.
func newLabelScore(average, part string) maker {
	return func(o *options) *Metric {
		label := ""
		if average == "" {
			label = o.text("label", "")
		}
		name := strings.TrimSpace(average + " " + map[string]string{"f1": "F1", "precision": "precision", "recall": "recall"}[part])
		of := slices.Index(strings.Split(o.given["labels"], "|"), label)
		if label != "" && of < 0 {
			o.fail("label", label, "is none of labels")
		}
		m := ofLabels(o, name, func(known int, t, p []int) float64 {
			all := make([]int, known)
			for i := range all {
				all[i] = i
			}
			var s labels.Scores
			switch {
			case average == "macro":
				s = labels.Macro(t, p, all)
			case average == "micro":
				s = labels.Micro(t, p, all)
			case average == "weighted":
				s = labels.Weighted(t, p, all)
			case label != "":
				s = labels.PerLabel(t, p, []int{of})[0]
			case known != 2:
				return math.NaN() // it is not defined which label counts
			case part == "f1":
				return labels.BinaryF1(t, p)
			default:
				s = labels.PerLabel(t, p, []int{1})[0]
			}
			return map[string]float64{"f1": s.F1, "precision": s.Precision, "recall": s.Recall}[part]
		})
		if label != "" {
			m.Label = name + " of " + label
			m.signature = own(field("labels", strings.ReplaceAll(o.given["labels"], "|", "/")), field("label", label))
		}
		return m
	}
}

// newBalancedAccuracy is the mean recall over the labels.
func newBalancedAccuracy(o *options) *Metric {
	return ofLabels(o, "balanced accuracy", func(_ int, t, p []int) float64 { return labels.BalancedAccuracy(t, p) })
}

// newCorrelation is that of numbers; an output that is none counts as -1, as in T5's evaluation.
func newCorrelation(label string, of func(x, y []float64) float64) maker {
	return func(*options) *Metric {
		return &Metric{
			Label: label, HigherIsBetter: true, columns: []string{"target", "prediction"}, signature: own(field("default", "-1")),
			counter: func(*worker) func([]float64, *Sample) bool {
				return func(dst []float64, s *Sample) bool {
					t, ok := labels.ParseFloat(s.References[0])
					dst[0] = t
					p, number := labels.ParseFloat(s.Output)
					if !number || math.IsNaN(p) || math.IsInf(p, 0) {
						p = -1
					}
					dst[1] = p
					return ok && !math.IsNaN(t) && !math.IsInf(t, 0)
				}
			},
			whole: func(rows [][]float64) float64 { return 100 * of(column(rows, 0), column(rows, 1)) },
		}
	}
}
