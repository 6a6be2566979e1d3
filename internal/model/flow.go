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
	Wrote     func(text string) // told how a lone output grows; may be nil
	Done      func(RowResult)   // told once, unless it is gone
	Gone      func() bool       // nobody waits any more; may be nil
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

// flow is the shape in which tasks of at most steps new tokens are decoded.
func (m *Model) flow(rows, steps int) decode.Flow {
	return decode.Flow{Rows: rows, Steps: steps, Input: m.maxInput}
}

// Class gives the class of a task: those of one class are decoded together.
func (m *Model) Class(t *Task, rows, steps int) decode.Class {
	return m.engine.Class(t.Options, len(t.Tokens), m.flow(rows, steps))
}

// Flow generates from tasks of one class as next gives them; see decode.Engine.Flow.
func (m *Model) Flow(ctx context.Context, rows, steps int, class decode.Class, next func(free int) []*Task) error {
	return m.engine.Flow(ctx, m.flow(rows, steps), class, func(free int) []decode.Job {
		var jobs []decode.Job
		for _, t := range next(free) {
			jobs = append(jobs, m.job(t))
		}
		return jobs
	})
}

func (m *Model) job(t *Task) decode.Job {
	j := decode.Job{Source: decode.Source{Tokens: t.Tokens}, Options: t.Options, Gone: t.Gone}
	j.Done = func(sequences []decode.Sequence) {
		r := RowResult{Pieces: 1, Cut: t.Truncated}
		m.join(&r, sequences)
		t.Done(r)
	}
	if t.Wrote != nil {
		j.Wrote = func(tokens []int32) { t.Wrote(m.Tokenizer.Decode(tokens, true)) }
	}
	return j
}
