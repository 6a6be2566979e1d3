package model

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/internal/decode"
)

// What to do with an input that is longer than the model takes.
const (
	Truncate = "truncate" // cut its end off
	Refuse   = "error"    // fail the row
	Chunk    = "chunk"    // generate from pieces that overlap, and join what comes out
)

// Rows say how rows are generated.
type Rows struct {
	Prefix  string // put before every input, and before every piece of one
	Long    string // Truncate, Refuse or Chunk
	Overlap int    // tokens that a piece shares with the one before
}

// Row is one input. The number is what its random stream hangs on, so that a row is sampled
// alike wherever it is generated.
type Row struct {
	Text   string
	Number uint64
}

// RowResult is what became of a row: outputs, or the reason why there are none.
type RowResult struct {
	Outputs []Output
	Tokens  int // generated
	Pieces  int // that the input was divided into, where more than one
	Cut     bool
	Err     error

	Adapters []AdapterOutput // of each adapter, where there are several; the first is in Outputs too
}

// AdapterOutput is what a row becomes with one of several adapters.
type AdapterOutput struct {
	Adapter string `json:"adapter"`
	Output  string `json:"output"`
}

// LongError says that an input is longer than the model takes.
type LongError struct{ Tokens, Limit int }

func (e *LongError) Error() string {
	return fmt.Sprintf("the input has %d tokens, the model takes %d", e.Tokens, e.Limit)
}

// errNoOutput says that the constraint left no way to an output.
var errNoOutput = errors.New("no output fits what it must be") //nolint:gochecknoglobals // a fixed error

// Validate says what is wrong with the settings for a model that takes at most limit tokens.
func (r Rows) Validate() error {
	switch {
	case !slices.Contains([]string{Truncate, Refuse, Chunk}, r.Long):
		return fmt.Errorf("long inputs are %q; that is truncate, error or chunk", r.Long)
	case r.Overlap < 0:
		return fmt.Errorf("an overlap of %d tokens is less than none", r.Overlap)
	}
	return nil
}

// GenerateRows generates from rows. A row that cannot be generated from says so in its result;
// the error is one that stops all.
func (m *Model) GenerateRows(ctx context.Context, rows []Row, o Rows) ([]RowResult, error) {
	results := make([]RowResult, len(rows))
	var sources []decode.Source
	var of []int // the row of each source
	for i, row := range rows {
		pieces, cut, err := m.pieces(row.Text, o)
		results[i] = RowResult{Cut: cut, Err: err, Pieces: len(pieces)}
		for j, tokens := range pieces {
			sources = append(sources, decode.Source{Tokens: tokens, Stream: row.Number + uint64(j)<<52})
			of = append(of, i)
		}
	}
	found, err := m.engine.Generate(ctx, sources, m.Generation)
	if err != nil {
		return nil, err
	}
	for i, sequences := range found {
		m.join(&results[of[i]], sequences)
	}
	return results, nil
}

// join adds the outputs of one piece to those of its row; of several pieces, the best outputs
// are put together.
func (m *Model) join(r *RowResult, sequences []decode.Sequence) {
	for _, s := range sequences {
		r.Tokens += len(s.Tokens)
	}
	if len(sequences[0].Tokens) == 0 {
		r.Err = errNoOutput
		return
	}
	if r.Pieces > 1 {
		sequences = sequences[:1]
	}
	for i, s := range sequences {
		out := Output{Text: m.Tokenizer.Decode(s.Tokens, true), Score: s.Score, Cut: s.Cut}
		if i < len(r.Outputs) || r.Pieces > 1 && len(r.Outputs) > 0 {
			before := &r.Outputs[i]
			before.Text = strings.TrimSpace(before.Text + " " + out.Text)
			before.Score, before.Cut = before.Score+out.Score, before.Cut || out.Cut
			continue
		}
		r.Outputs = append(r.Outputs, out)
	}
}

// pieces gives the token sequences that a text is generated from, and whether it was cut.
func (m *Model) pieces(text string, o Rows) (list [][]int32, cut bool, err error) {
	ids := m.Tokenizer.Sequence(o.Prefix + text)
	if len(ids) <= m.maxInput {
		return [][]int32{ids}, false, nil
	}
	eos := m.Tokenizer.EOSID()
	switch o.Long {
	case Refuse:
		return nil, false, &LongError{Tokens: len(ids), Limit: m.maxInput}
	case Chunk:
	default:
		m.Truncated++
		return [][]int32{append(ids[:m.maxInput-1:m.maxInput-1], eos)}, true, nil
	}
	prefix := m.Tokenizer.Sequence(o.Prefix)
	prefix = prefix[:len(prefix)-1]
	body := ids[len(prefix) : len(ids)-1]
	if !slices.Equal(ids[:len(prefix)], prefix) { // the border fell inside a token
		body = m.Tokenizer.Sequence(text)
		body = body[:len(body)-1]
	}
	size := m.maxInput - 1 - len(prefix)
	if size <= o.Overlap {
		return nil, false, fmt.Errorf("pieces of %d tokens cannot overlap by %d", size, o.Overlap)
	}
	for from := 0; ; from += size - o.Overlap {
		piece := body[from:min(from+size, len(body))]
		list = append(list, slices.Concat(prefix, piece, []int32{eos}))
		if from+size >= len(body) {
			return list, false, nil
		}
	}
}

// BadWords gives the token sequences that spell texts: as a word of its own and as the rest of
// one, where the tokenizer tells these apart.
func (m *Model) BadWords(texts []string) [][]int32 {
	var list [][]int32
	for _, text := range texts {
		ids := m.Tokenizer.Sequence(text)
		ids = ids[:len(ids)-1]
		if len(ids) == 0 {
			continue
		}
		list = append(list, ids)
		// behind another word, the start of a word may be a token of its own
		if behind := m.Tokenizer.Sequence("a" + text); len(behind) > 2 {
			if first := m.Tokenizer.Sequence("a"); len(first) == 2 && behind[0] == first[0] && !slices.Equal(behind[1:len(behind)-1], ids) {
				list = append(list, behind[1:len(behind)-1])
			}
		}
	}
	return list
}

// Identity tells the model and its adapter from others, for records: sizes and times of their
// weights.
func (m *Model) Identity() string { return m.identity }
