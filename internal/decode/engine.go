package decode

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/t5"
)

// Engine decodes with one set of weights. It compiles a pair of programs for each shape of batch
// and keeps them. It is for one goroutine at a time.
type Engine struct {
	Compiled func(program string, took time.Duration) // told of each compilation; may be nil

	backend *device.Backend
	weights Weights
	args    []*tensors.Tensor
	pairs   map[shape]*pair
	scorers map[scoreShape]*device.Program
}

// Source is one input and the stream of random numbers that its sampling draws from.
type Source struct {
	Tokens []int32
	Stream uint64
}

// Sequence is one output: its tokens without start and padding, the end token included where
// there is one.
type Sequence struct {
	Tokens []int32
	Score  float64 // beams: log-probability over length^length_penalty; else 0
	Cut    bool    // max_new_tokens ended it
}

// New makes an engine over weights that stay the caller's.
func New(backend *device.Backend, weights Weights) *Engine {
	return &Engine{
		backend: backend, weights: weights, args: weights.Tensors(),
		pairs: map[shape]*pair{}, scorers: map[scoreShape]*device.Program{},
	}
}

// Close frees the compiled programs.
func (e *Engine) Close() {
	for _, p := range e.pairs {
		p.start.Close()
		p.step.Close()
	}
	for _, p := range e.scorers {
		p.Close()
	}
}

// shape is what a pair of programs is compiled for.
type shape struct {
	sources, length, steps, beams int
	scores                        bool // the step gives log-probabilities instead of the best token
}

// pair is the encoder, and one step of the decoder.
type pair struct{ start, step *device.Program }

// Generate decodes the sources and gives, for each, num_return_sequences outputs, best first.
// Sources of like length are decoded together; the order of the results is that of the sources.
func (e *Engine) Generate(ctx context.Context, sources []Source, o Options) ([][]Sequence, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	order := make([]int, len(sources))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(sources[a].Tokens) - len(sources[b].Tokens) })
	results := make([][]Sequence, len(sources))
	for chunk := range slices.Chunk(order, o.BatchRows) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		batch := make([]Source, len(chunk))
		for i, at := range chunk {
			batch[i] = sources[at]
		}
		found, err := e.batch(batch, o)
		if err != nil {
			return nil, err
		}
		for i, at := range chunk {
			results[at] = found[i]
		}
	}
	return results, nil
}

// batch decodes at most BatchRows sources.
func (e *Engine) batch(sources []Source, o Options) ([][]Sequence, error) {
	longest := 1
	for _, s := range sources {
		longest = max(longest, len(s.Tokens))
	}
	rows := min(o.BatchRows, ceilPower(len(sources)))
	sh := shape{sources: rows, length: Bucket(longest), steps: o.MaxNewTokens, beams: o.Beams, scores: o.Beams > 1 || o.Sample}
	programs, err := e.programs(sh)
	if err != nil {
		return nil, err
	}
	ids := make([]int32, rows*sh.length)
	for i, s := range sources {
		copy(ids[i*sh.length:(i+1)*sh.length], s.Tokens)
	}
	st, err := e.begin(programs, sh, ids)
	if err != nil {
		return nil, err
	}
	defer st.close()
	switch {
	case o.Sample:
		return st.sample(sources, o)
	case o.Beams > 1:
		return st.beams(len(sources), o)
	default:
		return st.greedy(len(sources))
	}
}

// Bucket rounds a length up, so that few shapes are compiled.
func Bucket(length int) int { return max(32, ceilPower(length)) }

func ceilPower(n int) int {
	p := 1
	for p < n {
		p *= 2
	}
	return p
}

func (e *Engine) programs(sh shape) (*pair, error) {
	if p, ok := e.pairs[sh]; ok {
		return p, nil
	}
	name := fmt.Sprintf("%d × %d → %d", sh.sources, sh.length, sh.steps)
	start, err := e.compileStart("t5.encode "+name, sh)
	if err != nil {
		return nil, err
	}
	step, err := e.compileStep("t5.step "+name, sh)
	if err != nil {
		return nil, err
	}
	e.pairs[sh] = &pair{start, step}
	if e.Compiled != nil {
		e.Compiled(name, start.CompileTime+step.CompileTime)
	}
	return e.pairs[sh], nil
}

// compileStart compiles the encoder and all that the steps need of it.
//
//	weights…, inputs [sources, length]   →   memory…, cache…
func (e *Engine) compileStart(name string, sh shape) (*device.Program, error) {
	inputs := append(e.weights.Inputs(), device.Input{Name: "inputs", Shape: shapes.Make(dtypes.Int32, sh.sources, sh.length)})
	return e.backend.Compile(name, inputs, func(in []*Node) []*Node {
		net, rest := e.weights.Network(in)
		out := net.Remember(rest[0], sh.steps).Nodes()
		for range 2 * e.weights.Config.NumDecoderLayers {
			out = append(out, Zeros(rest[0].Graph(), e.cacheShape(sh)))
		}
		return out
	})
}

func (e *Engine) cacheShape(sh shape) shapes.Shape {
	return shapes.Make(dtypes.Float32, e.weights.Config.CacheShape(sh.sources*sh.beams, sh.steps)...)
}

