// Package t5 is the T5 family as graph-building functions: T5 1.0, 1.1 (FLAN, mT5), umT5 and
// ByT5, told apart by config.json alone.
//
// Weights keep the names and layouts of Hugging Face: a projection is [out, in], and a tensor's
// name is its key in model.safetensors. Nothing here reads a file or a flag; the functions take
// nodes and give nodes. Reference: transformers 5, modeling_t5.py and modeling_umt5.py.
package t5

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Config is the part of a Hugging Face config.json that shapes the model. Keys that are absent
// take the defaults of transformers' T5Config.
type Config struct {
	ModelType           string  `json:"model_type" yaml:"model_type"`                                           // t5, mt5 or umt5
	VocabSize           int     `json:"vocab_size" yaml:"vocab_size"`                                           // rows of the embedding
	DModel              int     `json:"d_model" yaml:"d_model"`                                                 // width of the hidden states
	DKV                 int     `json:"d_kv" yaml:"d_kv"`                                                       // width of one attention head
	DFF                 int     `json:"d_ff" yaml:"d_ff"`                                                       // width inside the feed-forward layers
	NumLayers           int     `json:"num_layers" yaml:"num_layers"`                                           // encoder blocks
	NumDecoderLayers    int     `json:"num_decoder_layers" yaml:"num_decoder_layers"`                           // decoder blocks; absent means as many as encoder blocks
	NumHeads            int     `json:"num_heads" yaml:"num_heads"`                                             // attention heads
	RelativeBuckets     int     `json:"relative_attention_num_buckets" yaml:"relative_attention_num_buckets"`   // buckets of the relative position bias
	RelativeMaxDistance int     `json:"relative_attention_max_distance" yaml:"relative_attention_max_distance"` // distance from which all share one bucket
	DropoutRate         float64 `json:"dropout_rate" yaml:"dropout_rate"`                                       // dropout while training
	LayerNormEpsilon    float64 `json:"layer_norm_epsilon" yaml:"layer_norm_epsilon"`                           // added to the mean square
	FeedForwardProj     string  `json:"feed_forward_proj" yaml:"feed_forward_proj"`                             // relu, gelu, silu, or gated- and one of them
	TieWordEmbeddings   bool    `json:"tie_word_embeddings" yaml:"tie_word_embeddings"`                         // the head is the embedding
	ScaleDecoderOutputs *bool   `json:"scale_decoder_outputs,omitempty" yaml:"scale_decoder_outputs,omitempty"` // scale the states before the head; absent: as tie_word_embeddings says
	PadTokenID          int     `json:"pad_token_id" yaml:"pad_token_id"`                                       // padding
	EOSTokenID          int     `json:"eos_token_id" yaml:"eos_token_id"`                                       // end of a sequence
	DecoderStartTokenID int     `json:"decoder_start_token_id" yaml:"decoder_start_token_id"`                   // first decoder input
	InitializerFactor   float64 `json:"initializer_factor" yaml:"initializer_factor"`                           // scale of fresh weights
}

// DefaultConfig is what transformers' T5Config assumes for absent keys.
func DefaultConfig() Config {
	return Config{
		ModelType: "t5", VocabSize: 32128, DModel: 512, DKV: 64, DFF: 2048, NumLayers: 6, NumHeads: 8,
		RelativeBuckets: 32, RelativeMaxDistance: 128, DropoutRate: 0.1, LayerNormEpsilon: 1e-6,
		FeedForwardProj: "relu", TieWordEmbeddings: true, PadTokenID: 0, EOSTokenID: 1, InitializerFactor: 1,
	}
}

// ParseConfig reads a config.json. Keys that do not shape the model are passed over, as other
// tools put many there.
func ParseConfig(data []byte) (Config, error) {
	c := DefaultConfig()
	if err := json.Unmarshal(data, &c); err != nil {
		return Config{}, fmt.Errorf("parsing config.json: %w", err)
	}
	if c.NumDecoderLayers == 0 {
		c.NumDecoderLayers = c.NumLayers
	}
	return c, c.Validate()
}

