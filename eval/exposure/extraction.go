package exposure

import (
	"math"
	"slices"
)

// Reproduced says how much of a true text an output gives back, in tokens. What the output has
// beyond the length of the text does not count against it.
type Reproduced struct {
	Exact          bool    `json:"exact"`
	Prefix         int     `json:"prefix_match"`   // tokens before the first difference
	Accuracy       float64 `json:"token_accuracy"` // share of places that hold the right token
	Edits          int     `json:"edit_distance"`
	EditSimilarity float64 `json:"edit_similarity"` // 1 - edits over the longer length
}

// Compare measures an output against the true tokens.
func Compare(truth, output []int32) Reproduced {
	output = output[:min(len(output), len(truth))]
	r := Reproduced{Exact: slices.Equal(truth, output)}
	for r.Prefix < len(output) && truth[r.Prefix] == output[r.Prefix] {
		r.Prefix++
	}
	same := 0
	for i := range output {
		if truth[i] == output[i] {
			same++
		}
	}
	if len(truth) > 0 {
		r.Accuracy = float64(same) / float64(len(truth))
	}
	r.Edits = edits(truth, output)
	r.EditSimilarity = 1 - float64(r.Edits)/float64(max(1, len(truth)))
	return r
}

// edits is Levenshtein's distance.
func edits(a, b []int32) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i, x := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j, y := range b {
			cost := diagonal
			if x != y {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// Difference is p1 - p2 with Newcombe's interval (1998, method 10): both shares' Wilson intervals
// joined.
func Difference(k1, n1, k2, n2 int, alpha float64) (d, lo, hi float64) {
	p1, p2 := float64(k1)/float64(n1), float64(k2)/float64(n2)
	l1, u1 := Wilson(k1, n1, alpha)
	l2, u2 := Wilson(k2, n2, alpha)
	d = p1 - p2
	return d, d - math.Hypot(p1-l1, u2-p2), d + math.Hypot(u1-p1, p2-l2)
}
