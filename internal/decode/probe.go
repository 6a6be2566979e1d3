package decode

import (
	"fmt"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas

	"github.com/t5ctl/t5ctl/internal/device"
)

// Logits gives the scores of every token at every place of the targets, by teacher forcing on the
// device. All sources are of one length, and so are all targets.
//
//	sources [rows][length], targets [rows][targets]   →   [rows · targets · vocab]
func (e *Engine) Logits(sources, targets [][]int32) ([]float32, error) {
	rows, length, width := len(sources), len(sources[0]), len(targets[0])
	var x, y []int32
	for i := range sources {
		x, y = append(x, sources[i]...), append(y, targets[i]...)
	}
	inputs := append(e.weights.Inputs(),
		device.Input{Name: "inputs", Shape: shapes.Make(dtypes.Int32, rows, length)},
		device.Input{Name: "labels", Shape: shapes.Make(dtypes.Int32, rows, width)})
	p, err := e.compile(fmt.Sprintf("t5.logits %d × (%d → %d)", rows, length, width), inputs, func(in []*Node) []*Node {
		net, rest := e.weights.Network(in)
		return []*Node{net.Forward(rest[0], rest[1])}
	})
	if err != nil {
		return nil, err
	}
	defer p.Close()
	out, err := e.call(p, ints{x, []int{rows, length}}, ints{y, []int{rows, width}})
	if err != nil {
		return nil, err
	}
	return read[float32](out[0])
}
