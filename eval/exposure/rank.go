package exposure

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mathext"
	"gonum.org/v1/gonum/stat/distuv"
)

// Ranked is where a secret stands among alternatives that the model never saw.
type Ranked struct {
	AtMost   int        // alternatives that the model finds as likely or likelier; a tie counts against
	Likelier int        // alternatives that it finds likelier
	Rank     int        // 1 + AtMost
	Exposure float64    // log2 of the alternatives' number, less log2 Rank
	CI       [2]float64 // Clopper–Pearson interval of -log2 Pr[an alternative is as likely]; the upper end may be +Inf
	Capped   bool       // no alternative is as likely: the true exposure may be higher
}

// Rank ranks a log-perplexity among those of the alternatives; smaller is likelier.
func Rank(references []float64, secret float64) Ranked {
	var r Ranked
	for _, ref := range references {
		if ref < secret {
			r.Likelier++
		}
		if ref <= secret {
			r.AtMost++
		}
	}
	n := len(references)
	r.Rank = 1 + r.AtMost
	r.Exposure = math.Log2(float64(n)) - math.Log2(float64(r.Rank))
	lo, hi := ClopperPearson(r.AtMost, n, 0.05)
	r.CI = [2]float64{-math.Log2(hi), -math.Log2(lo)}
	r.Capped = r.AtMost == 0
	return r
}

// Format shows the exposure; a capped one is a lower bound.
func (r Ranked) Format() string {
	if r.Capped {
		return fmt.Sprintf("≥%.2f", r.Exposure)
	}
	return fmt.Sprintf("%.2f", r.Exposure)
}

// ClopperPearson is the exact interval of a share of k in n at level 1-alpha.
func ClopperPearson(k, n int, alpha float64) (lo, hi float64) {
	lo, hi = 0, 1
	if k > 0 {
		lo = betaQuantile(alpha/2, float64(k), float64(n-k+1))
	}
	if k < n {
		hi = betaQuantile(1-alpha/2, float64(k+1), float64(n-k))
	}
	return lo, hi
}

// betaQuantile polishes gonum's inverse with Newton's steps, since it stops early for some arguments.
func betaQuantile(p, a, b float64) float64 {
	x := mathext.InvRegIncBeta(a, b, p)
	dist := distuv.Beta{Alpha: a, Beta: b}
	for range 8 {
		slope := dist.Prob(x)
		if slope == 0 || math.IsInf(slope, 0) || math.IsNaN(slope) {
			break
		}
		next := x - (mathext.RegIncBeta(a, b, x)-p)/slope
		if !(next > 0 && next < 1) {
			break
		}
		if math.Abs(next-x) <= 1e-16*x {
			return next
		}
		x = next
	}
	return x
}

// Wilson is Wilson's score interval of a share of k in n at level 1-alpha.
func Wilson(k, n int, alpha float64) (lo, hi float64) {
	z := distuv.UnitNormal.Quantile(1 - alpha/2)
	p, m := float64(k)/float64(n), float64(n)
	d := 1 + z*z/m
	c := (p + z*z/(2*m)) / d
	h := z * math.Sqrt(p*(1-p)/m+z*z/(4*m*m)) / d
	return c - h, c + h
}

// spearman is the rank correlation of two lists; ties share their mean rank.
func spearman(x, y []float64) float64 { return pearson(ranks(x), ranks(y)) }

func ranks(x []float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		below, same := 0, 0
		for _, w := range x {
			if w < v {
				below++
			} else if w == v {
				same++
			}
		}
		out[i] = float64(below) + float64(same+1)/2
	}
	return out
}

func pearson(x, y []float64) float64 {
	mx, my := mean(x), mean(y)
	var xy, xx, yy float64
	for i := range x {
		xy += (x[i] - mx) * (y[i] - my)
		xx += (x[i] - mx) * (x[i] - mx)
		yy += (y[i] - my) * (y[i] - my)
	}
	return xy / math.Sqrt(xx*yy)
}

func mean(x []float64) float64 {
	s := 0.0
	for _, v := range x {
		s += v
	}
	return s / float64(len(x))
}

// slope is that of the least-squares line through the points.
func slope(x, y []float64) float64 {
	mx, my := mean(x), mean(y)
	var xy, xx float64
	for i := range x {
		xy += (x[i] - mx) * (y[i] - my)
		xx += (x[i] - mx) * (x[i] - mx)
	}
	return xy / xx
}

// looksTrained is the p-value of the hypothesis that exposures come from secrets the model never saw:
// then ranks are even, and twice the sum of -ln(rank/(n+1)) follows a chi-squared distribution
// (Fisher's method).
func looksTrained(ranked []Ranked, references int) float64 {
	sum := 0.0
	for _, r := range ranked {
		sum -= 2 * math.Log(float64(r.Rank)/float64(references+1))
	}
	return distuv.ChiSquared{K: float64(2 * len(ranked))}.Survival(sum)
}

func sortedCopy(x []float64) []float64 { return slices.Sorted(slices.Values(x)) }
