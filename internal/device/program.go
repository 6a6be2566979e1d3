package device

import (
	"fmt"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Input names one argument of a Program and fixes its shape.
type Input struct {
	Name  string
	Shape shapes.Shape
}

// Program is a graph compiled for one backend and fixed input shapes. It is safe for use by one
// goroutine at a time.
type Program struct {
	name        string
	backend     *Backend
	graph       *graph.Graph
	inputs      []Input
	donate      []bool        // the arguments that a run gives away; nil: none
	CompileTime time.Duration // what the compilation took
	Memory      Memory        // as the compiler says; all zero where it says nothing
	Reused      bool          // an earlier process compiled it
}

// Memory is what a program takes, in bytes.
type Memory struct {
	Code      int64 `json:"code"`
	Inputs    int64 `json:"inputs"`
	Outputs   int64 `json:"outputs"`
	Aliases   int64 `json:"aliases"`   // of the outputs, what lies in the memory of inputs
	Temporary int64 `json:"temporary"` // while it runs
}

// compiled is what is known of a compilation.
type compiled struct {
	memory Memory
	reused bool
}

// Compile builds fn over the inputs, in their order, and compiles what it returns.
func (b *Backend) Compile(name string, inputs []Input, fn func(in []*graph.Node) []*graph.Node) (*Program, error) {
	return b.CompileInPlace(name, inputs, nil, fn)
}

// CompileInPlace is Compile for a program that is given the inputs marked in donate at each run:
// they are invalid afterwards, and results may lie in their memory.
func (b *Backend) CompileInPlace(name string, inputs []Input, donate []bool, fn func(in []*graph.Node) []*graph.Node) (p *Program, err error) {
	start := time.Now()
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, asError("compiling "+name, r)
		}
	}()
	g := graph.NewGraph(b.Backend, name)
	nodes := make([]*graph.Node, len(inputs))
	for i, in := range inputs {
		nodes[i] = graph.Parameter(g, in.Name, in.Shape)
	}
	outputs := fn(nodes)
	c, err := compileOnce(donate, func() error { return g.Compile(outputs...) })
	if err != nil {
		return nil, fmt.Errorf("compiling %s: %w", name, trimmed{err})
	}
	return &Program{
		name: name, backend: b, graph: g, inputs: inputs, donate: donate,
		CompileTime: time.Since(start), Memory: c.memory, Reused: c.reused,
	}, nil
}

// Run executes the program. The arguments marked in donate (nil: those it was compiled to be given)
// are given away: they are invalid afterwards, whether the run succeeds or not.
func (p *Program) Run(args []*tensors.Tensor, donate []bool) (out []*tensors.Tensor, err error) {
	defer func() {
		if r := recover(); r != nil {
			out, err = nil, asError("running "+p.name, r)
		}
	}()
	if len(args) != len(p.inputs) {
		return nil, fmt.Errorf("running %s: %d arguments, want %d", p.name, len(args), len(p.inputs))
	}
	if donate == nil {
		donate = p.donate
	}
	if donate == nil {
		donate = make([]bool, len(args))
	}
	buffers := make([]compute.Buffer, len(args))
	for i, arg := range args {
		if !arg.Shape().Equal(p.inputs[i].Shape) {
			return nil, fmt.Errorf("running %s: %s has shape %s, want %s", p.name, p.inputs[i].Name, arg.Shape(), p.inputs[i].Shape)
		}
		if donate[i] {
			buffers[i], err = arg.DonateBuffer(p.backend.Backend, 0)
		} else {
			buffers[i], err = arg.Buffer(p.backend.Backend, 0)
		}
		if err != nil {
			return nil, fmt.Errorf("running %s: %s: %w", p.name, p.inputs[i].Name, trimmed{err})
		}
	}
	return p.graph.RunWithBuffers(buffers, donate, 0), nil
}

// Close frees the compiled code.
func (p *Program) Close() { p.graph.Finalize() }

// Float32 makes a device tensor [dims...] of values.
func (b *Backend) Float32(values []float32, dims ...int) (*tensors.Tensor, error) {
	return place(b, values, shapes.Make(dtypes.Float32, dims...))
}

// Int32 makes a device tensor [dims...] of values.
func (b *Backend) Int32(values []int32, dims ...int) (*tensors.Tensor, error) {
	return place(b, values, shapes.Make(dtypes.Int32, dims...))
}

// Uint32 makes a device tensor [dims...] of values.
func (b *Backend) Uint32(values []uint32, dims ...int) (*tensors.Tensor, error) {
	return place(b, values, shapes.Make(dtypes.Uint32, dims...))
}

// Raw makes a device tensor of little-endian bytes.
func (b *Backend) Raw(dtype dtypes.DType, data []byte, dims ...int) (*tensors.Tensor, error) {
	t, err := tensors.FromRaw(b.Backend, 0, shapes.Make(dtype, dims...), data)
	if err != nil {
		return nil, fmt.Errorf("placing a tensor %s%v: %w", dtype, dims, trimmed{err})
	}
	return t, nil
}

func place[T float32 | int32 | uint32](b *Backend, values []T, shape shapes.Shape) (*tensors.Tensor, error) {
	if len(values) != shape.Size() {
		return nil, fmt.Errorf("placing a tensor %s: %d values", shape, len(values))
	}
	t, err := tensors.FromRaw(b.Backend, 0, shape, dtypes.UnsafeByteSlice(values))
	if err != nil {
		return nil, fmt.Errorf("placing a tensor %s: %w", shape, trimmed{err})
	}
	return t, nil
}
