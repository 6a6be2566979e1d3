//go:build amd64 && goexperiment.simd

package matvec

import (
	"math"
	"math/bits"
	"simd/archsimd"
	"unsafe"
)

// Fast says whether this machine and this build have what the package needs.
func Fast() bool { return archsimd.X86.AVX512() }

// dots says whether products of bytes have an instruction of their own.
func dots() bool { return archsimd.X86.AVX512VNNI() }

// Within the loops below, pointers take the place of slices: the compiler cannot see that the
// indices stay inside, and a check of each would cost as much as the arithmetic.

func at(p unsafe.Pointer, floats int) *[16]float32 { return (*[16]float32)(unsafe.Add(p, 4*floats)) }

func spread(p unsafe.Pointer, floats int) archsimd.Float32x16 {
	return archsimd.BroadcastFloat32x16(*(*float32)(unsafe.Add(p, 4*floats)))
}

// accumulate adds to sums [rows][32] the product of inputs from … from+size of the rows of x,
// which are `stride` apart, and weights [size][32].
func accumulate(sums, x, weights []float32, stride, from, size, rows int) {
	_, _, _ = sums[rows*panel-1], x[(rows-1)*stride+from+size-1], weights[size*panel-1]
	s, w := unsafe.Pointer(unsafe.SliceData(sums)), unsafe.Pointer(unsafe.SliceData(weights))
	row := 0
	for ; row+8 <= rows; row += 8 {
		accumulate8(unsafe.Add(s, 4*row*panel), unsafe.Pointer(&x[row*stride+from]), w, 4*stride, size)
	}
	for ; row+4 <= rows; row += 4 {
		accumulate4(unsafe.Add(s, 4*row*panel), unsafe.Pointer(&x[row*stride+from]), w, stride, size)
	}
	for ; row < rows; row++ {
		accumulate1(unsafe.Add(s, 4*row*panel), unsafe.Pointer(&x[row*stride+from]), w, size)
	}
}

// accumulate1 keeps four sums of each output, or each product would wait for the one before.
func accumulate1(s, x, w unsafe.Pointer, size int) {
	a0, a1 := archsimd.LoadFloat32x16(at(s, 0)), archsimd.LoadFloat32x16(at(s, 16))
	zero := archsimd.BroadcastFloat32x16(0)
	b0, b1, c0, c1, d0, d1 := zero, zero, zero, zero, zero, zero
	k := 0
	for ; k+4 <= size; k += 4 {
		from := unsafe.Add(w, 4*k*panel)
		v := spread(x, k)
		a0, a1 = v.MulAdd(archsimd.LoadFloat32x16(at(from, 0)), a0), v.MulAdd(archsimd.LoadFloat32x16(at(from, 16)), a1)
		v = spread(x, k+1)
		b0, b1 = v.MulAdd(archsimd.LoadFloat32x16(at(from, panel)), b0), v.MulAdd(archsimd.LoadFloat32x16(at(from, panel+16)), b1)
		v = spread(x, k+2)
		c0, c1 = v.MulAdd(archsimd.LoadFloat32x16(at(from, 2*panel)), c0), v.MulAdd(archsimd.LoadFloat32x16(at(from, 2*panel+16)), c1)
		v = spread(x, k+3)
		d0, d1 = v.MulAdd(archsimd.LoadFloat32x16(at(from, 3*panel)), d0), v.MulAdd(archsimd.LoadFloat32x16(at(from, 3*panel+16)), d1)
	}
	for ; k < size; k++ {
		v := spread(x, k)
		a0 = v.MulAdd(archsimd.LoadFloat32x16(at(w, k*panel)), a0)
		a1 = v.MulAdd(archsimd.LoadFloat32x16(at(w, k*panel+16)), a1)
	}
	a0.Add(b0).Add(c0.Add(d0)).Store(at(s, 0))
	a1.Add(b1).Add(c1.Add(d1)).Store(at(s, 16))
}

