package exposure

import (
	"math"
	"slices"
)

// Shadows are the statistics of each row under models of which it is known whether they saw it.
// A higher statistic means more confidence.
type Shadows struct {
	In  [][]float64 // by row, models trained on it
	Out [][]float64 // by row, models not trained on it
}

// LiRA says how a likelihood-ratio attack (Carlini and others 2022) reads shadows.
type LiRA struct {
	Kind   string // LiRABoth, LiRAIn, LiRAOut or LiRAOneSided
	Pooled bool   // one variance for all rows, of the residuals: for few shadows
	Mean   bool   // centres are means instead of medians
}

// Kinds of likelihood-ratio attacks.
const (
	LiRABoth     = "both"     // online: log N(t; in) - log N(t; out)
	LiRAIn       = "in"       // log N(t; in)
	LiRAOut      = "out"      // -log N(t; out)
	LiRAOneSided = "onesided" // offline: -log Pr[Z > t] of out; centres are means
)

// Scores gives each row's score for the model under test; higher means member.
func (l LiRA) Scores(target []float64, s Shadows) []float64 {
	l.Mean = l.Mean || l.Kind == LiRAOneSided
	var in, out normals
	if l.Kind == LiRABoth || l.Kind == LiRAIn {
		in = l.normals(s.In)
	}
	if l.Kind != LiRAIn {
		out = l.normals(s.Out)
	}
	scores := make([]float64, len(target))
	for i, t := range target {
		switch l.Kind {
		case LiRABoth:
			scores[i] = in.log(i, t) - out.log(i, t)
		case LiRAIn:
			scores[i] = in.log(i, t)
		case LiRAOut:
			scores[i] = -out.log(i, t)
		default:
			scores[i] = -logNormCDF(-(t - out.centre[i]) / out.deviation[i])
		}
	}
	return scores
}

// normals are a normal distribution a row.
type normals struct{ centre, deviation []float64 }

// tiny keeps a deviation of 0 from dividing.
const tiny = 1e-30

func (n normals) log(i int, x float64) float64 {
	z := (x - n.centre[i]) / n.deviation[i]
	return -0.5*z*z - math.Log(n.deviation[i]) - 0.5*math.Log(2*math.Pi)
}

func (l LiRA) normals(rows [][]float64) normals {
	n := normals{make([]float64, len(rows)), make([]float64, len(rows))}
	var residuals []float64
	for i, x := range rows {
		if n.centre[i] = median(x); l.Mean {
			n.centre[i] = mean(x)
		}
		n.deviation[i] = deviation(x) + tiny
		for _, v := range x {
			residuals = append(residuals, v-n.centre[i])
		}
	}
	if l.Pooled {
		d := deviation(residuals) + tiny
		for i := range n.deviation {
			n.deviation[i] = d
		}
	}
	return n
}

// Calibrated is how far a row's statistic lies above what shadows lead to expect: above the mean of
// those that did not see it, or above the middle of both medians.
func Calibrated(target []float64, s Shadows, middle bool) []float64 {
	out := make([]float64, len(target))
	for i, t := range target {
		if middle {
			out[i] = t - (median(s.In[i])+median(s.Out[i]))/2
		} else {
			out[i] = t - mean(s.Out[i])
		}
	}
	return out
}

// deviation is the root of the mean squared distance from the mean.
func deviation(x []float64) float64 {
	_, s, _ := moments(x)
	return s
}

func median(x []float64) float64 {
	s := slices.Sorted(slices.Values(x))
	n := len(s)
	if n == 0 {
		return math.NaN()
	}
	return (s[(n-1)/2] + s[n/2]) / 2
}
