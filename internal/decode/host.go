package decode

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/matvec"
	"github.com/t5ctl/t5ctl/internal/t5"
)

// hostDecoder is the decoder's weights, packed for steps on the CPU. A step reads all of them
// for a few rows: XLA's matrix products on the CPU are made for many rows, and it writes every
// cache anew at each step, as its programs may not change their arguments.
type hostDecoder struct {
	config    t5.Config
	embedding []float32 // [vocab, d_model]
	layers    []hostLayer
	norm      []float32
	head      *matvec.Matrix
}

// hostLayer is one block. Matrices that have the same input are packed as one.
type hostLayer struct {
	selfNorm, crossNorm, feedNorm     []float32
	selfIn, selfOut, crossIn, crossTo *matvec.Matrix // q·k·v, o; q, o
	feedIn, feedOut                   *matvec.Matrix // wi, or wi_0·wi_1; wo
	bias                              []float32      // [buckets, heads]
}

// newHostDecoder copies the decoder's weights off the device, with the adapter's update added.
func newHostDecoder(w Weights) (*hostDecoder, error) {
	c := w.Config
	values, err := w.hostValues()
	if err != nil {
		return nil, err
	}
	read := func(name string) []float32 {
		v, readErr := values(name)
		err = errors.Join(err, readErr)
		return v
	}
	take := func(name string) []float32 {
		return shared(w, func(c *Common) map[string][]float32 { return c.vectors }, []string{name}, func() []float32 { return read(name) })
	}
	pack := func(in int, names ...string) *matvec.Matrix {
		return shared(w, func(c *Common) map[string]*matvec.Matrix { return c.matrices }, names, func() *matvec.Matrix {
			var parts [][]float32
			for _, name := range names {
				parts = append(parts, read(name))
			}
			m, packErr := matvec.Pack(w.Packed, in, parts...)
			if packErr != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", names[0], packErr))
			}
			return m
		})
	}
	d := &hostDecoder{config: c, embedding: take(t5.Embedding), norm: take("decoder.final_layer_norm.weight")}
	inner := c.NumHeads * c.DKV
	for i := range c.NumDecoderLayers {
		block := fmt.Sprintf("decoder.block.%d.layer.", i)
		self, cross, feed := block+"0.SelfAttention.", block+"1.EncDecAttention.", block+"2.DenseReluDense."
		l := hostLayer{
			selfNorm: take(block + "0.layer_norm.weight"), crossNorm: take(block + "1.layer_norm.weight"), feedNorm: take(block + "2.layer_norm.weight"),
			selfIn: pack(c.DModel, self+"q.weight", self+"k.weight", self+"v.weight"), selfOut: pack(inner, self+"o.weight"),
			crossIn: pack(c.DModel, cross+"q.weight"), crossTo: pack(inner, cross+"o.weight"),
			feedOut: pack(c.DFF, feed+"wo.weight"), bias: take(self + "relative_attention_bias.weight"),
		}
		if c.Gated() {
			l.feedIn = pack(c.DModel, feed+"wi_0.weight", feed+"wi_1.weight")
		} else {
			l.feedIn = pack(c.DModel, feed+"wi.weight")
		}
		if l.bias == nil { // the first block's holds for all
			l.bias = d.layers[0].bias
		}
		d.layers = append(d.layers, l)
		runtime.GC() // the unpacked weights go before the next ones come
	}
	head := t5.Head
	if c.TieWordEmbeddings {
		head = t5.Embedding
	}
	d.head = pack(c.DModel, head)
	return d, err
}

// hostValues gives a function that copies a tensor to the host by its name, with the adapter's
// update in it; nil where the model has no such tensor.
func (w Weights) hostValues() (func(name string) ([]float32, error), error) {
	var update [][]float32
	for _, t := range w.Update {
		v, err := tensors.CopyFlatData[float32](t)
		if err != nil {
			return nil, err
		}
		update = append(update, v)
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
		v, err := tensors.CopyFlatData[float32](w.Base[i])
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		if w.Adapter != nil {
			v = w.Adapter.Merge(name, v, update)
		}
		return v, nil
	}, nil
}

// encodeShape is what an encoder program of the host decoder is compiled for.
type encodeShape struct{ sources, length int }

