package exposure

import (
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/optimize"
)

// LeastForFit is how many alternatives an extrapolation needs.
const LeastForFit = 200

// Fit is a skew-normal distribution.
type Fit struct {
	A     float64 `json:"a"` // shape
	Loc   float64 `json:"loc"`
	Scale float64 `json:"scale"`
	NLL   float64 `json:"nll"` // negative log-likelihood
}

// Estimate is an exposure seen beyond the alternatives: -log2 of the fitted distribution at the secret.
type Estimate struct {
	Exposure float64  `json:"exposure"`
	Fit      Fit      `json:"fit"`
	KS       float64  `json:"ks_d"`           // Kolmogorov–Smirnov distance of fit and alternatives
	P        *float64 `json:"ks_p"`           // by parametric bootstrap; null where the distance decides alone
	Holds    bool     `json:"holds"`          // enough alternatives, and they follow the distribution
	Note     string   `json:"note,omitempty"` // why it does not hold
}

// Bounds of the distance times the root of the sample size. Below the first no sample of the
// distribution itself is suspicious; above the second, which is the 5 % point for a normal
// distribution with two fitted parameters, none would get past a third one. Between, the p-value of a
// parametric bootstrap decides: the plain one is too lenient where parameters were fitted.
const (
	surelyFits  = 0.6
	surelyNot   = 0.895
	replicates  = 99
	suspicious  = 0.05
	replicaSeed = 12345
)

// Extrapolate fits the alternatives' log-perplexities and reads off the secret's.
func Extrapolate(references []float64, secret float64) Estimate {
	fit := FitSkewNormal(references)
	e := Estimate{Fit: fit, Exposure: fit.Exposure(secret), KS: fit.Distance(references)}
	scaled := e.KS * math.Sqrt(float64(len(references)))
	switch {
	case len(references) < LeastForFit:
		e.Note = "too few alternatives"
		return e
	case !(fit.Scale > 1e-9) || math.IsInf(fit.Scale, 0) || math.IsNaN(fit.NLL):
		e.Note = "the scale is degenerate"
		return e
	case scaled > surelyFits && scaled <= surelyNot:
		p := fit.plausible(e.KS, len(references))
		e.P = &p
	}
	e.Holds = scaled <= surelyFits || (e.P != nil && *e.P >= suspicious)
	if !e.Holds {
		e.Note = "the alternatives do not follow the distribution"
	}
	return e
}

// plausible is how often samples of the fit, fitted anew, lie as far from their own fit.
func (f Fit) plausible(distance float64, n int) float64 {
	rng := rand.New(rand.NewPCG(replicaSeed, uint64(n)))
	delta := f.A / math.Sqrt(1+f.A*f.A)
	sample := make([]float64, n)
	beyond := 1
	for range replicates {
		for i := range sample {
			sample[i] = f.Loc + f.Scale*(delta*math.Abs(rng.NormFloat64())+math.Sqrt(1-delta*delta)*rng.NormFloat64())
		}
		again := fitFrom(sample, Fit{NLL: math.Inf(1)}, [][]float64{{f.A, f.Loc, math.Log(f.Scale)}}, &optimize.BFGS{}, 1e-7)
		if again.Distance(sample) >= distance {
			beyond++
		}
	}
	return float64(beyond) / (replicates + 1)
}

// Exposure is that of a secret with the given log-perplexity, were alternatives to follow the fit.
func (f Fit) Exposure(secret float64) float64 { return -Log2CDF((secret-f.Loc)/f.Scale, f.A) }

// logNormCDF is the logarithm of the normal distribution, far tail included.
func logNormCDF(x float64) float64 {
	if x > 0 {
		return math.Log1p(-0.5 * math.Erfc(x/math.Sqrt2))
	}
	if x > -30 {
		return math.Log(0.5 * math.Erfc(-x/math.Sqrt2))
	}
	// Asymptotic series of Mills' ratio.
	term, sum, inv := 1.0, 1.0, 1/(x*x)
	for k := 1; k < 12; k++ {
		term *= -float64(2*k-1) * inv
		sum += term
	}
	return logNormPDF(x) - math.Log(-x) + math.Log(sum)
}

func logNormPDF(x float64) float64 { return -0.5*x*x - 0.5*math.Log(2*math.Pi) }

// logPDF is the logarithm of the standard skew-normal density.
func logPDF(z, a float64) float64 { return math.Ln2 + logNormPDF(z) + logNormCDF(a*z) }

// Log2CDF is log2 of the standard skew-normal distribution function with shape a. It stays exact where
// the function itself is too small for a float64.
func Log2CDF(z, a float64) float64 {
	switch {
	case math.IsNaN(z) || math.IsNaN(a):
		return math.NaN()
	case math.IsInf(z, -1):
		return math.Inf(-1)
	case math.IsInf(z, 1):
		return 0
	}
	if z <= mode(a) {
		return tail(z, a, -1) / math.Ln2
	}
	return math.Log1p(-math.Exp(tail(z, a, 1))) / math.Ln2
}

// mode finds where the density is highest; it is log-concave, so bisection on the slope does.
func mode(a float64) float64 {
	lo, hi := -2.0, 2.0
	for range 60 {
		mid := (lo + hi) / 2
		if gradient(mid, a) > 0 {
			lo = mid
		} else {
			hi = mid
		}
	}
	return (lo + hi) / 2
}

// gradient is the slope of the log-density.
func gradient(z, a float64) float64 {
	return -z + a*math.Exp(logNormPDF(a*z)-logNormCDF(a*z))
}

