// Package model joins what a model folder holds (configuration, weights, tokenizer, generation
// settings) and an adapter on it into something that writes text and scores it.
//
// A model remembers which tokenizer it was trained with: its weights carry the tokenizer's hash
// and mode, and another one is refused.
package model

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/t5ctl/t5ctl/internal/constrain"
	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/lora"
	"github.com/t5ctl/t5ctl/internal/t5"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// Keys of the metadata that weights carry.
const (
	metaTokenizerHash = "t5ctl.tokenizer.sha256"
	metaTokenizerMode = "t5ctl.tokenizer.mode"
	metaPrefix        = "t5ctl.prefix"
)

// Metadata is what weights say of how their model is used.
func Metadata(tok *vocab.Tokenizer, prefix string) map[string]string {
	m := map[string]string{metaTokenizerHash: tok.Hash(), metaTokenizerMode: string(tok.Mode())}
	if prefix != "" {
		m[metaPrefix] = prefix
	}
	return m
}

// TokenizerError says that a tokenizer is not the one that a model was trained with.
type TokenizerError struct {
	Model                string
	Hash, Mode           string // of the tokenizer at hand
	WantHash, WantedMode string // as the weights say
}

func (e *TokenizerError) Error() string {
	if e.Hash == e.WantHash {
		return fmt.Sprintf("%s was trained with its tokenizer in mode %s, not %s", e.Model, e.WantedMode, e.Mode)
	}
	return fmt.Sprintf("%s was trained with tokenizer %.19s (mode %s), not %.19s (mode %s)", e.Model, e.WantHash, e.WantedMode, e.Hash, e.Mode)
}

// checkTokenizer compares a tokenizer with what weights say of theirs; weights of other tools
// say nothing.
func checkTokenizer(model string, metadata map[string]string, tok *vocab.Tokenizer) error {
	hash, mode := metadata[metaTokenizerHash], metadata[metaTokenizerMode]
	if hash == "" || hash == tok.Hash() && mode == string(tok.Mode()) {
		return nil
	}
	return &TokenizerError{Model: model, Hash: tok.Hash(), Mode: string(tok.Mode()), WantHash: hash, WantedMode: mode}
}

// OpenTokenizer opens the tokenizer of a model folder in the mode that its weights say, or in the
// one asked for where they say nothing, and checks it. A path other than "" is used instead of
// the folder's own files.
func OpenTokenizer(dir, path string, mode vocab.Mode, metadata map[string]string) (*vocab.Tokenizer, error) {
	if path == "" {
		path = dir
	}
	if mode == "" {
		mode = vocab.Mode(metadata[metaTokenizerMode])
	}
	if mode == vocab.ModeBytes && path == dir {
		if tok, err := vocab.Load(dir, ""); err == nil && tok.Mode() == mode {
			return tok, checkTokenizer(dir, metadata, tok)
		}
		tok := vocab.Bytes()
		return tok, checkTokenizer(dir, metadata, tok)
	}
	tok, err := vocab.Load(path, mode)
	if err != nil {
		return nil, err
	}
	return tok, checkTokenizer(dir, metadata, tok)
}

// Options say how a model is opened.
type Options struct {
	Adapter       string     // PEFT folder on top of the model; empty: none
	TokenizerPath string     // instead of the folder's own files
	TokenizerMode vocab.Mode // where the weights do not say one
	Precision     string     // fp32, bf16 or int8; empty: fp32
	MaxInput      int        // tokens of an input, </s> included; 0: 512
	Compiled      func(program string, took time.Duration)
}

// Model writes and scores text. It is for one goroutine at a time.
type Model struct {
	Config     t5.Config
	Tokenizer  *vocab.Tokenizer
	Generation decode.Options // from the folder's generation_config.json; may be changed
	Prefix     string         // put before every input in training; the caller decides what to do with it
	Truncated  int            // inputs that were cut at MaxInput so far

	maxInput int
	identity string
	base     decode.Weights // without an adapter
	backend  device.Opening
	engine   *decode.Engine
	release  func()
	words    func() *constrain.Vocabulary
	drawn    uint64 // inputs so far, each with a random stream of its own
}

// Open reads a model folder onto a backend.
func Open(b device.Opening, dir string, o Options) (*Model, error) {
	return new(Shelf).Open(b, dir, o)
}

// identity names a folder's weights by path, size and time.
func identity(dir, stem string) string {
	if dir == "" {
		return ""
	}
	files, err := filepath.Glob(filepath.Join(dir, stem+"*.safetensors"))
	if err != nil {
		return dir
	}
	id := dir
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			id += fmt.Sprintf(" %s %d %d", filepath.Base(file), info.Size(), info.ModTime().UnixNano())
		}
	}
	return id
}

