package eval

import (
	"hash/fnv"
	"slices"

	"github.com/t5ctl/t5ctl/eval/pytext"
	"github.com/t5ctl/t5ctl/eval/qa"
)

// grouped is a metric over groups of rows, which their column group names: the statistics of a row are
// its value and its group.
func grouped(label string, value func(*Sample) float64, of func(values []float64) float64) *Metric {
	return &Metric{
		Label: label, HigherIsBetter: true, columns: []string{"value", "group"}, signature: own(field("by", "group")),
		counter: func(*worker) func([]float64, *Sample) bool {
			return func(dst []float64, s *Sample) bool {
				dst[0], dst[1] = value(s), groupNumber(s.Group)
				return s.Group != ""
			}
		},
		whole: func(rows [][]float64) float64 {
			at := map[float64]int{}
			var groups [][]float64
			for _, r := range rows {
				i, ok := at[r[1]]
				if !ok {
					i = len(groups)
					at[r[1]] = i
					groups = append(groups, nil)
				}
				groups[i] = append(groups[i], r[0])
			}
			each := make([]float64, len(groups))
			for i, g := range groups {
				each[i] = of(g)
			}
			return qa.Mean(each)
		},
	}
}

// groupNumber stands for a group's name; it has 52 bits, which a float64 keeps.
func groupNumber(name string) float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // a hash takes everything
	return float64(h.Sum64() >> 12)
}

// newGroupMatch is the share of groups all of whose rows are right: MultiRC's exact match.
func newGroupMatch(*options) *Metric {
	return grouped("groups all right", func(s *Sample) float64 {
		return truth(slices.ContainsFunc(s.References, func(r string) bool { return pytext.Trim(r) == pytext.Trim(s.Output) }))
	}, slices.Min)
}

// newReCoRD is SQuAD's exact match or F1 of the first row of each group, as T5 scores ReCoRD.
func newReCoRD(exact bool) maker {
	return func(*options) *Metric {
		label := map[bool]string{true: "ReCoRD exact match", false: "ReCoRD F1"}[exact]
		return grouped(label, func(s *Sample) float64 {
			em, f1 := qa.Best(qa.Squad, s.Output, s.References)
			if exact {
				return truth(em)
			}
			return f1
		}, func(values []float64) float64 { return values[0] })
	}
}
