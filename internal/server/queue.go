package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Model generates for one version. Plan may be called from many goroutines at once; Flow and
// Close are called from one, the queue's.
type Model interface {
	// Plan makes work of a request, or says with a *RequestError what is wrong with it.
	Plan(input string, s Settings) (Plan, error)
	// Flow decodes work of one class that next gives, until it gives none while none is under way.
	// next is told how many more there is room for; it does not wait.
	Flow(ctx context.Context, class any, next func(free int) []*Job) error
	Close()
}

// Plan is what a model makes of a request before it is decoded.
type Plan struct {
	Class       any    // comparable: work of one class is decoded together
	Key         string // settings that the answer depends on, for the cache; empty: it is not to be kept
	InputTokens int
	Truncated   bool
	Seed        *uint64 // drawn for the request; nil where nothing is
	Work        any     // the model's own
}

// Job is one request on its way through the queue.
type Job struct {
	Plan  Plan
	Wrote func(text string) // told how a lone output grows; may be nil

	lane    *lane
	ctx     context.Context
	arrived time.Time
	started time.Time
	done    chan outcome // holds one
	ended   bool         // the outcome is there; for the queue's goroutine
}

// Gone says that nobody waits for the job any more.
func (j *Job) Gone() bool { return j.ctx.Err() != nil }

// Result is what a model made of a job.
type Result struct {
	Outputs []Output
	Tokens  int // generated
}

type outcome struct {
	result Result
	err    error
}

// queue holds the jobs that wait, of all versions, in the order of their arrival, and decodes them
// in one goroutine: a model is for one at a time, and two at once would only share the machine.
type queue struct {
	limit   int           // jobs that may wait
	wait    time.Duration // how long the first job of a batch waits for others
	turn    time.Duration // how long a job may wait for those of another class or version to end
	full    int           // jobs of a batch that is not waited for any longer
	metrics *metrics

	mu      sync.Mutex
	pending []*Job
	closing []*lane       // to be closed by the queue's goroutine
	changed chan struct{} // holds one: there is something new
	stopped bool
}

// errStopped says that the server ended before the job did.
var errStopped = errors.New("the server stops") //nolint:gochecknoglobals // a fixed error

// FullError says that there is no room in the queue.
type FullError struct{ Waiting int }

func (e *FullError) Error() string { return fmt.Sprintf("%d requests wait already", e.Waiting) }

func newQueue(limit, full int, wait, turn time.Duration, m *metrics) *queue {
	return &queue{limit: limit, full: full, wait: wait, turn: turn, metrics: m, changed: make(chan struct{}, 1)}
}

// put adds a job at the end. One that the server itself needs is never refused.
func (q *queue) put(j *Job, own bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped {
		return errStopped
	}
	if !own && len(q.pending) >= q.limit {
		return &FullError{Waiting: len(q.pending)}
	}
	q.pending = append(q.pending, j)
	q.metrics.queueLength.Set(float64(len(q.pending)))
	q.signal()
	return nil
}

func (q *queue) signal() {
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// retire closes a lane once the queue's goroutine is not in it.
func (q *queue) retire(l *lane) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closing = append(q.closing, l)
	q.signal()
}

// run decodes until ctx ends; what is under way then is given up.
func (q *queue) run(ctx context.Context) {
	defer q.stop()
	for {
		first := q.first(ctx)
		if first == nil {
			return
		}
		q.gather(ctx, first)
		q.flow(ctx, first.lane, first.Plan.Class)
	}
}

// stop fails what is left and closes what is to be closed.
func (q *queue) stop() {
	q.mu.Lock()
	q.stopped = true
	left := q.pending
	q.pending = nil
	q.mu.Unlock()
	for _, j := range left {
		j.Done(Result{}, errStopped)
	}
	q.closeRetired()
}

func (q *queue) closeRetired() {
	q.mu.Lock()
	closing := q.closing
	q.closing = nil
	q.mu.Unlock()
	for _, l := range closing {
		l.model.Close()
	}
}

// first waits for a job and gives the oldest that somebody waits for; nil once ctx has ended.
func (q *queue) first(ctx context.Context) *Job {
	for {
		q.closeRetired()
		if ctx.Err() != nil {
			return nil
		}
		q.mu.Lock()
		q.leave()
		var first *Job
		if len(q.pending) > 0 {
			first = q.pending[0]
		}
		q.mu.Unlock()
		if first != nil {
			return first
		}
		select {
		case <-q.changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// leave takes out the jobs that nobody waits for. The lock is held.
func (q *queue) leave() {
	kept := q.pending[:0]
	for _, j := range q.pending {
		if j.Gone() {
			j.Done(Result{}, j.ctx.Err())
			continue
		}
		kept = append(kept, j)
	}
	clear(q.pending[len(kept):])
	q.pending = kept
	q.metrics.queueLength.Set(float64(len(kept)))
}

// gather waits until the first job's deadline, or until a batch is full.
func (q *queue) gather(ctx context.Context, first *Job) {
	deadline := time.NewTimer(q.wait - time.Since(first.arrived))
	defer deadline.Stop()
	for {
		q.mu.Lock()
		n := len(q.pending)
		q.mu.Unlock()
		if n >= q.full {
			return
		}
		select {
		case <-q.changed:
		case <-deadline.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// flow decodes jobs of one lane and class until none is left, or others have waited long enough.
func (q *queue) flow(ctx context.Context, l *lane, class any) {
	under := map[*Job]bool{}
	next := func(free int) []*Job {
		for j := range under {
			if j.ended || j.Gone() {
				delete(under, j)
			}
		}
		taken := q.take(l, class, free)
		for _, j := range taken {
			under[j] = true
		}
		if len(taken) > 0 {
			q.metrics.batchRows.WithLabelValues(l.version.Model, l.version.Number).Observe(float64(len(under)))
		}
		return taken
	}
	err := runFlow(ctx, l.model, class, next)
	for j := range under {
		if err == nil {
			err = j.ctx.Err() // it left
		}
		if err == nil {
			err = fmt.Errorf("%s gave no answer", l.version)
		}
		j.Done(Result{}, err)
	}
}

// runFlow turns a panic of the model into an error: one request must not end the server.
func runFlow(ctx context.Context, m Model, class any, next func(free int) []*Job) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("the model failed: %v", value)
		}
	}()
	return m.Flow(ctx, class, next)
}

// take gives at most free jobs of a lane and class, the oldest first. It gives none where an older
// job of another kind has waited for its turn.
func (q *queue) take(l *lane, class any, free int) []*Job {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leave()
	var taken []*Job
	kept := q.pending[:0]
	now := time.Now()
	blocked := false
	for _, j := range q.pending {
		mine := j.lane == l && j.Plan.Class == class
		blocked = blocked || !mine && now.Sub(j.arrived) > q.turn
		if mine && !blocked && len(taken) < free {
			j.started = now
			taken = append(taken, j)
			continue
		}
		kept = append(kept, j)
	}
	clear(q.pending[len(kept):])
	q.pending = kept
	q.metrics.queueLength.Set(float64(len(kept)))
	return taken
}

// Done is called by the model with what it made of the job, from within Flow. Only the first call counts.
func (j *Job) Done(r Result, err error) {
	if !j.ended {
		j.ended = true
		j.done <- outcome{r, err}
	}
}
