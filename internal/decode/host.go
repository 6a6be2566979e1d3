package decode

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/matvec"
	"github.com/t5ctl/t5ctl/internal/t5"
)

// hostModel is a model's weights, packed for the CPU. A decoder step reads all of its weights for a few rows: XLA's
// matrix products on the CPU are made for many rows, and it writes every cache anew at each step, as its programs may
// not change their arguments. The encoder has many rows, and here they are the tokens alone, without padding to a shape
// that a program was compiled for.
type hostModel struct {
	config           t5.Config
	embedding, head  *matvec.Matrix // [vocab, d_model]; one and the same where they are tied
	encoder, decoder hostStack
	cross            []*matvec.Matrix // the keys and values that each of the decoder's blocks takes from the encoder: k·v
	encoding         *encoding        // of the last sources; nil at first
}

// hostStack is the blocks of the encoder or the decoder, and the norm behind them.
type hostStack struct {
	layers []hostLayer
	norm   []float32
}

// hostLayer is one block. Matrices that have the same input are packed as one.
type hostLayer struct {
	selfNorm, crossNorm, feedNorm     []float32
	selfIn, selfOut, crossIn, crossTo *matvec.Matrix // q·k·v, o; q, o, which the encoder has not
	feedIn, feedOut                   *matvec.Matrix // wi, or wi_0·wi_1; wo
	bias                              []float32      // [buckets, heads]
}

// collectBytes is the size of a matrix from which it pays to collect what was read for it at once.
const collectBytes = 1 << 20

// packer reads tensors and packs them; it keeps the first error.
type packer struct {
	weights Weights
	values  func(name string) ([]float32, error)
	err     error
}

func (p *packer) take(name string) []float32 {
	v, err := p.values(name)
	if err != nil {
		p.err = errors.Join(p.err, fmt.Errorf("reading %s: %w", name, err))
	}
	return v
}

func (p *packer) pack(in int, names ...string) *matvec.Matrix {
	kind := p.weights.Packed
	m, err := p.weights.store(names).matrix(kind.String()+" "+strings.Join(names, " "), func() (*matvec.Matrix, error) {
		var parts [][]float32
		for _, name := range names {
			parts = append(parts, p.take(name))
		}
		m, err := matvec.Pack(kind, in, parts...)
		if err == nil && m.Bytes() > collectBytes {
			clear(parts)
			runtime.GC() // the unpacked weights go before the next ones come
		}
		return m, errors.Join(p.err, err)
	})
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("%s: %w", names[0], err)
	}
	return m
}

// newHostModel packs the weights, with the adapter's update added.
func newHostModel(w Weights) (*hostModel, error) {
	c := w.Config
	values, err := w.host()
	if err != nil {
		return nil, err
	}
	m := &hostModel{config: c}
	p := &packer{weights: w, values: values}
	m.embedding = p.pack(c.DModel, t5.Embedding)
	if m.head = m.embedding; !c.TieWordEmbeddings {
		m.head = p.pack(c.DModel, t5.Head)
	}
	m.encoder = p.stack("encoder", c.NumLayers)
	m.decoder = p.stack("decoder", c.NumDecoderLayers)
	for i := range c.NumDecoderLayers {
		at := fmt.Sprintf("decoder.block.%d.layer.1.EncDecAttention.", i)
		m.cross = append(m.cross, p.pack(c.DModel, at+"k.weight", at+"v.weight"))
	}
	if p.err != nil {
		return nil, p.err
	}
	device.ReleaseMemory()
	return m, nil
}

func (p *packer) stack(name string, layers int) hostStack {
	s := hostStack{norm: p.take(name + ".final_layer_norm.weight")}
	for i := range layers {
		l := p.layer(fmt.Sprintf("%s.block.%d.layer.", name, i), name == "decoder")
		if l.bias == nil { // the first block's holds for all
			l.bias = s.layers[0].bias
		}
		s.layers = append(s.layers, l)
	}
	return s
}

