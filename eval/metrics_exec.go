package eval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// ExecRefusedError says that a suite has a metric which runs a program, and that nobody allowed it.
type ExecRefusedError struct{ Metric, Command string }

func (e *ExecRefusedError) Error() string {
	return fmt.Sprintf("metric %s runs the program %q, which was not allowed", e.Metric, e.Command)
}

// ExecError says that the program of a metric did not do its part.
type ExecError struct{ Metric, Command, Reason string }

func (e *ExecError) Error() string {
	return fmt.Sprintf("metric %s: %s: %s", e.Metric, e.Command, e.Reason)
}

// newExec is the mean of what a program says of the rows, as exec:PROGRAM ARGUMENT…,higher=false. The
// program gets rows as JSON lines with id, input, output and references, and answers each with a line:
// a number, true, false, or null where the row cannot be scored. It is not run by a shell.
func newExec(o *options) *Metric {
	command := o.text("command", "")
	higher := o.flag("higher", true)
	if len(strings.Fields(command)) == 0 {
		o.fail("command", command, "must name a program, as in exec:./check.py")
	}
	scale := 1.0
	if o.flag("percent", false) {
		scale = 100
	}
	return &Metric{
		Label: command, HigherIsBetter: higher, columns: []string{"value"}, signature: own(field("command", command)), command: command,
		score:   func(sum []float64, n int) float64 { return scale * (sum[0] / float64(n)) },
		counter: func(*worker) func([]float64, *Sample) bool { return func([]float64, *Sample) bool { return true } },
		batch: func(ctx context.Context, samples []Sample) ([]*float64, error) {
			return runMetric(ctx, o.metric, command, samples)
		},
	}
}

// execRow is what the program reads.
type execRow struct {
	ID         string   `json:"id"`
	Task       string   `json:"task,omitempty"`
	Input      string   `json:"input"`
	Output     string   `json:"output"`
	References []string `json:"references"`
}

func runMetric(ctx context.Context, name, command string, samples []Sample) ([]*float64, error) {
	var in bytes.Buffer
	enc := json.NewEncoder(&in)
	enc.SetEscapeHTML(false)
	for _, s := range samples {
		if err := enc.Encode(execRow{s.ID, s.Task, s.Source, s.Output, s.References}); err != nil {
			return nil, err
		}
	}
	words := strings.Fields(command)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stdin = &in
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		reason := err.Error()
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			lines := strings.Split(strings.TrimSpace(string(e.Stderr)), "\n")
			reason = strings.TrimSuffix(reason+": "+lines[len(lines)-1], ": ")
		}
		return nil, &ExecError{name, command, reason}
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	values := make([]*float64, len(samples))
	for i := range values {
		var v any
		if err := dec.Decode(&v); err != nil {
			return nil, &ExecError{name, command, fmt.Sprintf("gave %d answers to %d rows", i, len(samples))}
		}
		switch v := v.(type) {
		case nil:
		case bool:
			x := truth(v)
			values[i] = &x
		case float64:
			values[i] = &v
		default:
			return nil, &ExecError{name, command, fmt.Sprintf("answer %d is no number, true, false or null", i+1)}
		}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, &ExecError{name, command, fmt.Sprintf("gave more than %d answers", len(samples))}
	}
	return values, nil
}
