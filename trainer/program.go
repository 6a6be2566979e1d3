package trainer

import (
	"fmt"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/lora"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
	"github.com/t5ctl/t5ctl/internal/t5"
)

// network says which tensors a run has, in what order they are arguments, and how a graph takes
// them. The arguments are the tensors that learn, then the frozen ones.
type network struct {
	config   t5.Config
	adapter  *lora.Adapter // nil: every weight learns
	teacher  *t5.Config    // of the model that is learned from; nil: none
	options  Options
	learning []device.Input
	frozen   []device.Input // the base under an adapter, then the teacher
	norm     []bool         // learning[i] is a layer norm's scale
	mesh     *device.Mesh   // nil where only sizes are asked for
}

func newNetwork(config t5.Config, adapter *lora.Adapter, teacher *t5.Config, options Options, mesh *device.Mesh) *network {
	n := &network{config: config, adapter: adapter, teacher: teacher, options: options, mesh: mesh}
	for _, spec := range config.Specs() {
		in := device.Input{Name: spec.Name, Shape: shapes.Make(dtypes.Float32, spec.Shape...)}
		if adapter != nil {
			n.frozen = append(n.frozen, in)
			continue
		}
		n.learning = append(n.learning, in)
		n.norm = append(n.norm, spec.Norm())
	}
	if adapter != nil {
		for _, spec := range adapter.Specs() {
			n.learning = append(n.learning, device.Input{Name: spec.Name, Shape: shapes.Make(dtypes.Float32, spec.Shape...)})
			n.norm = append(n.norm, false)
		}
	}
	if teacher != nil {
		for _, spec := range teacher.Specs() {
			n.frozen = append(n.frozen, device.Input{Name: "teacher." + spec.Name, Shape: shapes.Make(dtypes.Float32, spec.Shape...)})
		}
	}
	return n
}

// base is how many of the frozen tensors are the base's.
func (n *network) base() int {
	if n.adapter == nil {
		return 0
	}
	return len(n.config.Specs())
}

// guide makes the teacher of the frozen arguments, and what it makes of a batch; nil where there
// is none.
func (n *network) guide(shape batchShape, frozen, batch []*Node) *t5.Teacher {
	if n.teacher == nil {
		return nil
	}
	net := &t5.Network{Config: *n.teacher, Weights: map[string]*Node{}, Compute: n.compute()}
	for i, spec := range n.teacher.Specs() {
		net.Weights[spec.Name] = frozen[n.base()+i]
	}
	d := n.options.Distill
	return &t5.Teacher{Network: net, States: StopGradient(shape.states(net, batch)), Temperature: d.Temperature, Weight: d.Weight}
}

// compute is the type of the matrix products.
func (n *network) compute() dtypes.DType {
	if n.options.Precision == "bf16" {
		return dtypes.BFloat16
	}
	return dtypes.Float32
}

// build makes the model of the arguments. A nil seed trains without dropout, as evaluation does.
func (n *network) build(learning, frozen []*Node, seed *Node) *t5.Network {
	net := &t5.Network{Config: n.config, Weights: map[string]*Node{}, Compute: n.compute()}
	if seed != nil {
		rate := n.config.DropoutRate
		if n.options.DPO.On() {
			rate = 0
		}
		if n.options.Dropout != nil {
			rate = *n.options.Dropout
		}
		net.Dropout = t5.NewDropout(rate, seed)
	}
	if n.adapter == nil {
		for i, in := range n.learning {
			net.Weights[in.Name] = learning[i]
		}
		return net
	}
	for i, in := range n.frozen[:n.base()] {
		net.Weights[in.Name] = frozen[i]
	}
	n.adapter.Attach(net, learning)
	return net
}

// batchShape is what a program is compiled for.
type batchShape struct {
	rows, input, target int
	packed              bool
}

func shapeOf(b seq2seq.Batch) batchShape {
	return batchShape{b.Rows, b.InputLen, b.TargetLen, b.Packed()}
}

func (s batchShape) String() string {
	packed := ""
	if s.packed {
		packed = " packed"
	}
	return fmt.Sprintf("%d × (%d → %d)%s", s.rows, s.input, s.target, packed)
}

// inputs are the tensors of a batch: inputs, labels, and where examples are packed the segments of
// both. Their rows are divided among the devices.
func (s batchShape) inputs() []device.Input {
	in, out := shapes.Make(dtypes.Int32, s.rows, s.input), shapes.Make(dtypes.Int32, s.rows, s.target)
	inputs := []device.Input{{Name: "inputs", Shape: in, Split: true}, {Name: "labels", Shape: out, Split: true}}
	if s.packed {
		inputs = append(inputs, device.Input{Name: "input_segments", Shape: in, Split: true}, device.Input{Name: "label_segments", Shape: out, Split: true})
	}
	return inputs
}

// loss sums the loss of a batch whose tensors are those of inputs.
func (s batchShape) loss(l t5.Loss, net *t5.Network, batch []*Node) t5.Sums {
	chunk := s.target
	if net.Checkpointing {
		const most = 64 << 20 // bytes of logits at a time
		chunk = max(1, most/(4*s.rows*net.Config.VocabSize))
	}
	return l.OfStates(net, s.states(net, batch), batch[1], chunk)
}