func accumulate4(s, x, w unsafe.Pointer, stride, size int) {
	a0, a1 := archsimd.LoadFloat32x16(at(s, 0)), archsimd.LoadFloat32x16(at(s, 16))
	b0, b1 := archsimd.LoadFloat32x16(at(s, 32)), archsimd.LoadFloat32x16(at(s, 48))
	c0, c1 := archsimd.LoadFloat32x16(at(s, 64)), archsimd.LoadFloat32x16(at(s, 80))
	d0, d1 := archsimd.LoadFloat32x16(at(s, 96)), archsimd.LoadFloat32x16(at(s, 112))
	xb, xc, xd := unsafe.Add(x, 4*stride), unsafe.Add(x, 8*stride), unsafe.Add(x, 12*stride)
	for k := range size {
		w0, w1 := archsimd.LoadFloat32x16(at(w, k*panel)), archsimd.LoadFloat32x16(at(w, k*panel+16))
		v := spread(x, k)
		a0, a1 = v.MulAdd(w0, a0), v.MulAdd(w1, a1)
		v = spread(xb, k)
		b0, b1 = v.MulAdd(w0, b0), v.MulAdd(w1, b1)
		v = spread(xc, k)
		c0, c1 = v.MulAdd(w0, c0), v.MulAdd(w1, c1)
		v = spread(xd, k)
		d0, d1 = v.MulAdd(w0, d0), v.MulAdd(w1, d1)
	}
	a0.Store(at(s, 0))
	a1.Store(at(s, 16))
	b0.Store(at(s, 32))
	b1.Store(at(s, 48))
	c0.Store(at(s, 64))
	c1.Store(at(s, 80))
	d0.Store(at(s, 96))
	d1.Store(at(s, 112))
}

// accumulate8 is accumulate for 8 rows; the stride is in bytes. It is in assembly: its sums take 16
// registers, and the compiler keeps vectors in no more than 15.
//
//go:noescape
func accumulate8(sums, x, weights unsafe.Pointer, stride, size int)

// halves8 is accumulate8 for weights in bfloat16.
//
//go:noescape
func halves8(sums, x, weights unsafe.Pointer, stride, size int)

// accumulateHalves is accumulate for weights in bfloat16, for as many rows as it gives back; the others are left.
func accumulateHalves(sums, x []float32, weights []uint16, stride, from, size, rows int) (done int) {
	for ; done+8 <= rows; done += 8 {
		_, _, _ = sums[(done+8)*panel-1], x[(done+7)*stride+from+size-1], weights[size*panel-1]
		halves8(unsafe.Pointer(&sums[done*panel]), unsafe.Pointer(&x[done*stride+from]), unsafe.Pointer(&weights[0]), 4*stride, size)
	}
	return done
}

// dot8 writes the sums of 8 rows of x, `stride` bytes apart, and 32 outputs, over 4·quads inputs.
//
//go:noescape
func dot8(sums, x, weights unsafe.Pointer, stride, quads int)

// dotRows writes sums [rows][32] of x [rows][in] and weights [in/4][32][4]; rows is a multiple of 8.
func dotRows(sums []int32, x []byte, weights []int8, rows, in int) {
	_, _, _ = sums[rows*panel-1], x[rows*in-1], weights[in*panel-1]
	for row := 0; row < rows; row += 8 {
		dot8(unsafe.Pointer(&sums[row*panel]), unsafe.Pointer(&x[row*in]), unsafe.Pointer(&weights[0]), in, in/4)
	}
}

// round writes x·scale + 128, rounded to whole numbers; none may be outside of a byte.
func round(to []byte, x []float32, scale float32) {
	s, half := archsimd.BroadcastFloat32x16(scale), archsimd.BroadcastInt8x16(-128)
	i := 0
	for ; i+16 <= len(x); i += 16 {
		v := archsimd.LoadFloat32x16Slice(x[i:]).Mul(s).ConvertToInt32().TruncateToInt8().Xor(half)
		v.AsUint8x16().Store((*[16]byte)(to[i:]))
	}
	for ; i < len(x); i++ {
		to[i] = byte(int(math.RoundToEven(float64(x[i]*scale))) + 128)
	}
}

