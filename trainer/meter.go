package trainer

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/t5ctl/t5ctl/internal/machine"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
)

// UnknownMetricError says that train.metric is not among what was measured.
type UnknownMetricError struct {
	Name string
	Have map[string]float64
}

func (e *UnknownMetricError) Error() string {
	return fmt.Sprintf("train.metric is %q, but an evaluation gives %s", e.Name, strings.Join(slices.Sorted(maps.Keys(e.Have)), ", "))
}

// meter gathers what the log tells between two of its lines. Only what people read depends on
// its clock.
type meter struct {
	begin, mark       time.Time
	paused, markPause time.Duration // compiling and evaluating do not count as training
	first             int           // steps done before this process
	total             [sums]float64
	elements, tokens  int
	norm, rate        float64
	lastLoss          float64
}

func newMeter(step int) meter {
	now := time.Now()
	return meter{begin: now, mark: now, first: step}
}

func (m *meter) pause(d time.Duration) {
	m.paused += d
	m.markPause += d
}

func (m *meter) batch(b seq2seq.Batch) {
	inputs, labels := b.Tokens()
	m.tokens += inputs + labels
	m.elements += len(b.Inputs) + len(b.Labels)
}

func (m *meter) step(total [sums]float64, norm float64) {
	for i := range total {
		m.total[i] += total[i]
	}
	m.norm = norm
}

// report tells of the steps since the last report and begins anew.
func (m *meter) report(r *run) Stepped {
	now := time.Now()
	busy := max(now.Sub(m.mark)-m.markPause, time.Microsecond)
	all := now.Sub(m.begin) - m.paused
	e := Stepped{
		Step: r.step, Total: r.total, Loss: m.total[sumLoss] / max(1, m.total[sumTokens]), LearningRate: m.rate,
		Epoch:        float64(r.position.Epoch) + float64(r.position.Offset)/float64(max(1, r.Train.PerEpoch())),
		GradientNorm: m.norm, Tokens: int(m.total[sumTokens]), Elements: m.elements, Took: busy,
		PaddedShare:     1 - float64(m.tokens)/float64(max(1, m.elements)),
		TokensPerSecond: float64(m.tokens) / busy.Seconds(),
		Memory:          machine.Resident(),
		Privacy:         r.spent(),
	}
	if done := r.step - m.first; done > 0 {
		e.Remaining = time.Duration(float64(all) / float64(done) * float64(r.total-r.step))
	}
	m.lastLoss = e.Loss
	m.mark, m.markPause, m.total, m.elements, m.tokens = now, 0, [sums]float64{}, 0, 0
	return e
}
