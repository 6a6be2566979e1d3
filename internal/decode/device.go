package decode

import (
	"fmt"
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/t5ctl/t5ctl/internal/device"
)

// deviceStepper decodes on the backend: one program for the encoder, one for a decoder step, and
// one that mixes new sources among those under way. Caches and memory stay on the device.
type deviceStepper struct {
	engine   *Engine
	programs *devicePrograms
	shape    shape
	memory   []*tensors.Tensor
	cache    []*tensors.Tensor
}

// devicePrograms are compiled for one shape.
type devicePrograms struct {
	start, step *device.Program
	mix         *device.Program // compiled when it is first needed
}

func (p *devicePrograms) close() {
	p.start.Close()
	p.step.Close()
	if p.mix != nil {
		p.mix.Close()
	}
}

func (e *Engine) newDeviceStepper(sh shape) (*deviceStepper, error) {
	p, ok := e.devices[sh]
	if !ok {
		name := fmt.Sprintf("%d × %d → %d", sh.rows(), sh.length, sh.steps)
		start, err := e.compileStart("t5.encode "+name, sh)
		if err != nil {
			return nil, err
		}
		step, err := e.compileStep("t5.step "+name, sh)
		if err != nil {
			return nil, err
		}
		p = &devicePrograms{start: start, step: step}
		e.devices[sh] = p
		if e.Compiled != nil {
			e.Compiled(name, start.CompileTime+step.CompileTime)
		}
	}
	return &deviceStepper{engine: e, programs: p, shape: sh}, nil
}

// compileStart compiles the encoder and all that the steps need of it.
//
//	weights…, inputs [slots, length]   →   memory…, cache…
func (e *Engine) compileStart(name string, sh shape) (*device.Program, error) {
	inputs := append(e.weights.Inputs(), device.Input{Name: "inputs", Shape: shapes.Make(dtypes.Int32, sh.slots, sh.length)})
	return e.compile(name, inputs, func(in []*Node) []*Node {
		net, rest := e.weights.Network(in)
		out := net.Remember(rest[0], sh.steps).Nodes()
		for range 2 * e.weights.Config.NumDecoderLayers {
			out = append(out, Zeros(rest[0].Graph(), e.cacheShape(sh)))
		}
		return out
	})
}

func (e *Engine) cacheShape(sh shape) shapes.Shape {
	return shapes.Make(dtypes.Float32, e.weights.Config.CacheShape(sh.rows(), sh.steps)...)
}

// compileStep compiles one step of the decoder. With beams, the cache is first put into the
// order of the beams that live on.
//
//	weights…, tokens [rows], positions [rows], [order [rows],] cache…, memory…
//	→   best token [rows] or scores [rows, vocab], cache…
func (e *Engine) compileStep(name string, sh shape) (*device.Program, error) {
	config := e.weights.Config
	rows, caches := sh.rows(), 2*config.NumDecoderLayers
	inputs := append(e.weights.Inputs(),
		device.Input{Name: "tokens", Shape: shapes.Make(dtypes.Int32, rows)},
		device.Input{Name: "positions", Shape: shapes.Make(dtypes.Int32, rows)})
	if sh.share > 1 {
		inputs = append(inputs, device.Input{Name: "order", Shape: shapes.Make(dtypes.Int32, rows)})
	}
	for i := range caches {
		inputs = append(inputs, device.Input{Name: fmt.Sprintf("cache.%d", i), Shape: e.cacheShape(sh)})
	}
	for i, s := range e.memoryShapes(sh) {
		inputs = append(inputs, device.Input{Name: fmt.Sprintf("memory.%d", i), Shape: s})
	}
	return e.compile(name, inputs, func(in []*Node) []*Node {
		net, rest := e.weights.Network(in)
		tokens, positions, rest := rest[0], rest[1], rest[2:]
		if sh.share > 1 {
			order := InsertAxes(rest[0], -1)
			rest = rest[1:]
			for i := range caches {
				rest[i] = Gather(rest[i], order)
			}
		}
		scores, cache := net.Step(tokens, positions, rest[:caches], config.MemoryOf(rest[caches:]))
		switch sh.kind {
		case bestToken:
			scores = ArgMax(scores, -1, dtypes.Int32)
		case logProbs:
			scores = LogSoftmax(scores)
		case logits:
		}
		return append([]*Node{scores}, cache...)
	})
}

// compileMix compiles the program that puts the memory of new sources among the old.
//
//	new [slots] 1 or 0, old memory…, new memory…   →   memory…
func (e *Engine) compileMix(sh shape) (*device.Program, error) {
	inputs := []device.Input{{Name: "new", Shape: shapes.Make(dtypes.Int32, sh.slots)}}
	memory := e.memoryShapes(sh)[:e.sourceMemory()]
	for _, age := range []string{"old", "new"} {
		for i, s := range memory {
			inputs = append(inputs, device.Input{Name: fmt.Sprintf("%s.%d", age, i), Shape: s})
		}
	}
	return e.compile(fmt.Sprintf("t5.mix %d × %d", sh.slots, sh.length), inputs, func(in []*Node) []*Node {
		fresh := Equal(in[0], OnesLike(in[0]))
		out := make([]*Node, len(memory))
		for i, s := range memory {
			mask := BroadcastToDims(InsertAxes(fresh, -1, -1, -1), s.Dimensions...)
			out[i] = Where(mask, in[1+len(memory)+i], in[1+i])
		}
		return out
	})
}

