// Package matvec multiplies a few rows by a large weight matrix on the CPU, as one step of a
// decoder does: the work is bounded by reading the weights, so that they are packed for reading
// in order and may be kept as bf16 or int8, while sums stay in float32.
//
// It needs AVX-512 and a build with Go's simd experiment; Fast says whether both are there.
package matvec

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
)

// Kind is how weights are kept.
type Kind int

// Kinds of weights.
const (
	Float32 Kind = iota
	BFloat16
	// Int8 has one scale for each output, the largest weight over 127. Where the processor multiplies bytes
	// (AVX-512 VNNI), inputs are rounded to 8 bits too, each row by its own largest, and sums are exact.
	Int8
)

// String names the kind as precisions are named.
func (k Kind) String() string { return [...]string{"fp32", "bf16", "int8"}[k] }

const (
	panel = 32  // outputs that are computed together
	chunk = 4   // panels taken by a worker at a time
	block = 128 // inputs whose weights are widened to float32 at a time
	tile  = 64  // rows that are multiplied by a panel at a time, a multiple of 8
	tall  = 256 // rows taken by a worker at a time
)

// Matrix is a packed weight matrix [out, in].
type Matrix struct {
	Out, In int
	kind    Kind
	floats  []float32 // panels of [in][32]; one of the three is set
	halves  []uint16
	bytes   []int8
	scales  []float32 // int8: [out]
	free    func()    // gives the weights' memory back; nil where the collector does
	shifts  []int32   // int8: [out], what inputs add to a sum by being shifted by 128; nil where they stay float32
}

// Pack packs the rows of matrices [rows, in] that stand under one another.
func Pack(kind Kind, in int, parts ...[]float32) (*Matrix, error) {
	m := &Matrix{In: in, kind: kind}
	for _, p := range parts {
		if in == 0 || len(p)%in != 0 {
			return nil, fmt.Errorf("packing %d weights for %d inputs", len(p), in)
		}
		m.Out += len(p) / in
	}
	size := (m.Out + panel - 1) / panel * panel * in
	switch kind {
	case Float32:
		m.floats, m.free = reserve[float32](size)
	case BFloat16:
		m.halves, m.free = reserve[uint16](size)
	case Int8:
		outs := (m.Out + panel - 1) / panel * panel
		m.bytes, m.free = reserve[int8](outs * m.padded())
		m.scales = make([]float32, outs)
		if dots() {
			m.shifts = make([]int32, outs)
		}
	}
	at := 0
	for _, p := range parts {
		Parallel((len(p)/in+panel-1)/panel, func(i int) {
			for out := i * panel; out < min((i+1)*panel, len(p)/in); out++ {
				m.put(at+out, p[out*in:(out+1)*in])
			}
		})
		at += len(p) / in
	}
	return m, nil
}

// Close frees the weights' memory; the matrix must not be used any more.
func (m *Matrix) Close() {
	if m.free != nil {
		m.free()
	}
	*m = Matrix{}
}

// put packs the weights of one output.
func (m *Matrix) put(out int, weights []float32) {
	base := out/panel*panel*m.In + out%panel
	scale := float32(0)
	if m.kind == Int8 {
		for _, w := range weights {
			scale = max(scale, w, -w)
		}
		scale /= 127
		m.scales[out] = scale
	}
	for k, w := range weights {
		at := base + k*panel
		switch m.kind {
		case Float32:
			m.floats[at] = w
		case BFloat16:
			m.halves[at] = bfloat16(w)
		case Int8:
			if scale == 0 {
				continue
			}
			v := int8(math.RoundToEven(float64(w / scale)))
			if m.shifts != nil {
				m.shifts[out] += 128 * int32(v)
				at = out/panel*panel*m.padded() + (k/4*panel+out%panel)*4 + k%4
			}
			m.bytes[at] = v
		}
	}
}

// Row writes the weights of one output, as they are kept.
func (m *Matrix) Row(to []float32, out int) {
	base := out/panel*panel*m.In + out%panel
	for k := range to[:m.In] {
		switch {
		case m.floats != nil:
			to[k] = m.floats[base+k*panel]
		case m.halves != nil:
			to[k] = math.Float32frombits(uint32(m.halves[base+k*panel]) << 16)
		case m.shifts != nil:
			to[k] = m.scales[out] * float32(m.bytes[out/panel*panel*m.padded()+(k/4*panel+out%panel)*4+k%4])
		default:
			to[k] = m.scales[out] * float32(m.bytes[base+k*panel])
		}
	}
}

