package eval

import "fmt"

// NoRowScoreError says that a metric cannot judge one output on its own, where more is better.
type NoRowScoreError struct{ Metric, Reason string }

func (e *NoRowScoreError) Error() string {
	return fmt.Sprintf("metric %s cannot judge single outputs: %s", e.Metric, e.Reason)
}

// RowScorer gives a function that scores one output against its references; it is for one goroutine.
// Metrics over all rows, of the model or of a program, and those where less is better are refused.
func (m *Metric) RowScorer() (func(output string, references []string) float64, error) {
	switch {
	case m.score == nil:
		return nil, &NoRowScoreError{m.Spec, "it needs all rows"}
	case m.needsTargets || m.timed || m.batch != nil:
		return nil, &NoRowScoreError{m.Spec, "it needs more than the text"}
	case !m.HigherIsBetter:
		return nil, &NoRowScoreError{m.Spec, "less is better there"}
	}
	if m.prepare != nil {
		if err := m.prepare(); err != nil {
			return nil, err
		}
	}
	count := m.counter(newWorker())
	row := make([]float64, len(m.columns))
	return func(output string, references []string) float64 {
		if !count(row, &Sample{Output: output, References: references}) {
			return 0
		}
		return m.score(row, 1)
	}, nil
}
