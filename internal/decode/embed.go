package decode

import (
	"context"
	"fmt"
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas

	"github.com/t5ctl/t5ctl/internal/device"
)

// embedRows is how many sources are encoded at a time.
const embedRows = 32

// Embed gives, for each source, the mean of the encoder's states over its tokens: T5 has no token that
// stands for the whole.
func (e *Engine) Embed(ctx context.Context, sources [][]int32) ([][]float32, error) {
	order := make([]int, len(sources))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(sources[a]) - len(sources[b]) })
	out := make([][]float32, len(sources))
	programs := map[int]*device.Program{}
	defer func() {
		for _, p := range programs {
			p.Close()
		}
	}()
	for chunk := range slices.Chunk(order, embedRows) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		length := Bucket(len(sources[chunk[len(chunk)-1]]))
		if programs[length] == nil {
			p, err := e.embedProgram(length)
			if err != nil {
				return nil, err
			}
			programs[length] = p
		}
		ids := make([]int32, embedRows*length)
		for i, at := range chunk {
			copy(ids[i*length:], sources[at])
		}
		states, err := e.call(programs[length], ints{ids, []int{embedRows, length}})
		if err != nil {
			return nil, err
		}
		flat, err := read[float32](states[0])
		if err != nil {
			return nil, err
		}
		d := e.weights.Config.DModel
		for i, at := range chunk {
			out[at] = flat[i*d : (i+1)*d]
		}
	}
	return out, nil
}

// embedProgram compiles the encoder and the mean.
//
//	weights…, inputs [rows, length]   →   [rows, d_model]
func (e *Engine) embedProgram(length int) (*device.Program, error) {
	inputs := append(e.weights.Inputs(), device.Input{Name: "inputs", Shape: shapes.Make(dtypes.Int32, embedRows, length)})
	name := fmt.Sprintf("t5.embed %d × %d", embedRows, length)
	p, err := e.compile(name, inputs, func(in []*Node) []*Node {
		net, rest := e.weights.Network(in)
		states := ConvertDType(net.Encode(rest[0]), dtypes.Float32)                  // [rows, length, d_model]
		there := ConvertDType(NotEqual(rest[0], ZerosLike(rest[0])), dtypes.Float32) // padding is token 0
		count := MaxScalar(ReduceAndKeep(there, ReduceSum, -1), 1)                   // [rows, 1]
		sum := ReduceSum(Mul(states, InsertAxes(there, -1)), 1)                      // [rows, d_model]
		return []*Node{Div(sum, BroadcastToDims(count, sum.Shape().Dimensions...))}
	})
	if err == nil && e.Compiled != nil {
		e.Compiled(name, p.CompileTime)
	}
	return p, err
}
