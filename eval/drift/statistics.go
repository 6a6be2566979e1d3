// Package drift tells whether inputs of today still look like those a model was made for: by their
// encodings under the model itself, and by simple figures such as their lengths.
//
// Figures alone say little, since what is usual depends on the size of the samples. A snapshot of
// the reference therefore keeps how far random halves of the reference lie from each other, and the
// distance of today's inputs is judged against that.
package drift

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"

	"gonum.org/v1/gonum/mat"
)

// squares is the squared distance of every two of the points, row by row.
func squares(points [][]float64) [][]float64 {
	out := make([][]float64, len(points))
	for i := range out {
		out[i] = make([]float64, len(points))
	}
	for i, x := range points {
		for j := range i {
			sum := 0.0
			for k, v := range x {
				d := v - points[j][k]
				sum += d * d
			}
			out[i][j], out[j][i] = sum, sum
		}
	}
	return out
}

// Kernel compares samples by maximum mean discrepancy under a Gaussian kernel (Gretton and others
// 2012), and by nearest neighbours.
type Kernel struct {
	Gamma  float64 // 1 / median squared distance of the pooled sample
	Median float64
	first  int // points of the first sample
	square [][]float64
	value  [][]float64
}

// NewKernel pools two samples.
func NewKernel(x, y [][]float64) *Kernel {
	k := &Kernel{first: len(x), square: squares(append(slices.Clone(x), y...))}
	var apart []float64
	for i, row := range k.square {
		apart = append(apart, row[i+1:]...)
	}
	slices.Sort(apart)
	if n := len(apart); n > 0 {
		k.Median = (apart[(n-1)/2] + apart[n/2]) / 2
	}
	if k.Gamma = 1 / k.Median; k.Median == 0 {
		k.Gamma = 1 // all alike: any width says so
	}
	k.value = make([][]float64, len(k.square))
	for i, row := range k.square {
		k.value[i] = make([]float64, len(row))
		for j, d := range row {
			k.value[i][j] = math.Exp(-k.Gamma * d)
		}
	}
	return k
}

// MMD2 is the squared discrepancy where the points in that order, or some of them, are divided so that the
// first sample is as large as the given one; nil is the order in which they came. The unbiased estimate may be negative.
func (k *Kernel) MMD2(order []int) (biased, unbiased float64) {
	order = k.all(order)
	n, m := float64(k.first), float64(len(order)-k.first)
	var xx, yy, xy, xself, yself float64
	for a, i := range order {
		for b, j := range order {
			v := k.value[i][j]
			switch {
			case a < k.first && b < k.first:
				xx += v
			case a >= k.first && b >= k.first:
				yy += v
			case a < k.first:
				xy += v
			}
		}
		if a < k.first {
			xself += k.value[i][i]
		} else {
			yself += k.value[i][i]
		}
	}
	cross := 2 * xy / (n * m)
	return xx/(n*n) + yy/(m*m) - cross, (xx-xself)/(n*(n-1)) + (yy-yself)/(m*(m-1)) - cross
}

// P is how often samples divided at random lie as far apart, with the given ones counted in. The
// kernel stays that of the pooled sample.
func (k *Kernel) P(permutations int, rng *rand.Rand) float64 {
	_, given := k.MMD2(nil)
	beyond := 1
	for range permutations {
		if _, v := k.MMD2(rng.Perm(len(k.value))); v >= given {
			beyond++
		}
	}
	return float64(beyond) / float64(permutations+1)
}

// Neighbour is how often a point's nearest neighbour comes from its own sample; of equally near ones the
// first counts. Half, for samples of one size, says that they cannot be told apart.
func (k *Kernel) Neighbour(order []int) float64 {
	order = k.all(order)
	right := 0
	for a, i := range order {
		best := -1
		for b, j := range order {
			if b != a && (best < 0 || k.square[i][j] < k.square[i][order[best]]) {
				best = b
			}
		}
		if best >= 0 && (a < k.first) == (best < k.first) {
			right++
		}
	}
	return float64(right) / float64(len(order))
}

// all is the order, or that in which the points came.
func (k *Kernel) all(order []int) []int {
	if order != nil {
		return order
	}
	order = make([]int, len(k.value))
	for i := range order {
		order[i] = i
	}
	return order
}

