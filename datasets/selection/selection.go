// Package selection chooses the rows that are most worth labelling: those that a model is least sure
// of, and those on which models differ.
package selection

import (
	"cmp"
	"slices"
)

// Candidate is one row.
type Candidate struct {
	Input        string
	Uncertainty  float64 // mean surprise of the output's tokens in nats, of all models
	Disagreement float64 // share of the pairs of models whose outputs differ, 0 to 1
}

// Ways to choose.
const (
	ByUncertainty  = "uncertainty"
	ByDisagreement = "disagreement" // of equals, the less certain first
	ByBoth         = "both"         // the sum of the disagreement and of the rank by uncertainty, from 0 to 1
)

// Ways lists the ways to choose.
func Ways() []string { return []string{ByBoth, ByUncertainty, ByDisagreement} }

// Outputs says how far outputs of several models for one input differ.
func Outputs(texts []string) (disagreement float64) {
	pairs, differ := 0, 0
	for i, a := range texts {
		for _, b := range texts[i+1:] {
			pairs++
			if a != b {
				differ++
			}
		}
	}
	if pairs == 0 {
		return 0
	}
	return float64(differ) / float64(pairs)
}

// Choose gives the indices of at most n rows, the one most worth labelling first. Of rows with the
// same input only the first counts; of equals the first comes first.
func Choose(rows []Candidate, n int, by string) []int {
	var order []int
	seen := map[string]bool{}
	for i, r := range rows {
		if !seen[r.Input] {
			seen[r.Input] = true
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rows[b].Uncertainty, rows[a].Uncertainty) })
	if by != ByUncertainty {
		worth := map[int]float64{}
		for place, i := range order {
			worth[i] = rows[i].Disagreement
			if by == ByBoth {
				worth[i] += 1 - float64(place)/float64(len(order))
			}
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(worth[b], worth[a]) })
	}
	return order[:min(n, len(order))]
}