// tail is the logarithm of the density's integral from z away from the mode, in direction sign. The
// density falls all the way and ever faster, so intervals that start at its scale there and grow
// soon hold all of it.
func tail(z, a, sign float64) float64 {
	top := logPDF(z, a)
	step := 0.25 / math.Max(1, math.Max(math.Abs(gradient(z, a)), math.Abs(a)))
	sum, at := 0.0, 0.0
	for range 400 {
		part := gauss(func(u float64) float64 { return math.Exp(logPDF(z+sign*u, a) - top) }, at, at+step)
		sum += part
		at += step
		if part < 1e-18*sum {
			break
		}
		step *= 1.1
	}
	return top + math.Log(sum)
}

// gauss integrates by Gauss and Legendre's ten points.
func gauss(f func(float64) float64, from, to float64) float64 {
	x := [5]float64{0.1488743389816312, 0.4333953941292472, 0.6794095682990244, 0.8650633666889845, 0.9739065285171717}
	w := [5]float64{0.2955242247147529, 0.2692667193099963, 0.2190863625159821, 0.1494513491505806, 0.0666713443086881}
	mid, half := (from+to)/2, (to-from)/2
	sum := 0.0
	for i := range x {
		sum += w[i] * (f(mid+half*x[i]) + f(mid-half*x[i]))
	}
	return sum * half
}

// FitSkewNormal fits by maximum likelihood. The likelihood has flat ridges, so several starts are
// tried, and the best is polished by a search that needs no slope.
func FitSkewNormal(x []float64) Fit {
	m, s, skew := moments(x)
	if !(s > 0) {
		return Fit{Loc: m, Scale: 0, NLL: math.NaN()}
	}
	var starts [][]float64
	for _, d := range []float64{deltaOf(skew), 0, 0.9, -0.9} {
		scale := s / math.Sqrt(1-2*d*d/math.Pi)
		starts = append(starts, []float64{d / math.Sqrt(1-d*d), m - scale*d*math.Sqrt(2/math.Pi), math.Log(scale)})
	}
	best := fitFrom(x, Fit{NLL: math.Inf(1)}, starts, &optimize.BFGS{}, 1e-9)
	return fitFrom(x, best, [][]float64{{best.A, best.Loc, math.Log(best.Scale)}}, &optimize.NelderMead{}, 1e-9)
}

// fitFrom climbs from each start and returns the best, which is so far unless one is better.
func fitFrom(x []float64, best Fit, starts [][]float64, method optimize.Method, tolerance float64) Fit {
	problem := optimize.Problem{
		Func: func(p []float64) float64 { return likelihood(x, p, nil) },
		Grad: func(grad, p []float64) { likelihood(x, p, grad) },
	}
	for _, start := range starts {
		r, err := optimize.Minimize(problem, start,
			&optimize.Settings{Converger: &optimize.FunctionConverge{Absolute: tolerance, Iterations: 20}, MajorIterations: 2000}, method)
		if r != nil && (err == nil || !math.IsNaN(r.F)) && r.F < best.NLL {
			best = Fit{r.X[0], r.X[1], math.Exp(r.X[2]), r.F}
		}
	}
	return best
}

// likelihood is the negative log-likelihood at shape, location and log-scale, and its gradient.
func likelihood(x, p, grad []float64) float64 {
	a, loc, scale := p[0], p[1], math.Exp(p[2])
	n := float64(len(x))
	sum := n * p[2]
	var da, dz, dzz float64
	for _, v := range x {
		z := (v - loc) / scale
		below := logNormCDF(a * z)
		sum -= math.Ln2 + logNormPDF(z) + below
		if grad != nil {
			h := math.Exp(logNormPDF(a*z) - below)
			da += z * h
			dz += z - a*h
			dzz += z * (z - a*h)
		}
	}
	if grad != nil {
		grad[0], grad[1], grad[2] = -da, -dz/scale, n-dzz
	}
	return sum
}

func moments(x []float64) (m, s, skew float64) {
	m = mean(x)
	var second, third float64
	for _, v := range x {
		second += (v - m) * (v - m)
		third += (v - m) * (v - m) * (v - m)
	}
	n := float64(len(x))
	s = math.Sqrt(second / n)
	return m, s, third / n / (s * s * s)
}

// deltaOf is the shape, as δ = a/√(1+a²), that has the given skewness.
func deltaOf(skew float64) float64 {
	g := math.Pow(math.Min(math.Abs(skew), 0.99), 2.0/3)
	d := math.Sqrt(math.Pi / 2 * g / (g + math.Pow((4-math.Pi)/2, 2.0/3)))
	return math.Max(-0.99, math.Min(0.99, math.Copysign(d, skew)))
}

// Distance is Kolmogorov and Smirnov's between the fit and a sample. The distribution function is
// summed from point to point, which costs little.
func (f Fit) Distance(x []float64) float64 {
	sorted := sortedCopy(x)
	density := func(z float64) float64 { return math.Exp(logPDF(z, f.A)) }
	n, most, before, c := float64(len(sorted)), 0.0, 0.0, 0.0
	for i, v := range sorted {
		z := (v - f.Loc) / f.Scale
		if i == 0 {
			c = math.Exp2(Log2CDF(z, f.A))
		} else if z > before {
			pieces := 1 + int(math.Min(100, (z-before)*math.Max(1, math.Abs(f.A))))
			for k := range pieces {
				width := (z - before) / float64(pieces)
				c += gauss(density, before+float64(k)*width, before+float64(k+1)*width)
			}
		}
		before = z
		most = math.Max(most, math.Max(c-float64(i)/n, float64(i+1)/n-c))
	}
	return most
}
