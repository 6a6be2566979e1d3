package cli

import (
	"context"
	"fmt"
	"sync"

	"github.com/t5ctl/t5ctl/internal/constrain"
	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/model"
	"github.com/t5ctl/t5ctl/internal/server"
)

// What a request may hold its outputs to.
const (
	maxExpression = 16 << 10 // bytes of an expression; those of a schema are written out as one
	maxChoices    = 64
	heldKept      = 8 // constraints of a version that wait for the next request with the same
)

// held keeps the constraints of late requests, each of which has found out at some cost which tokens may come.
type held struct {
	mu    sync.Mutex
	order []string // oldest first
	known map[string]*constrain.Constraint
}

// constraint gives what a request holds its outputs to; nil where that is nothing, or choices.
func (h *held) constraint(m *model.Model, s server.Settings) (decode.Constraint, error) {
	expression, err := expressionOf(s)
	if err != nil || expression == "" {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.known[expression]; c != nil && !c.Full() {
		return c, nil
	}
	c, err := m.Constraint(expression)
	if err != nil {
		return nil, &server.RequestError{Reason: err.Error()}
	}
	if h.known == nil {
		h.known = map[string]*constrain.Constraint{}
	}
	if h.known[expression] == nil {
		h.order = append(h.order, expression)
	}
	h.known[expression] = c
	if len(h.order) > heldKept {
		delete(h.known, h.order[0])
		h.order = h.order[1:]
	}
	return c, nil
}

// expressionOf is the regular expression of a request or its schema; empty where it has neither.
func expressionOf(s server.Settings) (string, error) {
	wrong := func(format string, a ...any) (string, error) {
		return "", &server.RequestError{Reason: fmt.Sprintf(format, a...)}
	}
	given := 0
	for _, is := range []bool{s.Regex != nil, s.Schema != nil, s.Choices != nil} {
		if is {
			given++
		}
	}
	switch {
	case given > 1:
		return wrong("give one of regex, schema and choices")
	case s.Choices != nil && (len(s.Choices) == 0 || len(s.Choices) > maxChoices):
		return wrong("there are %d choices; 1 to %d are allowed", len(s.Choices), maxChoices)
	case len(s.Schema) > maxExpression || s.Regex != nil && (*s.Regex == "" || len(*s.Regex) > maxExpression):
		return wrong("a regex or schema has 1 to %d bytes", maxExpression)
	case s.Regex != nil:
		return *s.Regex, nil
	case s.Schema == nil:
		return "", nil
	}
	expression, err := constrain.Schema(s.Schema)
	if err != nil {
		return wrong("schema: %v", err)
	}
	return expression, nil
}

// choice is the work of a request that chooses among texts.
type choice struct {
	input   string
	choices []string
}

// chosen is the class of all such work.
type chosen struct{}

// choose answers requests that choose, one after the other.
func (s *servedModel) choose(ctx context.Context, next func(free int, idle bool) []*server.Job) error {
	for ctx.Err() == nil {
		jobs := next(1, true)
		if len(jobs) == 0 {
			return nil
		}
		for _, job := range jobs {
			work, ok := job.Plan.Work.(*choice)
			if !ok {
				continue
			}
			results, err := s.model.Choose(ctx, []model.Row{{Text: work.input}}, model.Rows{Long: model.Truncate}, work.choices)
			if err != nil {
				return err
			}
			answered(job)(results[0], nil)
		}
	}
	return ctx.Err()
}
