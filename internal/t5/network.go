package t5

import (
	"fmt"
	"math"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas
)

// Network is one model inside one graph: its weights as nodes and what acts on them.
type Network struct {
	Config  Config
	Weights map[string]*Node // by Hugging Face name
	// Adapt adds to a projection's output y = x·Wᵀ what an adapter has learned; nil adds nothing.
	Adapt   func(name string, x, y *Node) *Node
	Dropout *Dropout     // nil: none
	Compute dtypes.DType // of the matrix products; norms, softmax and loss stay in float32. 0: float32
	// Checkpointing keeps only what passes from block to block for the backward pass and computes
	// the rest again there (Chen et al. 2016): less memory, about a third more time.
	Checkpointing bool
	// Probe is shown the output of each sub-layer, which is the stream after it, and inside a feed-forward
	// one what goes into its last product (act) and what comes out (wo), where values are largest; nil:
	// nobody looks.
	Probe func(name string, x *Node)
}

// block marks where a block begins.
func (n *Network) block(x *Node) *Node {
	if n.Checkpointing {
		return x.Checkpoint()
	}
	return x
}

// end marks where a stack of blocks has ended.
func (n *Network) end(x *Node) *Node {
	if n.Checkpointing {
		return x.StopCheckpoint()
	}
	return x
}

func (n *Network) show(name string, x *Node) *Node {
	if n.Probe != nil {
		n.Probe(name, x)
	}
	return x
}

func (n *Network) weight(name string) *Node {
	w, ok := n.Weights[name]
	if !ok {
		panic(fmt.Errorf("the graph has no tensor %s", name))
	}
	return w
}

func (n *Network) dtype() dtypes.DType {
	if n.Compute == dtypes.InvalidDType {
		return dtypes.Float32
	}
	return n.Compute
}

// cast brings x to the compute type.
func (n *Network) cast(x *Node) *Node { return convert(x, n.dtype()) }

func convert(x *Node, to dtypes.DType) *Node {
	if x.DType() == to {
		return x
	}
	return ConvertDType(x, to)
}

// project is a linear layer without bias, with its adapter: y = x·Wᵀ.
//
//	x [..., in]   W [out, in]   →   y [..., out]
func (n *Network) project(name string, x *Node) *Node {
	defer located(name, x, n.Weights[name])
	y := linear(n.cast(x), n.cast(n.weight(name)))
	if n.Adapt != nil {
		y = n.Adapt(name, x, y)
	}
	return y
}

// linear is x·Wᵀ. A W of three axes is one a row of x.
//
//	x [..., in]         W [out, in]          →   [..., out]
//	x [batch, n, in]    W [batch, out, in]   →   [batch, n, out]
func linear(x, w *Node) *Node {
	if w.Rank() == 3 {
		return DotGeneral(x, []int{2}, []int{0}, w, []int{2}, []int{0})
	}
	return DotGeneral(x, []int{x.Rank() - 1}, nil, w, []int{1}, nil)
}

// norm is T5's layer norm, without mean and without bias: w·x/√(mean(x²)+ε), in float32.
func (n *Network) norm(name string, x *Node) *Node {
	defer located(name, x, n.Weights[name])
	x = convert(x, dtypes.Float32)
	square := ReduceAndKeep(Mul(x, x), ReduceMean, -1)
	x = Div(x, Sqrt(AddScalar(square, n.Config.LayerNormEpsilon)))
	scale := convert(n.weight(name), dtypes.Float32)
	return Mul(x, ExpandLeftToRank(scale, x.Rank()))
}

// embed looks up token ids and drops some out.
//
//	ids [batch, length]   →   [batch, length, d_model]
func (n *Network) embed(ids *Node) *Node {
	defer located(Embedding, ids, n.Weights[Embedding])
	x := Gather(n.weight(Embedding), InsertAxes(ids, -1))
	return n.Dropout.Apply(convert(x, dtypes.Float32))
}

// heads splits the last axis.
//
//	x [batch, length, heads·d_kv]   →   [batch, length, heads, d_kv]
func (n *Network) heads(x *Node) *Node {
	d := x.Shape().Dimensions
	return Reshape(x, d[0], d[1], n.Config.NumHeads, n.Config.DKV)
}

// attend is softmax(q·kᵀ + bias)·v; T5 does not scale the scores.
//
//	q [batch, queries, heads, d_kv]   k, v [batch, keys, heads, d_kv]
//	bias broadcastable to [batch, heads, queries, keys]   →   [batch, queries, heads·d_kv]
func (n *Network) attend(q, k, v, bias *Node) *Node {
	scores := DotGeneral(q, []int{3}, []int{0, 2}, k, []int{3}, []int{0, 2}) // [batch, heads, queries, keys]
	scores = convert(scores, dtypes.Float32)
	weights := softmax(Add(scores, BroadcastToShape(bias, scores.Shape())))
	weights = n.Dropout.Apply(weights)
	out := DotGeneral(n.cast(weights), []int{3}, []int{0, 1}, v, []int{1}, []int{0, 2}) // [batch, heads, queries, d_kv]
	out = TransposeAllAxes(out, 0, 2, 1, 3)
	d := out.Shape().Dimensions
	return Reshape(out, d[0], d[1], n.Config.inner())
}

