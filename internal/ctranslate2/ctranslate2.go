// Package ctranslate2 writes a T5 model as the folder that CTranslate2 reads: model.bin in its format 6
// (specification TransformerSpec, revision 7), config.json and shared_vocabulary.json.
//
// Source: python/ctranslate2/specs/{model,transformer,common,attention}_spec.py and
// converters/transformers.py of CTranslate2 4.8.5. Unlike that converter it scales the states before the head only
// where the model does so, whatever transformers says of tied embeddings.
package ctranslate2

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

// Model is what is written.
type Model struct {
	EncoderLayers, DecoderLayers int
	Heads, MaxDistance           int
	Activation                   string  // relu, gelu, gelu_new or silu
	Gated                        bool    // the feed-forward layers multiply two projections
	BiasInEachLayer              bool    // else the first layer's position bias holds for all
	HeadScale                    float64 // of the decoder's states before the head
	Epsilon                      float64 // of the norms
	Head                         string  // tensor of the head; may be Embedding
	Embedding                    string
	Tokens                       []string // of the vocabulary, by id
	Pad, EOS, Unknown, Start     int32
	// Tensor gives a weight by its Hugging Face name: values and shape.
	Tensor func(name string) ([]float32, []int, error)
}

// Precision is how weights are kept: fp32, bf16 or int8 (a scale for each output).
type Precision string

// Precisions.
const (
	Float32  Precision = "fp32"
	BFloat16 Precision = "bf16"
	Int8     Precision = "int8"
)

// Types of values in model.bin, as in CTranslate2's DataType.
const (
	typeFloat32  byte = 0
	typeInt8     byte = 1
	typeInt16    byte = 2
	typeInt32    byte = 3
	typeBFloat16 byte = 5
)

// variable is one entry of model.bin: a constant, or tensors that stand under one another.
type variable struct {
	constant []byte // with its type; nil: tensors
	kind     byte
	tensors  []string
	matrix   bool // a weight matrix, which int8 divides by scales
}

