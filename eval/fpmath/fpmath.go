// Package fpmath gives exp and log correctly rounded, so that scores have the same bits on every
// machine and the same as a C library that rounds well.
//
// Go's math.Exp and math.Log are off by one unit in the last place now and then, and differ between
// architectures; about one BLEU score in eight shows it. Both are computed here with twice the
// precision (about 100 bits) and rounded once.
package fpmath

import "math"

// pair is an unevaluated sum hi + lo with |lo| at most half a unit of hi.
type pair struct{ hi, lo float64 }

func twoSum(a, b float64) pair {
	s := a + b
	bb := s - a
	return pair{s, (a - (s - bb)) + (b - bb)}
}

func quickTwoSum(a, b float64) pair {
	s := a + b
	return pair{s, b - (s - a)}
}

func (p pair) add(q pair) pair {
	s := twoSum(p.hi, q.hi)
	t := twoSum(p.lo, q.lo)
	s = quickTwoSum(s.hi, s.lo+t.hi)
	return quickTwoSum(s.hi, s.lo+t.lo)
}

func (p pair) mul(q pair) pair {
	h := float64(p.hi * q.hi)
	l := math.FMA(p.hi, q.hi, -h)
	l += float64(p.hi*q.lo) + float64(p.lo*q.hi)
	return quickTwoSum(h, l)
}

func (p pair) scale(f float64) pair { // f is a power of two
	return pair{p.hi * f, p.lo * f}
}

// div divides by a small exact number.
func (p pair) div(d float64) pair {
	q := p.hi / d
	r := math.FMA(-q, d, p.hi) + p.lo
	return quickTwoSum(q, r/d)
}

// ln2 to about 160 bits in three parts; the first has 33 bits, so that a multiple of it is exact.
const (
	ln2a = 0x1.62e42fefp-01
	ln2b = 0x1.473de6af278edp-34
	ln2c = -0x1.9ff0342542fc3p-90
)

// Exp is e to the x, correctly rounded but for arguments whose result lies within 2^-45 of a unit in
// the last place from the middle of two numbers.
func Exp(x float64) float64 {
	if math.IsNaN(x) || x > 709 || x < -700 {
		return math.Exp(x) // no score lives there
	}
	p := expPair(pair{x, 0})
	return p.hi + p.lo
}

// expPair computes e^x = 2^k · e^r with |r| ≤ ln2/2, and e^r as the 256th power of e^(r/256).
func expPair(x pair) pair {
	k := math.Round(x.hi / math.Ln2)
	r := twoSum(x.hi, -k*ln2a) // both exact
	r = r.add(pair{x.lo, 0})
	kb := float64(-k * ln2b)
	r = r.add(pair{kb, math.FMA(-k, ln2b, -kb) - k*ln2c})
	r = r.scale(1.0 / 256)
	// e^r - 1 by its series, then (1+t)^2 - 1 = 2t + t² eight times, which loses no digits.
	t := pair{0, 0}
	for n := 9; n >= 1; n-- {
		t = t.add(pair{1, 0}).mul(r).div(float64(n))
	}
	for range 8 {
		t = t.scale(2).add(t.mul(t))
	}
	t = t.add(pair{1, 0})
	return t.scale(math.Ldexp(1, int(k)))
}

// Log is the natural logarithm of x, correctly rounded with the same exception as Exp.
func Log(x float64) float64 {
	if !(x > 0x1p-1000) || x > 0x1p1000 || x == 1 {
		return math.Log(x)
	}
	m, e := math.Frexp(x) // m in [0.5, 1)
	if m < math.Sqrt2/2 {
		m *= 2
		e--
	}
	y := math.Log(m)
	// One Newton step in twice the precision: y + (m·e^-y - 1), the next term being below 2^-100.
	d := pair{m, 0}.mul(expPair(pair{-y, 0})).add(pair{-1, 0})
	corr := d.add(d.mul(d).scale(-0.5))
	p := twoSum(y, 0).add(corr)
	k := float64(e)
	kb := float64(k * ln2b)
	big := twoSum(k*ln2a, 0).add(pair{kb, math.FMA(k, ln2b, -kb) + k*ln2c})
	p = big.add(p)
	return p.hi + p.lo
}