// bfloat16 rounds to the nearest, ties to even.
func bfloat16(v float32) uint16 {
	bits := math.Float32bits(v)
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

// padded is the number of inputs, rounded up to whole groups of four.
func (m *Matrix) padded() int { return (m.In + 3) / 4 * 4 }

// Bytes is the memory that the weights take.
func (m *Matrix) Bytes() int {
	return 4*len(m.floats) + 2*len(m.halves) + len(m.bytes) + 4*len(m.scales) + 4*len(m.shifts)
}

// Mul computes y = x·Wᵀ on all cores.
//
//	x [rows, in]   →   y [rows, out]
func (m *Matrix) Mul(y, x []float32, rows int) {
	if m.shifts != nil {
		m.mulBytes(y, x, rows)
		return
	}
	m.parts(rows, func(s *scratch, p, from, n int) { m.mulPanel(s, y[from*m.Out:], x[from*m.In:], n, p) })
}

// parts divides a product among the cores: work does n rows, from the one given, of a panel of outputs. Those of a few
// panels and a few rows follow each other, so that both are still at hand.
func (m *Matrix) parts(rows int, work func(s *scratch, p, from, n int)) {
	panels := (m.Out + panel - 1) / panel
	across, down := (panels+chunk-1)/chunk, (rows+tall-1)/tall
	Parallel(across*down, func(i int) {
		s := scratches.Get().(*scratch)
		last := min(rows, (i/across+1)*tall)
		for from := i / across * tall; from < last; from += tile {
			for p := i % across * chunk; p < min(panels, (i%across+1)*chunk); p++ {
				work(s, p, from, min(tile, last-from))
			}
		}
		scratches.Put(s)
	})
}

// scratch is a worker's memory.
type scratch struct {
	wide   [block * panel]float32
	sums   [tile * panel]float32 // [rows][32]
	counts [tile * panel]int32   // [rows][32]
}

var scratches = sync.Pool{New: func() any { return new(scratch) }} //nolint:gochecknoglobals // a pool is shared by its nature

// rounded is the input of a product of bytes.
type rounded struct {
	bytes  []byte // [rows][padded inputs], plus 128; rows are a multiple of 8
	scales []float32
}

var roundeds = sync.Pool{New: func() any { return new(rounded) }} //nolint:gochecknoglobals // a pool is shared by its nature

// mulBytes is Mul where inputs are rounded to bytes.
func (m *Matrix) mulBytes(y, x []float32, rows int) {
	in, groups := m.padded(), (rows+7)/8*8
	r := roundeds.Get().(*rounded)
	defer roundeds.Put(r)
	if len(r.bytes) < groups*in {
		r.bytes = make([]byte, groups*in)
	}
	if len(r.scales) < rows {
		r.scales = make([]float32, groups)
	}
	Parallel((rows+tile-1)/tile, func(i int) {
		for row := i * tile; row < min(rows, (i+1)*tile); row++ {
			values := x[row*m.In : (row+1)*m.In]
			r.scales[row] = largest(values) / 127
			by := float32(0)
			if r.scales[row] > 1e-30 { // below, the row is as good as 0, and 1/scale may be infinite
				by = 1 / r.scales[row]
			}
			round(r.bytes[row*in:], values, by)
		}
	})
	m.parts(rows, func(s *scratch, p, from, n int) {
		eights := (n + 7) / 8 * 8
		dotRows(s.counts[:], r.bytes[from*in:(from+eights)*in], m.bytes[p*panel*in:(p+1)*panel*in], eights, in)
		width := min(panel, m.Out-p*panel)
		for row := range n {
			unround(y[(from+row)*m.Out+p*panel:][:width], s.counts[row*panel:], m.shifts[p*panel:], m.scales[p*panel:], r.scales[from+row])
		}
	})
}

// mulPanel computes 32 outputs of all rows.
func (m *Matrix) mulPanel(s *scratch, y, x []float32, rows, p int) {
	width := min(panel, m.Out-p*panel)
	clear(s.sums[:rows*panel])
	for from := 0; from < m.In; from += block {
		size := min(block, m.In-from)
		at := (p*m.In + from) * panel
		weights, done := s.wide[:size*panel], 0
		switch m.kind {
		case Float32:
			weights = m.floats[at : at+size*panel]
		case BFloat16:
			done = accumulateHalves(s.sums[:], x, m.halves[at:at+size*panel], m.In, from, size, rows)
			if done < rows {
				widenHalves(weights, m.halves[at:at+size*panel])
			}
		case Int8:
			widenBytes(weights, m.bytes[at:at+size*panel])
		}
		if done < rows {
			accumulate(s.sums[done*panel:], x[done*m.In:], weights, m.In, from, size, rows-done)
		}
	}
	for row := range rows {
		out := y[row*m.Out+p*panel:][:width]
		copy(out, s.sums[row*panel:])
		if m.kind == Int8 {
			for j := range out {
				out[j] *= m.scales[p*panel+j]
			}
		}
	}
}

// Parallel runs work(0) … work(n−1) on all cores.
func Parallel(n int, work func(i int)) {
	workers := min(n, runtime.GOMAXPROCS(0))
	if workers <= 1 {
		for i := range n {
			work(i)
		}
		return
	}
	var next atomic.Int64
	loop := func() {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			work(i)
		}
	}
	var group sync.WaitGroup
	for range workers - 1 {
		group.Go(loop)
	}
	loop()
	group.Wait()
}

func expOne(v float32) float64 { return math.Exp(float64(v)) }
