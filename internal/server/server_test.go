package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/t5ctl/t5ctl/internal/server"
)

// echo is a model for the concurrency of the server alone: it answers "<name>:<input>" after as many
// steps as the input has bytes, and decodes as many at a time as there are slots.
type echo struct {
	name  string
	slots int
	step  chan struct{} // where not nil, one step is taken for each value
	wrong bool

	mu     sync.Mutex
	most   int // under way at a time
	closed bool
	inside int // calls of Flow at a time
}

func (e *echo) Plan(input string, s server.Settings) (server.Plan, error) {
	class := 1
	if s.Beams != nil {
		class = *s.Beams
	}
	if class > 4 {
		return server.Plan{}, &server.RequestError{Reason: "num_beams is too large"}
	}
	return server.Plan{Class: class, Key: fmt.Sprint(class), InputTokens: len(input), Work: input}, nil
}

func (e *echo) Flow(ctx context.Context, _ *server.Job, next func(int, bool) []*server.Job) error {
	e.mu.Lock()
	e.inside++
	if e.inside > 1 || e.closed {
		e.mu.Unlock()
		return errors.New("two flows at once, or one after the end")
	}
	e.mu.Unlock()
	defer func() { e.mu.Lock(); e.inside--; e.mu.Unlock() }()
	type row struct {
		job  *server.Job
		made int
	}
	var rows []row
	for ctx.Err() == nil {
		if free := e.slots - len(rows); free > 0 {
			for _, j := range next(free, len(rows) == 0) {
				rows = append(rows, row{job: j})
			}
		}
		if len(rows) == 0 {
			return nil
		}
		e.mu.Lock()
		e.most = max(e.most, len(rows))
		e.mu.Unlock()
		if e.step != nil {
			select {
			case <-e.step:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		kept := rows[:0]
		for _, r := range rows {
			input := r.job.Plan.Work.(string)
			if input == "panic" {
				panic("a model that panics")
			}
			r.made++
			if r.job.Wrote != nil {
				r.job.Wrote(e.answer(input)[:min(r.made, len(input))])
			}
			select {
			case <-r.job.Gone():
				r.job.Done(server.Result{}, context.Canceled)
				continue
			default:
			}
			if r.made < len(input) {
				kept = append(kept, r)
				continue
			}
			r.job.Done(server.Result{Outputs: []server.Output{{Text: e.answer(input)}}, Tokens: r.made}, nil)
		}
		rows = kept
	}
	return ctx.Err()
}

func (e *echo) answer(input string) string {
	if e.wrong {
		return "wrong"
	}
	return e.name + ":" + input
}

func (e *echo) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || e.inside > 0 {
		panic("closed twice, or under way")
	}
	e.closed = true
}

func (e *echo) isClosed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

// store has a version for each reference, which a test may move.
type store struct {
	mu     sync.Mutex
	refs   map[string]string // reference → number
	models map[string]*echo  // by number, as each is loaded
	opened []*echo
	fails  map[string]bool // numbers that cannot be loaded
}

func newStore(refs map[string]string) *store {
	return &store{refs: refs, models: map[string]*echo{}, fails: map[string]bool{}}
}

func (s *store) Resolve(_ context.Context, ref string) (server.Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	number, ok := s.refs[ref]
	if !ok {
		return server.Version{}, errors.New("no such version")
	}
	return server.Version{Model: "m", Number: number, Digest: "sha256:" + number}, nil
}

func (s *store) Load(ctx context.Context, ref string) (server.Version, server.Model, error) {
	v, err := s.Resolve(ctx, ref)
	if err != nil {
		return v, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails[v.Number] {
		return v, nil, errors.New("damaged")
	}
	m := &echo{name: v.Number, slots: 4}
	if like, ok := s.models[v.Number]; ok {
		m = &echo{name: like.name, slots: like.slots, step: like.step, wrong: like.wrong}
	}
	s.opened = append(s.opened, m)
	return v, m, nil
}

func (s *store) model(number string, m *echo) { s.models[number] = m }

func (s *store) move(ref, number string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refs[ref] = number
}

func options() server.Options {
	return server.Options{
		Main: server.Named{Name: "m@production", Ref: "m@production"}, Rows: 4, Wait: time.Millisecond, Queue: 100, Timeout: 20 * time.Second,
		Drain: 10 * time.Second, MaxBody: 4096, Checks: []server.Check{{Input: "x"}},
	}
}

// running is a server on a port of its own.
type running struct {
	url  string
	log  *lockedBuffer
	stop context.CancelFunc
	done chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t *testing.T, s server.Store, o server.Options) *running {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{url: "http://" + listener.Addr().String(), log: &lockedBuffer{}, stop: stop, done: make(chan error, 1)}
	log := slog.New(slog.NewJSONHandler(r.log, nil))
	sv := server.New(s, o, log, noop.NewTracerProvider().Tracer("test"))
	go func() { r.done <- sv.Run(ctx, listener, nil) }()
	t.Cleanup(func() {
		stop()
		select {
		case <-r.done:
		case <-time.After(20 * time.Second):
			t.Error("the server does not end")
		}
	})
	r.await(t, func() bool { code, _ := r.get(t, "/readyz"); return code == http.StatusOK })
	return r
}

func (r *running) await(t *testing.T, condition func() bool) {
	t.Helper()
	for range 2000 {
		if condition() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("waited in vain; the log says\n%s", r.log)
}

func (r *running) get(t *testing.T, path string) (int, string) {
	t.Helper()
	response, err := http.Get(r.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(data)
}

func (r *running) post(t *testing.T, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, r.url+"/v1/generate", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Error(err)
		return &http.Response{}, ""
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	return response, string(data)
}

func output(t *testing.T, body string) string {
	t.Helper()
	var a server.Answer
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Errorf("%v in %s", err, body)
	}
	return a.Output
}

// Many clients at once, with settings of several classes: each gets the answer to its own input, and
// requests share batches.
func TestEveryoneGetsTheirOwnAnswer(t *testing.T) {
	s := newStore(map[string]string{"m@production": "v1"})
	r := start(t, s, options())
	var group sync.WaitGroup
	for client := range 16 {
		group.Go(func() {
			for i := range 25 {
				input := fmt.Sprintf("%d/%d/%s", client, i, strings.Repeat("x", i))
				_, body := r.post(t, fmt.Sprintf(`{"input": %q, "settings": {"num_beams": %d}}`, input, 1+client%3))
				if got := output(t, body); got != "v1:"+input {
					t.Errorf("%s was answered with %s", input, body)
				}
			}
		})
	}
	group.Wait()
	if m := s.opened[0]; m.most < 2 {
		t.Errorf("at most %d requests were decoded together", m.most)
	}
	_, text := r.get(t, "/metrics")
	for _, want := range []string{
		`t5ctl_serve_requests_total{code="200",model="m",version="v1"} 400`, `t5ctl_serve_request_duration_seconds_count{model="m",version="v1"} 400`,
		`t5ctl_serve_queue_duration_seconds_count{model="m",version="v1"} 400`, "t5ctl_serve_queue_length 0", "t5ctl_serve_requests_in_flight 0",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

// A channel that moves again and again under load: no request is lost, each is answered by one
// version as a whole, and versions that are out of use are closed.
func TestFollowsAChannelWithoutLosingARequest(t *testing.T) {
	s := newStore(map[string]string{"m@production": "v1"})
	o := options()
	o.Follow = 5 * time.Millisecond
	r := start(t, s, o)
	stop := make(chan struct{})
	var group sync.WaitGroup
	for client := range 8 {
		group.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				input := fmt.Sprintf("%d-%d", client, i)
				response, body := r.post(t, fmt.Sprintf(`{"input": %q}`, input))
				version := strings.TrimPrefix(response.Header.Get("X-T5ctl-Version"), "m@")
				if got := output(t, body); response.StatusCode != http.StatusOK || got != version+":"+input {
					t.Errorf("%s was answered with %d %s", input, response.StatusCode, body)
					return
				}
			}
		})
	}
	for i := 2; i <= 6; i++ {
		number := fmt.Sprintf("v%d", i)
		s.move("m@production", number)
		r.await(t, func() bool { _, body := r.post(t, `{"input": "y"}`); return output(t, body) == number+":y" })
	}
	close(stop)
	group.Wait()
	r.await(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, m := range s.opened {
			if m.isClosed() != (m.name != "v6") {
				return false
			}
		}
		return true
	})
}

// A version that cannot be loaded, or answers wrongly, never serves: what served stays, or the
// fallback comes, until there is a good one.
func TestFallback(t *testing.T) {
	s := newStore(map[string]string{"m@production": "v2", "m@stable": "v1"})
	s.fails["v2"] = true
	s.model("v3", &echo{name: "v3", slots: 1, wrong: true})
	o := options()
	o.Follow, o.Fallback = 5*time.Millisecond, "m@stable"
	o.Checks = []server.Check{{Input: "a"}, {Input: "b", Target: "v1:b"}}
	r := start(t, s, o)
	if _, body := r.post(t, `{"input": "y"}`); output(t, body) != "v1:y" {
		t.Fatalf("the fallback answered %s", body)
	}
	if _, text := r.get(t, "/metrics"); !strings.Contains(text, "t5ctl_serve_fallback_active 1") {
		t.Error("the metrics do not say that the fallback answers")
	}
	s.move("m@production", "v3")
	r.await(t, func() bool {
		return strings.Contains(r.log.String(), "m@v3 answers 1 of 2 check rows wrongly, the first is row 2")
	})
	if _, body := r.post(t, `{"input": "y"}`); output(t, body) != "v1:y" {
		t.Fatalf("after the failed check: %s", body)
	}
	s.model("v1b", &echo{name: "v1", slots: 1})
	s.move("m@production", "v1b")
	r.await(t, func() bool {
		_, text := r.get(t, "/metrics")
		return strings.Contains(text, "t5ctl_serve_fallback_active 0")
	})
}

// Without a fallback, a version that fails ends the start with its error.
func TestAVersionThatFailsEndsTheStart(t *testing.T) {
	for name, test := range map[string]struct{ fails, wrong bool }{"load": {fails: true}, "check": {wrong: true}} {
		t.Run(name, func(t *testing.T) {
			s := newStore(map[string]string{"m@production": "v1"})
			s.fails["v1"] = test.fails
			s.model("v1", &echo{name: "v1", slots: 1, wrong: test.wrong})
			o := options()
			o.Checks = []server.Check{{Input: "a", Target: "v1:a"}}
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			err = server.New(s, o, slog.New(slog.DiscardHandler), noop.NewTracerProvider().Tracer("")).Run(t.Context(), listener, nil)
			check := (*server.CheckError)(nil)
			if err == nil || test.wrong != errors.As(err, &check) {
				t.Errorf("the start ended with %v", err)
			}
		})
	}
}

// A queue that is full refuses with 429 and Retry-After; what waits is answered in the end.
func TestFullQueue(t *testing.T) {
	s := newStore(map[string]string{"m@production": "v1"})
	step := make(chan struct{}, 1)
	s.model("v1", &echo{name: "v1", slots: 1, step: step})
	o := options()
	o.Queue = 2
	step <- struct{}{} // for the check
	r := start(t, s, o)
	answers := make(chan string, 3)
	ask := func(input string) {
		go func() { _, body := r.post(t, fmt.Sprintf(`{"input": %q}`, input)); answers <- output(t, body) }()
	}
	waiting := func(n int) {
		r.await(t, func() bool {
			_, text := r.get(t, "/metrics")
			return strings.Contains(text, fmt.Sprintf("t5ctl_serve_queue_length %d\n", n))
		})
	}
	ask("a")
	r.await(t, func() bool {
		_, text := r.get(t, "/metrics")
		return strings.Contains(text, `t5ctl_serve_batch_rows_count{model="m",version="v1"} 2`)
	})
	ask("b")
	waiting(1)
	ask("c")
	waiting(2)
	response, body := r.post(t, `{"input": "d"}`)
	if response.StatusCode != http.StatusTooManyRequests || response.Header.Get("Retry-After") == "" {
		t.Errorf("a full queue answered %d %s", response.StatusCode, body)
	}
	for range 3 {
		step <- struct{}{}
	}
	got := map[string]bool{<-answers: true, <-answers: true, <-answers: true}
	if !got["v1:a"] || !got["v1:b"] || !got["v1:c"] {
		t.Errorf("those that waited got %v", got)
	}
}

// SIGTERM in the middle: requests that were let in are answered, then the server ends without an error.
func TestDrain(t *testing.T) {
	s := newStore(map[string]string{"m@production": "v1"})
	step := make(chan struct{}, 1)
	s.model("v1", &echo{name: "v1", slots: 1, step: step})
	step <- struct{}{}
	r := start(t, s, options())
	answers := make(chan string, 2)
	for _, input := range []string{"a", "b"} {
		go func() { _, body := r.post(t, fmt.Sprintf(`{"input": %q}`, input)); answers <- output(t, body) }()
	}
	r.await(t, func() bool {
		_, text := r.get(t, "/metrics")
		return strings.Contains(text, "t5ctl_serve_requests_in_flight 2") && strings.Contains(text, "t5ctl_serve_queue_length 1")
	})
	r.stop()
	step <- struct{}{}
	step <- struct{}{}
	if a, b := <-answers, <-answers; a == b || a == "" || b == "" {
		t.Errorf("answers in the drain: %q and %q", a, b)
	}
	if err := <-r.done; err != nil {
		t.Errorf("the server ended with %v", err)
	}
	r.done <- nil
}

// A client that leaves frees its slot, and a model that panics fails its own requests alone.
func TestVanishedAndFailed(t *testing.T) {
	s := newStore(map[string]string{"m@production": "v1"})
	s.model("v1", &echo{name: "v1", slots: 1})
	r := start(t, s, options())
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/v1/generate", strings.NewReader(`{"input": "`+strings.Repeat("x", 3000)+`", "stream": true}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = response.Body.Read(make([]byte, 10))
	cancel()
	response.Body.Close()
	if _, body := r.post(t, `{"input": "a"}`); output(t, body) != "v1:a" {
		t.Errorf("after a client left: %s", body)
	}
	if response, body := r.post(t, `{"input": "panic"}`); response.StatusCode != http.StatusInternalServerError || strings.Contains(body, "panics") {
		t.Errorf("a model that panics: %d %s", response.StatusCode, body)
	}
	if _, body := r.post(t, `{"input": "b"}`); output(t, body) != "v1:b" {
		t.Errorf("after a panic: %s", body)
	}
	if !strings.Contains(r.log.String(), "a model that panics") {
		t.Error("the log does not say what failed")
	}
}

// A stream grows to the very text of the answer, as events and as lines.
func TestStream(t *testing.T) {
	r := start(t, newStore(map[string]string{"m@production": "v1"}), options())
	for accept, prefix := range map[string]string{"text/event-stream": "data: ", "application/x-ndjson": ""} {
		response, body := r.post(t, `{"input": "a long input", "stream": true}`, "Accept", accept)
		if got := response.Header.Get("Content-Type"); got != accept {
			t.Errorf("asked for %s, got %s", accept, got)
		}
		text, last := "", server.Answer{}
		for line := range strings.Lines(body) {
			line = strings.TrimSpace(strings.TrimPrefix(line, prefix))
			if line == "" {
				continue
			}
			var piece struct{ Delta string }
			if err := json.Unmarshal([]byte(line), &piece); err != nil {
				t.Fatalf("%v in %q", err, line)
			}
			text += piece.Delta
			last = server.Answer{}
			if err := json.Unmarshal([]byte(line), &last); err != nil {
				t.Fatal(err)
			}
		}
		if text != "v1:a long input" || last.Output != text {
			t.Errorf("%s: the pieces are %q, the answer %q", accept, text, last.Output)
		}
	}
}

// What is wrong with a request is told, and never reaches a model.
func TestRefusals(t *testing.T) {
	r := start(t, newStore(map[string]string{"m@production": "v1"}), options())
	for name, test := range map[string]struct {
		body    string
		headers []string
		code    int
		says    string
	}{
		"no JSON":      {"{", nil, 400, "middle"},
		"unknown key":  {`{"inputs": "a"}`, nil, 400, `did you mean \"input\"`},
		"no input":     {`{"input": ""}`, nil, 400, "missing or empty"},
		"two values":   {`{"input": "a"} {}`, nil, 400, "behind"},
		"wrong type":   {`{"input": 5}`, nil, 400, "number"},
		"limit":        {`{"input": "a", "settings": {"num_beams": 5}}`, nil, 400, "num_beams"},
		"model":        {`{"input": "a", "model": "other"}`, nil, 404, "m@production"},
		"body":         {`{"input": "` + strings.Repeat("a", 5000) + `"}`, nil, 413, "4096 bytes"},
		"content type": {`{"input": "a"}`, []string{"Content-Type", "text/plain"}, 415, "application/json"},
	} {
		response, body := r.post(t, test.body, test.headers...)
		if response.StatusCode != test.code || !strings.Contains(body, test.says) {
			t.Errorf("%s: %d %s, want %d with %q", name, response.StatusCode, body, test.code, test.says)
		}
	}
}

// With a token nothing but the health of the server is told without it; without one, only requests
// for this machine's own names are taken.
func TestAccess(t *testing.T) {
	o := options()
	o.Token = "a token of sixteen characters or more"
	s := newStore(map[string]string{"m@production": "v1"})
	r := start(t, s, o)
	for _, header := range []string{"", "Bearer", "Bearer ", "Bearer wrong", o.Token, "Basic " + o.Token} {
		if response, body := r.post(t, `{"input": "a"}`, "Authorization", header); response.StatusCode != http.StatusUnauthorized || strings.Contains(body, "v1") {
			t.Errorf("Authorization %q: %d %s", header, response.StatusCode, body)
		}
	}
	if code, _ := r.get(t, "/metrics"); code != http.StatusUnauthorized {
		t.Errorf("/metrics without a token: %d", code)
	}
	if code, _ := r.get(t, "/healthz"); code != http.StatusOK {
		t.Errorf("/healthz without a token: %d", code)
	}
	if _, body := r.post(t, `{"input": "a"}`, "Authorization", "Bearer "+o.Token); output(t, body) != "v1:a" {
		t.Errorf("with the token: %s", body)
	}
	if strings.Contains(r.log.String(), "sixteen") {
		t.Error("the token is in the log")
	}
	open := start(t, s, options())
	request, err := http.NewRequest(http.MethodPost, open.url+"/v1/generate", strings.NewReader(`{"input": "a"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "rebound.example"
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("a host of another name: %d", response.StatusCode)
	}
}

// The same question is answered once, by each version; asked for, it is answered anew.
func TestCache(t *testing.T) {
	s := newStore(map[string]string{"m@production": "v1"})
	o := options()
	o.CacheBytes, o.Follow = 1500, 5*time.Millisecond
	r := start(t, s, o)
	ask := func(body string) server.Answer {
		_, text := r.post(t, body)
		var a server.Answer
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	first, second := ask(`{"input": "a"}`), ask(`{"input": "a"}`)
	if first.Cached || !second.Cached || second.Output != "v1:a" || first.ID == second.ID {
		t.Errorf("asked twice: %+v and %+v", first, second)
	}
	if ask(`{"input": "a", "no_cache": true}`).Cached || ask(`{"input": "a", "settings": {"num_beams": 2}}`).Cached {
		t.Error("an answer to another question, or one asked for anew, was cached")
	}
	ask(`{"input": "b"}`)
	ask(`{"input": "c"}`)
	if ask(`{"input": "a"}`).Cached {
		t.Error("the cache holds more than it may")
	}
	s.move("m@production", "v2")
	r.await(t, func() bool { return ask(`{"input": "d"}`).Output == "v2:d" })
	if a := ask(`{"input": "c"}`); a.Cached || a.Output != "v2:c" {
		t.Errorf("after the switch: %+v", a)
	}
}

// The shares of requests that are decoded together add up to the time that it took, and no more; each costs its
// share, and an answer out of the cache nothing.
func TestCost(t *testing.T) {
	s := newStore(map[string]string{"m@production": "v1"})
	step := make(chan struct{})
	s.model("v1", &echo{name: "v1", slots: 4, step: step})
	stopped := make(chan struct{})
	defer close(stopped)
	go func() { // a step each millisecond
		for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
			select {
			case step <- struct{}{}:
			case <-stopped:
				tick.Stop()
				return
			}
		}
	}()
	o := options()
	o.Price, o.CacheBytes = 3600, 1<<20 // one a second
	r := start(t, s, o)
	const clients, rows = 4, 5
	began := time.Now()
	var mu sync.Mutex
	var sum float64
	var last server.Usage
	var group sync.WaitGroup
	for c := range clients {
		group.Go(func() {
			for i := range rows {
				_, body := r.post(t, fmt.Sprintf(`{"input": "client %d, row %d"}`, c, i))
				var a server.Answer
				if err := json.Unmarshal([]byte(body), &a); err != nil {
					t.Error(err)
				}
				if a.Usage.DecodeMS <= 0 || math.Abs(a.Usage.Cost-a.Usage.DecodeMS/1000) > 1e-6 || a.Usage.CostPer1000 <= 0 {
					t.Errorf("usage %+v", a.Usage)
				}
				mu.Lock()
				sum += a.Usage.Cost
				last = a.Usage
				mu.Unlock()
			}
		})
	}
	group.Wait()
	whole := time.Since(began).Seconds()
	if sum > whole || sum < whole/4 {
		t.Errorf("%d requests cost %.3f in %.3f s", clients*rows, sum, whole)
	}
	if mean := sum / (clients * rows) * 1000; last.CostPer1000 < mean/2 || last.CostPer1000 > mean*2 {
		t.Errorf("1,000 requests cost %.1f, by the last answer %.1f", mean, last.CostPer1000)
	}
	_, body := r.post(t, `{"input": "client 0, row 0"}`)
	var cached server.Answer
	if err := json.Unmarshal([]byte(body), &cached); err != nil || !cached.Cached || cached.Usage.Cost != 0 || cached.Usage.DecodeMS != 0 {
		t.Errorf("%v in %s", err, body)
	}
	_, text := r.get(t, "/metrics")
	for _, name := range []string{"cost_total", "decode_seconds_total"} {
		found := regexp.MustCompile(`t5ctl_serve_` + name + `\{model="m",version="v1"\} ([0-9.e-]+)`).FindStringSubmatch(text)
		if found == nil {
			t.Fatalf("no %s in %s", name, text)
		}
		if value, err := strconv.ParseFloat(found[1], 64); err != nil || math.Abs(value-sum) > 1e-4 {
			t.Errorf("%s is %s, the answers say %.6f", name, found[1], sum)
		}
	}
}

// No text of a request reaches the log unless it is asked for; the request's id does.
func TestLog(t *testing.T) {
	for _, text := range []bool{false, true} {
		o := options()
		o.LogText = text
		r := start(t, newStore(map[string]string{"m@production": "v1"}), o)
		response, _ := r.post(t, `{"input": "confidential"}`, "X-Request-Id", "abc-1")
		if response.Header.Get("X-Request-Id") != "abc-1" {
			t.Errorf("the id is %s", response.Header.Get("X-Request-Id"))
		}
		r.await(t, func() bool { return strings.Contains(r.log.String(), `"id":"abc-1"`) })
		if strings.Contains(r.log.String(), "confidential") != text {
			t.Errorf("with text %v the log is\n%s", text, r.log)
		}
	}
}

// Samples are redacted, private, drawn by their id, and go when their time is over.
func TestSampler(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "samples")
	sampler := &server.Sampler{Dir: dir, Rate: 0.5, Key: []byte("0123456789abcdef"), Retain: 48 * time.Hour}
	if err := sampler.Open(); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, "samples-2020-01-01.jsonl")
	if err := os.WriteFile(old, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := options()
	o.Sampler = sampler
	r := start(t, newStore(map[string]string{"m@production": "v1"}), o)
	for i := range 60 {
		r.post(t, `{"input": "write to ada@example.org"}`, "X-Request-Id", fmt.Sprintf("r%d", i))
	}
	kept := func() string {
		files, _ := filepath.Glob(filepath.Join(dir, "*.jsonl"))
		if len(files) != 1 {
			return ""
		}
		info, err := os.Stat(files[0])
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("the file's mode is %v, %v", info.Mode(), err)
		}
		data, _ := os.ReadFile(files[0])
		return string(data)
	}
	r.await(t, func() bool {
		_, text := r.get(t, "/metrics")
		return strings.Contains(text, fmt.Sprintf(`t5ctl_serve_samples_total{result="kept"} %d`+"\n", strings.Count(kept(), "\n")))
	})
	text := kept()
	if n := strings.Count(text, "\n"); n < 15 || n > 45 {
		t.Errorf("%d of 60 requests were kept at a rate of 0.5", n)
	}
	if strings.Contains(text, "ada@") || !strings.Contains(text, "[EMAIL_") {
		t.Errorf("not redacted: %s", text)
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Error("a sample outlived its time")
	}
}

// The shadow answers copies of the requests, and clients see nothing of it.
func TestShadow(t *testing.T) {
	s := newStore(map[string]string{"m@production": "v1", "m@canary": "v2"})
	o := options()
	o.Shadow = "m@canary"
	pairs := make(chan server.Pair, 10)
	o.Compare = func(p server.Pair) { pairs <- p }
	r := start(t, s, o)
	if _, body := r.post(t, `{"input": "a"}`); output(t, body) != "v1:a" {
		t.Errorf("the client got %s", body)
	}
	p := <-pairs
	if p.Input != "a" || p.Main.Output != "v1:a" || p.Shadow.Output != "v2:a" || p.Main.Model != "m@v1" || p.Shadow.Model != "m@v2" {
		t.Errorf("the pair is %+v", p)
	}
	if _, text := r.get(t, "/metrics"); !strings.Contains(text, `t5ctl_serve_shadow_requests_total{model="m",result="different",version="v2"} 1`) {
		t.Error("the metrics do not tell of the shadow")
	}
}

func TestSecrets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	for content, want := range map[string]bool{"0123456789abcdef\n": true, "short": false, "": false, "with spaces inside it": false} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := server.ReadToken(path); (err == nil) != want {
			t.Errorf("token %q: %v", content, err)
		}
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := server.ReadToken(path); err == nil || !strings.Contains(err.Error(), "0640") {
		t.Errorf("a token that others can read: %v", err)
	}
}

// The table of docs/serving.md names every metric, and none that is not there.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/serving.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "## Metrics")
	table, _, _ = strings.Cut(table, "\n## ")
	told := map[string]bool{}
	for _, name := range regexp.MustCompile("`(t5ctl_serve_[a-z_]+)`").FindAllStringSubmatch(table, -1) {
		told[name[1]] = true
	}
	names := server.MetricNames()
	for _, name := range names {
		if !told[name] {
			t.Errorf("docs/serving.md does not name %s", name)
		}
	}
	if len(names) != len(told) || len(names) < 20 {
		t.Errorf("%d metrics, %d in the table", len(names), len(told))
	}
}

func TestLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:80": true, "[::1]:80": true, "localhost:8080": true, "127.9.9.9": true, ":80": false, "0.0.0.0:80": false,
		"10.0.0.1:80": false, "[::]:80": false, "localhost.example:80": false, "127.0.0.1.example": false, "": false,
	} {
		if server.Loopback(address) != want {
			t.Errorf("Loopback(%q) is %v", address, !want)
		}
	}
}

// Whatever the bytes: a request comes out whole, or an error that is no panic; what is taken
// reads the same when it is written again.
func FuzzParseRequest(f *testing.F) {
	for _, seed := range []string{
		`{"input":"tomato"}`, `{"input":"a","model":"g2p@v1","stream":true,"settings":{"num_beams":4,"seed":18446744073709551615}}`,
		`{"input":"a"}{`, `{"input":"\ud800"}`, `[]`, `{"settings":{"top_p":1e999}}`, "\xff", `{"INPUT":"a"}`, `{"input":"a","input":"b"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := server.ParseRequest(data)
		if err != nil {
			if wrong := (*server.RequestError)(nil); !errors.As(err, &wrong) || wrong.Reason == "" {
				t.Fatalf("an error without a reason: %v", err)
			}
			return
		}
		if r.Input == "" {
			t.Fatal("a request without an input")
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		second, err := server.ParseRequest(again)
		if err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		if third, _ := json.Marshal(second); !bytes.Equal(again, third) {
			t.Fatalf("%s became %s", again, third)
		}
	})
}
