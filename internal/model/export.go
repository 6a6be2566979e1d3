package model

import (
	"fmt"
	"strings"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/ctranslate2"
	"github.com/t5ctl/t5ctl/internal/t5"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// ExportCTranslate2 writes a model folder as one that CTranslate2 reads, at a path that must not exist. The
// tokenizer's files go beside it, as CTranslate2 takes and gives tokens.
func ExportCTranslate2(to, dir, precision string) error {
	checkpoint, err := t5.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = checkpoint.Close() }() // opened for reading
	tok, err := OpenTokenizer(dir, "", "", checkpoint.Metadata)
	if err != nil {
		return err
	}
	c := checkpoint.Config
	shapes := map[string][]int{}
	for _, spec := range c.Specs() {
		shapes[spec.Name] = spec.Shape
	}
	_, bias := shapes["encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"]
	m := ctranslate2.Model{
		EncoderLayers: c.NumLayers, DecoderLayers: c.NumDecoderLayers, Heads: c.NumHeads, MaxDistance: c.RelativeMaxDistance,
		Activation: c.Activation(), Gated: c.Gated(), BiasInEachLayer: bias, HeadScale: c.HeadScale(), Epsilon: c.LayerNormEpsilon,
		Head: t5.Head, Embedding: t5.Embedding, Tokens: tokensOf(tok, c.VocabSize),
		Pad: int32(c.PadTokenID), EOS: int32(c.EOSTokenID), Unknown: tok.UnkID(), Start: int32(c.DecoderStartTokenID),
		Tensor: func(name string) ([]float32, []int, error) {
			values, err := checkpoint.Float32s(name)
			return values, shapes[name], err
		},
	}
	if c.TieWordEmbeddings {
		m.Head = t5.Embedding
	}
	return atomicfile.WriteDir(to, func(dir string) error {
		if err := ctranslate2.Write(dir, m, ctranslate2.Precision(precision)); err != nil {
			return err
		}
		return tok.WriteFiles(dir)
	})
}

// tokensOf names every id that the model knows; those that the tokenizer has no token for, as embeddings are often
// padded, have names that no text holds.
func tokensOf(tok *vocab.Tokenizer, size int) []string {
	tokens := make([]string, size)
	seen := map[string]bool{}
	for id := range tokens {
		name, ok := tok.Piece(int32(id))
		if !ok || seen[name] {
			name = fmt.Sprintf("<unused_%d>", id)
		}
		tokens[id] = strings.ToValidUTF8(name, "\uFFFD")
		seen[name] = true
	}
	return tokens
}
