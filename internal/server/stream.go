package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// growing is an answer that is sent as it grows.
type growing struct {
	lines   bool   // lines of JSON instead of server-sent events
	sent    string // the text that the client has
	started bool

	mu      sync.Mutex
	text    string
	changed chan struct{} // holds one
}

// wrote takes the text so far. It does not wait for the client, who may see several steps at once.
func (g *growing) wrote(text string) {
	g.mu.Lock()
	g.text = text
	g.mu.Unlock()
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// delta is what the client does not have yet. Half a character at the end waits for the other half.
func (g *growing) delta(text string) string {
	text = strings.TrimRight(text, string(utf8.RuneError))
	more, grew := strings.CutPrefix(text, g.sent)
	if !grew {
		return "" // the end rewrote what was there; the answer behind it has the whole
	}
	g.sent = text
	return more
}

// piece is one event of a streamed answer; the last event is the Answer.
type piece struct {
	Delta string `json:"delta"`
}

// wait waits for the outcome, and sends the text as it grows.
func (c *call) wait(ctx context.Context) outcome {
	var changed chan struct{}
	if c.growing != nil {
		changed = c.growing.changed
	}
	for {
		select {
		case out := <-c.job.done:
			return out
		case <-ctx.Done(): // the queue drops the job at its next step
			return outcome{err: ctx.Err()}
		case <-changed:
			g := c.growing
			g.mu.Lock()
			text := g.text
			g.mu.Unlock()
			if more := g.delta(text); more != "" {
				c.send(piece{Delta: more})
			}
		}
	}
}

// send writes one event of a stream.
func (c *call) send(value any) {
	g := c.growing
	control := http.NewResponseController(c.writer)
	_ = control.SetWriteDeadline(time.Now().Add(writeTimeout)) // a recorder in a test has none
	if !g.started {
		g.started = true
		kind := "text/event-stream"
		if g.lines {
			kind = "application/x-ndjson"
		}
		c.writer.Header().Set("Content-Type", kind)
		c.writer.Header().Set("Cache-Control", "no-store")
		c.writer.WriteHeader(http.StatusOK)
	}
	data, err := json.Marshal(value)
	if err != nil {
		return // there is nothing in it that cannot be written
	}
	if g.lines {
		data = append(data, '\n')
	} else {
		data = append(append([]byte("data: "), data...), "\n\n"...)
	}
	if _, err := c.writer.Write(data); err == nil {
		_ = control.Flush() // the next write tells if the client left
	}
}

// write sends the answer, or the end of it.
func (c *call) write() {
	if c.growing == nil {
		_ = http.NewResponseController(c.writer).SetWriteDeadline(time.Now().Add(writeTimeout)) // a recorder in a test has none
		reply(c.writer, http.StatusOK, c.answer)
		return
	}
	if more := c.growing.delta(c.answer.Output); more != "" {
		c.send(piece{Delta: more})
	}
	c.send(c.answer)
}

// fail answers with an error, in the stream if that has begun.
func (c *call) fail(code int, reason, message string) {
	if c.growing == nil || !c.growing.started {
		fail(c.writer, code, reason, message)
		return
	}
	c.send(map[string]any{"error": map[string]string{"code": reason, "message": message}})
	c.writer.status = code // for the record: the client was told 200 before
}
