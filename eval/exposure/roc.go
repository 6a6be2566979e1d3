package exposure

import (
	"math"
	"slices"
	"sort"

	"gonum.org/v1/gonum/stat/distuv"
)

// ROC says how well a score tells members from non-members; a higher score means member. A row
// counts as a member where its score reaches the threshold; ties count half in the area.
type ROC struct {
	Members    int         `json:"members"`
	Nonmembers int         `json:"nonmembers"`
	AUC        float64     `json:"auc"`
	SE         float64     `json:"auc_se"` // DeLong's
	CI         [2]float64  `json:"auc_ci"` // 95 %, cut at 0 and 1
	Balanced   float64     `json:"balanced_accuracy"`
	Advantage  float64     `json:"advantage"` // largest TPR - FPR
	At         []Operating `json:"at"`
	Points     []Point     `json:"-"` // of the whole curve, from (0, 0) on
}

// Operating is the share of members found at a bounded share of false alarms, without interpolation.
type Operating struct {
	Limit      float64    `json:"fpr"`
	TPR        float64    `json:"tpr"`
	Reached    float64    `json:"fpr_reached"`
	Found      int        `json:"tp"`
	CI         [2]float64 `json:"tpr_ci"`     // Clopper–Pearson, 95 %
	Strict     float64    `json:"tpr_strict"` // where the false alarms must stay below the limit, not reach it
	Resolvable bool       `json:"resolvable"` // there are enough non-members for one false alarm to be within the limit
}

// Point is one threshold's.
type Point struct{ FPR, TPR float64 }

// Limits are the shares of false alarms that are reported.
func Limits() []float64 { return []float64{0.1, 0.01, 0.001} }

// NewROC judges the scores. There must be at least one of each.
func NewROC(members, nonmembers []float64) ROC {
	m, q := sortedCopy(members), sortedCopy(nonmembers)
	r := ROC{Members: len(m), Nonmembers: len(q)}
	r.area(m, q)
	tp, fp := r.sweep(m, q)
	at := func(limit float64, strict bool) int {
		return sort.Search(len(fp), func(i int) bool {
			share := float64(fp[i]) / float64(len(q))
			return share > limit || strict && share == limit
		}) - 1
	}
	for _, limit := range Limits() {
		i := at(limit, false)
		o := Operating{Limit: limit, TPR: r.Points[i].TPR, Reached: r.Points[i].FPR, Found: tp[i],
			Strict: r.Points[at(limit, true)].TPR, Resolvable: limit*float64(len(q)) >= 1}
		o.CI[0], o.CI[1] = ClopperPearson(o.Found, len(m), 0.05)
		r.At = append(r.At, o)
	}
	return r
}

// sweep lowers the threshold over every score.
func (r *ROC) sweep(m, q []float64) (tp, fp []int) {
	tp, fp = []int{0}, []int{0}
	r.Points = []Point{{}}
	for i, j := len(m), len(q); i > 0 || j > 0; {
		threshold := math.Inf(-1)
		if i > 0 {
			threshold = m[i-1]
		}
		if j > 0 {
			threshold = math.Max(threshold, q[j-1])
		}
		for i > 0 && m[i-1] >= threshold {
			i--
		}
		for j > 0 && q[j-1] >= threshold {
			j--
		}
		tp, fp = append(tp, len(m)-i), append(fp, len(q)-j)
		p := Point{float64(len(q)-j) / float64(len(q)), float64(len(m)-i) / float64(len(m))}
		r.Points = append(r.Points, p)
		r.Balanced = math.Max(r.Balanced, (p.TPR+1-p.FPR)/2)
		r.Advantage = math.Max(r.Advantage, p.TPR-p.FPR)
	}
	r.Balanced = math.Max(r.Balanced, 0.5)
	return tp, fp
}

// area is that under the curve, with the interval of DeLong, DeLong and Clarke-Pearson (1988).
func (r *ROC) area(m, q []float64) {
	over := placements(m, q) // of each member, the share of non-members below it
	under := placements(q, m)
	for i := range under {
		under[i] = 1 - under[i]
	}
	r.AUC = mean(over)
	r.SE = math.Sqrt(spread(over) + spread(under))
	z := distuv.UnitNormal.Quantile(0.975)
	r.CI = [2]float64{math.Max(0, r.AUC-z*r.SE), math.Min(1, r.AUC+z*r.SE)}
}

// placements gives, for each of x, the share of sorted others that lie below it, ties half.
func placements(x, others []float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		below, _ := slices.BinarySearch(others, v)
		to := sort.Search(len(others), func(k int) bool { return others[k] > v })
		out[i] = (float64(below) + 0.5*float64(to-below)) / float64(len(others))
	}
	return out
}

// spread is the variance of a mean; that of a single value is taken as 0.
func spread(x []float64) float64 {
	if len(x) < 2 {
		return 0
	}
	m, sum := mean(x), 0.0
	for _, v := range x {
		sum += (v - m) * (v - m)
	}
	return sum / float64(len(x)-1) / float64(len(x))
}

// EpsilonThreshold is a lower bound of a mechanism's ε from one threshold of an attack: the logarithm of
// (TPR's lower bound - δ) over FPR's upper bound, each at half of alpha.
func EpsilonThreshold(found, members, alarms, nonmembers int, delta, alpha float64) (epsilon, tprLow, fprHigh float64) {
	tprLow, _ = ClopperPearson(found, members, alpha)
	_, fprHigh = ClopperPearson(alarms, nonmembers, alpha)
	if tprLow > delta {
		epsilon = math.Max(0, math.Log((tprLow-delta)/fprHigh))
	}
	return epsilon, tprLow, fprHigh
}

// EpsilonOneRun is a lower bound of ε from one training run in which each row was a member by the toss
// of a coin (Steinke, Nasr and Jagielski 2023, for δ = 0): the largest ε under which so many
// correct of all guesses have at most probability alpha.
func EpsilonOneRun(guesses, correct int, alpha float64) float64 {
	if correct == 0 {
		return 0
	}
	p := betaQuantile(alpha, float64(correct), float64(guesses-correct+1))
	if p <= 0.5 {
		return 0
	}
	return math.Log(p) - math.Log1p(-p)
}

// epsilonBest is the one-run bound of guessing the k rows of highest score as members and the k of lowest as
// non-members. k is fixed beforehand, so no choice among thresholds spoils the level.
func epsilonBest(members, nonmembers []float64, k int) (epsilon float64, guesses, correct int) {
	type row struct {
		score  float64
		member bool
	}
	rows := make([]row, 0, len(members)+len(nonmembers))
	for _, s := range members {
		rows = append(rows, row{s, true})
	}
	for _, s := range nonmembers {
		rows = append(rows, row{s, false})
	}
	sort.SliceStable(rows, func(i, j int) bool { // of equal scores, the wrong guess comes first
		a, b := rows[i], rows[j]
		return a.score > b.score || a.score == b.score && !a.member && b.member
	})
	for _, r := range rows[:k] {
		if r.member {
			correct++
		}
	}
	sort.SliceStable(rows, func(i, j int) bool {
		a, b := rows[i], rows[j]
		return a.score < b.score || a.score == b.score && a.member && !b.member
	})
	for _, r := range rows[:k] {
		if !r.member {
			correct++
		}
	}
	return EpsilonOneRun(2*k, correct, 0.05), 2 * k, correct
}
