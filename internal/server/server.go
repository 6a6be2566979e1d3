// Package server answers requests over HTTP with models: it gathers them into batches, follows
// the channels that name the versions, and says how it fares.
//
// It knows nothing of models or of where they are kept: a Store loads them, a Model decodes. A
// request that was let in is answered, whatever version takes over meanwhile, unless its client
// leaves or its time is over.
package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/trace"
)

// Named is a reference with the name by which requests reach it.
type Named struct{ Name, Ref string }

// Options say what a server serves, and how.
type Options struct {
	Main     Named
	Others   []Named // more versions, and adapters
	Fallback string  // reference that answers while the main one cannot be loaded; empty: none
	Shadow   string  // reference that is given a copy of the main route's requests; empty: none
	Checks   []Check // what a version must answer before it serves

	Rows        int           // decoded together
	Wait        time.Duration // for others to join the first request of a batch
	Queue       int           // requests that may wait
	Timeout     time.Duration // of one request, from its arrival
	Follow      time.Duration // how often references are looked at; 0: never
	Drain       time.Duration // how long requests may still take once the server is to end
	MaxBody     int64         // bytes of a request
	Price       float64       // of an hour of this machine; 0: no costs are told
	CacheBytes  int           // of kept answers; 0: none are kept
	ScanOutputs bool          // count personal data in outputs
	LogText     bool          // inputs and outputs in the log
	Token       string        // that requests must bring; empty: none
	Sampler     *Sampler      // keeps some requests for review; nil: none
	Compare     func(Pair)    // told of each request that the shadow answered too; may be nil
}

// Server is one server. Its versions are loaded by Run.
type Server struct {
	options  Options
	metrics  *metrics
	queue    *queue
	versions *versions
	cache    *cache
	log      *slog.Logger
	tracer   trace.Tracer
	mirror   *mirror
	ready    atomic.Bool
	draining atomic.Bool
}

// New makes a server of versions that store loads.
func New(store Store, o Options, log *slog.Logger, tracer trace.Tracer) *Server {
	m := newMetrics()
	s := &Server{options: o, metrics: m, log: log, tracer: tracer, cache: newCache(o.CacheBytes)}
	s.queue = newQueue(o.Queue, o.Rows, o.Wait, max(20*time.Millisecond, 2*o.Wait), m)
	s.versions = &versions{store: store, checks: o.Checks, queue: s.queue, metrics: m, log: log, timeout: 5 * time.Minute}
	s.versions.routes = []*route{{name: o.Main.Name, ref: o.Main.Ref, fallback: o.Fallback}}
	for _, n := range o.Others {
		s.versions.routes = append(s.versions.routes, &route{name: n.Name, ref: n.Ref})
	}
	if o.Shadow != "" {
		s.versions.shadow = &route{name: "shadow", ref: o.Shadow}
		s.mirror = newMirror(s)
	}
	return s
}

// Run loads the versions, serves on the listener until ctx ends, and then answers what it was
// asked by then. TLS is used where config is not nil.
func (s *Server) Run(ctx context.Context, listener net.Listener, config *tls.Config) error {
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	finished := make(chan struct{})
	go func() { s.queue.run(work); close(finished) }()
	following, stopFollowing := context.WithCancel(ctx)
	var followers sync.WaitGroup
	defer func() {
		stopFollowing()
		followers.Wait()
		stopWork()
		<-finished
		s.versions.close()
	}()
	server := &http.Server{
		// Clients and balancers give up idle connections after 60 to 90 s. One that the server gives up first may
		// carry a request that is lost.
		Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), TLSConfig: config,
	}
	failed := make(chan error, 1)
	go func() { failed <- serve(server, listener) }()
	if err := s.versions.open(ctx); err != nil {
		return errors.Join(err, server.Close())
	}
	s.ready.Store(true)
	s.log.Info("ready", "address", listener.Addr().String(), "routes", strings.Join(s.versions.names(), " "))
	if s.options.Follow > 0 {
		followers.Go(func() { s.versions.follow(following, s.options.Follow) })
	}
	if s.mirror != nil {
		followers.Go(func() { s.mirror.run(following) })
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	return s.drain(server)
}

func serve(server *http.Server, listener net.Listener) error {
	if server.TLSConfig != nil {
		return server.ServeTLS(listener, "", "")
	}
	return server.Serve(listener)
}

// drain answers what was asked and takes nothing more.
func (s *Server) drain(server *http.Server) error {
	s.draining.Store(true)
	s.metrics.draining.Set(1)
	s.log.Info("draining")
	ctx, cancel := context.WithTimeout(context.Background(), s.options.Drain)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		_ = server.Close() // what is left is told below
		return &DrainError{Limit: s.options.Drain}
	}
	s.log.Info("drained")
	return nil
}

// DrainError says that requests were still under way when the time to end them was over.
type DrainError struct{ Limit time.Duration }

func (e *DrainError) Error() string {
	return "requests were still under way " + e.Limit.String() + " after the server was told to end; they were given up"
}

// Handler is what the server answers to.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"status": "alive"})
	})
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", s.guard(promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}).ServeHTTP))
	mux.HandleFunc("GET /v1/models", s.guard(s.models))
	mux.HandleFunc("POST /v1/generate", s.generate)
	return mux
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	switch {
	case s.draining.Load():
		reply(w, http.StatusServiceUnavailable, map[string]string{"status": "draining"})
	case !s.ready.Load():
		reply(w, http.StatusServiceUnavailable, map[string]string{"status": "loading"})
	default:
		reply(w, http.StatusOK, map[string]string{"status": "ready"})
	}
}

// served is one line of GET /v1/models.
type served struct {
	Name     string `json:"name"`
	Ref      string `json:"ref"`
	Model    string `json:"model"`
	Digest   string `json:"digest,omitempty"`
	Fallback bool   `json:"fallback,omitempty"`
}

func (s *Server) models(w http.ResponseWriter, _ *http.Request) {
	list := []served{}
	for _, r := range s.versions.routes {
		r.mu.Lock()
		if r.lane != nil {
			list = append(list, served{r.name, r.ref, r.lane.version.String(), r.lane.version.Digest, r.instead})
		}
		r.mu.Unlock()
	}
	reply(w, http.StatusOK, map[string]any{"models": list})
}

func reply(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(value) // a client that left needs none
}

// refuse answers a request that is not decoded.
func (s *Server) refuse(w http.ResponseWriter, code int, reason, message string) {
	s.metrics.rejected.WithLabelValues(reason).Inc()
	fail(w, code, reason, message)
}

func fail(w http.ResponseWriter, code int, reason, message string) {
	reply(w, code, map[string]any{"error": map[string]any{"code": reason, "message": message}})
}

// requestID takes over the client's name of a request where it is a plain one.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	plain := func(c rune) bool {
		return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.ContainsRune("-_.", c)
	}
	if id != "" && len(id) <= 64 && strings.TrimFunc(id, plain) == "" {
		return id
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // it does not fail
	return hex.EncodeToString(b[:])
}