// Write puts the three files into dir, which must be there.
func Write(dir string, m Model, p Precision) error {
	if p != Float32 && p != BFloat16 && p != Int8 {
		return fmt.Errorf("precision %q is none of fp32, bf16, int8", p)
	}
	err := atomicfile.Write(filepath.Join(dir, "model.bin"), func(w io.Writer) error { return m.write(w, p) })
	if err != nil {
		return err
	}
	for name, value := range map[string]any{
		"shared_vocabulary.json": m.Tokens,
		"config.json": map[string]any{
			"add_source_bos": false, "add_source_eos": false, "multi_query_attention": false, "layer_norm_epsilon": m.Epsilon,
			"bos_token": m.Tokens[m.Pad], "eos_token": m.Tokens[m.EOS], "unk_token": m.Tokens[m.Unknown], "decoder_start_token": m.Tokens[m.Start],
		},
	} {
		data, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			return err
		}
		if err := atomicfile.WriteBytes(filepath.Join(dir, name), append(data, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// write writes model.bin, one weight in memory at a time.
func (m Model) write(to io.Writer, p Precision) error {
	w := &encoder{to: bufio.NewWriterSize(to, 1<<20)}
	variables, aliases := m.variables()
	count := len(variables)
	for _, v := range variables {
		if v.matrix && p == Int8 {
			count++ // its scales
		}
	}
	w.number(6, 4)
	w.text("TransformerSpec")
	w.number(7, 4)
	w.number(count, 4)
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		if err := m.put(w, name, variables[name], p); err != nil {
			return err
		}
	}
	w.number(len(aliases), 4)
	for _, name := range slices.Sorted(maps.Keys(aliases)) {
		w.text(name)
		w.text(aliases[name])
	}
	if w.err != nil {
		return w.err
	}
	return w.to.Flush()
}

// put writes one variable.
func (m Model) put(w *encoder, name string, v variable, p Precision) error {
	if v.constant != nil {
		w.variable(name, nil, v.kind, v.constant)
		return nil
	}
	var values []float32
	var shape []int
	for _, tensor := range v.tensors {
		part, dims, err := m.Tensor(tensor)
		if err != nil {
			return err
		}
		values = append(values, part...)
		if shape == nil {
			shape = slices.Clone(dims)
		} else {
			shape[0] += dims[0]
		}
	}
	switch {
	case p == Int8 && v.matrix:
		bytes, scales := quantize(values, shape[0])
		w.variable(name, shape, typeInt8, bytes)
		w.variable(name+"_scale", shape[:1], typeFloat32, floats(scales))
	case p == BFloat16:
		w.variable(name, shape, typeBFloat16, halves(values))
	default:
		w.variable(name, shape, typeFloat32, floats(values))
	}
	return w.err
}

// variables lists what model.bin holds, and second names.
func (m Model) variables() (list map[string]variable, aliases map[string]string) {
	list, aliases = map[string]variable{}, map[string]string{}
	flag := func(name string, on bool) {
		list[name] = variable{kind: typeInt8, constant: []byte{map[bool]byte{true: 1}[on]}}
	}
	activation := map[string]byte{"relu": 0, "gelu_new": 1, "silu": 2, "gelu": 3}[m.Activation]
	for _, side := range []string{"encoder", "decoder"} {
		list[side+"/activation"] = variable{kind: typeInt8, constant: []byte{activation}}
		list[side+"/num_heads"] = variable{kind: typeInt16, constant: binary.LittleEndian.AppendUint16(nil, uint16(m.Heads))}
		flag(side+"/pre_norm", true)
		flag(side+"/scale_embeddings", false)
		layers := m.EncoderLayers
		if side == "decoder" {
			layers = m.DecoderLayers
		}
		for i := range layers {
			m.layer(list, aliases, side, i)
		}
		list[side+"/layer_norm/gamma"] = variable{tensors: []string{side + ".final_layer_norm.weight"}}
	}
	flag("encoder/multi_query_attention", false)
	flag("encoder/embeddings_merge", false)
	for _, name := range []string{"alibi", "alibi_use_positive_positions", "scale_alibi", "start_from_zero_embedding"} {
		flag("decoder/"+name, false)
	}
	list["decoder/alignment_heads"] = variable{kind: typeInt16, constant: []byte{1, 0}}
	list["decoder/alignment_layer"] = variable{kind: typeInt16, constant: []byte{0xff, 0xff}} // the last
	if m.HeadScale != 1 {
		list["decoder/scale_outputs"] = variable{kind: typeFloat32, constant: floats([]float32{float32(m.HeadScale)})}
	}
	list["decoder/embeddings/weight"] = variable{tensors: []string{m.Embedding}, matrix: true}
	second := []string{"encoder/embeddings_0/weight"}
	if m.Head == m.Embedding {
		second = append(second, "decoder/projection/weight")
	} else {
		list["decoder/projection/weight"] = variable{tensors: []string{m.Head}, matrix: true}
	}
	for _, name := range second {
		aliases[name] = "decoder/embeddings/weight"
	}
	return list, aliases
}

// layer adds one block.
func (m Model) layer(list map[string]variable, aliases map[string]string, side string, i int) {
	to, from := fmt.Sprintf("%s/layer_%d/", side, i), fmt.Sprintf("%s.block.%d.layer.", side, i)
	matrix := func(name string, tensors ...string) {
		list[to+name+"/weight"] = variable{tensors: tensors, matrix: true}
	}
	norm := func(name string, at int) {
		list[to+name+"/layer_norm/gamma"] = variable{tensors: []string{fmt.Sprintf("%s%d.layer_norm.weight", from, at)}}
	}
	one := floats([]float32{1})
	self, last := from+"0.SelfAttention.", 1
	matrix("self_attention/linear_0", self+"q.weight", self+"k.weight", self+"v.weight")
	matrix("self_attention/linear_1", self+"o.weight")
	list[to+"self_attention/queries_scale"] = variable{kind: typeFloat32, constant: one}
	list[to+"self_attention/relative_attention_max_distance"] = variable{
		kind: typeInt32, constant: binary.LittleEndian.AppendUint32(nil, uint32(m.MaxDistance)),
	}
	bias := "self_attention/relative_attention_bias"
	if i == 0 || m.BiasInEachLayer {
		list[to+bias] = variable{tensors: []string{self + "relative_attention_bias.weight"}}
	} else {
		aliases[to+bias] = side + "/layer_0/" + bias
	}
	norm("self_attention", 0)
	if side == "decoder" {
		cross := from + "1.EncDecAttention."
		matrix("attention/linear_0", cross+"q.weight")
		matrix("attention/linear_1", cross+"k.weight", cross+"v.weight")
		matrix("attention/linear_2", cross+"o.weight")
		list[to+"attention/queries_scale"] = variable{kind: typeFloat32, constant: one}
		norm("attention", 1)
		last = 2
	}
	feed := fmt.Sprintf("%s%d.DenseReluDense.", from, last)
	if m.Gated {
		matrix("ffn/linear_0", feed+"wi_0.weight")
		matrix("ffn/linear_0_noact", feed+"wi_1.weight")
	} else {
		matrix("ffn/linear_0", feed+"wi.weight")
	}
	matrix("ffn/linear_1", feed+"wo.weight")
	norm("ffn", last)
}

// quantize rounds each row to 8 bits, with 127 for its largest; the scales are what rows were multiplied by.
func quantize(values []float32, rows int) (bytes []byte, scales []float32) {
	width := len(values) / rows
	bytes, scales = make([]byte, len(values)), make([]float32, rows)
	for r := range rows {
		row := values[r*width : (r+1)*width]
		most := float32(0)
		for _, v := range row {
			most = max(most, v, -v)
		}
		if most == 0 {
			most = 127
		}
		scales[r] = 127 / max(most, 127/math.MaxFloat32) // a row of tiny weights must not give an infinite scale
		for k, v := range row {
			bytes[r*width+k] = byte(int8(math.RoundToEven(float64(v * scales[r]))))
		}
	}
	return bytes, scales
}

func floats(values []float32) []byte {
	out := make([]byte, 0, 4*len(values))
	for _, v := range values {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
	}
	return out
}

// halves rounds to bfloat16, ties to even.
func halves(values []float32) []byte {
	out := make([]byte, 0, 2*len(values))
	for _, v := range values {
		bits := math.Float32bits(v)
		out = binary.LittleEndian.AppendUint16(out, uint16((bits+0x7fff+bits>>16&1)>>16))
	}
	return out
}

// encoder writes little-endian values and keeps the first error.
type encoder struct {
	to  *bufio.Writer
	err error
}

func (e *encoder) bytes(b []byte) {
	if e.err == nil {
		_, e.err = e.to.Write(b)
	}
}

func (e *encoder) number(v, size int) {
	e.bytes(binary.LittleEndian.AppendUint32(nil, uint32(v))[:size])
}

// text writes a string with its length and a zero.
func (e *encoder) text(s string) {
	e.number(len(s)+1, 2)
	e.bytes([]byte(s + "\x00"))
}

func (e *encoder) variable(name string, shape []int, kind byte, data []byte) {
	if uint64(len(data)) > math.MaxUint32 && e.err == nil {
		e.err = fmt.Errorf("%s has %d bytes; the format holds 4 GiB in one weight", strings.TrimSuffix(name, "/weight"), len(data))
	}
	e.text(name)
	e.number(len(shape), 1)
	for _, d := range shape {
		e.number(d, 4)
	}
	e.number(int(kind), 1)
	e.number(len(data), 4)
	e.bytes(data)
}