// softmax over the last axis, written out: the engine's fused one does not take every type.
func softmax(x *Node) *Node {
	x = Exp(Sub(x, StopGradient(ReduceAndKeep(x, ReduceMax, -1))))
	return Div(x, ReduceAndKeep(x, ReduceSum, -1))
}

// residual adds a sub-layer's output to the stream.
func (n *Network) residual(x, update *Node) *Node {
	return Add(x, n.Dropout.Apply(convert(update, dtypes.Float32)))
}

// selfAttention is one sub-layer over x itself.
func (n *Network) selfAttention(layer string, x, bias *Node) *Node {
	defer located(layer+"SelfAttention", x, bias)
	at := layer + "SelfAttention."
	y := n.norm(layer+"layer_norm.weight", x)
	q, k, v := n.heads(n.project(at+"q.weight", y)), n.heads(n.project(at+"k.weight", y)), n.heads(n.project(at+"v.weight", y))
	return n.show(layer+"SelfAttention", n.residual(x, n.project(at+"o.weight", n.attend(q, k, v, bias))))
}

// feedForward is W_o·act(W_i·x), or W_o·(act(W_0·x)∘W_1·x) where gated.
func (n *Network) feedForward(layer string, x *Node) *Node {
	defer located(layer+"DenseReluDense", x)
	at := layer + "DenseReluDense."
	y := n.norm(layer+"layer_norm.weight", x)
	var h *Node
	if n.Config.Gated() {
		h = Mul(n.activate(n.project(at+"wi_0.weight", y)), n.project(at+"wi_1.weight", y))
	} else {
		h = n.activate(n.project(at+"wi.weight", y))
	}
	h = n.show(at+"act", n.Dropout.Apply(h))
	return n.show(layer+"DenseReluDense", n.residual(x, n.show(at+"wo", n.project(at+"wo.weight", h))))
}

func (n *Network) activate(x *Node) *Node {
	switch n.Config.Activation() {
	case "relu":
		return Max(x, ZerosLike(x))
	case "silu":
		return Mul(x, Logistic(x))
	case "gelu":
		return Mul(MulScalar(x, 0.5), OnePlus(Erf(DivScalar(x, math.Sqrt2))))
	default: // gelu_new: ½x(1 + tanh(√(2/π)(x + 0.044715x³)))
		inner := MulScalar(Add(x, MulScalar(Mul(x, Mul(x, x)), 0.044715)), math.Sqrt(2/math.Pi))
		return Mul(MulScalar(x, 0.5), OnePlus(Tanh(inner)))
	}
}

// Encode runs the encoder.
//
//	ids [batch, length], padded on the right   →   states [batch, length, d_model]
func (n *Network) Encode(ids *Node) *Node { return n.encode(ids, n.Config.PaddingMask(ids)) }

// encode adds mask to the scores of every layer; it is broadcastable to [batch, heads, length, length].
func (n *Network) encode(ids, mask *Node) *Node {
	length := ids.Shape().Dimensions[1]
	x := n.embed(ids)
	var bias *Node
	for i := range n.Config.NumLayers {
		block := fmt.Sprintf("encoder.block.%d.layer.", i)
		if i == 0 || n.Config.biasInEachLayer() {
			bias = Add(n.Config.positionBias(n.float(block+"0.SelfAttention."+biasSuffix), length, length, true), mask)
		}
		x = n.selfAttention(block+"0.", n.block(x), bias)
		x = n.feedForward(block+"1.", x)
	}
	return n.Dropout.Apply(n.norm(encoderFinalNorm, n.end(x)))
}

func (n *Network) float(name string) *Node { return convert(n.weight(name), dtypes.Float32) }

// Decode runs the decoder over whole targets (teacher forcing).
//
//	ids [rows, targets], states [sources, length, d_model], mask [sources, 1, 1, length]   →   [rows, targets, d_model]
//
// Rows is a multiple of sources; see crossAttention.
func (n *Network) Decode(ids, states, mask *Node) *Node {
	return n.decode(ids, states, causalMask(ids.Graph(), ids.Shape().Dimensions[1]), mask)
}

// decode adds own to the scores of self-attention and cross to those of cross-attention.
func (n *Network) decode(ids, states, own, cross *Node) *Node {
	length := ids.Shape().Dimensions[1]
	x := n.embed(ids)
	var bias *Node
	for i := range n.Config.NumDecoderLayers {
		block := fmt.Sprintf("decoder.block.%d.layer.", i)
		if i == 0 || n.Config.biasInEachLayer() {
			bias = Add(n.Config.positionBias(n.float(block+"0.SelfAttention."+biasSuffix), length, length, false), own)
		}
		x = n.selfAttention(block+"0.", n.block(x), bias)
		k, v := n.crossKeys(i, states)
		x = n.crossAttention(i, x, k, v, cross)
		x = n.feedForward(block+"2.", x)
	}
	return n.Dropout.Apply(n.norm(decoderFinalNorm, n.end(x)))
}

