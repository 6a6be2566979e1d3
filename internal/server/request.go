package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/t5ctl/t5ctl/internal/nearest"
)

// Request is the body of POST /v1/generate.
type Request struct {
	Input    string   `json:"input"`
	Model    string   `json:"model,omitempty"`    // route: a version, channel or adapter that the server has; empty: its main one
	Stream   bool     `json:"stream,omitempty"`   // send the text as it grows
	NoCache  bool     `json:"no_cache,omitempty"` // decode it anew
	Settings Settings `json:"settings,omitzero"`
}

// Settings say how text is generated. The keys are those of generation_config.json; what is
// absent is the version's own.
type Settings struct {
	MaxNewTokens       *int     `json:"max_new_tokens,omitempty"`
	MinNewTokens       *int     `json:"min_new_tokens,omitempty"`
	Beams              *int     `json:"num_beams,omitempty"`
	NumReturnSequences *int     `json:"num_return_sequences,omitempty"`
	LengthPenalty      *float64 `json:"length_penalty,omitempty"`
	EarlyStopping      *string  `json:"early_stopping,omitempty"`
	RepetitionPenalty  *float64 `json:"repetition_penalty,omitempty"`
	NoRepeatNGram      *int     `json:"no_repeat_ngram_size,omitempty"`
	Sample             *bool    `json:"do_sample,omitempty"`
	Temperature        *float64 `json:"temperature,omitempty"`
	TopK               *int     `json:"top_k,omitempty"`
	TopP               *float64 `json:"top_p,omitempty"`
	MinP               *float64 `json:"min_p,omitempty"`
	TypicalP           *float64 `json:"typical_p,omitempty"`
	Seed               *uint64  `json:"seed,omitempty"`

	// What outputs are held to, one of these at most: a regular expression, a JSON Schema, texts to choose from.
	Regex   *string         `json:"regex,omitempty"`
	Schema  json.RawMessage `json:"schema,omitempty"`
	Choices []string        `json:"choices,omitempty"`
}

// RequestError says what is wrong with a request.
type RequestError struct{ Reason string }

func (e *RequestError) Error() string { return e.Reason }

func badRequest(format string, a ...any) error {
	return &RequestError{Reason: fmt.Sprintf(format, a...)}
}

// ParseRequest reads one request. Unknown keys and anything behind it are errors.
func ParseRequest(data []byte) (Request, error) {
	var r Request
	if !utf8.Valid(data) {
		return r, badRequest("the body is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return Request{}, explainJSON(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Request{}, badRequest("there is something behind the JSON object")
	}
	if r.Input == "" {
		return Request{}, badRequest(`"input" is missing or empty`)
	}
	return r, nil
}

// explainJSON says what is wrong with a body, and which key was probably meant.
func explainJSON(err error) error {
	if errors.Is(err, io.EOF) {
		return badRequest(`the body is empty; it is {"input": "…"}`)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return badRequest("the body ends in the middle of the JSON object")
	}
	text := strings.TrimPrefix(err.Error(), "json: ")
	if key, found := strings.CutPrefix(text, "unknown field "); found {
		key = strings.Trim(key, `"`)
		if near := nearest.Of(key, keys()); near != "" {
			return badRequest("unknown key %q; did you mean %q?", key, near)
		}
		return badRequest("unknown key %q", key)
	}
	return badRequest("the body is not a request: %s", text)
}

// keys are those of a Request and its settings.
func keys() []string {
	return []string{
		"input", "model", "stream", "no_cache", "settings", "max_new_tokens", "min_new_tokens", "num_beams", "num_return_sequences",
		"length_penalty", "early_stopping", "repetition_penalty", "no_repeat_ngram_size", "do_sample", "temperature", "top_k", "top_p",
		"min_p", "typical_p", "seed", "regex", "schema", "choices",
	}
}

// Answer is the body of a reply, and the last event of a stream.
type Answer struct {
	ID      string   `json:"id"`    // of the request
	Model   string   `json:"model"` // that answered, as in g2p@v3
	Digest  string   `json:"digest,omitempty"`
	Output  string   `json:"output"`
	Outputs []Output `json:"outputs"`
	Usage   Usage    `json:"usage"`
	Seed    *uint64  `json:"seed,omitempty"` // with which the same text is drawn again
	Cached  bool     `json:"cached,omitempty"`
	QueueMS float64  `json:"queue_ms"`
	TotalMS float64  `json:"total_ms"`
}

// Output is one generated text.
type Output struct {
	Text  string  `json:"text"`
	Score float64 `json:"score,omitempty"` // beams: log-probability over length^length_penalty
	Cut   bool    `json:"cut,omitempty"`   // max_new_tokens ended it

	Probability *float64 `json:"probability,omitempty"` // of a choice, among all
}

// Usage counts tokens.
type Usage struct {
	InputTokens    int  `json:"input_tokens"`
	OutputTokens   int  `json:"output_tokens"`
	InputTruncated bool `json:"input_truncated,omitempty"`

	DecodeMS    float64 `json:"decode_ms"`               // its share of the time of decoding, which it had with others
	Cost        float64 `json:"cost,omitempty"`          // of that time, by the price of an hour
	CostPer1000 float64 `json:"cost_per_1000,omitempty"` // of 1,000 requests like those to this version so far
}