// states are the decoder's states of a batch whose tensors are those of inputs.
func (s batchShape) states(net *t5.Network, batch []*Node) *Node {
	if s.packed {
		return net.PackedStates(batch[0], batch[1], batch[2], batch[3])
	}
	return net.States(batch[0], batch[1])
}

// Elements of the vector of sums that the programs give.
const (
	sumLoss = iota
	sumNLL
	sumTokens
	sumCorrect
	sums
)

func stack(s t5.Sums) *Node {
	return Concatenate([]*Node{Reshape(s.Loss, 1), Reshape(s.NLL, 1), Reshape(s.Tokens, 1), Reshape(s.Correct, 1)}, 0)
}

// microInputs are the arguments of a micro-step: the tensors, the batch, the dropout seed.
func (n *network) microInputs(shape batchShape) []device.Input {
	inputs := append(append(append([]device.Input{}, n.learning...), n.frozen...), shape.inputs()...)
	return append(inputs, device.Input{Name: "seed", Shape: shapes.Make(dtypes.Uint32)})
}

// lossOf is what a run minimises.
func (n *network) lossOf(shape batchShape, frozen, batch []*Node) t5.Loss {
	return t5.Loss{LabelSmoothing: n.options.LabelSmoothing, ZLoss: n.options.ZLoss, Teacher: n.guide(shape, frozen, batch)}
}

// gradients compiles one micro-step: the gradients of the summed loss, then the sums. Each device
// keeps its part of the gradients.
//
//	learning…, frozen…, batch…, seed   →   gradients…, [sums]
func (n *network) gradients(shape batchShape) (*device.Program, error) {
	if n.options.DP.On() {
		return n.clipped(shape)
	}
	return n.mesh.Compile(device.Build{
		Name: "t5.gradients " + shape.String(), Inputs: n.microInputs(shape), Split: append(n.split(n.learning), false),
		Graph: func(in []*Node) []*Node {
			learning, frozen, rest := n.divide(in)
			net := n.build(learning, frozen, rest[len(rest)-1])
			net.Checkpointing = n.options.GradientCheckpointing
			s := n.sums(shape, n.lossOf(shape, frozen, rest), net, frozen, rest)
			return append(Gradient(s.Loss, learning...), stack(s))
		},
	})
}

// split says which tensors are divided among the devices where there is one of each for the whole
// run to share: gradients and moments. Weights are not, every device needs all of them.
func (n *network) split(of []device.Input) []bool {
	divided := make([]bool, len(of))
	for i, in := range of {
		divided[i] = n.divides(in.Shape.Dimensions)
	}
	return divided
}

// divides says whether a tensor is worth dividing and can be: a matrix whose first axis the devices
// share evenly.
func (n *network) divides(dims []int) bool {
	devices := n.options.Devices.Count()
	return devices > 1 && len(dims) > 1 && dims[0]%devices == 0
}

// evaluation compiles the sums of one batch without dropout and smoothing.
//
//	learning…, frozen…, batch…   →   [sums]
func (n *network) evaluation(shape batchShape) (*device.Program, error) {
	inputs := append(append(append([]device.Input{}, n.learning...), n.frozen...), shape.inputs()...)
	return n.mesh.Compile(device.Build{Name: "t5.evaluation " + shape.String(), Inputs: inputs, Graph: func(in []*Node) []*Node {
		learning, frozen, rest := n.divide(in)
		return []*Node{stack(n.sums(shape, t5.Loss{}, n.build(learning, frozen, nil), frozen, rest))}
	}})
}

func (n *network) divide(in []*Node) (learning, frozen, rest []*Node) {
	l, f := len(n.learning), len(n.learning)+len(n.frozen)
	return in[:l], in[l:f], in[f:]
}

// addition compiles the sum of two micro-batches' gradients.
//
//	a…, b…   →   a + b …
func (n *network) addition() (*device.Program, error) {
	var inputs []device.Input
	for _, side := range []string{"a.", "b."} {
		for _, in := range n.learning {
			inputs = append(inputs, device.Input{Name: side + in.Name, Shape: in.Shape, Split: n.divides(in.Shape.Dimensions)})
		}
	}
	return n.mesh.Compile(device.Build{
		Name: "t5.addition", Inputs: inputs, Donate: donateLast(len(inputs), len(inputs)), Split: n.split(n.learning),
		Graph: func(in []*Node) []*Node {
			out := make([]*Node, len(n.learning))
			for i := range out {
				out[i] = Add(in[i], in[len(out)+i])
			}
			return out
		},
	})
}

// moments are the optimizer's tensors, those of each parameter in turn.
func (n *network) moments() []device.Input {
	var inputs []device.Input
	for _, p := range n.learning {
		for _, m := range n.options.Optimizer.moments(p.Shape.Dimensions) {
			inputs = append(inputs, device.Input{
				Name: m.name + "." + p.Name, Shape: shapes.Make(n.options.Optimizer.stateType(), m.dims...), Split: n.divides(m.dims),
			})
		}
	}
	return inputs
}

