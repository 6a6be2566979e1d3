package t5

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Names of the tensors outside the blocks.
const (
	Embedding        = "shared.weight"
	Head             = "lm_head.weight"
	encoderFinalNorm = "encoder.final_layer_norm.weight"
	decoderFinalNorm = "decoder.final_layer_norm.weight"
)

// Spec is one tensor of a model: its key in model.safetensors and its shape.
type Spec struct {
	Name  string
	Shape []int
	std   float64 // of a fresh weight; 0: ones (a norm's scale)
}

// Norm says whether the tensor is a layer norm's scale, which weight decay leaves alone.
func (s Spec) Norm() bool { return s.std == 0 }

// Size is the number of elements.
func (s Spec) Size() int {
	n := 1
	for _, d := range s.Shape {
		n *= d
	}
	return n
}

// Projection says whether the tensor is a linear layer's weight [out, in]: what an adapter may
// sit on. A head of its own is one; a tied one is an embedding.
func (s Spec) Projection() bool {
	return len(s.Shape) == 2 && s.Name != Embedding && !isBias(s.Name)
}

// Specs lists the tensors of the model in a fixed order. A tied head has no tensor of its own.
func (c Config) Specs() []Spec {
	specs := []Spec{{Embedding, []int{c.VocabSize, c.DModel}, 1}}
	for i := range c.NumLayers {
		block := fmt.Sprintf("encoder.block.%d.layer.", i)
		specs = append(specs, c.attention(block+"0.", "SelfAttention", i == 0 || c.biasInEachLayer())...)
		specs = append(specs, c.feedForward(block+"1.")...)
	}
	specs = append(specs, Spec{encoderFinalNorm, []int{c.DModel}, 0})
	for i := range c.NumDecoderLayers {
		block := fmt.Sprintf("decoder.block.%d.layer.", i)
		specs = append(specs, c.attention(block+"0.", "SelfAttention", i == 0 || c.biasInEachLayer())...)
		specs = append(specs, c.attention(block+"1.", "EncDecAttention", false)...)
		specs = append(specs, c.feedForward(block+"2.")...)
	}
	specs = append(specs, Spec{decoderFinalNorm, []int{c.DModel}, 0})
	if !c.TieWordEmbeddings {
		specs = append(specs, Spec{Head, []int{c.VocabSize, c.DModel}, 1 / math.Sqrt(float64(c.DModel))})
	}
	for i := range specs {
		specs[i].std *= c.InitializerFactor
	}
	return specs
}

// attention lists one attention layer. The initial deviations are those of transformers'
// T5PreTrainedModel._init_weights, but for the head: as T5X does, it starts at 1/√d_model, since
// at 1 the first logits are tens of units apart and a small model spends its first epoch on that.
func (c Config) attention(layer, kind string, bias bool) []Spec {
	d, inner := float64(c.DModel), float64(c.inner())
	in, out := []int{c.inner(), c.DModel}, []int{c.DModel, c.inner()}
	at := layer + kind + "."
	specs := []Spec{
		{at + "q.weight", in, 1 / math.Sqrt(d*float64(c.DKV))},
		{at + "k.weight", in, 1 / math.Sqrt(d)},
		{at + "v.weight", in, 1 / math.Sqrt(d)},
		{at + "o.weight", out, 1 / math.Sqrt(inner)},
	}
	if bias {
		specs = append(specs, Spec{at + biasSuffix, []int{c.RelativeBuckets, c.NumHeads}, 1 / math.Sqrt(d)})
	}
	return append(specs, Spec{layer + "layer_norm.weight", []int{c.DModel}, 0})
}

func (c Config) feedForward(layer string) []Spec {
	in, out := 1/math.Sqrt(float64(c.DModel)), 1/math.Sqrt(float64(c.DFF))
	at := layer + "DenseReluDense."
	var specs []Spec
	if c.Gated() {
		specs = []Spec{{at + "wi_0.weight", []int{c.DFF, c.DModel}, in}, {at + "wi_1.weight", []int{c.DFF, c.DModel}, in}}
	} else {
		specs = []Spec{{at + "wi.weight", []int{c.DFF, c.DModel}, in}}
	}
	return append(specs, Spec{at + "wo.weight", []int{c.DModel, c.DFF}, out}, Spec{layer + "layer_norm.weight", []int{c.DModel}, 0})
}

// Aliases are further keys under which transformers may store a tensor that is already there.
func (c Config) Aliases() map[string]string {
	aliases := map[string]string{
		"encoder.embed_tokens.weight": Embedding,
		"decoder.embed_tokens.weight": Embedding,
	}
	if c.TieWordEmbeddings {
		aliases[Head] = Embedding
	}
	return aliases
}

// Init draws the fresh value of one tensor. Each tensor has its own stream, so that a value
// depends on the seed and the name alone and is the same on every machine and backend.
func (s Spec) Init(seed uint64) []float32 {
	values := make([]float32, s.Size())
	if s.Norm() {
		for i := range values {
			values[i] = 1
		}
		return values
	}
	rng := rand.New(rand.NewPCG(seed, hash(s.Name)))
	for i := range values {
		values[i] = float32(rng.NormFloat64() * s.std)
	}
	return values
}

// hash is FNV-1a.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}
