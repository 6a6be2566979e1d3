package term

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/trainer"
)

// Training shows a run while it goes on: on a terminal a bar with what just happened above it, on
// a pipe a line now and then, under JSON each event as an object. Done must be called at its end.
type Training struct {
	term *Terminal
	bar  *Progress
}

// Training starts to show a run.
func (t *Terminal) Training() *Training { return &Training{term: t} }

// Sink takes the run's events.
func (v *Training) Sink(e trainer.Event) {
	if v.term.json {
		v.term.event(TrainingEvent(e))
		return
	}
	switch e := e.(type) {
	case trainer.Started:
		v.started(e)
	case trainer.Compiled:
		how := "compiled"
		if e.Reused {
			how = "loaded"
		}
		v.term.Notef("%s %s in %s", how, e.Program, Duration(e.Took))
	case trainer.Stepped:
		if v.bar != nil {
			v.bar.Status(int64(e.Step), steppedParts(e)...)
		}
	case trainer.Evaluated:
		v.term.Notef("%s", evaluatedLine(e))
	case trainer.Saved:
		v.term.Notef("step %d: saved %s to %s in %s", e.Step, Size(e.Bytes), e.Path, Duration(e.Took))
	case trainer.Damaged:
		v.term.Warnf("checkpoint %s is damaged and was passed over: %v", e.Path, e.Err)
	case trainer.Stopped:
		v.term.Notef("step %d: %s", e.Step, stoppedText(e.Reason))
	}
}

// Done takes the bar away.
func (v *Training) Done() {
	if v.bar != nil {
		v.bar.Done()
		v.bar = nil
	}
}

func (v *Training) started(e trainer.Started) {
	from := ""
	if e.Step > 0 {
		from = fmt.Sprintf(" from step %d", e.Step)
	}
	v.term.Notef("training on %s%s: %d steps, %s of %s weights learn", e.Backend, from, e.Total, Count(e.Learning), Count(e.Parameters))
	v.bar = v.term.Progress("training", int64(e.Total), "steps")
	v.bar.Status(int64(e.Step), fmt.Sprintf("step %d/%d", e.Step, e.Total), "compiling")
}

// steppedParts are what matters of a step, the most telling first.
func steppedParts(e trainer.Stepped) []string {
	parts := []string{fmt.Sprintf("step %d/%d", e.Step, e.Total), fmt.Sprintf("loss %.4f", e.Loss)}
	if e.TokensPerSecond > 0 {
		parts = append(parts, Count(int(e.TokensPerSecond))+" tok/s")
	}
	if e.Remaining > 0 {
		parts = append(parts, "eta "+Duration(e.Remaining))
	}
	if e.Privacy != nil && e.Privacy.Epsilon != nil {
		parts = append(parts, fmt.Sprintf("ε %.2f", *e.Privacy.Epsilon))
	}
	if e.Memory > 0 {
		parts = append(parts, Size(e.Memory))
	}
	return append(parts, fmt.Sprintf("lr %.2e", e.LearningRate), fmt.Sprintf("grad %.2f", e.GradientNorm))
}

func evaluatedLine(e trainer.Evaluated) string {
	parts := []string{fmt.Sprintf("step %d: validation", e.Step)}
	for _, name := range slices.Sorted(maps.Keys(e.Metrics)) {
		parts = append(parts, fmt.Sprintf("%s %.4f", name, e.Metrics[name]))
	}
	if e.Best {
		parts = append(parts, "(best so far)")
	}
	return strings.Join(append(parts, "in "+Duration(e.Took)), "  ")
}

func stoppedText(reason string) string {
	switch reason {
	case "steps":
		return "done"
	case "early_stopping":
		return "stopped early: no better for train.early_stopping.patience evaluations"
	default:
		return "stopped: " + reason
	}
}

// TrainingEvent is the JSON form of an event: {"event": NAME, …}.
func TrainingEvent(e trainer.Event) map[string]any {
	switch e := e.(type) {
	case trainer.Started:
		return map[string]any{"event": "started", "step": e.Step, "total": e.Total, "parameters": e.Parameters,
			"learning": e.Learning, "backend": e.Backend}
	case trainer.Compiled:
		return map[string]any{"event": "compiled", "program": e.Program, "seconds": e.Took.Seconds(),
			"reused": e.Reused, "memory": e.Memory}
	case trainer.Stepped:
		line := map[string]any{"event": "step", "step": e.Step, "total": e.Total, "epoch": e.Epoch, "loss": finite(e.Loss),
			"learning_rate": e.LearningRate, "gradient_norm": finite(e.GradientNorm), "tokens": e.Tokens,
			"padded_share": e.PaddedShare, "tokens_per_second": e.TokensPerSecond,
			"remaining_seconds": e.Remaining.Seconds(), "memory_bytes": e.Memory}
		if e.Privacy != nil {
			line["epsilon"], line["delta"] = e.Privacy.Epsilon, e.Privacy.Delta
		}
		return line
	case trainer.Evaluated:
		metrics := make(map[string]any, len(e.Metrics))
		for name, v := range e.Metrics {
			metrics[name] = finite(v)
		}
		return map[string]any{"event": "evaluated", "step": e.Step, "metrics": metrics, "best": e.Best, "seconds": e.Took.Seconds()}
	case trainer.Saved:
		return map[string]any{"event": "saved", "step": e.Step, "path": e.Path, "bytes": e.Bytes, "seconds": e.Took.Seconds()}
	case trainer.Damaged:
		return map[string]any{"event": "damaged", "path": e.Path, "reason": e.Err.Error()}
	case trainer.Stopped:
		return map[string]any{"event": "stopped", "step": e.Step, "reason": e.Reason}
	}
	return map[string]any{"event": "unknown"}
}

// finite is nil for what JSON has no number for.
func finite(v float64) any {
	if v-v != 0 { // NaN or infinite
		return nil
	}
	return v
}

// Count shows a number in three digits: 3.1k, 2.6M.
func Count(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	size := strings.Replace(Size(int64(n)), " kB", "k", 1)
	return strings.NewReplacer(" MB", "M", " GB", "G", " TB", "T").Replace(size)
}