// largest is the largest absolute value of x.
func largest(x []float32) float32 {
	zero := archsimd.BroadcastFloat32x16(0)
	acc := zero
	i := 0
	for ; i+16 <= len(x); i += 16 {
		v := archsimd.LoadFloat32x16Slice(x[i:])
		acc = acc.Max(v).Max(zero.Sub(v))
	}
	var part [16]float32
	acc.Store(&part)
	most := float32(0)
	for _, v := range part {
		most = max(most, v)
	}
	for _, v := range x[i:] {
		most = max(most, v, -v)
	}
	return most
}

// unround writes (sums − less)·scale·scales.
func unround(y []float32, sums, less []int32, scales []float32, scale float32) {
	if len(y) < panel {
		for j := range y {
			y[j] = float32(sums[j]-less[j]) * scale * scales[j]
		}
		return
	}
	s := archsimd.BroadcastFloat32x16(scale)
	for j := 0; j < panel; j += 16 {
		v := archsimd.LoadInt32x16Slice(sums[j:]).Sub(archsimd.LoadInt32x16Slice(less[j:])).ConvertToFloat32()
		v.Mul(s).Mul(archsimd.LoadFloat32x16Slice(scales[j:])).StoreSlice(y[j:])
	}
}

// Scores writes the inner products of a query and the keys that begin at the given places.
//
//	query [size]   →   scores [len(places)]
func Scores(scores, query, keys []float32, places []int32) {
	size := len(query)
	if size%64 != 0 {
		for i, p := range places {
			scores[i] = Dot(query, keys[p:][:size])
		}
		return
	}
	for i, p := range places {
		key := keys[p:][:size]
		q, k := unsafe.Pointer(unsafe.SliceData(query)), unsafe.Pointer(unsafe.SliceData(key))
		acc := archsimd.LoadFloat32x16(at(q, 0)).Mul(archsimd.LoadFloat32x16(at(k, 0)))
		more := archsimd.LoadFloat32x16(at(q, 16)).Mul(archsimd.LoadFloat32x16(at(k, 16)))
		for j := 32; j < size; j += 32 {
			acc = archsimd.LoadFloat32x16(at(q, j)).MulAdd(archsimd.LoadFloat32x16(at(k, j)), acc)
			more = archsimd.LoadFloat32x16(at(q, j+16)).MulAdd(archsimd.LoadFloat32x16(at(k, j+16)), more)
		}
		scores[i] = sum(acc.Add(more))
	}
}

// Blend writes the sum of the values that begin at the given places, each times its weight.
//
//	weights [len(places)]   →   out [size]
func Blend(out, weights, values []float32, places []int32) {
	size := len(out)
	weights = weights[:len(places)]
	if size%64 != 0 {
		clear(out)
		for i, p := range places {
			AddScaled(out, values[p:][:size], weights[i])
		}
		return
	}
	for from := 0; from < size; from += 64 {
		a, b, c, d := archsimd.BroadcastFloat32x16(0), archsimd.BroadcastFloat32x16(0), archsimd.BroadcastFloat32x16(0), archsimd.BroadcastFloat32x16(0)
		for i, p := range places {
			v := unsafe.Pointer(unsafe.SliceData(values[int(p)+from:][:64]))
			w := archsimd.BroadcastFloat32x16(weights[i])
			a = w.MulAdd(archsimd.LoadFloat32x16(at(v, 0)), a)
			b = w.MulAdd(archsimd.LoadFloat32x16(at(v, 16)), b)
			c = w.MulAdd(archsimd.LoadFloat32x16(at(v, 32)), c)
			d = w.MulAdd(archsimd.LoadFloat32x16(at(v, 48)), d)
		}
		a.StoreSlice(out[from:])
		b.StoreSlice(out[from+16:])
		c.StoreSlice(out[from+32:])
		d.StoreSlice(out[from+48:])
	}
}

// widenHalves and widenBytes take whole rows of a panel.

