// Package mlflow tells an MLflow tracking server of a training run, over its REST interface.
//
// The server is spoken to by a goroutine of its own. What the run measures is put into memory and
// sent in batches; a server that is slow, gone or broken costs metrics at worst, with a warning,
// and never holds up the run or lets it fail.
package mlflow

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options are the recipe's tracking.mlflow section.
type Options struct {
	URI        string `yaml:"uri,omitempty"`        // of the tracking server, as https://mlflow.example.org; empty: none is told
	Experiment string `yaml:"experiment,omitempty"` // that the run belongs to, made where there is none; default the recipe's name
}

// Validate says what is wrong with the options.
func (o Options) Validate() error {
	if o.URI == "" {
		return nil
	}
	u, err := url.Parse(o.URI)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return errors.New("uri must be the http or https address of a tracking server")
	case u.User != nil:
		return errors.New("uri holds a user or password, which the run's record would keep; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN")
	}
	return nil
}

// Statuses of a run.
const (
	running  = "RUNNING"
	Finished = "FINISHED"
	Failed   = "FAILED"
	Killed   = "KILLED" // interrupted
)

// Config is what a Tracker needs to know.
type Config struct {
	Options
	Credentials Credentials
	RunName     string
	RunID       string            // to go on with, where the run was resumed; empty: a new one
	Params      map[string]string // settings
	Tags        map[string]string
	Started     time.Time
	Client      *http.Client
	Created     func(runID string)               // is told the id under which the server knows the run
	Warn        func(format string, args ...any) // is told what could not be done
	Backoff     time.Duration                    // before the first retry, doubled after each up to thirtyfold; also the pause between batches
	Patience    time.Duration                    // for what is still to be sent when the run has ended
	now         func() time.Time                 // of the end of the run
}

// Credentials are what the server asks for; empty where it asks for nothing.
type Credentials struct{ User, Password, Token string }

// Limits of the server: mlflow.utils.validation. It would take 1000 metrics in a batch, but a small
// one with its store in a file needs seconds for that, and a batch must be done before a request
// times out.
const (
	mostMetrics = 200 // in a batch
	mostParams  = 100
	mostKey     = 250  // bytes
	mostValue   = 6000 // bytes of a parameter
)

// mostPending is how many metrics wait for a server; further ones are dropped.
const mostPending = 50_000

// Metric is one number at one step.
type Metric struct {
	Key   string
	Value float64
	Step  int
	At    time.Time
}

// Tracker tells a server of one run. Its methods may be called from any goroutine.
type Tracker struct {
	config Config
	wake   chan struct{}
	ended  chan struct{} // closed by Close: no more metrics will come
	done   chan struct{} // closed once the goroutine has returned
	stop   context.CancelFunc

	id      string // of the run, known to the goroutine alone
	settled bool   // the run has its parameters

	mu      sync.Mutex // guards what follows
	pending []Metric
	dropped int
	status  string
	limit   *time.Timer // ends the work; nil before Close
}

// Start begins to tell the server of a run. It returns at once.
func Start(c Config) *Tracker {
	if c.now == nil {
		c.now = time.Now
	}
	ctx, stop := context.WithCancel(context.Background())
	t := &Tracker{config: c, wake: make(chan struct{}, 1), ended: make(chan struct{}), done: make(chan struct{}), stop: stop}
	go t.work(ctx)
	return t
}

// Log keeps metrics for the server. It never waits. What is not finite is left out.
func (t *Tracker) Log(metrics ...Metric) {
	t.mu.Lock()
	for _, m := range metrics {
		switch {
		case m.Value-m.Value != 0: // NaN or infinite, which JSON has no number for
		case len(t.pending) >= mostPending:
			t.dropped++
		default:
			t.pending = append(t.pending, m)
		}
	}
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default: // it is awake already
	}
}

// Close sends what is left and how the run ended, and returns once the server has it, or has taken
// nothing for as long as patience lasts.
func (t *Tracker) Close(status string) {
	t.mu.Lock()
	t.status, t.limit = status, time.AfterFunc(t.config.Patience, t.stop)
	t.mu.Unlock()
	close(t.ended)
	<-t.done
	t.stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limit.Stop()
	if lost := len(t.pending) + t.dropped; lost > 0 {
		t.config.Warn("mlflow: %d metrics did not reach %s", lost, t.config.URI)
	}
}

