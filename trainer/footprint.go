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

// Footprint is what a run holds in memory beside the program itself, in bytes.
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
	_, f, err := footprint(config, teacher, o)
	return f, err
}

func footprint(config t5.Config, teacher *t5.Config, o Options) (*network, Footprint, error) {
	var f Footprint
	var adapter *lora.Adapter
	if o.Method == LoRA {
		var err error
		if adapter, err = lora.New(o.LoRA, config); err != nil {
			return nil, f, err
		}
	}
	n := newNetwork(config, adapter, teacher, o)
	f.Moments, f.Gradients = bytesOf(n.moments()), bytesOf(n.learning)
	f.Weights, f.Snapshot = f.Gradients+bytesOf(n.frozen), f.Gradients+f.Moments
	return n, f, nil
}

// Foresee compiles the programs of a run and adds up what they take, as the compiler says. Nothing
// is placed on the device. The backend must be one that says it.
func Foresee(b *device.Backend, config t5.Config, teacher *t5.Config, o Options, shapes []Shape) (Footprint, error) {
	n, f, err := footprint(config, teacher, o)
	if err != nil {
		return f, err
	}
	for _, s := range shapes {
		p, err := n.gradients(b, batchShape{s.Rows, s.Input, s.Target, s.Packed})
		if err != nil {
			return f, err
		}
		f.Temporary = max(f.Temporary, p.Memory.Temporary)
		p.Close()
	}
	for _, g := range n.groups() {
		p, err := n.application(b, g)
		if err != nil {
			return f, err
		}
		f.Update = max(f.Update, p.Memory.Temporary+p.Memory.Outputs-p.Memory.Aliases)
		p.Close()
	}
	return f, nil
}

func bytesOf(inputs []device.Input) (total int64) {
	for _, in := range inputs {
		total += 4 * int64(in.Shape.Size())
	}
	return total
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
