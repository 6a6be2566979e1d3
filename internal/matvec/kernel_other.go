//go:build !amd64 || !goexperiment.simd

package matvec

import (
	"math"
	"slices"
)

// Fast says whether this machine and this build have what the package needs.
func Fast() bool { return false }

func accumulate(sums, x, weights []float32, stride, from, size, rows int) {
	for row := range rows {
		for k, v := range x[row*stride+from:][:size] {
			AddScaled(sums[row*panel:(row+1)*panel], weights[k*panel:], v)
		}
	}
}

// accumulateHalves leaves all rows to accumulate.
func accumulateHalves(_, _ []float32, _ []uint16, _, _, _, _ int) (done int) { return 0 }

// dots says whether bytes are multiplied as whole numbers.
func dots() bool { return true }

// dotRows writes sums [rows][32] of x [rows][in] and weights [in/4][32][4].
func dotRows(sums []int32, x []byte, weights []int8, rows, in int) {
	clear(sums[:rows*panel])
	for row := range rows {
		for k, v := range x[row*in:][:in] {
			for j := range panel {
				sums[row*panel+j] += int32(v) * int32(weights[(k/4*panel+j)*4+k%4])
			}
		}
	}
}

// round writes x·scale + 128, rounded to whole numbers; none may be outside of a byte.
func round(to []byte, x []float32, scale float32) {
	for i, v := range x {
		to[i] = byte(int(math.RoundToEven(float64(v*scale))) + 128)
	}
}

// largest is the largest absolute value of x.
func largest(x []float32) (most float32) {
	for _, v := range x {
		most = max(most, v, -v)
	}
	return most
}

// unround writes (sums − less)·scale·scales.
func unround(y []float32, sums, less []int32, scales []float32, scale float32) {
	for j := range y {
		y[j] = float32(sums[j]-less[j]) * scale * scales[j]
	}
}

// Scores writes the inner products of a query and the keys that begin at the given places.
func Scores(scores, query, keys []float32, places []int32) {
	for i, p := range places {
		scores[i] = Dot(query, keys[p:][:len(query)])
	}
}

// Blend writes the sum of the values that begin at the given places, each times its weight.
func Blend(out, weights, values []float32, places []int32) {
	clear(out)
	for i, p := range places {
		AddScaled(out, values[p:][:len(out)], weights[i])
	}
}

func widenHalves(wide []float32, halves []uint16) {
	for i, h := range halves {
		wide[i] = math.Float32frombits(uint32(h) << 16)
	}
}

func widenBytes(wide []float32, bytes []int8) {
	for i, b := range bytes {
		wide[i] = float32(b)
	}
}

// Dot is the inner product of two vectors of equal length.
func Dot(a, b []float32) (total float32) {
	for i, v := range a {
		total += v * b[i]
	}
	return total
}

// AddScaled adds scale·x to y.
func AddScaled(y, x []float32, scale float32) {
	for i := range y {
		y[i] += scale * x[i]
	}
}

// Exp replaces each x by e^(x−shift) and gives their sum.
func Exp(x []float32, shift float32) (total float32) {
	for i, v := range x {
		x[i] = float32(expOne(v - shift))
		total += x[i]
	}
	return total
}

// LogSoftmax replaces x by the logarithms of its softmax.
func LogSoftmax(x []float32) {
	most, total := Max(x), 0.0
	for _, v := range x {
		total += expOne(v - most)
	}
	shiftBy(x, most, total)
}

// Max is the largest of x.
func Max(x []float32) float32 { return slices.Max(x) }

// shiftBy takes the maximum and the logarithm of the sum of the exponentials off x.
func shiftBy(x []float32, most float32, total float64) {
	by := float32(math.Log(total))
	for i := range x {
		x[i] = x[i] - most - by
	}
}

// Scale multiplies x by a number.
func Scale(x []float32, by float32) {
	for i := range x {
		x[i] *= by
	}
}

// Product writes a·b·scale, element by element.
func Product(y, a, b []float32, scale float32) {
	for i := range y {
		y[i] = a[i] * scale * b[i]
	}
}

// Positive writes the larger of x and 0.
func Positive(y, x []float32) {
	for i := range y {
		y[i] = max(x[i], 0)
	}
}

// Above is the first index from `from` on where x + add is larger than limit, or else the length of x.
func Above(x []float32, from int, add, limit float32) int {
	for i := from; i < len(x); i++ {
		if x[i]+add > limit {
			return i
		}
	}
	return len(x)
}
