package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/t5ctl/t5ctl/internal/plugin"
)

// index is a package index with the one wheel of the stand-in. Its fields change how it behaves.
type index struct {
	wheel    []byte
	asJSON   bool
	moved    bool // the project's page redirects
	user     string
	failures int // downloads that break off half-way, the rest comes with a range
	noRange  bool

	mu    sync.Mutex
	asked []string
}

func (x *index) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.asked = append(x.asked, r.URL.Path)
	if user, _, _ := r.BasicAuth(); user != x.user {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	switch r.URL.Path {
	case "/simple/standin-pjrt/":
		if x.moved {
			http.Redirect(w, r, "/mirror/simple/standin-pjrt/", http.StatusFound)
			return
		}
		x.page(w)
	case "/mirror/simple/standin-pjrt/":
		x.page(w)
	case "/files/" + standinFile, "/mirror/files/" + standinFile:
		x.file(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (x *index) page(w http.ResponseWriter) {
	link := "../../files/" + standinFile
	if x.asJSON {
		w.Header().Set("Content-Type", "application/vnd.pypi.simple.v1+json")
		fmt.Fprintf(w, `{"name": "standin-pjrt", "files": [{"url": "../../files/other.whl"}, {"url": %q}]}`, link)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "<!DOCTYPE html><html><body><A data-requires-python='&gt;=3'\n href=%q>a wheel</A></body>", link+"#sha256=0&amp;x")
}

func (x *index) file(w http.ResponseWriter, r *http.Request) {
	start := 0
	if from, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && !x.noRange {
		start, _ = strconv.Atoi(strings.TrimSuffix(from, "-"))
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, len(x.wheel)-1, len(x.wheel)))
	}
	rest := x.wheel[start:]
	w.Header().Set("Content-Length", strconv.Itoa(len(rest)))
	if start > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	if x.failures > 0 {
		x.failures--
		_, _ = w.Write(rest[:len(rest)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(rest)
}

func (x *index) count(path string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := 0
	for _, asked := range x.asked {
		if asked == path {
			n++
		}
	}
	return n
}

func TestInstallFromIndex(t *testing.T) {
	good := standin(t)
	tests := map[string]struct {
		index *index
		check func(error) bool // nil: it must be installed
	}{
		"page of links":              {index: &index{}},
		"JSON":                       {index: &index{asJSON: true}},
		"redirected":                 {index: &index{moved: true}},
		"redirected, JSON":           {index: &index{moved: true, asJSON: true}},
		"broken off once":            {index: &index{failures: 1}},
		"broken off twice":           {index: &index{failures: 2}},
		"broken off, without ranges": {index: &index{failures: 1, noRange: true}},
		"broken off always":          {index: &index{failures: 9}, check: isA[*plugin.NoRouteError]},
		"refused":                    {index: &index{user: "me"}, check: isA[*plugin.NoRouteError]},
		"another content":            {index: &index{wheel: wheel(t, nil)}, check: isA[*plugin.NoRouteError]},
		"another content of the same length": {
			index: &index{wheel: slices.Concat(good[:len(good)-1], []byte{1})}, check: isA[*plugin.ChecksumError],
		},
		"too much": {index: &index{wheel: append(slices.Clone(good), good...)}, check: isA[*plugin.ChecksumError]},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.index.wheel == nil {
				tt.index.wheel = good
			}
			server := httptest.NewServer(tt.index)
			defer server.Close()
			store := newStore(t)
			var last plugin.Progress
			got, err := store.Install(t.Context(), plugin.Options{
				Kind: plugin.CPU, IndexURL: server.URL + "/simple", Progress: func(p plugin.Progress) {
					if p.Step == plugin.StepFetch {
						last = p
					}
				},
			})
			if tt.check != nil {
				if !tt.check(err) {
					t.Errorf("Install: %v", err)
				}
				checkClean(t, store)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkFile(t, got.Path, libraryText)
			checkClean(t, store, "cpu-1.0")
			if last.Done != int64(len(good)) || last.Total != last.Done {
				t.Errorf("the end of the download is not told: %+v", last)
			}
		})
	}
}

// A name and a password in the index's address go to the page and to the file, and into no message.
func TestIndexPassword(t *testing.T) {
	server := httptest.NewServer(&index{wheel: standin(t), user: "me"})
	defer server.Close()
	address := strings.Replace(server.URL, "://", "://me:secret@", 1) + "/simple/"
	if _, err := newStore(t).Install(t.Context(), plugin.Options{Kind: plugin.CPU, IndexURL: address}); err != nil {
		t.Error(err)
	}
	address = strings.Replace(address, "/simple", "/missing", 1)
	_, err := newStore(t).Install(t.Context(), plugin.Options{Kind: plugin.CPU, IndexURL: address})
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("Install: %v; want an error without the password", err)
	}
	server.Close()
	_, err = newStore(t).Install(t.Context(), plugin.Options{Kind: plugin.CPU, IndexURL: address})
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("Install: %v; want an error without the password", err)
	}
}

func TestIndexFromEnvironment(t *testing.T) {
	site := &index{wheel: standin(t)}
	server := httptest.NewServer(site)
	defer server.Close()
	store := newStore(t)
	t.Setenv("PIP_INDEX_URL", server.URL+"/simple/")
	t.Setenv("PIP_NO_INDEX", "1")
	if _, err := store.Install(t.Context(), plugin.Options{Kind: plugin.CPU}); !isA[*plugin.NoRouteError](err) || len(site.asked) > 0 {
		t.Errorf("Install: %v, asked %q; want no request at all", err, site.asked)
	}
	t.Setenv("PIP_NO_INDEX", "")
	if _, err := store.Install(t.Context(), plugin.Options{Kind: plugin.CPU}); err != nil {
		t.Error(err)
	}
	if n := site.count("/files/" + standinFile); n != 1 {
		t.Errorf("%d downloads, want 1", n)
	}
	if _, err := store.Install(t.Context(), plugin.Options{Kind: plugin.CPU}); err != nil || site.count("/files/"+standinFile) != 1 {
		t.Errorf("the second installation: %v, or it asked again", err)
	}
}

// The wheel that broke off is not fetched from its start again.
func TestDownloadResumes(t *testing.T) {
	site := &index{wheel: standin(t), failures: 1}
	sent := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		site.ServeHTTP(&counting{ResponseWriter: w, sent: &sent, count: strings.HasSuffix(r.URL.Path, ".whl")}, r)
	}))
	defer server.Close()
	if _, err := newStore(t).Install(t.Context(), plugin.Options{Kind: plugin.CPU, IndexURL: server.URL + "/simple"}); err != nil {
		t.Fatal(err)
	}
	if sent != len(site.wheel) {
		t.Errorf("%d bytes were sent, the wheel has %d", sent, len(site.wheel))
	}
}

