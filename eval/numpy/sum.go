package numpy

import "math"

// Sum adds as numpy.add.reduce does for a contiguous array: eight running sums in blocks of up to
// 128, longer arrays halved.
func Sum[T float32 | float64](a []T) T {
	n := len(a)
	switch {
	case n < 8:
		var s T
		for _, v := range a {
			s += v
		}
		return s
	case n <= 128:
		var r [8]T
		copy(r[:], a)
		i := 8
		for ; i < n-n%8; i += 8 {
			for k := range r {
				r[k] += a[i+k]
			}
		}
		s := ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]))
		for ; i < n; i++ {
			s += a[i]
		}
		return s
	}
	half := n / 2
	half -= half % 8
	return Sum(a[:half]) + Sum(a[half:])
}

// Mean is numpy.mean of a contiguous array.
func Mean[T float32 | float64](a []T) T { return Sum(a) / T(len(a)) }

// Quantile is numpy.percentile(sorted, 100·q) with linear interpolation; sorted must not be empty.
func Quantile(sorted []float64, q float64) float64 {
	last := len(sorted) - 1
	at := float64(float64(last) * q) // rounded here, or arm64 would fuse it with what follows
	if at >= float64(last) {
		return sorted[last]
	}
	i := math.Floor(at)
	t := at - i
	a, b := sorted[int(i)], sorted[int(i)+1]
	diff := b - a
	if t >= 0.5 {
		return b - float64(diff*(1-t))
	}
	return a + float64(diff*t)
}