// encoder compiles the encoder and the cross keys.
//
//	weights…, inputs [sources, length]   →   keys and values of each block, [sources, length, heads, d_kv]
func (e *Engine) encoder(sh encodeShape) (*device.Program, error) {
	if p, ok := e.encoders[sh]; ok {
		return p, nil
	}
	w := e.weights
	w.Compute = dtypes.Float32
	inputs := append(w.Inputs(), device.Input{Name: "inputs", Shape: shapes.Make(dtypes.Int32, sh.sources, sh.length)})
	name := fmt.Sprintf("%d × %d", sh.sources, sh.length)
	p, err := e.backend.Compile("t5.encode "+name, inputs, func(in []*Node) []*Node {
		net, rest := w.Network(in)
		return net.CrossKeys(rest[0])
	})
	if err != nil {
		return nil, err
	}
	e.encoders[sh] = p
	if e.Compiled != nil {
		e.Compiled(name, p.CompileTime)
	}
	return p, nil
}

// hostStepper decodes a batch on the CPU. Rows of idle slots cost nothing, and a beam that
// changes its past takes over a list of where that past lies instead of the past itself.
type hostStepper struct {
	engine *Engine
	*hostDecoder
	shape         shape
	inner         int
	keys, values  [][]float32 // a block: [rows, heads, steps, d_kv]
	places, spare [][]int32   // by row: where in the caches each position of its past begins, for the first head
	buckets       []int32     // of the bias, by distance
	slots         []hostSource
	buffers       hostBuffers
}

// hostSource is what the encoder made of one source.
type hostSource struct {
	memory []matvec.Memory // [blocks, heads]
	mask   []float32       // [length], 0 or −1e9
}

// hostBuffers hold one step's intermediate values, [rows, …].
type hostBuffers struct {
	x, y, wide, attended, gate, scores []float32
	weights                            []float32 // [rows, heads, steps]
	best                               []int32
}

func (e *Engine) newHostStepper(sh shape) (*hostStepper, error) {
	if e.host == nil {
		d, err := newHostDecoder(e.weights)
		if err != nil {
			return nil, err
		}
		e.host = d
	}
	c, rows := e.weights.Config, sh.rows()
	s := &hostStepper{engine: e, hostDecoder: e.host, shape: sh, inner: c.NumHeads * c.DKV, slots: make([]hostSource, sh.slots)}
	for range c.NumDecoderLayers {
		s.keys = append(s.keys, make([]float32, rows*sh.steps*s.inner))
		s.values = append(s.values, make([]float32, rows*sh.steps*s.inner))
	}
	for range rows {
		s.places, s.spare = append(s.places, make([]int32, sh.steps)), append(s.spare, make([]int32, sh.steps))
	}
	for distance := range sh.steps {
		s.buckets = append(s.buckets, c.CausalBucket(distance))
	}
	wide := max(3*s.inner, c.DFF)
	if c.Gated() {
		wide = max(wide, 2*c.DFF)
	}
	s.buffers = hostBuffers{
		x: make([]float32, rows*c.DModel), y: make([]float32, rows*c.DModel), wide: make([]float32, rows*wide),
		attended: make([]float32, rows*s.inner), gate: make([]float32, rows*c.DFF),
		weights: make([]float32, rows*c.NumHeads*sh.steps), scores: make([]float32, rows*c.VocabSize), best: make([]int32, rows),
	}
	return s, nil
}

// worth is a quarter of the slots: the encoder runs over the new sources alone.
func (s *hostStepper) worth() int { return (s.shape.slots + 3) / 4 }

func (s *hostStepper) close() {}