// putAdapter puts an adapter on weights and gives the metadata that counts with it.
func putAdapter(b device.Opening, w *decode.Weights, dir string, base map[string]string) (map[string]string, error) {
	folder, err := lora.Read(dir, w.Config)
	if err != nil {
		return nil, err
	}
	w.Adapter, w.Update = folder.Adapter, decode.InMemory(b, folder.Adapter.Specs(), folder.Values)
	if folder.Metadata[metaTokenizerHash] == "" {
		return base, nil
	}
	return folder.Metadata, nil
}

// Over makes a model of weights that stay the caller's.
func Over(b device.Opening, w decode.Weights, tok *vocab.Tokenizer, o Options) *Model {
	m := &Model{backend: b, Config: w.Config, Tokenizer: tok, Generation: decode.DefaultOptions(), maxInput: o.MaxInput, engine: decode.New(b, w), release: func() {}}
	if m.maxInput == 0 {
		m.maxInput = 512
	}
	m.engine.Compiled = o.Compiled
	m.words = sync.OnceValue(m.vocabulary)
	return m
}

// With gives the model with another adapter on the same base, whose weights both share; the
// model must outlive it. The adapter must be of the model's tokenizer; settings are the model's.
func (m *Model) With(adapter string) (*Model, error) {
	w := m.base
	metadata, err := putAdapter(m.backend, &w, adapter, nil)
	if err != nil {
		return nil, err
	}
	other := Over(m.backend, w, m.Tokenizer, Options{MaxInput: m.maxInput, Compiled: m.engine.Compiled})
	other.release = w.Update.Close
	if err := checkTokenizer(adapter, metadata, m.Tokenizer); err != nil {
		other.Close()
		return nil, err
	}
	other.Generation, other.Prefix = m.Generation, m.Prefix
	other.identity = identity(adapter, "adapter_model")
	return other, nil
}

// Close frees the model's memory on the device.
func (m *Model) Close() {
	m.engine.Close()
	m.release()
}

// Output is one generated text.
type Output struct {
	Text  string  `json:"text"`
	Score float64 `json:"score,omitempty"` // beams: log-probability over length^length_penalty
	Cut   bool    `json:"cut,omitempty"`   // max_new_tokens ended it

	Probability *float64 `json:"probability,omitempty"` // of a choice, among all
}

// Generate writes, for each source, the outputs that Generation asks for, best first.
func (m *Model) Generate(ctx context.Context, sources []string) ([][]Output, error) {
	inputs := make([]decode.Source, len(sources))
	for i, s := range sources {
		inputs[i] = decode.Source{Tokens: m.encode(s), Stream: m.drawn + uint64(i)}
	}
	m.drawn += uint64(len(sources))
	found, err := m.engine.Generate(ctx, inputs, m.Generation)
	if err != nil {
		return nil, err
	}
	outputs := make([][]Output, len(found))
	for i, sequences := range found {
		for _, s := range sequences {
			outputs[i] = append(outputs[i], Output{Text: m.Tokenizer.Decode(s.Tokens, true), Score: s.Score, Cut: s.Cut})
		}
	}
	return outputs, nil
}

// Skip counts sources as answered already: sampling goes on as if they had been generated.
func (m *Model) Skip(sources int) { m.drawn += uint64(sources) }

// encode gives an input's tokens, cut at MaxInput; the end token stays.
func (m *Model) encode(text string) []int32 {
	ids := m.Tokenizer.Sequence(text)
	if len(ids) > m.maxInput {
		m.Truncated++
		ids = append(ids[:m.maxInput-1:m.maxInput-1], m.Tokenizer.EOSID())
	}
	return ids
}

// Predict gives the best output of each source.
func (m *Model) Predict(ctx context.Context, sources []string) ([]string, error) {
	found, err := m.Generate(ctx, sources)
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(found))
	for i, outputs := range found {
		texts[i] = outputs[0].Text
	}
	return texts, nil
}

// LogProbs is the natural logarithm of the probability of each whole target, its end included,
// after source: token log-probabilities in float32, summed in float64.
func (m *Model) LogProbs(ctx context.Context, source string, targets []string) ([]float64, error) {
	ids := make([][]int32, len(targets))
	for i, t := range targets {
		ids[i] = m.Tokenizer.Sequence(t)
	}
	scores, err := m.engine.Score(ctx, m.encode(source), ids)
	if err != nil {
		return nil, err
	}
	sums := make([]float64, len(scores))
	for i, tokens := range scores {
		for _, p := range tokens {
			sums[i] += float64(p)
		}
	}
	return sums, nil
}
