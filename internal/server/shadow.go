package server

import (
	"context"
	"time"
)

// Pair is one request that two versions answered.
type Pair struct {
	ID     string `json:"id"`
	Input  string `json:"input"`
	Main   Side   `json:"main"`
	Shadow Side   `json:"shadow"`
}

// Side is what one version made of a request.
type Side struct {
	Model  string  `json:"model"`
	Output string  `json:"output"`
	Tokens int     `json:"tokens"`
	MS     float64 `json:"ms"` // from the request to the answer
}

// mirror gives copies of the main route's requests to the shadow version. Clients never wait for
// it: what does not fit is dropped and counted.
type mirror struct {
	server *Server
	copies chan copied
}

type copied struct {
	id, input string
	settings  Settings
	side      Side
}

// mirrored is how many copies may wait.
const mirrored = 64

func newMirror(s *Server) *mirror { return &mirror{server: s, copies: make(chan copied, mirrored)} }

// offer hands over a request that was answered.
func (m *mirror) offer(c *call, took time.Duration) {
	if m == nil || c.answer.Cached || c.request.Model != "" && c.request.Model != m.server.options.Main.Name {
		return
	}
	side := Side{Model: c.answer.Model, Output: c.answer.Output, Tokens: c.answer.Usage.OutputTokens, MS: milliseconds(took)}
	settings := c.request.Settings
	if c.answer.Seed != nil {
		settings.Seed = c.answer.Seed
	}
	select {
	case m.copies <- copied{c.id, c.request.Input, settings, side}:
	default:
		if l := m.server.versions.shadow.now(); l != nil {
			m.server.metrics.shadow.WithLabelValues(l.version.Model, l.version.Number, "dropped").Inc()
		}
	}
}

// run answers the copies, one after the other, until ctx ends.
func (m *mirror) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-m.copies:
			m.answer(ctx, c)
		}
	}
}

func (m *mirror) answer(ctx context.Context, c copied) {
	l, ok := m.server.versions.shadow.enter()
	if !ok {
		return
	}
	defer l.leave()
	began := time.Now()
	count := func(result string) {
		m.server.metrics.shadow.WithLabelValues(l.version.Model, l.version.Number, result).Inc()
	}
	plan, err := l.model.Plan(c.input, c.settings)
	if err != nil {
		count("failed")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, m.server.options.Timeout)
	defer cancel()
	j := &Job{Plan: plan, lane: l, ctx: ctx, arrived: began, done: make(chan outcome, 1)}
	if err := m.server.queue.put(j, false); err != nil {
		count("dropped")
		return
	}
	out := outcome{err: context.Canceled}
	select {
	case out = <-j.done:
	case <-ctx.Done():
	}
	if out.err != nil {
		count("failed")
		return
	}
	took := time.Since(began)
	m.server.metrics.shadowTime.WithLabelValues(l.version.Model, l.version.Number).Observe(took.Seconds())
	m.server.metrics.decoded(l.version, out.result.share, m.server.options.Price)
	side := Side{Model: l.version.String(), Output: out.result.Outputs[0].Text, Tokens: out.result.Tokens, MS: milliseconds(took)}
	count(map[bool]string{true: "same", false: "different"}[side.Output == c.side.Output])
	if m.server.options.Compare != nil {
		m.server.options.Compare(Pair{ID: c.id, Input: c.input, Main: c.side, Shadow: side})
	}
}
