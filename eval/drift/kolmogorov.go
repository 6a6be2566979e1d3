package drift

import "math"

// kolmogorov is the chance that the distribution function of n points lies at least d from the true one.
// Small n: Marsaglia, Tsang and Wang (2003), exact; far tails: twice Smirnov's one-sided chance; else
// the expansion of Pelz and Good (1976).
func kolmogorov(n int, d float64) float64 {
	x := float64(n) * d
	switch {
	case n < 1 || d <= 0 || x <= 0.5:
		return 1
	case d >= 1:
		return 0
	case d >= 0.5 || x*d >= 4:
		return math.Min(1, 2*smirnov(n, d))
	case n <= 140 || x*math.Sqrt(d) <= 1.4 && n <= 100_000:
		return math.Max(0, 1-marsaglia(n, d))
	}
	return math.Max(0, math.Min(1, 1-pelzGood(n, d)))
}

// smirnov is the chance of lying at least d below.
func smirnov(n int, d float64) float64 {
	size, sum := float64(n), 0.0
	top, _ := math.Lgamma(size + 1)
	for j := 0; float64(j) <= size*(1-d); j++ {
		a, b := d+float64(j)/size, 1-d-float64(j)/size
		if b <= 0 {
			break
		}
		left, _ := math.Lgamma(float64(j) + 1)
		right, _ := math.Lgamma(float64(n-j) + 1)
		sum += math.Exp(top - left - right + float64(j-1)*math.Log(a) + float64(n-j)*math.Log(b))
	}
	return d * sum
}

// marsaglia is the distribution function: an element of the n-th power of a matrix [m, m], in
// multiples of 10^140 where it grows.
func marsaglia(n int, d float64) float64 {
	k := int(float64(n)*d) + 1
	m := 2*k - 1
	h := float64(k) - float64(n)*d
	a := make([]float64, m*m)
	for i := range m {
		for j := range m {
			if i-j+1 >= 0 {
				a[i*m+j] = 1
			}
		}
	}
	for i := range m {
		a[i*m] -= math.Pow(h, float64(i+1))
		a[(m-1)*m+i] -= math.Pow(h, float64(m-i))
	}
	if 2*h-1 > 0 {
		a[(m-1)*m] += math.Pow(2*h-1, float64(m))
	}
	for i := range m {
		for j := range m {
			for g := 2; g <= i-j+1; g++ {
				a[i*m+j] /= float64(g)
			}
		}
	}
	power, scale := matrixPower(a, m, n)
	s := power[(k-1)*m+k-1]
	for i := 1; i <= n; i++ {
		if s = s * float64(i) / float64(n); s < 1e-140 {
			s *= 1e140
			scale -= 140
		}
	}
	return s * math.Pow(10, float64(scale))
}

// matrixPower gives a to the n, and the power of ten that it is divided by.
func matrixPower(a []float64, m, n int) ([]float64, int) {
	if n == 1 {
		return a, 0
	}
	half, scale := matrixPower(a, m, n/2)
	out := multiply(half, half, m)
	scale *= 2
	if n%2 == 1 {
		out = multiply(a, out, m)
	}
	if out[(m/2)*m+m/2] > 1e140 {
		for i := range out {
			out[i] *= 1e-140
		}
		scale += 140
	}
	return out, scale
}

func multiply(a, b []float64, m int) []float64 {
	out := make([]float64, m*m)
	for i := range m {
		for k := range m {
			x := a[i*m+k]
			if x == 0 {
				continue
			}
			for j := range m {
				out[i*m+j] += x * b[k*m+j]
			}
		}
	}
	return out
}

// pelzGood is the distribution function to the order of 1/n^1.5.
func pelzGood(n int, d float64) float64 {
	const pi2, pi4, pi6 = math.Pi * math.Pi, math.Pi * math.Pi * math.Pi * math.Pi, math.Pi * math.Pi * math.Pi * math.Pi * math.Pi * math.Pi
	z := math.Sqrt(float64(n)) * d
	z2, z3, z4, z6, z8 := z*z, z*z*z, z*z*z*z, math.Pow(z, 6), math.Pow(z, 8)
	q := math.Exp(-pi2 / 8 / z2)
	most := int(math.Ceil(16 * z / math.Pi))
	var sum [4]float64
	for k := most; k > 0; k-- {
		m := float64(2*k - 1)
		m2, m4, m6 := m*m, m*m*m*m, math.Pow(m, 6)
		weight := math.Pow(q, m2)
		sum[0] += weight
		sum[1] += weight * (-z2 + pi2/4*m2)
		sum[2] += weight * (6*z6 + 2*z4 + (2*z4-5*z2)*pi2/4*m2 + pi4*(1-2*z2)/16*m4)
		sum[3] += weight * (-30*z6 - 90*z8 + pi2*(135*z4-96*z6)/4*m2 + pi4*(-60*z2+212*z4)/16*m4 + pi6*(5-30*z2)/64*m6)
	}
	root := math.Sqrt(2 * math.Pi)
	for i, by := range []float64{z, 6 * z4, 72 * math.Pow(z, 7), 6480 * math.Pow(z, 10)} {
		sum[i] *= root / by
	}
	for k := most; k > 0; k-- {
		k2 := float64(k * k)
		weight := math.Exp(-pi2 / 2 / z2 * k2)
		sum[2] += k2 * weight * pi2 * root / (-36 * z3)
		sum[3] += (3*z2 - pi2*k2) * k2 * weight * pi2 * root / (216 * z6)
	}
	size := math.Sqrt(float64(n))
	return sum[0] + sum[1]/size + sum[2]/float64(n) + sum[3]/(size*float64(n))
}
