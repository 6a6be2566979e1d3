package trainer

import (
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
)

// trace names the first thing of a step that is not finite: a sub-layer of the forward pass, the
// loss, or a gradient. The weights must be those before the step. It is empty where all of the
// batch is finite.
func (r *run) trace(batch seq2seq.Batch, micro int) (string, error) {
	shape := shapeOf(r.whole(batch))
	var names []string
	program, err := r.net.probes(shape, &names)
	if err != nil {
		return "", err
	}
	defer program.Close()
	out, err := r.runMicro(program, r.whole(batch), micro)
	if err != nil {
		return "", err
	}
	defer finalize(out)
	flags, err := floats(out[0])
	if err != nil {
		return "", err
	}
	for i, finite := range flags {
		if finite == 0 {
			return names[i], nil
		}
	}
	grads, _, err := r.gradients(batch, micro)
	if err != nil {
		return "", err
	}
	defer finalize(grads)
	for i, grad := range grads {
		values, err := grad.Float32s()
		if err != nil {
			return "", err
		}
		for _, v := range values {
			if !isFinite(float64(v)) {
				return "the gradient of " + r.net.learning[i].Name, nil
			}
		}
	}
	return "", nil
}

// probes compiles a forward pass that says of each sub-layer, and of the loss, whether its output
// is finite.
//
//	learning…, frozen…, batch…, seed   →   [len(names)], 1 or 0
func (n *network) probes(shape batchShape, names *[]string) (*device.Program, error) {
	return n.mesh.Compile(device.Build{Name: "t5.probes " + shape.String(), Inputs: n.microInputs(shape), Graph: func(in []*Node) []*Node {
		var flags []*Node
		look := func(name string, x *Node) {
			*names = append(*names, name)
			finite := Reshape(ConvertDType(IsFinite(ConvertDType(x, dtypes.Float32)), dtypes.Float32), -1)
			flags = append(flags, Reshape(ReduceMin(finite), 1))
		}
		learning, frozen, rest := n.divide(in)
		net := n.build(learning, frozen, rest[len(rest)-1])
		net.Probe = look
		sums := n.sums(shape, n.lossOf(shape, frozen, rest), net, frozen, rest)
		look("the loss", sums.Loss)
		return []*Node{Concatenate(flags, 0)}
	}})
}
