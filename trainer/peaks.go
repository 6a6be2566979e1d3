package trainer

import (
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
	"github.com/t5ctl/t5ctl/internal/t5"
)

// MaxFP16 is the largest finite value of IEEE half precision.
const MaxFP16 = 65504

// Peak is the largest absolute value that a layer of a model gave.
type Peak struct {
	Layer   string // by the name of its weights
	Largest float64
}

// Peaks runs a model's forward pass in fp32 and tells the peak of each layer over all the batches, in the
// order in which they are computed.
func Peaks(b *device.Backend, base *t5.Checkpoint, batches []seq2seq.Batch) ([]Peak, error) {
	mesh, err := b.Mesh(1)
	if err != nil {
		return nil, err
	}
	r := &run{Job: Job{Backend: b}, mesh: mesh, net: newNetwork(base.Config, nil, nil, DefaultOptions(), mesh)}
	placed, err := base.Place(b.Float32)
	if err != nil {
		return nil, err
	}
	if r.learn, err = mesh.Spread(placed); err != nil {
		return nil, err
	}
	defer finalize(r.learn)
	var peaks []Peak
	for _, batch := range batches {
		if peaks, err = r.peaks(batch, peaks); err != nil {
			return nil, err
		}
	}
	return peaks, nil
}

// peaks raises those that are known already to what the batch shows.
func (r *run) peaks(batch seq2seq.Batch, known []Peak) ([]Peak, error) {
	args, own, err := r.arguments(batch)
	if err != nil {
		return nil, err
	}
	shape := shapeOf(batch)
	var names []string
	inputs := append(append([]device.Input(nil), r.net.learning...), shape.inputs()...)
	program, err := r.mesh.Compile(device.Build{Name: "t5.peaks " + shape.String(), Inputs: inputs, Graph: func(in []*Node) []*Node {
		var all []*Node
		net := r.net.build(in[:len(r.net.learning)], nil, nil)
		net.Probe = func(name string, x *Node) {
			names = append(names, name)
			all = append(all, Reshape(ReduceAllMax(Abs(ConvertDType(x, dtypes.Float32))), 1))
		}
		logits := net.Logits(shape.states(net, in[len(r.net.learning):]))
		net.Probe("logits", logits)
		return []*Node{Concatenate(all, 0)} // [len(names)]
	}})
	if err != nil {
		return nil, err
	}
	defer program.Close()
	out, err := program.RunOn(args, donateLast(len(args), own))
	if err != nil {
		return nil, err
	}
	defer finalize(out)
	values, err := floats(out[0])
	if err != nil {
		return nil, err
	}
	if known == nil {
		known = make([]Peak, len(names))
	}
	for i, v := range values {
		larger := float64(v) > known[i].Largest || v != v //nolint:staticcheck // NaN, which nothing takes back
		if known[i].Layer = names[i]; larger {
			known[i].Largest = float64(v)
		}
	}
	return known, nil
}