type counting struct {
	http.ResponseWriter
	sent  *int
	count bool
}

func (c *counting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *counting) Write(p []byte) (int, error) {
	if c.count {
		*c.sent += len(p)
	}
	return c.ResponseWriter.Write(p)
}

func TestDownloadCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	defer server.Close()
	store := newStore(t)
	if _, err := store.Install(ctx, plugin.Options{Kind: plugin.CPU, IndexURL: server.URL}); !errors.Is(err, context.Canceled) {
		t.Errorf("Install: %v", err)
	}
	checkClean(t, store)
}

// fakePython puts a python3 on the PATH that records its arguments and runs a line of shell.
func fakePython(t *testing.T, script string) (log string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the stand-in for pip is a shell script")
	}
	dir := t.TempDir()
	log = filepath.Join(dir, "log")
	text := "#!/bin/sh\necho \"$@\" >>" + log + "\nwhile [ $# -gt 0 ]; do [ \"$1\" = --dest ] && dest=$2; shift; done\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, "python3"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+"/usr/bin"+string(os.PathListSeparator)+"/bin")
	return log
}

func TestInstallByPip(t *testing.T) {
	good := writeFile(t, standinFile, standin(t))
	bad := writeFile(t, standinFile, wheel(t, nil))
	tests := map[string]struct {
		script string
		routes int    // how many routes failed; 0: it must be installed
		want   string // part of the error
	}{
		"as pinned":       {script: "cp " + good + " $dest/"},
		"another content": {script: "cp " + bad + " $dest/", routes: -1, want: "pinned is"},
		"no pip": {
			script: "echo '/usr/bin/python3: No module named pip' >&2; exit 1", routes: 2, want: "no python3 with pip",
		},
		"pip fails": {
			script: "echo 'WARNING: slow' >&2; echo 'ERROR: no matching distribution' >&2; exit 1",
			routes: 2, want: "pip: no matching distribution",
		},
		"pip brings nothing":     {script: "true", routes: 2, want: "pip left 0 wheels"},
		"pip dies without words": {script: "kill -9 $$", routes: 2, want: "pip: signal: killed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			log := fakePython(t, tt.script)
			got, err := store.Install(t.Context(), plugin.Options{Kind: plugin.CPU, IndexURL: "http://127.0.0.1:1/simple"})
			args, readErr := os.ReadFile(log)
			if readErr != nil || !strings.Contains(string(args), "--no-deps --only-binary=:all:") ||
				!strings.Contains(string(args), "--index-url http://127.0.0.1:1/simple standin-pjrt==1.0") {
				t.Errorf("pip was called with %q, %v", args, readErr)
			}
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				checkFile(t, got.Path, libraryText)
				checkClean(t, store, "cpu-1.0")
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Install: %v, want %q", err, tt.want)
			}
			if e, ok := errors.AsType[*plugin.NoRouteError](err); ok != (tt.routes > 0) || ok && len(e.Tried) != tt.routes {
				t.Errorf("Install: %#v, want %d routes", err, tt.routes)
			}
			checkClean(t, store)
		})
	}
}

// Where pip fails, the index that the user has set pip up for is asked, and no other.
func TestIndexOfPip(t *testing.T) {
	site := &index{wheel: standin(t)}
	server := httptest.NewServer(site)
	defer server.Close()
	store := newStore(t)
	fakePython(t, "[ -z \"$dest\" ] && echo "+server.URL+"/simple && exit 0; exit 1")
	if _, err := store.Install(t.Context(), plugin.Options{Kind: plugin.CPU}); err != nil {
		t.Error(err)
	}
	if n := site.count("/files/" + standinFile); n != 1 {
		t.Errorf("%d downloads, want 1", n)
	}
}