func widenHalves(wide []float32, halves []uint16) {
	from, to := unsafe.Pointer(unsafe.SliceData(halves)), unsafe.Pointer(unsafe.SliceData(wide[:len(halves)]))
	for i := 0; i < len(halves); i += panel {
		a := archsimd.LoadUint16x16((*[16]uint16)(unsafe.Add(from, 2*i)))
		b := archsimd.LoadUint16x16((*[16]uint16)(unsafe.Add(from, 2*i+32)))
		a.ExtendToUint32().ShiftAllLeft(16).AsFloat32x16().Store(at(to, i))
		b.ExtendToUint32().ShiftAllLeft(16).AsFloat32x16().Store(at(to, i+16))
	}
}

func widenBytes(wide []float32, bytes []int8) {
	from, to := unsafe.Pointer(unsafe.SliceData(bytes)), unsafe.Pointer(unsafe.SliceData(wide[:len(bytes)]))
	for i := 0; i < len(bytes); i += panel {
		a := archsimd.LoadInt8x16((*[16]int8)(unsafe.Add(from, i)))
		b := archsimd.LoadInt8x16((*[16]int8)(unsafe.Add(from, i+16)))
		a.ExtendToInt32().ConvertToFloat32().Store(at(to, i))
		b.ExtendToInt32().ConvertToFloat32().Store(at(to, i+16))
	}
}

func sum(v archsimd.Float32x16) float32 {
	h := v.GetLo().Add(v.GetHi())
	q := h.GetLo().Add(h.GetHi())
	var part [4]float32
	q.Store(&part)
	return part[0] + part[1] + part[2] + part[3]
}

// Dot is the inner product of two vectors of equal length.
func Dot(a, b []float32) float32 {
	b = b[:len(a)]
	acc := archsimd.BroadcastFloat32x16(0)
	i := 0
	for ; i+16 <= len(a); i += 16 {
		acc = archsimd.LoadFloat32x16Slice(a[i:]).MulAdd(archsimd.LoadFloat32x16Slice(b[i:]), acc)
	}
	total := sum(acc)
	for ; i < len(a); i++ {
		total += a[i] * b[i]
	}
	return total
}

// AddScaled adds scale·x to y.
func AddScaled(y, x []float32, scale float32) {
	x = x[:len(y)]
	s := archsimd.BroadcastFloat32x16(scale)
	i := 0
	for ; i+16 <= len(y); i += 16 {
		s.MulAdd(archsimd.LoadFloat32x16Slice(x[i:]), archsimd.LoadFloat32x16Slice(y[i:])).StoreSlice(y[i:])
	}
	for ; i < len(y); i++ {
		y[i] += scale * x[i]
	}
}

// exp is eˣ for x ≤ 88, in float32, off by at most 2 units in the last place; far below −87 it
// is 0. eˣ = 2ⁿ·eʳ with n = round(x·log₂e), and eʳ by its Taylor series to r⁷.
func exp(x archsimd.Float32x16) archsimd.Float32x16 {
	x = x.Max(archsimd.BroadcastFloat32x16(-150))
	n := x.Mul(archsimd.BroadcastFloat32x16(1.44269504)).RoundToEvenScaled(0)
	r := n.MulAdd(archsimd.BroadcastFloat32x16(-0.693359375), x)
	r = n.MulAdd(archsimd.BroadcastFloat32x16(2.12194440e-4), r)
	p := archsimd.BroadcastFloat32x16(1.0 / 5040)
	for _, c := range [...]float32{1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1, 1} {
		p = p.MulAdd(r, archsimd.BroadcastFloat32x16(c))
	}
	return p.Scale(n)
}

// Exp replaces each x by e^(x−shift) and gives their sum; x − shift must not exceed 88.
func Exp(x []float32, shift float32) (total float32) {
	by := archsimd.BroadcastFloat32x16(shift)
	acc := archsimd.BroadcastFloat32x16(0)
	i := 0
	for ; i+16 <= len(x); i += 16 {
		e := exp(archsimd.LoadFloat32x16Slice(x[i:]).Sub(by))
		e.StoreSlice(x[i:])
		acc = acc.Add(e)
	}
	total = sum(acc)
	if i < len(x) {
		var rest [16]float32
		n := copy(rest[:], x[i:])
		exp(archsimd.LoadFloat32x16(&rest).Sub(by)).Store(&rest)
		copy(x[i:], rest[:n])
		for _, v := range rest[:n] {
			total += v
		}
	}
	return total
}

