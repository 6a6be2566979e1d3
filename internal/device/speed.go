package device

import (
	"time"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Speed is how many floating-point operations a second (10⁹) the backend does in products of two matrices [512, 512] of
// fp32, which is what training mostly does. It takes a fraction of a second, and the best of some runs counts, so that other
// programs on the machine disturb little.
func (b *Backend) Speed() (gigaflops float64, err error) {
	const n, products, runs = 512, 8, 5
	square := shapes.Make(dtypes.Float32, n, n)
	p, err := b.Compile("speed", []Input{{Name: "x", Shape: square}, {Name: "w", Shape: square}}, func(in []*graph.Node) []*graph.Node {
		x := in[0]
		for range products {
			x = graph.Tanh(graph.Einsum("ij,jk->ik", x, in[1])) // keeps values bounded
		}
		return []*graph.Node{graph.ReduceAllSum(x)}
	})
	if err != nil {
		return 0, err
	}
	defer p.Close()
	values := make([]float32, n*n)
	for i := range values {
		values[i] = float32(i%7)/70 - 0.04
	}
	x, err := b.Float32(values, n, n)
	if err != nil {
		return 0, err
	}
	defer func() { _ = x.FinalizeAll() }() // freed with the backend in any case
	best := time.Duration(1<<63 - 1)
	for range runs {
		start := time.Now()
		out, err := p.Run([]*tensors.Tensor{x, x}, nil)
		if err != nil {
			return 0, err
		}
		if _, err := tensors.CopyFlatData[float32](out[0]); err != nil { // the run has ended only then
			return 0, err
		}
		_ = out[0].FinalizeAll() // freed with the backend in any case
		best = min(best, time.Since(start))
	}
	return 2 * n * n * n * products / best.Seconds() / 1e9, nil
}
