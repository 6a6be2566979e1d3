// Package view shows runs, their curves and reports, and the models of a registry as pages of a
// browser on the same machine.
//
// It only reads. Pages come whole from the server, drawings in them, so that they say all without
// JavaScript; with it, they follow a training as it goes on. It answers GET and HEAD for hosts that
// name this machine, so that no page of the web can reach it under a name of its own, and opens
// files only in the run folders that it lists.
package view

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/t5ctl/t5ctl/internal/curves"
	"github.com/t5ctl/t5ctl/internal/runfolder"
)

//go:embed assets
var assets embed.FS //nolint:gochecknoglobals // embedding needs a variable

// Source brings what the run folders alone do not say.
type Source interface {
	// Report says in short what a file of a run's reports holds.
	Report(name string, data []byte) (Report, error)
	// WriteReport writes a report as a page of its own.
	WriteReport(ctx context.Context, w io.Writer, path string) error
	// Models names the models of the registry and what their channels serve; Model tells one's whole
	// history. A model that is not there is
	// a *NotFoundError.
	Models(ctx context.Context) ([]Model, error)
	Model(ctx context.Context, name string) (Model, error)
}

// NotFoundError says that there is no such page, run, file or model.
type NotFoundError struct{ What string }

func (e *NotFoundError) Error() string { return e.What }

// Is makes it a missing file.
func (e *NotFoundError) Is(target error) bool { return target == fs.ErrNotExist }

// Report is what an evaluation, an exposure test or a gate found, in short.
type Report struct {
	Kind    string
	Title   string
	Model   string
	Results []Result
	Note    string // what is to be said of it as a whole
	Failed  bool
	Figures []curves.Figure
	Page    bool // WriteReport can show the rest
}

// Result is a line of a report.
type Result struct{ Name, Value, Interval, Verdict string }

// Model is a model of the registry.
type Model struct {
	Name     string
	Versions []Version // oldest first
	Channels []Channel
	History  []Entry // oldest first
}

// Newest is the version that was registered last; nil where there is none.
func (m Model) Newest() *Version {
	if len(m.Versions) == 0 {
		return nil
	}
	return &m.Versions[len(m.Versions)-1]
}

// Version is a version of a model.
type Version struct {
	Name, Digest, Reason string
	Registered           time.Time
	Channels, Evidence   []string
	Canaries             bool
}

// Channel is what a channel serves now.
type Channel struct{ Name, Version string }

// Entry is a record of a model's log.
type Entry struct {
	Seq                                              int64
	Time                                             time.Time
	What, Channel, Version, Before, By, Reason, Veto string
}

// Options say what is shown.
type Options struct {
	Runs   func() ([]runfolder.Dir, []runfolder.Record, error) // asked for every page: runs come and go
	Where  string                                              // where they lie, for people
	Source Source
	Now    func() time.Time // nil: time.Now
}

// Server answers with pages. It may be used by several goroutines.
type Server struct {
	options Options
	pages   *template.Template

	mu   sync.Mutex
	logs map[runfolder.Dir]readLog
}

// New prepares the pages.
func New(o Options) (*Server, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	pages, err := template.New("view").Funcs(template.FuncMap{"when": when, "ago": func(t time.Time) string { return ago(o.Now().Sub(t)) }}).
		ParseFS(assets, "assets/*.html")
	if err != nil {
		return nil, err
	}
	return &Server{options: o, pages: pages, logs: map[runfolder.Dir]readLog{}}, nil
}

// Run answers until the context ends.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // what goes wrong stands on the page
	}
	stop := context.AfterFunc(ctx, func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = server.Shutdown(last) // whoever still reads is cut off
	})
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Handler answers for all pages.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.show(s.runsPage))
	mux.HandleFunc("GET /curves", s.show(s.curvesPage))
	mux.HandleFunc("GET /runs/{run}", s.show(s.runPage))
	mux.HandleFunc("GET /runs/{run}/files/{file}", s.file(""))
	mux.HandleFunc("GET /runs/{run}/reports/{file}", s.file(runfolder.ReportsDir))
	mux.HandleFunc("GET /models", s.show(s.modelsPage))
	mux.HandleFunc("GET /models/{model...}", s.show(s.modelPage))
	mux.HandleFunc("GET /assets/{file}", s.asset)
	mux.HandleFunc("/", s.show(func(*http.Request) (string, page, error) {
		return "", page{}, &NotFoundError{"there is no such page"}
	}))
	return guard(mux)
}

// policy is what a page may load: what this server gives, and nothing else.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// strangerPolicy is that of files that others wrote: no script, no address, an origin of their own.
const strangerPolicy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"

// guard lets requests through that read, and that name this machine and port as their host.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Content-Security-Policy", policy)
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("X-Frame-Options", "DENY")
		head.Set("Referrer-Policy", "no-referrer")
		head.Set("Cross-Origin-Resource-Policy", "same-origin")
		head.Set("Cross-Origin-Opener-Policy", "same-origin")
		head.Set("Cache-Control", "no-cache")
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		switch {
		case local == nil || !mine(r.Host, local.String()):
			http.Error(w, "the host of the request is not this machine", http.StatusForbidden)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			head.Set("Allow", "GET, HEAD")
			http.Error(w, "pages are only read", http.StatusMethodNotAllowed)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// mine says whether a request's host is this machine, at the port that it came in on.
func mine(host, local string) bool {
	_, port, err := net.SplitHostPort(local)
	if err != nil {
		return false
	}
	for _, name := range []string{"127.0.0.1", "localhost", "[::1]"} {
		if strings.EqualFold(host, name+":"+port) || port == "80" && strings.EqualFold(host, name) {
			return true
		}
	}
	return false
}

// page is what all templates are given.
type page struct {
	Title   string
	Section string // runs or models
	Every   int    // milliseconds after which a script looks again
	Live    bool   // something is running: without a script, the page is loaded again
	Body    any
}

// How often a page looks whether something is new, in milliseconds.
const (
	soon = 2000
	late = 10000
)

// show writes a page, or the error where it cannot be made.
func (s *Server) show(build func(*http.Request) (name string, p page, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		name, p, err := build(r)
		if err != nil {
			status = http.StatusInternalServerError
			if errors.Is(err, fs.ErrNotExist) {
				status = http.StatusNotFound
			}
			name, p = "error.html", page{Title: http.StatusText(status), Every: late, Body: err.Error()}
		}
		var b bytes.Buffer
		if err := s.pages.ExecuteTemplate(&b, name, p); err != nil {
			http.Error(w, fmt.Sprintf("drawing the page: %v", err), http.StatusInternalServerError)
			return
		}
		sum := sha256.Sum256(b.Bytes())
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:12])+`"`)
		if status != http.StatusOK {
			w.WriteHeader(status)
			_, _ = w.Write(b.Bytes()) // the reader is gone
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b.Bytes()))
	}
}

// asset gives a file that the pages use.
func (s *Server) asset(w http.ResponseWriter, r *http.Request) {
	var data []byte
	var err error
	kind := "text/javascript; charset=utf-8"
	switch name := r.PathValue("file"); name {
	case "pointer.js":
		data = []byte(curves.Script)
	case "style.css":
		kind = "text/css; charset=utf-8"
		data, err = assets.ReadFile("assets/style.css")
	case "live.js":
		data, err = assets.ReadFile("assets/live.js")
	case "icon.svg":
		kind = "image/svg+xml"
		data, err = assets.ReadFile("assets/icon.svg")
	default:
		err = fs.ErrNotExist
	}
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", kind)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// when shows a time in few letters; the zero time is none.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}

// ago shows a span in its largest unit.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}