func (s *hostStepper) admit(slots []int, sources []Source) error {
	longest := 1
	for _, source := range sources {
		longest = max(longest, len(source.Tokens))
	}
	sh := encodeShape{min(s.shape.slots, ceilPower(len(sources))), Bucket(longest)}
	program, err := s.engine.encoder(sh)
	if err != nil {
		return err
	}
	ids := make([]int32, sh.sources*sh.length)
	for i, source := range sources {
		copy(ids[i*sh.length:(i+1)*sh.length], source.Tokens)
	}
	inputs, err := s.engine.backend.Int32(ids, sh.sources, sh.length)
	if err != nil {
		return err
	}
	args := append(slices.Clone(s.engine.args), inputs)
	donate := make([]bool, len(args))
	donate[len(args)-1] = true
	out, err := program.Run(args, donate)
	if err != nil {
		return err
	}
	lists := make([][]float32, len(out))
	for i, t := range out {
		if lists[i], err = read[float32](t); err != nil {
			return err
		}
	}
	for i, source := range sources {
		s.slots[slots[i]] = s.sourceOf(source, lists, i*sh.length*s.inner)
	}
	return nil
}

// sourceOf cuts one source out of the encoder's outputs.
func (s *hostStepper) sourceOf(source Source, lists [][]float32, from int) hostSource {
	n := max(1, len(source.Tokens))
	h := hostSource{mask: make([]float32, n)}
	for i, token := range source.Tokens {
		if token == int32(s.config.PadTokenID) {
			h.mask[i] = -1e9
		}
	}
	heads, size := s.config.NumHeads, s.config.DKV
	h.memory = make([]matvec.Memory, len(lists)/2*heads)
	matvec.Parallel(len(h.memory), func(i int) {
		block, head := i/heads, i%heads
		at := from + head*size
		h.memory[i] = matvec.NewMemory(lists[2*block][at:], lists[2*block+1][at:], n, size, s.inner)
	})
	return h
}

// active is one row that takes part in a step.
type active struct {
	row, slot, position int
}

func (s *hostStepper) step(tokens, order, positions []int32) ([]int32, []float32, error) {
	var rows []active
	for row := range tokens {
		slot := row / s.shape.share
		at := int(positions[slot])
		if at < 0 {
			continue
		}
		rows = append(rows, active{row, slot, at})
		copy(s.spare[row][:at], s.places[order[row]][:at])
		s.spare[row][at] = int32(row*s.shape.steps*s.inner + at*s.config.DKV)
	}
	s.places, s.spare = s.spare, s.places
	b, d, n := &s.buffers, s.config.DModel, len(rows)
	for i, r := range rows {
		copy(b.x[i*d:(i+1)*d], s.embedding[int(tokens[r.row])*d:])
	}
	for i := range s.layers {
		s.layer(i, rows)
	}
	s.normalize(s.norm, n)
	if scale := float32(s.config.HeadScale()); scale != 1 {
		matvec.Scale(b.y[:n*d], scale)
	}
	s.head.Mul(b.scores, b.y, n)
	best, scores := s.finish(rows)
	return best, scores, nil
}

// finish turns the logits of the active rows into what the shape asks for, each at its row.
func (s *hostStepper) finish(rows []active) (best []int32, scores []float32) {
	vocab, b := s.config.VocabSize, &s.buffers
	matvec.Parallel(len(rows), func(i int) {
		row := b.scores[i*vocab : (i+1)*vocab]
		switch s.shape.kind {
		case bestToken:
			b.best[rows[i].row] = highest(row)
		case logProbs:
			matvec.LogSoftmax(row)
		case logits:
		}
	})
	if s.shape.kind == bestToken {
		return b.best, nil
	}
	for i, r := range slices.Backward(rows) { // a row never lies before its place among the active
		if r.row != i {
			copy(b.scores[r.row*vocab:(r.row+1)*vocab], b.scores[i*vocab:(i+1)*vocab])
		}
	}
	return nil, b.scores
}

// normalize writes w·x/√(mean(x²)+ε) of the first n rows of x into y.
func (s *hostStepper) normalize(weight []float32, n int) {
	d := s.config.DModel
	for i := range n {
		x, y := s.buffers.x[i*d:(i+1)*d], s.buffers.y[i*d:(i+1)*d]
		scale := float32(1 / math.Sqrt(float64(matvec.Dot(x, x))/float64(d)+s.config.LayerNormEpsilon))
		matvec.Product(y, x, weight, scale)
	}
}