// work is the goroutine: it makes the run, sends batches as they come, and ends the run.
func (t *Tracker) work(ctx context.Context) {
	defer close(t.done)
	c := newClient(t.config)
	if !t.insist(ctx, "starting the run", func() error { return t.begin(ctx, c) }) {
		return
	}
	for open := true; open; {
		select {
		case <-t.wake:
		case <-t.ended:
			open = false
		case <-ctx.Done():
			return
		}
		if !t.send(ctx, c) {
			return
		}
		if open {
			t.wait(ctx, t.config.Backoff) // so that steps that follow each other fast make one batch
		}
	}
	t.mu.Lock()
	status := t.status
	t.mu.Unlock()
	t.insist(ctx, "ending the run", func() error { return c.update(ctx, t.id, status, t.config.now()) })
}

// send empties what is pending; false says that there is no use in going on.
func (t *Tracker) send(ctx context.Context, c *client) bool {
	for {
		t.mu.Lock()
		batch := slices.Clone(t.pending[:min(mostMetrics, len(t.pending))])
		t.mu.Unlock()
		if len(batch) == 0 {
			return true
		}
		if !t.insist(ctx, "sending metrics", func() error { return c.logMetrics(ctx, t.id, batch) }) {
			return false
		}
		t.mu.Lock()
		t.pending = t.pending[len(batch):]
		t.mu.Unlock()
	}
}

// insist tries until the server takes it. False says that it refused for good, or that time is up;
// the first failure and the last are warned of.
func (t *Tracker) insist(ctx context.Context, what string, try func() error) bool {
	pause, warned := t.config.Backoff, false
	for {
		err := try()
		if err == nil {
			t.progress()
			return true
		}
		if answer, ok := errors.AsType[*ServerError](err); ok && !answer.worthRetrying() {
			t.config.Warn("mlflow: %s: %v; the run goes on without %s", what, err, t.config.URI)
			return false
		}
		if ctx.Err() != nil {
			t.config.Warn("mlflow: %s: gave up on %s", what, t.config.URI)
			return false
		}
		if !warned {
			t.config.Warn("mlflow: %s: %v; trying again while the run goes on", what, err)
			warned = true
		}
		t.wait(ctx, pause)
		pause = min(2*pause, 30*t.config.Backoff)
	}
}

// progress renews the patience: a server that is slow but takes things is waited for.
func (t *Tracker) progress() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.limit != nil {
		t.limit.Reset(t.config.Patience)
	}
}

// wait pauses. The end of the run cuts a pause short, and keeps those after it short.
func (t *Tracker) wait(ctx context.Context, d time.Duration) {
	ended := t.ended
	select {
	case <-ended:
		ended, d = nil, min(d, t.config.Backoff)
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ended:
	case <-ctx.Done():
	}
}

// begin makes the run with its parameters, or goes on with the one that is known. What an earlier
// try has reached is kept.
func (t *Tracker) begin(ctx context.Context, c *client) error {
	if t.id == "" && t.config.RunID != "" {
		err := c.update(ctx, t.config.RunID, running, time.Time{})
		if err == nil {
			t.id, t.settled = t.config.RunID, true
		} else if answer, ok := errors.AsType[*ServerError](err); !ok || answer.Code != notThere {
			return err
		}
	}
	if t.id == "" {
		experiment, err := c.experiment(ctx, t.config.Experiment)
		if err != nil {
			return err
		}
		if t.id, err = c.create(ctx, experiment, t.config); err != nil {
			return err
		}
		t.config.Created(t.id)
	}
	if !t.settled {
		if err := c.logParams(ctx, t.id, t.config.Params); err != nil {
			return err
		}
		t.settled = true
	}
	return nil
}

// ServerError is an answer of the server that is no success.
type ServerError struct {
	Status  int    // of HTTP
	Code    string // of MLflow, as RESOURCE_DOES_NOT_EXIST
	Message string
}

func (e *ServerError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("HTTP %d %s %s", e.Status, e.Code, e.Message))
}

// worthRetrying says whether the same request may be taken later.
func (e *ServerError) worthRetrying() bool {
	return e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestTimeout || e.Status >= 500
}
