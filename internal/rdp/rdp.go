// Package rdp accounts for what a training run with clipped gradients and Gaussian noise can reveal
// of one example: an (ε, δ) by way of Rényi differential privacy.
//
// One step is the sampled Gaussian mechanism: every example is taken with the same probability, the
// sum of the clipped gradients gets Gaussian noise. Its Rényi divergence at each order is that of
// Mironov, Talwar and Zhang (arXiv:1908.10530, section 3.3), steps add up, and the turn into (ε, δ)
// is theorem 21 of Balle et al. (arXiv:1905.09982). Orders and results are those of Opacus 1.6.0.
package rdp

import (
	"fmt"
	"math"
)

// Mechanism is what each step does.
type Mechanism struct {
	Noise float64 // standard deviation of the noise, as a multiple of the clipping norm
	Rate  float64 // probability with which an example is in a step, in (0, 1]
}

// Spent is what so many steps cost.
type Spent struct {
	Epsilon float64 // +Inf where there is no noise
	Delta   float64
	Order   float64 // at which the bound is tightest
}

// Spend says what steps of the mechanism cost at a delta.
func (m Mechanism) Spend(steps int, delta float64) (Spent, error) {
	switch {
	case !(m.Noise >= 0) || math.IsInf(m.Noise, 0):
		return Spent{}, fmt.Errorf("noise multiplier %g must not be negative", m.Noise)
	case !(m.Rate > 0 && m.Rate <= 1):
		return Spent{}, fmt.Errorf("sampling rate %g must be in (0, 1]", m.Rate)
	case steps < 0:
		return Spent{}, fmt.Errorf("%d steps: must not be negative", steps)
	case !(delta > 0 && delta < 1):
		return Spent{}, fmt.Errorf("delta %g must be in (0, 1)", delta)
	}
	best := Spent{Epsilon: math.Inf(1), Delta: delta}
	if steps == 0 {
		return Spent{Delta: delta}, nil
	}
	for _, order := range orders() {
		epsilon := m.divergence(order)*float64(steps) - (math.Log(delta)+math.Log(order))/(order-1) + math.Log((order-1)/order)
		if epsilon < best.Epsilon {
			best.Epsilon, best.Order = epsilon, order
		}
	}
	best.Epsilon = max(best.Epsilon, 0)
	return best, nil
}

// orders are 1.1, 1.2, … 10.9, then 12 to 63: RDPAccountant.DEFAULT_ALPHAS.
func orders() (all []float64) {
	for x := 1; x < 100; x++ {
		all = append(all, 1+float64(x)/10)
	}
	for x := 12; x < 64; x++ {
		all = append(all, float64(x))
	}
	return all
}

// divergence is the Rényi divergence of one step at an order above 1.
func (m Mechanism) divergence(order float64) float64 {
	switch {
	case m.Noise == 0:
		return math.Inf(1)
	case m.Rate == 1:
		return order / (2 * m.Noise * m.Noise)
	case order == math.Trunc(order):
		return m.logWhole(int(order)) / (order - 1)
	default:
		return m.logBroken(order) / (order - 1)
	}
}

// logWhole is log A of the paper for a whole order: a binomial sum.
func (m Mechanism) logWhole(order int) float64 {
	sum := math.Inf(-1)
	for i := range order + 1 {
		k := float64(i)
		coefficient, _ := logBinomial(float64(order), k)
		term := coefficient + k*math.Log(m.Rate) + (float64(order)-k)*math.Log1p(-m.Rate)
		sum = logAdd(sum, term+(k*k-k)/(2*m.Noise*m.Noise))
	}
	return sum
}

// logBroken is log A for any other order: two series, one for each side of the point z0 where the
// densities with and without the example are alike. Terms beyond the order alternate in sign.
func (m Mechanism) logBroken(order float64) float64 {
	const negligible = -30 // logarithm of a term
	variance := m.Noise * m.Noise
	z0 := variance*math.Log(1/m.Rate-1) + 0.5
	low, high := math.Inf(-1), math.Inf(-1)
	for i := 0.0; ; i++ {
		coefficient, sign := logBinomial(order, i)
		j := order - i
		term0 := coefficient + i*math.Log(m.Rate) + j*math.Log1p(-m.Rate) + (i*i-i)/(2*variance) + math.Log(0.5) + logErfc((i-z0)/(math.Sqrt2*m.Noise))
		term1 := coefficient + j*math.Log(m.Rate) + i*math.Log1p(-m.Rate) + (j*j-j)/(2*variance) + math.Log(0.5) + logErfc((z0-j)/(math.Sqrt2*m.Noise))
		if sign > 0 {
			low, high = logAdd(low, term0), logAdd(high, term1)
		} else {
			low, high = logSub(low, term0), logSub(high, term1)
		}
		if max(term0, term1) < negligible {
			return logAdd(low, high)
		}
	}
}

// logBinomial is the logarithm of a binomial coefficient's size, and its sign.
func logBinomial(n, k float64) (value float64, sign int) {
	a, _ := math.Lgamma(n + 1)
	b, _ := math.Lgamma(k + 1)
	c, sign := math.Lgamma(n - k + 1)
	return a - b - c, sign
}

// logAdd is log(exp(a) + exp(b)).
func logAdd(a, b float64) float64 {
	a, b = min(a, b), max(a, b)
	if math.IsInf(a, -1) {
		return b
	}
	return math.Log1p(math.Exp(a-b)) + b
}

// logSub is log(exp(a) − exp(b)) for a ≥ b, NaN otherwise: an order that cannot be computed is not
// the best one.
func logSub(a, b float64) float64 {
	if math.IsInf(b, -1) {
		return a
	}
	return math.Log(-math.Expm1(b-a)) + a
}

// logErfc is log(erfc(x)); past the range of erfc by its asymptotic series.
func logErfc(x float64) float64 {
	if x < 25 {
		return math.Log(math.Erfc(x))
	}
	y := 1 / (2 * x * x)
	return -x*x - math.Log(x*math.Sqrt(math.Pi)) + math.Log1p(-y*(1-3*y*(1-5*y)))
}
