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
	// Flow decodes jobs of the first one's class that next gives, that one among them, until it gives
	// none while none is under way. next is told how many more there is room for; it waits for some only
	// where it is told that nothing is under way.
	Flow(ctx context.Context, first *Job, next func(free int, idle bool) []*Job) error
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
	clock   *shares      // nil until it is decoded
	from    float64      // the clock when its decoding began
}

// shares divides the time of decoding among the requests under way: its clock advances by a second for each
// second and request. What it has advanced by while one was decoded is that one's share, and all shares
// together are the time that something was decoded. It is for the queue's goroutine.
type shares struct {
	at  time.Time
	now float64 // seconds
	n   int     // requests under way
}

// change counts requests in and out, and gives the clock.
func (s *shares) change(by int) float64 {
	at := time.Now()
	if s.n > 0 {
		s.now += at.Sub(s.at).Seconds() / float64(s.n)
	}
	s.at, s.n = at, s.n+by
	return s.now
}

// Gone is closed once nobody waits for the job any more.
func (j *Job) Gone() <-chan struct{} { return j.ctx.Done() }

// Result is what a model made of a job.
type Result struct {
	Outputs []Output
	Tokens  int // generated

	share float64 // of the time of decoding, in seconds
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
	clock   shares

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
		q.flow(ctx, first)
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
		q.sleep(ctx, time.Minute)
	}
}

// sleep waits until there is something new, for some time at most.
func (q *queue) sleep(ctx context.Context, most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-q.changed:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// leave takes out the jobs that nobody waits for. The lock is held.
func (q *queue) leave() {
	kept := q.pending[:0]
	for _, j := range q.pending {
		if j.ctx.Err() != nil {
			j.Done(Result{}, j.ctx.Err())
			continue
		}
		kept = append(kept, j)
	}
	clear(q.pending[len(kept):])
	q.pending = kept
	q.metrics.queueLength.Set(float64(len(kept)))
}

// flow decodes the jobs of the first one's lane and class, until others want the machine.
func (q *queue) flow(ctx context.Context, first *Job) {
	f := &flowing{queue: q, lane: first.lane, class: first.Plan.Class, under: map[*Job]bool{}}
	err := runFlow(ctx, f.lane.model, first, func(free int, idle bool) []*Job { return f.next(ctx, free, idle) })
	if err == nil {
		err = fmt.Errorf("%s gave no answer", f.lane.version)
	}
	for j := range f.under {
		j.Done(Result{}, err) // only where the model did not
	}
}

// runFlow turns a panic of the model into an error: one request must not end the server.
func runFlow(ctx context.Context, m Model, first *Job, next func(free int, idle bool) []*Job) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("the model failed: %v", value)
		}
	}()
	return m.Flow(ctx, first, next)
}

// flowing is a flow under way.
type flowing struct {
	queue *queue
	lane  *lane
	class any
	under map[*Job]bool // taken and not known to have ended
}

// next gives jobs to a flow. Where nothing is under way it waits for some, and gives none once jobs
// of another kind, or nothing to do but closing, end the flow.
func (f *flowing) next(ctx context.Context, free int, idle bool) []*Job {
	for j := range f.under {
		if j.ended {
			delete(f.under, j)
		}
	}
	for {
		taken, wait := f.queue.take(f, free, idle)
		for _, j := range taken {
			f.under[j] = true
			j.clock, j.from = &f.queue.clock, f.queue.clock.change(1)
		}
		if len(taken) > 0 {
			v := f.lane.version
			f.queue.metrics.batchRows.WithLabelValues(v.Model, v.Number).Observe(float64(len(f.under)))
		}
		if len(taken) > 0 || !idle || wait == 0 || ctx.Err() != nil {
			return taken
		}
		f.queue.sleep(ctx, wait)
	}
}

// busyWaits is how many times as long jobs wait for others while some are under way: about a step.
const busyWaits = 4

// take gives at most free jobs of the flow's lane and class, the oldest first: once there are enough of
// them, or the oldest has waited long enough for others. Jobs of another kind have their turn once one has waited
// for it; the flow is given none then. wait is how long an idle flow may wait before it asks again; 0: it ends.
func (q *queue) take(f *flowing, free int, idle bool) (taken []*Job, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leave()
	now := time.Now()
	mine := 0
	var oldest *Job
	others := false
	for _, j := range q.pending {
		if j.lane == f.lane && j.Plan.Class == f.class {
			mine++
			if oldest == nil {
				oldest = j
			}
			continue
		}
		others = true
		if oldest == nil && now.Sub(j.arrived) > q.turn {
			return nil, 0
		}
	}
	enough, patience := min(free, q.full), q.wait
	if !idle { // the encoder costs little more for some than for one
		enough, patience = min(enough, max(1, q.full/4)), busyWaits*q.wait
	}
	switch {
	case mine == 0 && (others || len(q.closing) > 0):
		return nil, 0
	case mine == 0:
		return nil, time.Minute
	case mine < enough && now.Sub(oldest.arrived) < patience:
		return nil, patience - now.Sub(oldest.arrived)
	}
	kept := q.pending[:0]
	for _, j := range q.pending {
		if len(taken) < free && j.lane == f.lane && j.Plan.Class == f.class {
			j.started = now
			taken = append(taken, j)
			continue
		}
		kept = append(kept, j)
	}
	clear(q.pending[len(kept):])
	q.pending = kept
	q.metrics.queueLength.Set(float64(len(kept)))
	return taken, 0
}

// Done is called by the model with what it made of the job, from within Flow. Only the first call counts.
func (j *Job) Done(r Result, err error) {
	if !j.ended {
		j.ended = true
		if j.clock != nil {
			r.share = j.clock.change(-1) - j.from
		}
		j.done <- outcome{r, err}
	}
}