// compileStep compiles one step of the decoder. With beams, the cache is first put into the
// order of the beams that live on.
//
//	weights…, tokens [rows], position, [order [rows],] cache…, memory…   →   best token [rows] or log-probabilities [rows, vocab], cache…
func (e *Engine) compileStep(name string, sh shape) (*device.Program, error) {
	config := e.weights.Config
	rows, caches := sh.sources*sh.beams, 2*config.NumDecoderLayers
	inputs := append(e.weights.Inputs(),
		device.Input{Name: "tokens", Shape: shapes.Make(dtypes.Int32, rows)},
		device.Input{Name: "position", Shape: shapes.Make(dtypes.Int32)})
	if sh.beams > 1 {
		inputs = append(inputs, device.Input{Name: "order", Shape: shapes.Make(dtypes.Int32, rows)})
	}
	for i := range caches {
		inputs = append(inputs, device.Input{Name: fmt.Sprintf("cache.%d", i), Shape: e.cacheShape(sh)})
	}
	for i, s := range e.memoryShapes(sh) {
		inputs = append(inputs, device.Input{Name: fmt.Sprintf("memory.%d", i), Shape: s})
	}
	return e.backend.Compile(name, inputs, func(in []*Node) []*Node {
		net, rest := e.weights.Network(in)
		tokens, position, rest := rest[0], rest[1], rest[2:]
		if sh.beams > 1 {
			order := InsertAxes(rest[0], -1)
			rest = rest[1:]
			for i := range caches {
				rest[i] = Gather(rest[i], order)
			}
		}
		logits, cache := net.Step(tokens, position, rest[:caches], config.MemoryOf(rest[caches:]))
		if sh.scores {
			return append([]*Node{LogSoftmax(logits)}, cache...)
		}
		return append([]*Node{ArgMax(logits, -1, dtypes.Int32)}, cache...)
	})
}

func (e *Engine) memoryShapes(sh shape) []shapes.Shape {
	c := e.weights.Config
	compute := e.weights.Compute
	if compute == dtypes.InvalidDType {
		compute = dtypes.Float32
	}
	var list []shapes.Shape
	for range 2 * c.NumDecoderLayers {
		list = append(list, shapes.Make(compute, sh.sources, sh.length, c.NumHeads, c.DKV))
	}
	list = append(list, shapes.Make(dtypes.Float32, sh.sources, 1, 1, sh.length))
	for len(list) < c.MemorySize() {
		list = append(list, shapes.Make(dtypes.Float32, sh.steps, c.NumHeads, sh.steps))
	}
	return list
}

// state is one batch under way.
type state struct {
	engine   *Engine
	programs *pair
	shape    shape
	memory   []*tensors.Tensor
	cache    []*tensors.Tensor
}

func (e *Engine) begin(programs *pair, sh shape, ids []int32) (*state, error) {
	inputs, err := e.backend.Int32(ids, sh.sources, sh.length)
	if err != nil {
		return nil, err
	}
	args := append(append([]*tensors.Tensor{}, e.args...), inputs)
	donate := make([]bool, len(args))
	donate[len(args)-1] = true
	out, err := programs.start.Run(args, donate)
	if err != nil {
		return nil, err
	}
	k := e.weights.Config.MemorySize()
	return &state{engine: e, programs: programs, shape: sh, memory: out[:k], cache: out[k:]}, nil
}

func (s *state) close() {
	for _, list := range [][]*tensors.Tensor{s.memory, s.cache} {
		for _, t := range list {
			_ = t.FinalizeAll() // one that was given away is already free
		}
	}
}

// step feeds one token a row and gives the program's first output.
func (s *state) step(tokens []int32, position int, order []int32) (*tensors.Tensor, error) {
	e := s.engine
	token, err := e.backend.Int32(tokens, len(tokens))
	if err != nil {
		return nil, err
	}
	at, err := e.backend.Int32([]int32{int32(position)})
	if err != nil {
		return nil, err
	}
	args := append(append([]*tensors.Tensor{}, e.args...), token, at)
	if s.shape.beams > 1 {
		o, err := e.backend.Int32(order, len(order))
		if err != nil {
			return nil, err
		}
		args = append(args, o)
	}
	args = append(args, s.cache...)
	own := len(args)
	args = append(args, s.memory...)
	donate := make([]bool, len(args))
	for i := len(e.args); i < own; i++ {
		donate[i] = true
	}
	out, err := s.programs.step.Run(args, donate)
	if err != nil {
		return nil, err
	}
	s.cache = out[1:]
	return out[0], nil
}

// read copies a step's output to the host and frees it.
func read[T int32 | float32](t *tensors.Tensor) ([]T, error) {
	values, err := tensors.CopyFlatData[T](t)
	_ = t.FinalizeAll() // its content was copied
	return values, err
}

// greedy takes the best token at each step.
func (s *state) greedy(count int) ([][]Sequence, error) {
	c := s.engine.weights.Config
	tokens := make([]int32, s.shape.sources)
	for i := range tokens {
		tokens[i] = int32(c.DecoderStartTokenID)
	}
	rows := newRows(count)
	for position := range s.shape.steps {
		out, err := s.step(tokens, position, nil)
		if err != nil {
			return nil, err
		}
		best, err := read[int32](out)
		if err != nil {
			return nil, err
		}
		if rows.append(best[:count], c) {
			break
		}
		copy(tokens, best)
	}
	return rows.sequences(), nil
}

// rows gathers tokens until each row has its end.
type rows struct {
	tokens [][]int32
	ended  []bool
}

func newRows(count int) *rows {
	return &rows{tokens: make([][]int32, count), ended: make([]bool, count)}
}

// append adds one token a row and says whether all rows have ended.
func (r *rows) append(next []int32, c t5.Config) (all bool) {
	all = true
	for i, token := range next {
		if r.ended[i] {
			continue
		}
		r.tokens[i] = append(r.tokens[i], token)
		r.ended[i] = token == int32(c.EOSTokenID)
		all = all && r.ended[i]
	}
	return all
}

func (r *rows) sequences() [][]Sequence {
	out := make([][]Sequence, len(r.tokens))
	for i, tokens := range r.tokens {
		out[i] = []Sequence{{Tokens: tokens, Cut: !r.ended[i]}}
	}
	return out
}