// globalNorm compiles the norm of a step's mean gradient, over all tensors.
//
//	gradients…, [slots]   →   norm
func (n *network) globalNorm() (*device.Program, error) {
	inputs := append(n.gradientInputs(0, len(n.learning)), numbersInput())
	return n.mesh.Compile(device.Build{Name: "t5.norm", Inputs: inputs, Graph: func(in []*Node) []*Node {
		numbers := in[len(in)-1]
		square := ScalarZero(numbers.Graph(), dtypes.Float32)
		for _, g := range in[:len(in)-1] {
			g = Mul(g, slot(numbers, slotInvTokens))
			square = Add(square, ReduceAllSum(Mul(g, g)))
		}
		return []*Node{Sqrt(square)}
	}})
}

// group is a run of parameters that one program updates, and their moments.
type group struct{ from, to, momentsFrom, momentsTo int }

// groups divides the parameters so that the new weights and moments of only one group exist
// beside the old ones: a program of XLA writes its results into memory of their own.
func (n *network) groups() []group {
	const most = 32 << 20 // bytes of a group's weights, if it has more than one
	var all []group
	size, moments := 0, 0
	for i, in := range n.learning {
		bytes := 4 * in.Shape.Size()
		if len(all) == 0 || size+bytes > most {
			all = append(all, group{i, i, moments, moments})
			size = 0
		}
		size += bytes
		moments += len(n.options.Optimizer.moments(in.Shape.Dimensions))
		g := &all[len(all)-1]
		g.to, g.momentsTo = i+1, moments
	}
	return all
}

// application compiles the optimizer's step for one group. Where the norm is not finite, nothing
// changes, so that the weights before a failure are still there. Each device updates its part, and
// the parts of the weights are put together on all.
//
//	learning…, moments…, gradients…, [slots], norm   →   learning…, moments…
func (n *network) application(of group) (*device.Program, error) {
	moments := n.moments()[of.momentsFrom:of.momentsTo]
	inputs := append(append([]device.Input{}, n.learning[of.from:of.to]...), moments...)
	inputs = append(append(inputs, n.gradientInputs(of.from, of.to)...), numbersInput(), device.Input{Name: "norm", Shape: shapes.Make(dtypes.Float32)})
	donate := donateLast(len(inputs), len(inputs))
	donate[len(inputs)-2], donate[len(inputs)-1] = false, false // the next group needs them
	learn := of.to - of.from
	split := append(make([]bool, learn), n.split(moments)...)
	return n.mesh.Compile(device.Build{Name: "t5.application", Inputs: inputs, Donate: donate, Split: split, Graph: func(in []*Node) []*Node {
		params, state, grads := in[:learn], in[learn:learn+len(moments)], in[learn+len(moments):]
		numbers, norm := in[len(in)-2], in[len(in)-1]
		number := func(i int) *Node { return slot(numbers, i) }
		finite := IsFinite(norm)
		scale := number(slotInvTokens)
		if n.options.ClipNorm > 0 { // torch.nn.utils.clip_grad_norm_
			clip := MulScalar(ScalarOne(norm.Graph(), dtypes.Float32), n.options.ClipNorm)
			scale = Mul(scale, MinScalar(Div(clip, AddScalar(norm, 1e-6)), 1))
		}
		var newParams, newState []*Node
		for i, p := range params {
			k := len(n.options.Optimizer.moments(p.Shape().Dimensions))
			wide := make([]*Node, k)
			for j := range wide {
				wide[j] = ConvertDType(state[j], dtypes.Float32)
			}
			updated, kept := n.options.Optimizer.update(p, Mul(grads[i], scale), wide, number, !n.norm[of.from+i])
			newParams = append(newParams, choose(finite, updated, p))
			for j := range kept {
				if state[j].DType() == dtypes.BFloat16 {
					kept[j] = rounded(kept[j], roundingKey(number, uint32(of.momentsFrom+len(newState))))
				}
				newState = append(newState, choose(finite, kept[j], state[j]))
			}
			state = state[k:]
		}
		return append(newParams, newState...)
	}})
}

func (n *network) gradientInputs(from, to int) []device.Input {
	var inputs []device.Input
	for _, in := range n.learning[from:to] {
		inputs = append(inputs, device.Input{Name: "gradient." + in.Name, Shape: in.Shape, Split: n.divides(in.Shape.Dimensions)})
	}
	return inputs
}

func numbersInput() device.Input {
	return device.Input{Name: "numbers", Shape: shapes.Make(dtypes.Float32, slots)}
}

// slot is one of the numbers of a step.
func slot(numbers *Node, i int) *Node { return Squeeze(Slice(numbers, AxisElem(i)), 0) }

func choose(condition, yes, no *Node) *Node {
	return Where(BroadcastToDims(condition, yes.Shape().Dimensions...), yes, no)
}

// finalize frees device memory now; the collector does not see how much there is of it.
func finalize(arrays []*device.Array) {
	for _, a := range arrays {
		a.Free()
	}
}