// sourceMemory is how many tensors of the memory, the first ones, depend on the sources.
func (e *Engine) sourceMemory() int { return 2*e.weights.Config.NumDecoderLayers + 1 }

func (e *Engine) memoryShapes(sh shape) []shapes.Shape {
	c := e.weights.Config
	compute := e.weights.Compute
	if compute == dtypes.InvalidDType {
		compute = dtypes.Float32
	}
	var list []shapes.Shape
	for range 2 * c.NumDecoderLayers {
		list = append(list, shapes.Make(compute, sh.slots, sh.length, c.NumHeads, c.DKV))
	}
	list = append(list, shapes.Make(dtypes.Float32, sh.slots, 1, 1, sh.length))
	for len(list) < c.MemorySize() {
		list = append(list, shapes.Make(dtypes.Float32, sh.steps, c.NumHeads, sh.steps))
	}
	return list
}

// worth is half of the slots: the encoder runs over all of them.
func (s *deviceStepper) worth() int { return (s.shape.slots + 1) / 2 }

func (s *deviceStepper) admit(slots []int, sources []Source) error {
	sh := s.shape
	ids := make([]int32, sh.slots*sh.length)
	fresh := make([]int32, sh.slots)
	for i, source := range sources {
		copy(ids[slots[i]*sh.length:(slots[i]+1)*sh.length], source.Tokens)
		fresh[slots[i]] = 1
	}
	out, err := s.engine.call(s.programs.start, ints{ids, []int{sh.slots, sh.length}})
	if err != nil {
		return err
	}
	k := s.engine.weights.Config.MemorySize()
	if s.memory == nil {
		s.memory, s.cache = out[:k], out[k:]
		return nil
	}
	free(out[s.engine.sourceMemory():])
	return s.mix(fresh, out[:s.engine.sourceMemory()])
}

// mix puts the memory of new sources where `fresh` is 1. The caches stay: a row sees no more of
// its cache than it has written.
func (s *deviceStepper) mix(fresh []int32, added []*tensors.Tensor) (err error) {
	n := len(added)
	if s.programs.mix == nil {
		if s.programs.mix, err = s.engine.compileMix(s.shape); err != nil {
			return err
		}
	}
	backend, err := s.engine.opening.Open()
	if err != nil {
		return err
	}
	mask, err := backend.Int32(fresh, len(fresh))
	if err != nil {
		return err
	}
	args := append(append([]*tensors.Tensor{mask}, s.memory[:n]...), added...)
	donate := make([]bool, len(args))
	for i := range donate {
		donate[i] = true
	}
	mixed, err := s.programs.mix.Run(args, donate)
	if err != nil {
		return err
	}
	copy(s.memory, mixed)
	return nil
}

func (s *deviceStepper) close() {
	free(s.memory)
	free(s.cache)
}

func free(list []*tensors.Tensor) {
	for _, t := range list {
		_ = t.FinalizeAll() // one that was given away is already free
	}
}

func (s *deviceStepper) step(tokens, order, positions []int32) (best []int32, scores []float32, err error) {
	e, rows := s.engine, s.shape.rows()
	at := make([]int32, rows)
	for i := range at {
		at[i] = max(0, positions[i/s.shape.share])
	}
	host := [][]int32{tokens, at}
	if s.shape.share > 1 {
		host = append(host, order)
	}
	weights, err := e.weights.tensors()
	if err != nil {
		return nil, nil, err
	}
	backend, err := e.opening.Open()
	if err != nil {
		return nil, nil, err
	}
	args := slices.Clone(weights)
	for _, values := range host {
		t, err := backend.Int32(values, rows)
		if err != nil {
			return nil, nil, err
		}
		args = append(args, t)
	}
	args = append(args, s.cache...)
	own := len(args)
	args = append(args, s.memory...)
	donate := make([]bool, len(args))
	for i := len(weights); i < own; i++ {
		donate[i] = true
	}
	out, err := s.programs.step.Run(args, donate)
	if err != nil {
		return nil, nil, err
	}
	s.cache = out[1:]
	if s.shape.kind == bestToken {
		best, err = read[int32](out[0])
	} else {
		scores, err = read[float32](out[0])
	}
	return best, scores, err
}

// read copies a step's output to the host and frees it.
func read[T int32 | float32](t *tensors.Tensor) ([]T, error) {
	values, err := tensors.CopyFlatData[T](t)
	_ = t.FinalizeAll() // its content was copied
	return values, err
}
