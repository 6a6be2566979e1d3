package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Version names what answers.
type Version struct {
	Model  string // g2p
	Number string // v3; "local" for a folder
	Digest string // of the version's manifest; empty for a folder
}

// String is the version as people write it.
func (v Version) String() string {
	if v.Digest == "" {
		return v.Model
	}
	return v.Model + "@" + v.Number
}

// Store finds, checks and loads the versions that references mean.
type Store interface {
	// Resolve says which version a reference means now, at little cost.
	Resolve(ctx context.Context, ref string) (Version, error)
	// Load verifies a version and opens it.
	Load(ctx context.Context, ref string) (Version, Model, error)
}

// Check is a row that a version must answer before it serves.
type Check struct {
	Input  string
	Target string // what it must answer; empty: anything
}

// CheckError says that a version did not answer as it must. It holds no text.
type CheckError struct {
	Version     string
	Row         int // from 1
	Wrong, Rows int
}

func (e *CheckError) Error() string {
	return fmt.Sprintf("%s answers %d of %d check rows wrongly, the first is row %d", e.Version, e.Wrong, e.Rows, e.Row)
}

// lane is one loaded version.
type lane struct {
	version Version
	model   Model

	mu      sync.Mutex
	users   int  // requests on their way
	retired bool // no more requests come
	free    func(*lane)

	decoded int     // requests so far
	seconds float64 // of decoding that they took together
}

// took counts a request's share of the time of decoding, and gives the mean share so far.
func (l *lane) took(share float64) (mean float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.decoded++
	l.seconds += share
	return l.seconds / float64(l.decoded)
}

// enter counts a request in; no says that the lane is on its way out.
func (l *lane) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.retired {
		return false
	}
	l.users++
	return true
}

func (l *lane) leave() {
	l.mu.Lock()
	l.users--
	free := l.retired && l.users == 0
	l.mu.Unlock()
	if free {
		l.free(l)
	}
}

// retire lets the requests that are in end, and then frees the lane.
func (l *lane) retire() {
	l.mu.Lock()
	free := !l.retired && l.users == 0
	l.retired = true
	l.mu.Unlock()
	if free {
		l.free(l)
	}
}

// route is a name by which requests reach a version, and the reference behind it.
type route struct {
	name     string
	ref      string
	fallback string // reference that answers while ref cannot; empty: none

	mu       sync.Mutex
	lane     *lane   // nil while there is nothing to answer with
	instead  bool    // lane is that of the fallback
	failed   Version // the last version whose load or check failed
	failures int
	retry    time.Time
}

// versions are the routes of a server, each of which follows its reference.
type versions struct {
	store   Store
	checks  []Check
	queue   *queue
	metrics *metrics
	log     *slog.Logger
	routes  []*route // the first is the main one
	shadow  *route   // nil: none
	timeout time.Duration
}

// RouteError says that requests cannot name a version so.
type RouteError struct {
	Name  string
	Known []string
}

func (e *RouteError) Error() string { return fmt.Sprintf("no model %q here", e.Name) }

func (v *versions) names() []string {
	var list []string
	for _, r := range v.routes {
		list = append(list, r.name)
	}
	return list
}

// route finds the route of a name; the empty one is the main route's. A loaded version may be
// named as such too.
func (v *versions) route(name string) (*route, error) {
	if name == "" {
		return v.routes[0], nil
	}
	for _, r := range v.routes {
		if r.name == name {
			return r, nil
		}
	}
	for _, r := range v.routes {
		if l := r.now(); l != nil && l.version.String() == name {
			return r, nil
		}
	}
	return nil, &RouteError{Name: name, Known: v.names()}
}

func (r *route) now() *lane {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lane
}

// enter gives the lane of a route with the request counted in.
func (r *route) enter() (*lane, bool) {
	for {
		l := r.now()
		if l == nil {
			return nil, false
		}
		if l.enter() {
			return l, true
		} // it was replaced in between
	}
}

// open loads every route. One that cannot be loaded, not even from its fallback, is an error.
func (v *versions) open(ctx context.Context) error {
	for _, r := range v.all() {
		if err := v.settle(ctx, r); err != nil && r.now() == nil {
			return fmt.Errorf("serving %s: %w", r.ref, err)
		}
	}
	return nil
}

func (v *versions) all() []*route {
	if v.shadow == nil {
		return v.routes
	}
	return append(slices.Clone(v.routes), v.shadow)
}