func (p *packer) layer(block string, decoder bool) hostLayer {
	c := p.weights.Config
	inner := c.NumHeads * c.DKV
	self, feed := block+"0.SelfAttention.", block+"1."
	l := hostLayer{
		selfNorm: p.take(block + "0.layer_norm.weight"), bias: p.take(self + "relative_attention_bias.weight"),
		selfIn: p.pack(c.DModel, self+"q.weight", self+"k.weight", self+"v.weight"), selfOut: p.pack(inner, self+"o.weight"),
	}
	if decoder {
		cross := block + "1.EncDecAttention."
		l.crossNorm = p.take(block + "1.layer_norm.weight")
		l.crossIn, l.crossTo = p.pack(c.DModel, cross+"q.weight"), p.pack(inner, cross+"o.weight")
		feed = block + "2."
	}
	l.feedNorm = p.take(feed + "layer_norm.weight")
	feed += "DenseReluDense."
	if c.Gated() {
		l.feedIn = p.pack(c.DModel, feed+"wi_0.weight", feed+"wi_1.weight")
	} else {
		l.feedIn = p.pack(c.DModel, feed+"wi.weight")
	}
	l.feedOut = p.pack(c.DFF, feed+"wo.weight")
	return l
}

// states are what the rows become on their way through the blocks, [rows, …].
type states struct {
	*hostModel
	x, y, wide, attended, gate []float32
}

// newStates makes room for that many rows.
func (m *hostModel) newStates(rows int) states {
	c := m.config
	inner, wide := c.NumHeads*c.DKV, c.DFF
	if c.Gated() {
		wide = 2 * c.DFF
	}
	return states{
		hostModel: m, x: make([]float32, rows*c.DModel), y: make([]float32, rows*c.DModel), wide: make([]float32, rows*max(3*inner, wide)),
		attended: make([]float32, rows*inner), gate: make([]float32, rows*c.DFF),
	}
}

// embed writes a token's embedding into a row of x.
func (s *states) embed(row int, token int32) {
	s.embedding.Row(s.x[row*s.config.DModel:(row+1)*s.config.DModel], int(token))
}

// normalize writes w·x/√(mean(x²)+ε) of the first n rows of x into y.
func (s *states) normalize(weight []float32, n int) {
	d := s.config.DModel
	inParts(n, func(from, to int) {
		for i := from; i < to; i++ {
			x, y := s.x[i*d:(i+1)*d], s.y[i*d:(i+1)*d]
			scale := float32(1 / math.Sqrt(float64(matvec.Dot(x, x))/float64(d)+s.config.LayerNormEpsilon))
			matvec.Product(y, x, weight, scale)
		}
	})
}

// project adds what a matrix makes of the first n rows of `from` to x.
func (s *states) project(m *matvec.Matrix, from []float32, n int) {
	m.Mul(s.y, from, n)
	matvec.AddScaled(s.x[:n*s.config.DModel], s.y[:n*s.config.DModel], 1)
}

// feed runs a block's feed-forward part over the first n rows, in place in x.
func (s *states) feed(l *hostLayer, n int) {
	s.normalize(l.feedNorm, n)
	l.feedIn.Mul(s.wide, s.y, n)
	f := s.config.DFF
	width := l.feedIn.Out
	matvec.Parallel(n, func(i int) {
		x, to := s.wide[i*width:][:f], s.gate[i*f:(i+1)*f]
		activation(s.config.Activation(), to, x)
		if width > f {
			matvec.Product(to, to, s.wide[i*width+f:][:f], 1)
		}
	})
	s.project(l.feedOut, s.gate, n)
}

// inParts divides rows among the cores where there are many.
func inParts(rows int, work func(from, to int)) {
	const part = 64
	matvec.Parallel((rows+part-1)/part, func(i int) { work(i*part, min(rows, (i+1)*part)) })
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
