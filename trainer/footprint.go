package trainer

import (
	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/lora"
	"github.com/t5ctl/t5ctl/internal/t5"
)

// Shape is one shape of batch.
type Shape struct {
	Rows, Input, Target int
	Packed              bool
}

// Footprint is what a run holds in memory beside the program itself, in bytes: on each device, or
// on all together where they share the machine's memory.
type Footprint struct {
	Weights   int64 // all of them, a teacher's too
	Moments   int64 // the optimizer's state
	Gradients int64
	Temporary int64 // of the micro-step that takes most, beside its gradients
	Update    int64 // of the group of parameters whose update takes most, beside what it replaces
	Snapshot  int64 // the copy from which a checkpoint is written
}

// Sizes are those parts of a footprint that follow from the shapes of the tensors alone.
func Sizes(config t5.Config, teacher *t5.Config, o Options) (Footprint, error) {
	_, f, err := footprint(nil, config, teacher, o, o.Devices.Count())
	return f, err
}

// footprint counts what so many devices hold.
func footprint(mesh *device.Mesh, config t5.Config, teacher *t5.Config, o Options, devices int) (*network, Footprint, error) {
	var f Footprint
	var adapter *lora.Adapter
	if o.Method == LoRA {
		var err error
		if adapter, err = lora.New(o.LoRA, config); err != nil {
			return nil, f, err
		}
	}
	n := newNetwork(config, adapter, teacher, o, mesh)
	learning, moments := bytesOf(n.learning), bytesOf(n.moments())
	held := int64(devices)
	f.Weights, f.Snapshot = held*(learning+bytesOf(n.frozen)), learning+moments
	f.Moments = held * n.part(n.moments())
	f.Gradients = held * n.part(n.gradientInputs(0, len(n.learning)))
	return n, f, nil
}

// Foresee compiles the programs of a run and adds up what they take, as the compiler says. Nothing
// is placed on the device. The backend must be one that says it.
func Foresee(b *device.Backend, config t5.Config, teacher *t5.Config, o Options, shapes []Shape) (Footprint, error) {
	o, err := o.On(b)
	if err != nil {
		return Footprint{}, err
	}
	mesh, err := b.Mesh(o.Devices.Count())
	if err != nil {
		return Footprint{}, err
	}
	devices := int64(1)
	if b.Kind != device.CUDA {
		devices = int64(mesh.Size())
	}
	n, f, err := footprint(mesh, config, teacher, o, int(devices))
	if err != nil {
		return f, err
	}
	for _, s := range shapes {
		rows := (s.Rows + mesh.Size() - 1) / mesh.Size() * mesh.Size()
		p, err := n.gradients(batchShape{rows, s.Input, s.Target, s.Packed})
		if err != nil {
			return f, err
		}
		f.Temporary = max(f.Temporary, devices*p.Memory.Temporary)
		p.Close()
	}
	for _, g := range n.groups() {
		p, err := n.application(g)
		if err != nil {
			return f, err
		}
		f.Update = max(f.Update, devices*(p.Memory.Temporary+p.Memory.Outputs-p.Memory.Aliases))
		p.Close()
	}
	return f, nil
}

func bytesOf(inputs []device.Input) (total int64) {
	for _, in := range inputs {
		total += int64(in.Shape.ByteSize())
	}
	return total
}

// part is how many bytes of tensors one device has.
func (n *network) part(of []device.Input) (bytes int64) {
	for _, in := range of {
		own := bytesOf([]device.Input{in})
		if in.Split {
			own /= int64(n.options.Devices.Count())
		}
		bytes += own
	}
	return bytes
}

// Peak is the most that the run holds at one time. A checkpoint is written while the next step is
// trained, except for the last.
func (f Footprint) Peak(o Options) int64 {
	gradients := f.Gradients
	if o.Accumulate > 1 {
		gradients *= 2
	}
	step := max(gradients+f.Temporary, f.Gradients+f.Update)
	if o.SaveEvery > 0 || o.EvaluateEvery > 0 {
		step += f.Snapshot
	}
	return f.Weights + f.Moments + max(step, f.Snapshot)
}