// follow looks at the references again and again until ctx ends.
func (v *versions) follow(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, r := range v.all() {
			if err := v.settle(ctx, r); err != nil && ctx.Err() == nil {
				v.log.Error("version not loaded", "route", r.name, "ref", r.ref, "error", err.Error())
			}
		}
	}
}

// settle makes a route serve what its reference means now. What serves goes on until the new
// version is loaded and checked; where that fails it stays, or the fallback comes.
func (v *versions) settle(ctx context.Context, r *route) error {
	want, err := v.store.Resolve(ctx, r.ref)
	if err == nil {
		if now := r.now(); now != nil && !r.instead && now.version == want {
			return nil
		}
		if want == r.failed && time.Now().Before(r.retry) {
			return nil // told already
		}
		if err = v.change(ctx, r, r.ref, false); err == nil {
			r.failed, r.failures = Version{}, 0
			return nil
		}
		r.failures++
		r.failed, r.retry = want, time.Now().Add(min(5*time.Minute, 5*time.Second<<min(r.failures-1, 10)))
	}
	if r.now() != nil || r.fallback == "" || ctx.Err() != nil {
		return err
	}
	v.log.Error("version not loaded, the fallback answers", "route", r.name, "ref", r.ref, "fallback", r.fallback, "error", err.Error())
	return errors.Join(err, v.change(ctx, r, r.fallback, true))
}

// change loads and checks a version, lets it take the place of the one that serves, and lets that
// one end what it has.
func (v *versions) change(ctx context.Context, r *route, ref string, instead bool) error {
	began := time.Now()
	l, err := v.load(ctx, ref)
	if err != nil {
		v.metrics.loads.WithLabelValues("failed").Inc()
		return err
	}
	v.metrics.loads.WithLabelValues("ok").Inc()
	v.metrics.versionInfo.WithLabelValues(l.version.Model, l.version.Number, l.version.Digest, r.name).Set(1)
	r.mu.Lock()
	before := r.lane
	r.lane, r.instead = l, instead
	r.mu.Unlock()
	if instead {
		v.metrics.fallback.Set(1)
	} else if r == v.routes[0] {
		v.metrics.fallback.Set(0)
	}
	v.log.Info("version serves", "route", r.name, "ref", ref, "model", l.version.Model, "version", l.version.Number,
		"digest", l.version.Digest, "fallback", instead, "seconds", time.Since(began).Seconds())
	if before != nil {
		v.metrics.switches.WithLabelValues(l.version.Model, l.version.Number).Inc()
		if before.version != l.version {
			v.metrics.versionInfo.DeleteLabelValues(before.version.Model, before.version.Number, before.version.Digest, r.name)
		}
		before.retire()
	}
	return nil
}

func (v *versions) load(ctx context.Context, ref string) (*lane, error) {
	version, model, err := v.store.Load(ctx, ref)
	if err != nil {
		return nil, err
	}
	l := &lane{version: version, model: model, free: v.queue.retire}
	if err := v.check(ctx, l); err != nil {
		l.retire()
		return nil, err
	}
	return l, nil
}

// check has a lane answer the check rows, through the queue like any request.
func (v *versions) check(ctx context.Context, l *lane) error {
	ctx, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	var jobs []*Job
	for _, c := range v.checks {
		plan, err := l.model.Plan(c.Input, Settings{})
		if err != nil {
			return err
		}
		l.enter()
		defer l.leave()
		j := &Job{Plan: plan, lane: l, ctx: ctx, arrived: time.Now(), done: make(chan outcome, 1)}
		if err := v.queue.put(j, true); err != nil {
			return err
		}
		jobs = append(jobs, j)
	}
	failed := &CheckError{Version: l.version.String(), Rows: len(jobs)}
	for i, j := range jobs {
		out := <-j.done
		if out.err != nil {
			return fmt.Errorf("checking %s: %w", l.version, out.err)
		}
		if want := v.checks[i].Target; want != "" && out.result.Outputs[0].Text != want {
			failed.Wrong++
			if failed.Row == 0 {
				failed.Row = i + 1
			}
		}
	}
	if failed.Wrong > 0 {
		return failed
	}
	return nil
}

// close frees what is still loaded, once the queue has ended.
func (v *versions) close() {
	for _, r := range v.all() {
		if l := r.now(); l != nil {
			l.model.Close()
		}
	}
}
