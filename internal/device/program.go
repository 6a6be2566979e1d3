package device

import (
	"fmt"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/distributed"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Input names one argument of a Program and fixes its shape.
type Input struct {
	Name  string
	Shape shapes.Shape // of all of it
	Split bool         // on a mesh each device has a part of the first axis; else each has all of it
}

// Program is a graph compiled for one backend and fixed input shapes. It is safe for use by one
// goroutine at a time.
type Program struct {
	name        string
	mesh        *Mesh
	graph       *graph.Graph
	inputs      []Input
	donate      []bool        // the arguments that a run gives away; nil: none
	split       []bool        // the results of which each device keeps a part; nil: none
	CompileTime time.Duration // what the compilation took
	Memory      Memory        // as the compiler says; all zero where it says nothing
	Reused      bool          // an earlier process compiled it
}

// Memory is what a program takes on each of its devices, in bytes.
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
func (b *Backend) CompileInPlace(name string, inputs []Input, donate []bool, fn func(in []*graph.Node) []*graph.Node) (*Program, error) {
	return b.compile(&Mesh{backend: b, size: 1}, Build{Name: name, Inputs: inputs, Donate: donate, Graph: fn})
}

func (b *Backend) compile(m *Mesh, build Build) (p *Program, err error) {
	start := time.Now()
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, asError("compiling "+build.Name, r)
		}
	}()
	g := graph.NewGraph(b.Backend, build.Name)
	if m.mesh != nil {
		if err := g.SetAutoSharding(m.mesh); err != nil {
			return nil, fmt.Errorf("compiling %s: %w", build.Name, trimmed{err})
		}
	}
	nodes := make([]*graph.Node, len(build.Inputs))
	for i, in := range build.Inputs {
		nodes[i] = graph.ShardedParameter(g, in.Name, in.Shape, m.spec(in.Split))
	}
	outputs := build.Graph(nodes)
	var specs []*distributed.ShardingSpec
	for i := range outputs {
		if m.mesh != nil {
			specs = append(specs, m.spec(build.Split != nil && build.Split[i]))
		}
	}
	c, err := compileOnce(build.Donate, func() error { return g.CompileWithSharding(outputs, specs) })
	if err != nil {
		return nil, runError("compiling "+build.Name, err)
	}
	return &Program{
		name: build.Name, mesh: m, graph: g, inputs: build.Inputs, donate: build.Donate, split: build.Split,
		CompileTime: time.Since(start), Memory: c.memory, Reused: c.reused,
	}, nil
}

// Run executes a program of one device. The arguments marked in donate (nil: those it was compiled
// to be given) are given away: they are invalid afterwards, whether the run succeeds or not.
func (p *Program) Run(args []*tensors.Tensor, donate []bool) ([]*tensors.Tensor, error) {
	arrays := make([]*Array, len(args))
	for i, t := range args {
		arrays[i] = &Array{shape: t.Shape(), parts: []*tensors.Tensor{t}}
	}
	results, err := p.RunOn(arrays, donate)
	if err != nil {
		return nil, err
	}
	out := make([]*tensors.Tensor, len(results))
	for i, a := range results {
		out[i] = a.First()
	}
	return out, nil
}

// RunOn is Run on the devices that the program was compiled for.
func (p *Program) RunOn(args []*Array, donate []bool) (out []*Array, err error) {
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
	devices := p.mesh.size
	var buffers []compute.Buffer // those of the first device, of the second, …
	var given []bool
	for d := range devices {
		for i, arg := range args {
			buffer, err := p.buffer(arg, i, d, donate[i])
			if err != nil {
				return nil, runError("running "+p.name+": "+p.inputs[i].Name, err)
			}
			buffers, given = append(buffers, buffer), append(given, donate[i])
		}
	}
	results := p.graph.RunWithBuffers(buffers, given, 0)
	out = make([]*Array, len(results)/devices)
	for i := range out {
		split := devices > 1 && p.split != nil && p.split[i]
		a := &Array{shape: results[i].Shape(), split: split}
		if split {
			a.shape = a.shape.Clone()
			a.shape.Dimensions[0] *= devices
		}
		for d := range devices {
			a.parts = append(a.parts, results[d*len(out)+i])
		}
		out[i] = a
	}
	return out, nil
}

// buffer is what device d holds of the i-th argument.
func (p *Program) buffer(arg *Array, i, d int, donate bool) (compute.Buffer, error) {
	in := p.inputs[i]
	if want := in.Split && p.mesh.size > 1; !arg.shape.Equal(in.Shape) || arg.split != want || len(arg.parts) != p.mesh.size {
		return nil, fmt.Errorf("it has shape %s (divided: %v, on %d devices), want %s (divided: %v, on %d)",
			arg.shape, arg.split, len(arg.parts), in.Shape, want, p.mesh.size)
	}
	take := arg.parts[d].Buffer
	if donate {
		take = arg.parts[d].DonateBuffer
	}
	buffer, err := take(p.mesh.backend.Backend, compute.DeviceNum(d))
	if err != nil {
		return nil, trimmed{err}
	}
	return buffer, nil
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

func place[T float32 | int32](b *Backend, values []T, shape shapes.Shape) (*tensors.Tensor, error) {
	if len(values) != shape.Size() {
		return nil, fmt.Errorf("placing a tensor %s: %d values", shape, len(values))
	}
	t, err := tensors.FromRaw(b.Backend, 0, shape, dtypes.UnsafeByteSlice(values))
	if err != nil {
		return nil, fmt.Errorf("placing a tensor %s: %w", shape, trimmed{err})
	}
	return t, nil
}
