package model

import (
	"context"

	"github.com/t5ctl/t5ctl/internal/decode"
)

// Task is one input that is generated from while others are under way.
type Task struct {
	Tokens    []int32 // of the input
	Truncated bool    // the input was longer than the model takes
	Options   decode.Options
	Wrote     func(text string)      // told how a lone output grows; may be nil
	Gone      <-chan struct{}        // closed: nobody waits any more; may be nil
	Done      func(RowResult, error) // told once
}

// Task makes a task of a text. It may be called from many goroutines.
func (m *Model) Task(text string, o decode.Options) (*Task, error) {
	if err := o.ValidateFor(m.Config); err != nil {
		return nil, err
	}
	t := &Task{Tokens: m.Tokenizer.Sequence(text), Options: o}
	if len(t.Tokens) > m.maxInput {
		t.Tokens = append(t.Tokens[:m.maxInput-1:m.maxInput-1], m.Tokenizer.EOSID())
		t.Truncated = true
	}
	return t, nil
}

// Class is what tasks have in common that are decoded together, in one frame.
func (m *Model) Class(t *Task) decode.Class { return m.engine.Class(t.Options) }

// Flow generates from tasks as next gives them, all of one class, of at most steps new tokens, in rows decoder rows;
// see decode.Engine.Stream. The options are those of one of the tasks.
func (m *Model) Flow(ctx context.Context, like decode.Options, rows, steps int, next func(free int, idle bool) []*Task) error {
	like.BatchRows = max(1, rows/max(like.Beams, like.NumReturnSequences))
	like.MaxNewTokens = steps
	return m.engine.Stream(ctx, like, m.maxInput, func(free int, idle bool) []decode.Request {
		var requests []decode.Request
		for _, t := range next(free, idle) {
			requests = append(requests, m.request(t))
		}
		return requests
	})
}

func (m *Model) request(t *Task) decode.Request {
	r := decode.Request{Source: decode.Source{Tokens: t.Tokens}, Options: t.Options, Gone: t.Gone}
	r.Done = func(sequences []decode.Sequence, err error) {
		result := RowResult{Pieces: 1, Cut: t.Truncated}
		if err == nil {
			m.join(&result, sequences)
		}
		t.Done(result, err)
	}
	if t.Wrote != nil {
		var tokens []int32
		r.Wrote = func(token int32) {
			tokens = append(tokens, token)
			t.Wrote(m.Tokenizer.Decode(tokens, true))
		}
	}
	return r
}
