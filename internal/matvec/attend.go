package matvec

import "sync"

// Memory is what one head of one source attends to, laid out for reading in order: keys by panels of 32
// positions, values by panels of 32 of their elements.
type Memory struct {
	positions, size int
	keys            []float32 // [positions/32][size][32]
	values          []float32 // [size/32][positions][32]
}

// NewMemory lays out the keys and values of one head, whose rows of `size` begin `stride` apart.
//
//	keys, values [positions][stride]
func NewMemory(keys, values []float32, positions, size, stride int) Memory {
	m := Memory{positions: positions, size: size}
	across, down := (positions+panel-1)/panel, (size+panel-1)/panel
	m.keys, m.values = make([]float32, across*size*panel), make([]float32, down*positions*panel)
	for p := range positions {
		to := m.keys[p/panel*size*panel+p%panel:]
		for d, v := range keys[p*stride:][:size] {
			to[d*panel] = v
		}
		for d := 0; d < size; d += panel {
			copy(m.values[(d/panel*positions+p)*panel:][:panel], values[p*stride+d:p*stride+min(d+panel, size)])
		}
	}
	return m
}

// attention is a worker's memory in Attend.
type attention struct{ sums, weights []float32 }

var attentions = sync.Pool{New: func() any { return new(attention) }} //nolint:gochecknoglobals // a pool is shared by its nature

// Attend blends the memory's values for a few queries, by the softmax of their inner products with the keys plus
// the mask.
//
//	queries [rows][stride], of which `size` count; mask [positions]   →   out [rows][to]
func (m Memory) Attend(out []float32, to int, queries []float32, stride, rows int, mask []float32) {
	a := attentions.Get().(*attention)
	defer attentions.Put(a)
	n := m.positions
	if len(a.sums) < rows*panel {
		a.sums = make([]float32, rows*panel)
	}
	if len(a.weights) < rows*n {
		a.weights = make([]float32, rows*n)
	}
	sums := a.sums[:rows*panel]
	for from := 0; from < n; from += panel {
		clear(sums)
		accumulate(sums, queries, m.keys[from*m.size:], stride, 0, m.size, rows)
		for row := range rows {
			copy(a.weights[row*n+from:row*n+min(from+panel, n)], sums[row*panel:])
		}
	}
	for row := range rows {
		weights := a.weights[row*n : (row+1)*n]
		AddScaled(weights, mask, 1)
		Scale(weights, 1/Exp(weights, Max(weights)))
	}
	for from := 0; from < m.size; from += panel {
		clear(sums)
		accumulate(sums, a.weights, m.values[from*n:], n, 0, n, rows)
		for row := range rows {
			copy(out[row*to+from:row*to+min(from+panel, m.size)], sums[row*panel:])
		}
	}
}
