package matvec

import "sync"

// Memory is what one head of one source attends to, laid out for reading in order: keys by panels of 32
// positions, values by panels of 32 of their elements.
type Memory struct {
	positions, size int
	keys            []float32 // [positions/32][size][32]
	values          []float32 // [size/32][positions][32]
}

// NewMemory lays out the keys and values of one head; see Lay.
func NewMemory(keys, values []float32, positions, size, stride int) Memory {
	var m Memory
	m.Lay(keys, values, positions, size, stride)
	return m
}

// Lay lays out the keys and values of one head, whose rows of `size` begin `stride` apart, in the memory that it has
// where that is enough.
//
//	keys, values [positions][stride]
func (m *Memory) Lay(keys, values []float32, positions, size, stride int) {
	m.positions, m.size = positions, size
	across, down := (positions+panel-1)/panel, (size+panel-1)/panel
	m.keys, m.values = sized(m.keys, across*size*panel), sized(m.values, down*positions*panel)
	for p := range positions {
		to := m.keys[p/panel*size*panel+p%panel:]
		for d, v := range keys[p*stride:][:size] {
			to[d*panel] = v
		}
		for d := 0; d < size; d += panel {
			copy(m.values[(d/panel*positions+p)*panel:][:panel], values[p*stride+d:p*stride+min(d+panel, size)])
		}
	}
}

// sized gives n numbers, those of x where it has as many; what lies in them is of no account.
func sized(x []float32, n int) []float32 {
	if cap(x) < n {
		return make([]float32, n)
	}
	return x[:n]
}

// attention is a worker's memory in Attend.
type attention struct{ sums, weights []float32 }

var attentions = sync.Pool{New: func() any { return new(attention) }} //nolint:gochecknoglobals // a pool is shared by its nature

// Attend blends the memory's values for queries, by the softmax of their inner products with the keys plus the mask,
// and a bias of each query's own, unless it is nil.
//
//	queries [rows][stride], of which `size` count; mask, bias(row) [positions]   →   out [rows][to]
func (m Memory) Attend(out []float32, to int, queries []float32, stride, rows int, mask []float32, bias func(row int) []float32) {
	a := attentions.Get().(*attention)
	defer attentions.Put(a)
	n := m.positions
	a.sums, a.weights = sized(a.sums, rows*panel), sized(a.weights, rows*n)
	sums := a.sums
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
		if bias != nil {
			AddScaled(weights, bias(row), 1)
		}
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