// LogSoftmax replaces x by the logarithms of its softmax.
func LogSoftmax(x []float32) {
	most := Max(x)
	by := archsimd.BroadcastFloat32x16(most)
	acc := archsimd.BroadcastFloat32x16(0)
	i := 0
	for ; i+16 <= len(x); i += 16 {
		acc = acc.Add(exp(archsimd.LoadFloat32x16Slice(x[i:]).Sub(by)))
	}
	total := float64(sum(acc))
	for _, v := range x[i:] {
		total += expOne(v - most)
	}
	shiftBy(x, most, total)
}

// shiftBy takes the maximum and the logarithm of the sum of the exponentials off x.
func shiftBy(x []float32, most float32, total float64) {
	log := float32(math.Log(total))
	a, b := archsimd.BroadcastFloat32x16(most), archsimd.BroadcastFloat32x16(log)
	i := 0
	for ; i+16 <= len(x); i += 16 {
		archsimd.LoadFloat32x16Slice(x[i:]).Sub(a).Sub(b).StoreSlice(x[i:])
	}
	for ; i < len(x); i++ {
		x[i] = x[i] - most - log
	}
}

// Scale multiplies x by a number.
func Scale(x []float32, by float32) {
	s := archsimd.BroadcastFloat32x16(by)
	i := 0
	for ; i+16 <= len(x); i += 16 {
		archsimd.LoadFloat32x16Slice(x[i:]).Mul(s).StoreSlice(x[i:])
	}
	for ; i < len(x); i++ {
		x[i] *= by
	}
}

// Product writes a·b·scale, element by element.
func Product(y, a, b []float32, scale float32) {
	a, b = a[:len(y)], b[:len(y)]
	s := archsimd.BroadcastFloat32x16(scale)
	i := 0
	for ; i+16 <= len(y); i += 16 {
		archsimd.LoadFloat32x16Slice(a[i:]).Mul(s).Mul(archsimd.LoadFloat32x16Slice(b[i:])).StoreSlice(y[i:])
	}
	for ; i < len(y); i++ {
		y[i] = a[i] * scale * b[i]
	}
}

// Positive writes the larger of x and 0.
func Positive(y, x []float32) {
	x = x[:len(y)]
	zero := archsimd.BroadcastFloat32x16(0)
	i := 0
	for ; i+16 <= len(y); i += 16 {
		archsimd.LoadFloat32x16Slice(x[i:]).Max(zero).StoreSlice(y[i:])
	}
	for ; i < len(y); i++ {
		y[i] = max(x[i], 0)
	}
}

// Above is the first index from `from` on where x + add is larger than limit, or else the length of x.
func Above(x []float32, from int, add, limit float32) int {
	a, l := archsimd.BroadcastFloat32x16(add), archsimd.BroadcastFloat32x16(limit)
	i := from
	for ; i+16 <= len(x); i += 16 {
		if m := archsimd.LoadFloat32x16Slice(x[i:]).Add(a).Greater(l).ToBits(); m != 0 {
			return i + bits.TrailingZeros16(m)
		}
	}
	for ; i < len(x); i++ {
		if x[i]+add > limit {
			return i
		}
	}
	return len(x)
}

// Max is the largest of x.
func Max(x []float32) float32 {
	most := x[0]
	i := 0
	if len(x) >= 16 {
		acc := archsimd.LoadFloat32x16Slice(x)
		for i = 16; i+16 <= len(x); i += 16 {
			acc = acc.Max(archsimd.LoadFloat32x16Slice(x[i:]))
		}
		var part [16]float32
		acc.Store(&part)
		for _, v := range part {
			most = max(most, v)
		}
	}
	for _, v := range x[i:] {
		most = max(most, v)
	}
	return most
}