// MarshalJSON writes the config.json of a model made here, so that transformers loads it.
func (c Config) MarshalJSON() ([]byte, error) {
	type plain Config
	arch := "T5ForConditionalGeneration"
	switch c.ModelType {
	case "mt5":
		arch = "MT5ForConditionalGeneration"
	case "umt5":
		arch = "UMT5ForConditionalGeneration"
	}
	return json.Marshal(struct {
		Architectures []string `json:"architectures"`
		plain
		DropoutRate       real   `json:"dropout_rate"` // these take the place of plain's
		LayerNormEpsilon  real   `json:"layer_norm_epsilon"`
		InitializerFactor real   `json:"initializer_factor"`
		IsEncoderDecoder  bool   `json:"is_encoder_decoder"`
		Activation        string `json:"dense_act_fn"`
		Gated             bool   `json:"is_gated_act"`
	}{[]string{arch}, plain(c), real(c.DropoutRate), real(c.LayerNormEpsilon), real(c.InitializerFactor), true, c.Activation(), c.Gated()})
}

// real is written with a decimal point: transformers 5 refuses 1 where it wants 1.0.
type real float64

func (r real) MarshalJSON() ([]byte, error) {
	data, err := json.Marshal(float64(r))
	if err == nil && !bytes.ContainsAny(data, ".e") {
		data = append(data, ".0"...)
	}
	return data, err
}

// Validate says all that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !slices.Contains([]string{"t5", "mt5", "umt5"}, c.ModelType) {
		bad("model_type %q is not of the T5 family (t5, mt5, umt5)", c.ModelType)
	}
	for name, v := range map[string]int{
		"vocab_size": c.VocabSize, "d_model": c.DModel, "d_kv": c.DKV, "d_ff": c.DFF, "num_layers": c.NumLayers,
		"num_heads": c.NumHeads, "relative_attention_max_distance": c.RelativeMaxDistance,
	} {
		if v <= 0 {
			bad("%s is %d, must be positive", name, v)
		}
	}
	if c.NumDecoderLayers < 0 {
		bad("num_decoder_layers is %d, must not be negative", c.NumDecoderLayers)
	}
	if c.RelativeBuckets < 4 || c.RelativeBuckets%4 != 0 {
		bad("relative_attention_num_buckets is %d, must be a multiple of 4", c.RelativeBuckets)
	}
	if c.DropoutRate < 0 || c.DropoutRate >= 1 {
		bad("dropout_rate is %g, must be in [0, 1)", c.DropoutRate)
	}
	if !slices.Contains([]string{"relu", "gelu", "gelu_new", "silu"}, c.Activation()) {
		bad("feed_forward_proj %q has no known activation (relu, gelu, silu, gated-gelu, gated-silu)", c.FeedForwardProj)
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// Gated says whether the feed-forward layers multiply two projections.
func (c Config) Gated() bool { return strings.HasPrefix(c.FeedForwardProj, "gated-") }

// Activation names the feed-forward activation as transformers does: the gated GELU is the
// tanh approximation, gelu_new.
func (c Config) Activation() string {
	if c.FeedForwardProj == "gated-gelu" {
		return "gelu_new"
	}
	return strings.TrimPrefix(c.FeedForwardProj, "gated-")
}

// biasInEachLayer says whether every block holds its own relative position bias (umT5) instead
// of sharing the first block's.
func (c Config) biasInEachLayer() bool { return c.ModelType == "umt5" }

// scaled says whether the decoder's states are multiplied by d_model^-½ before the head, as they
// are where the head is the embedding. transformers 5 writes tie_word_embeddings: true for every
// model it saves and keeps the difference in scale_decoder_outputs; mT5 never scales.
func (c Config) scaled() bool {
	switch {
	case c.ModelType == "mt5":
		return false
	case c.ScaleDecoderOutputs != nil:
		return *c.ScaleDecoderOutputs
	default:
		return c.TieWordEmbeddings
	}
}

// HeadScale is what the decoder's states are multiplied by before the head.
func (c Config) HeadScale() float64 {
	if c.scaled() {
		return 1 / math.Sqrt(float64(c.DModel))
	}
	return 1
}

// inner is the width of all heads together; it need not be DModel.
func (c Config) inner() int { return c.NumHeads * c.DKV }
