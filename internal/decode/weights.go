// Package decode generates text: it runs the encoder once, the decoder step by step with a cache,
// and searches greedily or with beams.
//
// Greedy and beam search give the tokens of transformers 5's generate. Rows are decoded in
// batches of one shape each, and padding never changes a result.
package decode

import (
	"slices"
	"strings"
	"sync"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/lora"
	"github.com/t5ctl/t5ctl/internal/matvec"
	"github.com/t5ctl/t5ctl/internal/t5"
)

// Weights are a model's tensors on a device, with or without an adapter on it.
type Weights struct {
	Config  t5.Config
	Base    []*tensors.Tensor // in the order of Config.Specs
	Adapter *lora.Adapter     // nil: none
	Update  []*tensors.Tensor // the adapter's tensors, in the order of its Specs
	Compute dtypes.DType      // of the matrix products; 0: float32
	Packed  matvec.Kind       // of the decoder's weights where it runs on the CPU
	Common  *Common           // kept once for all engines on this base; nil: each has its own
}

// Common is what engines on one base, with other adapters or none, keep once for all of them: the weights of
// the decoder that no adapter of theirs changes, as they are laid out for steps on the CPU. All must have the
// same kind of Packed.
type Common struct {
	mu       sync.Mutex
	matrices map[string]*matvec.Matrix
	vectors  map[string][]float32
}

// NewCommon makes an empty one.
func NewCommon() *Common {
	return &Common{matrices: map[string]*matvec.Matrix{}, vectors: map[string][]float32{}}
}

// shared gives what of these tensors is kept, or makes and keeps it. What an adapter changes is made for it alone.
func shared[V any](w Weights, kept func(c *Common) map[string]V, names []string, make func() V) V {
	if w.Common == nil || w.Adapter != nil && slices.ContainsFunc(names, w.Adapter.Changes) {
		return make()
	}
	w.Common.mu.Lock()
	defer w.Common.mu.Unlock()
	all, key := kept(w.Common), strings.Join(names, " ")
	if _, found := all[key]; !found {
		all[key] = make()
	}
	return all[key]
}

// Tensors lists all tensors in the order of Inputs.
func (w Weights) Tensors() []*tensors.Tensor {
	return append(append([]*tensors.Tensor{}, w.Base...), w.Update...)
}

// Inputs are the arguments that a program takes for the weights.
func (w Weights) Inputs() []device.Input {
	var inputs []device.Input
	for _, spec := range w.Config.Specs() {
		inputs = append(inputs, device.Input{Name: spec.Name, Shape: shapes.Make(dtypes.Float32, spec.Shape...)})
	}
	if w.Adapter != nil {
		for _, spec := range w.Adapter.Specs() {
			inputs = append(inputs, device.Input{Name: spec.Name, Shape: shapes.Make(dtypes.Float32, spec.Shape...)})
		}
	}
	return inputs
}

// Network makes the model of a program's first arguments and gives the arguments that are left.
func (w Weights) Network(in []*Node) (*t5.Network, []*Node) {
	net := &t5.Network{Config: w.Config, Weights: map[string]*Node{}, Compute: w.Compute}
	for i, spec := range w.Config.Specs() {
		net.Weights[spec.Name] = in[i]
	}
	in = in[len(w.Base):]
	if w.Adapter == nil {
		return net, in
	}
	w.Adapter.Attach(net, in)
	return net, in[len(w.Update):]
}

// In gives the same weights in fp32, bf16 or int8. On a GPU bf16 is the type of the matrix
// products, and int8 there is none; on a CPU it is what the decoder's weights are kept in, while
// sums and the encoder stay in float32.
func (w Weights) In(precision string) Weights {
	w.Compute, w.Packed = dtypes.Float32, matvec.Float32
	switch precision {
	case "bf16":
		w.Compute, w.Packed = dtypes.BFloat16, matvec.BFloat16
	case "int8":
		w.Packed = matvec.Int8
	}
	return w
}
