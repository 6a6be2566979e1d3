package t5

import (
	"fmt"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas
)

// Memory is what the decoder needs of the sources at every step, computed once.
type Memory struct {
	Cross []*Node // keys and values of each block in turn, [sources, length, heads, d_kv]
	Mask  *Node   // [sources, 1, 1, length]
	Bias  []*Node // one a block that has its own (a shared one: one), [steps, heads, steps], causal
}

// Nodes lists the memory in a fixed order.
func (m Memory) Nodes() []*Node {
	return append(append(append([]*Node{}, m.Cross...), m.Mask), m.Bias...)
}

// MemoryOf puts together again what Nodes listed.
func (c Config) MemoryOf(nodes []*Node) Memory {
	cross := 2 * c.NumDecoderLayers
	return Memory{Cross: nodes[:cross], Mask: nodes[cross], Bias: nodes[cross+1:]}
}

// MemorySize is how many nodes a memory has.
func (c Config) MemorySize() int {
	if c.biasInEachLayer() {
		return 3*c.NumDecoderLayers + 1
	}
	return 2*c.NumDecoderLayers + 2
}

// Remember runs the encoder and lays down what at most `steps` decoder steps need of it.
//
//	inputs [sources, length]
func (n *Network) Remember(inputs *Node, steps int) Memory {
	states := n.Encode(inputs)
	m := Memory{Mask: n.Config.PaddingMask(inputs)}
	causal := causalMask(inputs.Graph(), steps)
	for i := range n.Config.NumDecoderLayers {
		k, v := n.crossKeys(i, states)
		m.Cross = append(m.Cross, k, v)
		if i == 0 || n.Config.biasInEachLayer() {
			table := n.float(fmt.Sprintf("decoder.block.%d.layer.0.SelfAttention.%s", i, biasSuffix))
			bias := Add(n.Config.positionBias(table, steps, steps, false), causal) // [1, heads, steps, steps]
			m.Bias = append(m.Bias, TransposeAllAxes(Squeeze(bias, 0), 1, 0, 2))
		}
	}
	return m
}

// Step is one decoder step with a cache of the steps before it.
//
//	tokens [rows], positions [rows]: how many tokens each row has behind it, cache: keys and values of each block, [rows, steps, heads, d_kv]
//	→   logits [rows, vocab], the cache with this step in it
func (n *Network) Step(tokens, positions *Node, cache []*Node, m Memory) (logits *Node, updated []*Node) {
	rows := tokens.Shape().Dimensions[0]
	x := n.embed(InsertAxes(tokens, -1)) // [rows, 1, d_model]
	shape := cache[0].Shape().Dimensions
	here := Equal(iota32(x.Graph(), shape, 1), BroadcastToDims(InsertAxes(positions, -1, -1, -1), shape...))
	for i := range n.Config.NumDecoderLayers {
		bias := m.Bias[min(i, len(m.Bias)-1)]
		row := InsertAxes(Gather(bias, InsertAxes(positions, -1)), 2) // [rows, heads, 1, steps]

		layer := fmt.Sprintf("decoder.block.%d.layer.0.", i)
		at := layer + "SelfAttention."
		y := n.norm(layer+"layer_norm.weight", x)
		k := remember(cache[2*i], n.heads(n.project(at+"k.weight", y)), here)
		v := remember(cache[2*i+1], n.heads(n.project(at+"v.weight", y)), here)
		updated = append(updated, k, v)
		q := n.heads(n.project(at+"q.weight", y))
		x = n.residual(x, n.project(at+"o.weight", n.attend(q, n.cast(k), n.cast(v), row)))
		x = n.crossAttention(i, x, m.Cross[2*i], m.Cross[2*i+1], m.Mask)
		x = n.feedForward(fmt.Sprintf("decoder.block.%d.layer.2.", i), x)
	}
	x = n.Dropout.Apply(n.norm(decoderFinalNorm, x))
	return Reshape(n.Logits(x), rows, n.Config.VocabSize), updated
}

// remember writes one step into a cache. A comparison instead of a dynamic update runs on every
// backend and costs the same.
func remember(cache, step, here *Node) *Node {
	return Where(here, BroadcastToDims(convert(step, cache.DType()), cache.Shape().Dimensions...), cache)
}

// CacheShape is the shape of each of the 2·blocks cache tensors.
func (c Config) CacheShape(rows, steps int) []int { return []int{rows, steps, c.NumHeads, c.DKV} }

// Float is the element type of caches and memory.
const Float = dtypes.Float32
