// Package decode generates text: it runs the encoder once, the decoder step by step with a cache,
// and searches greedily or with beams.
//
// Greedy and beam search give the tokens of transformers 5's generate. Rows are decoded in
// batches of one shape each, and padding never changes a result.
package decode

import (
	"slices"
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

// Weights are a model's tensors, with or without an adapter on it.
type Weights struct {
	Config  t5.Config
	Base    *Store        // in the order of Config.Specs
	Adapter *lora.Adapter // nil: none
	Update  *Store        // the adapter's tensors, in the order of its Specs
	Compute dtypes.DType  // of the matrix products; 0: float32
	Packed  matvec.Kind   // of the weights where the CPU decodes
}

// Store gives tensors in a fixed order: to programs on the device, where they are put when the first program needs them,
// and to the kernels of a CPU packed, which happens once for all engines that share the store. It is safe for many
// goroutines.
type Store struct {
	values func(i int) ([]float32, error)
	place  func() ([]*tensors.Tensor, error)

	mu     sync.Mutex
	placed []*tensors.Tensor
	packed map[string]*matvec.Matrix
}

// OnDevice stores tensors that are on the device already and stay the caller's.
func OnDevice(list []*tensors.Tensor) *Store {
	return &Store{
		placed: list,
		values: func(i int) ([]float32, error) { return tensors.CopyFlatData[float32](list[i]) },
	}
}

// InFolder stores the tensors of a checkpoint, which must stay open until nothing uses them.
func InFolder(o device.Opening, c *t5.Checkpoint) *Store {
	return &Store{
		place: func() ([]*tensors.Tensor, error) {
			b, err := o.Open()
			if err != nil {
				return nil, err
			}
			return c.Place(b.Float32)
		},
		values: func(i int) ([]float32, error) {
			defer c.Forget()
			return c.Float32s(c.Tensors[i].Name)
		},
	}
}

// InMemory stores an adapter's tensors.
func InMemory(o device.Opening, specs []lora.Spec, values [][]float32) *Store {
	return &Store{
		place: func() ([]*tensors.Tensor, error) {
			b, err := o.Open()
			if err != nil {
				return nil, err
			}
			list := make([]*tensors.Tensor, len(specs))
			for i, spec := range specs {
				if list[i], err = b.Float32(values[i], spec.Shape...); err != nil {
					return nil, err
				}
			}
			return list, nil
		},
		values: func(i int) ([]float32, error) { return values[i], nil },
	}
}

// tensors gives the tensors on the device.
func (s *Store) tensors() ([]*tensors.Tensor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.placed == nil {
		placed, err := s.place()
		if err != nil {
			return nil, err
		}
		s.placed = placed
	}
	return s.placed, nil
}

// matrix gives the packed matrix that is kept under a name, or keeps the one that pack makes.
func (s *Store) matrix(name string, pack func() (*matvec.Matrix, error)) (*matvec.Matrix, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, found := s.packed[name]; found {
		return m, nil
	}
	m, err := pack()
	if err != nil {
		return nil, err
	}
	if s.packed == nil {
		s.packed = map[string]*matvec.Matrix{}
	}
	s.packed[name] = m
	return m, nil
}

// Close frees what was packed and what was put on the device. Tensors that were there before stay the caller's.
func (s *Store) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.packed {
		m.Close()
	}
	s.packed = nil
	if s.place != nil {
		free(s.placed)
		s.placed = nil
	}
}

// tensors lists all tensors in the order of Inputs.
func (w Weights) tensors() ([]*tensors.Tensor, error) {
	base, err := w.Base.tensors()
	if err != nil || w.Adapter == nil {
		return base, err
	}
	update, err := w.Update.tensors()
	return append(append([]*tensors.Tensor{}, base...), update...), err
}

// Close closes the stores.
func (w Weights) Close() {
	w.Base.Close()
	if w.Update != nil {
		w.Update.Close()
	}
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
	specs := w.Config.Specs()
	for i, spec := range specs {
		net.Weights[spec.Name] = in[i]
	}
	in = in[len(specs):]
	if w.Adapter == nil {
		return net, in
	}
	w.Adapter.Attach(net, in)
	return net, in[len(w.Adapter.Specs()):]
}

// store is where what is made of these tensors is kept: what an adapter changes belongs to it alone.
func (w Weights) store(names []string) *Store {
	if w.Adapter != nil && slices.ContainsFunc(names, w.Adapter.Changes) {
		return w.Update
	}
	return w.Base
}

// host gives a function that reads a tensor by its name, with the adapter's update in it; nil where the model has no
// such tensor.
func (w Weights) host() (func(name string) ([]float32, error), error) {
	var update [][]float32
	if w.Adapter != nil {
		for i := range w.Adapter.Specs() {
			v, err := w.Update.values(i)
			if err != nil {
				return nil, err
			}
			update = append(update, v)
		}
	}
	at := map[string]int{}
	for i, spec := range w.Config.Specs() {
		at[spec.Name] = i
	}
	return func(name string) ([]float32, error) {
		i, ok := at[name]
		if !ok {
			return nil, nil
		}
		v, err := w.Base.values(i)
		if err == nil && w.Adapter != nil {
			v = w.Adapter.Merge(name, v, update)
		}
		return v, err
	}, nil
}

// In gives the same weights in fp32, bf16 or int8. On a GPU bf16 is the type of the matrix
// products, and int8 there is none; on a CPU it is what the weights are kept in, while sums stay
// in float32.
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