// layer runs one block over the active rows, in place in x.
func (s *hostStepper) layer(at int, rows []active) {
	l, b, d, n, in := s.layers[at], &s.buffers, s.config.DModel, len(rows), s.inner
	add := func() { matvec.AddScaled(b.x[:n*d], b.y[:n*d], 1) }

	s.normalize(l.selfNorm, n)
	l.selfIn.Mul(b.wide, b.y, n)
	for i, r := range rows {
		to, size := int(s.places[r.row][r.position]), s.config.DKV
		for head := 0; head < in; head += size {
			copy(s.keys[at][to:to+size], b.wide[(3*i+1)*in+head:])
			copy(s.values[at][to:to+size], b.wide[(3*i+2)*in+head:])
			to += s.shape.steps * size
		}
	}
	s.selfAttend(at, rows)
	l.selfOut.Mul(b.y, b.attended, n)
	add()

	s.normalize(l.crossNorm, n)
	l.crossIn.Mul(b.wide, b.y, n)
	s.crossAttend(at, rows)
	l.crossTo.Mul(b.y, b.attended, n)
	add()

	s.normalize(l.feedNorm, n)
	l.feedIn.Mul(b.wide, b.y, n)
	s.activate(n)
	l.feedOut.Mul(b.y, b.gate, n)
	add()
}

// selfAttend attends each row's query, of [q, k, v] in wide, to its past.
func (s *hostStepper) selfAttend(at int, rows []active) {
	heads, size, in := s.config.NumHeads, s.config.DKV, s.inner
	bias := s.layers[at].bias
	matvec.Parallel(len(rows)*heads, func(task int) {
		i, head := task/heads, task%heads
		r := rows[i]
		places := s.places[r.row][:r.position+1]
		weights := s.buffers.weights[task*s.shape.steps:][:len(places)]
		from := head * s.shape.steps * size
		matvec.Scores(weights, s.buffers.wide[3*i*in+head*size:][:size], s.keys[at][from:], places)
		for p := range weights {
			weights[p] += bias[int(s.buckets[r.position-p])*heads+head]
		}
		matvec.Scale(weights, 1/matvec.Exp(weights, matvec.Max(weights)))
		matvec.Blend(s.buffers.attended[i*in+head*size:][:size], weights, s.values[at][from:], places)
	})
}

// crossAttend attends each row's query, in wide, to its source; rows of one source read it together.
func (s *hostStepper) crossAttend(at int, rows []active) {
	heads, size, in := s.config.NumHeads, s.config.DKV, s.inner
	matvec.Parallel(len(rows)/s.shape.share*heads, func(task int) {
		i, from := task/heads*s.shape.share, task%heads*size
		source := s.slots[rows[i].slot]
		source.memory[at*heads+task%heads].Attend(s.buffers.attended[i*in+from:], in, s.buffers.wide[i*in+from:], in, s.shape.share, source.mask)
	})
}

// activate applies the feed-forward activation to wide, and the gate where there is one.
func (s *hostStepper) activate(n int) {
	f, b := s.config.DFF, &s.buffers
	width := f
	if s.config.Gated() {
		width = 2 * f
	}
	matvec.Parallel(n, func(i int) {
		x, to := b.wide[i*width:][:f], b.gate[i*f:(i+1)*f]
		activation(s.config.Activation(), to, x)
		if width > f {
			matvec.Product(to, to, b.wide[i*width+f:][:f], 1)
		}
	})
}

// activation writes act(x); see t5.Config.Activation for the names.
func activation(name string, to, x []float32) {
	const most = 80 // beyond it e^v changes nothing more
	switch name {
	case "relu":
		matvec.Positive(to, x)
	case "silu":
		for j, v := range x {
			to[j] = min(-v, most)
		}
		matvec.Exp(to, 0)
		for j, v := range x {
			to[j] = v / (1 + to[j])
		}
	case "gelu":
		for j, v := range x {
			to[j] = float32(0.5 * float64(v) * (1 + math.Erf(float64(v)/math.Sqrt2)))
		}
	default: // gelu_new: ½x(1 + tanh u), tanh u = 1 − 2/(e²ᵘ + 1)
		for j, v := range x {
			to[j] = min(float32(2*math.Sqrt(2/math.Pi))*(v+0.044715*v*v*v), most)
		}
		matvec.Exp(to, 0)
		for j, v := range x {
			to[j] = v * (1 - 1/(to[j]+1))
		}
	}
}