// Frechet is the squared Fréchet distance of two normal distributions with the samples' means and
// covariances. It needs far more points than dimensions.
func Frechet(x, y [][]float64) float64 {
	mx, cx := meanCovariance(x)
	my, cy := meanCovariance(y)
	sum := 0.0
	for i := range mx {
		sum += (mx[i] - my[i]) * (mx[i] - my[i])
	}
	d := len(mx)
	var root, product mat.Dense
	root.CloneFrom(squareRoot(cx))
	product.Product(&root, cy, &root)
	symmetric := mat.NewSymDense(d, nil)
	for i := range d {
		for j := i; j < d; j++ {
			symmetric.SetSym(i, j, (product.At(i, j)+product.At(j, i))/2)
		}
	}
	var eigen mat.EigenSym
	eigen.Factorize(symmetric, false)
	trace := 0.0
	for _, v := range eigen.Values(nil) {
		trace += math.Sqrt(math.Max(0, v))
	}
	return sum + mat.Trace(cx) + mat.Trace(cy) - 2*trace
}

func meanCovariance(x [][]float64) ([]float64, *mat.SymDense) {
	d := len(x[0])
	mean := make([]float64, d)
	for _, row := range x {
		for i, v := range row {
			mean[i] += v / float64(len(x))
		}
	}
	c := mat.NewSymDense(d, nil)
	for i := range d {
		for j := i; j < d; j++ {
			sum := 0.0
			for _, row := range x {
				sum += (row[i] - mean[i]) * (row[j] - mean[j])
			}
			c.SetSym(i, j, sum/float64(max(1, len(x)-1)))
		}
	}
	return mean, c
}

// squareRoot is that of a covariance.
func squareRoot(c *mat.SymDense) *mat.Dense {
	d := c.SymmetricDim()
	var eigen mat.EigenSym
	eigen.Factorize(c, true)
	var v, scaled, out mat.Dense
	eigen.VectorsTo(&v)
	scaled.CloneFrom(&v)
	for j, value := range eigen.Values(nil) {
		for i := range d {
			scaled.Set(i, j, v.At(i, j)*math.Sqrt(math.Max(0, value)))
		}
	}
	out.Mul(&scaled, v.T())
	return &out
}

// KolmogorovSmirnov is the largest distance of two samples' distribution functions, and its p-value: that of
// one sample of n·m/(n+m) points, as scipy's asymptotic one.
func KolmogorovSmirnov(x, y []float64) (d, p float64) {
	a, b := slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y))
	share := func(s []float64, v float64) float64 {
		return float64(sort.Search(len(s), func(i int) bool { return s[i] > v })) / float64(len(s))
	}
	for _, v := range append(slices.Clone(a), b...) {
		d = math.Max(d, math.Abs(share(a, v)-share(b, v)))
	}
	n, m := float64(len(a)), float64(len(b))
	return d, kolmogorov(int(math.RoundToEven(n*m/(n+m))), d)
}

// leastShare stands for a bin that is empty.
const leastShare = 1e-4

// Deciles are the inner borders of ten bins that hold a reference evenly, each once.
func Deciles(reference []float64) []float64 {
	s := slices.Sorted(slices.Values(reference))
	var edges []float64
	for k := 1; k < 10; k++ {
		at := float64(k) / 10 * float64(len(s)-1)
		low := int(at)
		v := s[low]
		if t := at - float64(low); t > 0 {
			// As numpy's lerp does it, from the nearer end.
			if diff := s[low+1] - s[low]; t < 0.5 {
				v = s[low] + diff*t
			} else {
				v = s[low+1] - diff*(1-t)
			}
		}
		edges = append(edges, v)
	}
	return slices.Compact(edges)
}

// shares are those of the bins between the borders.
func shares(x, edges []float64) []float64 {
	out := make([]float64, len(edges)+1)
	for _, v := range x {
		out[sort.Search(len(edges), func(i int) bool { return edges[i] > v })] += 1 / float64(len(x))
	}
	return out
}

// PSI is the population stability index over the reference's deciles.
func PSI(reference, current []float64) float64 {
	edges := Deciles(reference)
	p, q := shares(reference, edges), shares(current, edges)
	sum := 0.0
	for i := range p {
		a, b := math.Max(p[i], leastShare), math.Max(q[i], leastShare)
		sum += (b - a) * math.Log(b/a)
	}
	return sum
}

// CosineDistance is that of the samples' means.
func CosineDistance(x, y [][]float64) float64 {
	var dot, xx, yy float64
	for k := range x[0] {
		var mx, my float64
		for _, row := range x {
			mx += row[k] / float64(len(x))
		}
		for _, row := range y {
			my += row[k] / float64(len(y))
		}
		dot, xx, yy = dot+mx*my, xx+mx*mx, yy+my*my
	}
	return 1 - dot/math.Sqrt(xx*yy)
}