// crossKeys are the keys and values that decoder block i takes from the encoder's states; they
// are the same at every step.
//
//	states [batch, length, d_model]   →   k, v [batch, length, heads, d_kv]
func (n *Network) crossKeys(i int, states *Node) (k, v *Node) {
	at := fmt.Sprintf("decoder.block.%d.layer.1.EncDecAttention.", i)
	return n.heads(n.project(at+"k.weight", states)), n.heads(n.project(at+"v.weight", states))
}

// crossAttention lets several decoder rows share one source: with rows = sources·share, the rows
// of a source stand one after another and are attended as its queries, so that its keys are
// neither computed nor stored once a row.
//
//	x [rows, targets, d_model]   k, v [sources, length, heads, d_kv]   mask [sources, 1, 1, length]
func (n *Network) crossAttention(i int, x, k, v, mask *Node) *Node {
	layer := fmt.Sprintf("decoder.block.%d.layer.1.", i)
	defer located(layer+"EncDecAttention", x, k, v, mask)
	at := layer + "EncDecAttention."
	q := n.heads(n.project(at+"q.weight", n.norm(layer+"layer_norm.weight", x)))
	rows, targets, sources := x.Shape().Dimensions[0], x.Shape().Dimensions[1], k.Shape().Dimensions[0]
	q = Reshape(q, sources, rows/sources*targets, n.Config.NumHeads, n.Config.DKV)
	out := Reshape(n.attend(q, k, v, mask), rows, targets, n.Config.inner())
	return n.show(layer+"EncDecAttention", n.residual(x, n.project(at+"o.weight", out)))
}

// Logits are the scores of every vocabulary entry.
//
//	states [..., d_model]   →   [..., vocab], float32
func (n *Network) Logits(states *Node) *Node {
	defer located("the head", states)
	if n.Config.scaled() {
		states = MulScalar(states, n.Config.HeadScale())
	}
	if n.Config.TieWordEmbeddings {
		return convert(linear(n.cast(states), n.cast(n.weight(Embedding))), dtypes.Float32)
	}
	return convert(n.project(Head, states), dtypes.Float32)
}

// shiftRight makes decoder inputs of labels: the start token, then the labels without the last;
// ignored labels become padding.
//
//	labels [batch, targets]   →   [batch, targets]
func (c Config) shiftRight(labels *Node) *Node {
	d := labels.Shape().Dimensions
	pad := BroadcastToDims(ConstAs(labels, int32(c.PadTokenID)), d...)
	labels = Where(Equal(labels, ConstAs(labels, int32(Ignore))), pad, labels)
	start := BroadcastToDims(ConstAs(labels, int32(c.DecoderStartTokenID)), d[0], 1)
	if d[1] == 1 {
		return start
	}
	return Concatenate([]*Node{start, Slice(labels, AxisRange(), AxisRange(0, d[1]-1))}, 1)
}

// Forward is one teacher-forced pass.
//
//	inputs [batch, length], labels [batch, targets]   →   logits [batch, targets, vocab]
func (n *Network) Forward(inputs, labels *Node) *Node { return n.Logits(n.States(inputs, labels)) }

// States are what the head makes the logits of in a teacher-forced pass.
//
//	inputs [batch, length], labels [batch, targets]   →   [batch, targets, d_model]
func (n *Network) States(inputs, labels *Node) *Node {
	states := n.Encode(inputs)
	return n.Decode(n.Config.shiftRight(labels), states, n.Config.PaddingMask(inputs))
}

// PackedStates are States of rows that hold several examples each. A token sees those of its own
// segment only, so that its state is that of its example alone in a row: T5 knows positions by
// their differences, which packing leaves as they are.
//
//	inputs, inputSegments [batch, length], labels, labelSegments [batch, targets]   →   [batch, targets, d_model]
func (n *Network) PackedStates(inputs, labels, inputSegments, labelSegments *Node) *Node {
	own := Add(causalMask(labels.Graph(), labels.Shape().Dimensions[1]), segmentMask(labelSegments, labelSegments))
	states := n.encode(inputs, segmentMask(inputSegments, inputSegments))
	shifted := n.Config.shiftRight(labels)
	before := Concatenate([]*Node{ZerosLike(Slice(labelSegments, AxisRange(), AxisRange(0, 1))), Slice(labelSegments, AxisRange(), AxisRange(0, -1))}, 1)
	start := BroadcastToDims(ConstAs(labels, int32(n.Config.DecoderStartTokenID)), labels.Shape().Dimensions...)
	shifted = Where(Equal(before, labelSegments), shifted, start)
	return n.decode(shifted, states, own, segmentMask(labelSegments, inputSegments))
}

func iota32(g *Graph, dims []int, axis int) *Node {
	return Iota(g, shapes.Make(dtypes.Int32, dims...), axis)
}

// Linear is x·Wᵀ in the compute type, for what acts on a projection from outside.
func (n *Network) Linear(x, w *Node) *Node { return linear(n.cast(x), n.cast(w)) }
