package remote_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/t5ctl/t5ctl/internal/hub"
	"github.com/t5ctl/t5ctl/internal/hub/hubtest"
	"github.com/t5ctl/t5ctl/internal/hub/remote"
)

// weights stands for a large file.
var weights = strings.Repeat("0123456789", 3000) //nolint:gochecknoglobals // a constant of the tests

// newHub is a hub with a model and a data set, and options that ask it.
func newHub(t *testing.T) (*hubtest.Hub, remote.Options) {
	h := hubtest.New(t)
	h.Add("models/me/tiny", "config.json", `{"model_type": "t5"}`)
	h.Add("models/me/tiny", "model.safetensors", weights)
	h.Add("models/me/tiny", "spiece.model", strings.Repeat("piece ", 100))
	h.Add("models/me/tiny", "tf_model.h5", "not ours")
	h.Add("models/me/tiny", "onnx/model.onnx", "not ours")
	h.Add("datasets/me/words", "data/train-00000.parquet", strings.Repeat("a", 200))
	h.Add("datasets/me/words", "data/train-00001.parquet", strings.Repeat("b", 200))
	h.Add("datasets/me/words", "data/test.parquet", "c")
	dir := t.TempDir()
	return h, remote.Options{
		Endpoint: h.URL, Cache: hub.Cache{Dir: filepath.Join(dir, "hub")}, Records: filepath.Join(dir, "records"), Transport: http.DefaultTransport,
		Wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
}

func model(t *testing.T, text string) hub.Ref {
	t.Helper()
	ref, err := hub.ParseModel(text)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func pull(t *testing.T, o remote.Options, ref hub.Ref) (remote.Pulled, error) {
	t.Helper()
	c, err := remote.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c.Pull(t.Context(), ref)
}

// What is pulled lies as the hub's own tools lay it, and is not fetched twice.
func TestPull(t *testing.T) {
	h, o := newHub(t)
	got, err := pull(t, o, model(t, "hf:me/tiny"))
	if err != nil {
		t.Fatal(err)
	}
	repo := filepath.Join(o.Cache.Dir, "models--me--tiny")
	if got.Commit != hubtest.Commit || got.Dir != filepath.Join(repo, "snapshots", hubtest.Commit) || len(got.Files) != 3 {
		t.Errorf("pulled %+v", got)
	}
	if ref, err := os.ReadFile(filepath.Join(repo, "refs", "main")); err != nil || string(ref) != hubtest.Commit {
		t.Errorf("ref %q, %v", ref, err)
	}
	link, err := os.Readlink(filepath.Join(got.Dir, "model.safetensors"))
	if want := filepath.Join("..", "..", "blobs", hubtest.ID(weights)); err != nil || link != want {
		t.Errorf("link %q, %v; want %q", link, err, want)
	}
	if data, err := os.ReadFile(filepath.Join(got.Dir, "model.safetensors")); err != nil || string(data) != weights {
		t.Errorf("weights: %d bytes, %v", len(data), err)
	}
	h.Requests()
	again, err := pull(t, o, model(t, "hf:me/tiny@"+hubtest.Commit))
	if err != nil || again.Fetched != 0 || slices.ContainsFunc(h.Requests(), func(r hubtest.Request) bool { return strings.Contains(r.Path, "resolve") }) {
		t.Errorf("a second pull fetched %d bytes, %v", again.Fetched, err)
	}
	out := filepath.Join(t.TempDir(), "copy")
	if err := again.Copy(out); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(filepath.Join(out, "model.safetensors")); err != nil || !info.Mode().IsRegular() || info.Size() != int64(len(weights)) {
		t.Errorf("the copy: %v, %v", info, err)
	}
}

// Data is named by patterns; what is in the cache is used without a connection once its listing is known.
func TestData(t *testing.T) {
	_, o := newHub(t)
	ref, err := hub.ParseData("hf:me/words/data/train-*.parquet")
	if err != nil {
		t.Fatal(err)
	}
	got, err := pull(t, o, ref)
	if err != nil || len(got.Files) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	files, err := o.Cache.Files(ref)
	if err != nil || len(files) != 2 || !strings.HasSuffix(files[1], "train-00001.parquet") {
		t.Errorf("in the cache: %v, %v", files, err)
	}
	o.Transport = forbidden{t}
	c, err := remote.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if have, err := c.Have(t.Context(), ref); err != nil || len(have.Files) != 2 {
		t.Errorf("have %+v, %v", have, err)
	}
	ref.Path = "data/valid*.parquet"
	_, o2 := newHub(t)
	var missing *hub.MissingError
	if _, err := pull(t, o2, ref); !errors.As(err, &missing) || !strings.Contains(err.Error(), "it has data/test.parquet") {
		t.Errorf("no such file: %v", err)
	}
}

// forbidden is a transport that no request may reach.
type forbidden struct{ t *testing.T }

func (f forbidden) RoundTrip(r *http.Request) (*http.Response, error) {
	f.t.Errorf("a connection to %s", r.URL)
	return nil, errors.New("forbidden")
}

// Offline, nothing is connected to: not for what is there, and not for what is missing.
func TestOffline(t *testing.T) {
	_, o := newHub(t)
	if _, err := pull(t, o, model(t, "hf:me/tiny")); err != nil {
		t.Fatal(err)
	}
	o.Offline, o.Transport = true, forbidden{t}
	if got, err := pull(t, o, model(t, "hf:me/tiny")); err != nil || len(got.Files) != 3 {
		t.Errorf("what is there: %+v, %v", got, err)
	}
	c, err := remote.New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"hf:me/other", "hf:me/tiny@v2"} {
		var missing *hub.MissingError
		if _, err := c.Have(t.Context(), model(t, ref)); !errors.As(err, &missing) || !missing.Offline || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if err := os.Remove(filepath.Join(o.Cache.Dir, "models--me--tiny", "blobs", hubtest.ID(weights))); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Have(t.Context(), model(t, "hf:me/tiny")); err == nil || !strings.Contains(err.Error(), "lacks model.safetensors") {
		t.Errorf("without its blob: %v", err)
	}
}

// The token goes to the hub, and to no host that it redirects to, whatever that is called.
func TestToken(t *testing.T) {
	h, o := newHub(t)
	h.Closed, o.Token = true, hubtest.Token
	if _, err := pull(t, o, model(t, "hf:me/tiny")); err != nil {
		t.Fatal(err)
	}
	elsewhere := 0
	for _, r := range h.Requests() {
		switch {
		case strings.HasSuffix(h.URL, r.Host) && r.Authorization != "Bearer "+hubtest.Token:
			t.Errorf("no token for %s", r.Path)
		case strings.HasSuffix(h.CDN, r.Host):
			if elsewhere++; r.Authorization != "" {
				t.Errorf("the token went to %s%s", r.Host, r.Path)
			}
		}
	}
	if elsewhere == 0 {
		t.Error("nothing was redirected")
	}
	// Two names of one machine are two hosts, too, and one may look like a part of the other.
	o.Endpoint = strings.Replace(h.URL, "127.0.0.1", "hub.test", 1)
	o.Transport = &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, _ := net.SplitHostPort(address)
		return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+port)
	}}
	var missing *hub.MissingError
	if _, err := pull(t, o, model(t, "hf:me/tiny")); !errors.As(err, &missing) || !missing.Denied {
		t.Errorf("over plain HTTP to another machine: %v", err)
	}
	for _, r := range h.Requests() {
		if r.Authorization != "" {
			t.Errorf("the token went to %s without TLS", r.Host)
		}
	}
}

// A download that was broken off goes on where it stopped.
func TestResume(t *testing.T) {
	h, o := newHub(t)
	broken := 0
	h.Fail = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "model.safetensors") || !strings.HasSuffix(h.CDN, r.Host) || r.Header.Get("Range") != "" || broken > 0 {
			return false
		}
		broken++
		w.Header().Set("Content-Length", strconv.Itoa(len(weights)))
		_, _ = w.Write([]byte(weights[:12345])) // and no more: the connection is cut
		panic(http.ErrAbortHandler)
	}
	if _, err := pull(t, o, model(t, "hf:me/tiny")); err != nil {
		t.Fatal(err)
	}
	ranges := 0
	for _, r := range h.Requests() {
		if strings.HasPrefix(r.Range, "bytes=") {
			ranges++
		}
	}
	if broken != 1 || ranges == 0 {
		t.Errorf("broken off %d times, %d requests for the rest", broken, ranges)
	}
}

// What an earlier process left is gone on with where it fits, and given up where it does not.
func TestParts(t *testing.T) {
	for name, part := range map[string]string{"a part": weights[:7000], "a wrong part": strings.Repeat("x", 7000), "too much": weights + "x", "all of it": weights} {
		t.Run(name, func(t *testing.T) {
			h, o := newHub(t)
			blobs := filepath.Join(o.Cache.Dir, "models--me--tiny", "blobs")
			if err := os.MkdirAll(blobs, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(blobs, hubtest.ID(weights)+".incomplete"), []byte(part), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := pull(t, o, model(t, "hf:me/tiny"))
			if err != nil {
				t.Fatal(err)
			}
			if data, err := os.ReadFile(filepath.Join(got.Dir, "model.safetensors")); err != nil || string(data) != weights {
				t.Errorf("%d bytes, %v", len(data), err)
			}
			if name == "a part" && !slices.ContainsFunc(h.Requests(), func(r hubtest.Request) bool { return r.Range == "bytes=7000-" }) {
				t.Error("it was fetched from the start")
			}
		})
	}
}

// A server that does not know ranges sends all of it.
func TestNoRanges(t *testing.T) {
	h, o := newHub(t)
	blobs := filepath.Join(o.Cache.Dir, "models--me--tiny", "blobs")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(blobs, hubtest.ID(weights)+".incomplete"), []byte(weights[:500]), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, status := range []int{http.StatusOK, http.StatusRequestedRangeNotSatisfiable} {
		h.Fail = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Range") == "" {
				return false
			}
			w.WriteHeader(status)
			if status == http.StatusOK {
				_, _ = w.Write([]byte(weights))
			}
			return true
		}
		if _, err := pull(t, o, model(t, "hf:me/tiny")); err != nil {
			t.Errorf("status %d: %v", status, err)
		}
		if err := os.Rename(filepath.Join(blobs, hubtest.ID(weights)), filepath.Join(blobs, hubtest.ID(weights)+".incomplete")); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(blobs, hubtest.ID(weights)+".incomplete"), 500); err != nil {
			t.Fatal(err)
		}
	}
}

// Every answer that is no content is an error with facts; those that may pass are asked again.
func TestRefusals(t *testing.T) {
	tests := map[string]struct {
		status int
		code   string
		want   string
		asked  int // requests; 0: any
		as     func(error) bool
	}{
		"401":              {http.StatusUnauthorized, "", "answers 401", 1, isStatus},
		"403, gated":       {http.StatusForbidden, "GatedRepo", "answers 403", 1, isStatus},
		"404":              {http.StatusNotFound, "", "has no me/tiny at revision main", 1, isMissing},
		"404, no revision": {http.StatusNotFound, "RevisionNotFound", "has no revision main", 1, isMissing},
		"401, no such":     {http.StatusUnauthorized, "RepoNotFound", "has no repository me/tiny, or it is private", 1, isMissing},
		"408":              {http.StatusRequestTimeout, "", "answers 408", 5, isStatus},
		"429":              {http.StatusTooManyRequests, "", "answers 429", 5, isStatus},
		"500":              {http.StatusInternalServerError, "", "answers 500", 5, isStatus},
		"503":              {http.StatusServiceUnavailable, "", "answers 503", 5, isStatus},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h, o := newHub(t)
			h.Fail = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("X-Error-Code", tt.code)
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(tt.status)
				return true
			}
			var waited time.Duration
			o.Wait = func(_ context.Context, d time.Duration) error { waited = max(waited, d); return nil }
			_, err := pull(t, o, model(t, "hf:me/tiny"))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !tt.as(err) {
				t.Errorf("%v; want %q", err, tt.want)
			}
			if asked := len(h.Requests()); asked != tt.asked || tt.asked > 1 && waited != 7*time.Second {
				t.Errorf("asked %d times, waited %s", asked, waited)
			}
		})
	}
}

func isStatus(err error) bool  { _, ok := errors.AsType[*remote.StatusError](err); return ok }
func isMissing(err error) bool { _, ok := errors.AsType[*hub.MissingError](err); return ok }

// One bad answer among good ones is got over.
func TestPassing(t *testing.T) {
	for _, status := range []int{http.StatusTooManyRequests, http.StatusBadGateway} {
		h, o := newHub(t)
		var seen sync.Map
		h.Fail = func(w http.ResponseWriter, r *http.Request) bool {
			_, before := seen.LoadOrStore(r.Host+r.URL.String(), true)
			if !before {
				w.WriteHeader(status)
			}
			return !before
		}
		if _, err := pull(t, o, model(t, "hf:me/tiny")); err != nil {
			t.Errorf("%d: %v", status, err)
		}
	}
}

// Content that is not what is listed is refused, and nothing of it stays.
func TestChecksum(t *testing.T) {
	h, o := newHub(t)
	h.Fail = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(h.CDN, r.Host) || !strings.HasSuffix(r.URL.Path, "model.safetensors") {
			return false
		}
		_, _ = w.Write([]byte(strings.Replace(weights, "5", "6", 1)))
		return true
	}
	var bad *remote.ChecksumError
	if _, err := pull(t, o, model(t, "hf:me/tiny")); !errors.As(err, &bad) || bad.File != "me/tiny/model.safetensors" || bad.Want != hubtest.ID(weights) {
		t.Errorf("%v", err)
	}
	left, err := filepath.Glob(filepath.Join(o.Cache.Dir, "models--me--tiny", "*", hubtest.ID(weights)+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A blob that was damaged in the cache is fetched again.
func TestDamagedCache(t *testing.T) {
	_, o := newHub(t)
	got, err := pull(t, o, model(t, "hf:me/tiny"))
	if err != nil {
		t.Fatal(err)
	}
	blob := filepath.Join(o.Cache.Dir, "models--me--tiny", "blobs", hubtest.ID(weights))
	if err := os.WriteFile(blob, []byte(strings.Replace(weights, "5", "6", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pull(t, o, model(t, "hf:me/tiny")); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(got.Dir, "model.safetensors")); err != nil || string(data) != weights {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

// A server that always breaks off is an error at last, and what came stays for the next time.
func TestTruncated(t *testing.T) {
	h, o := newHub(t)
	h.Fail = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(h.CDN, r.Host) || !strings.HasSuffix(r.URL.Path, "model.safetensors") {
			return false
		}
		if r.Header.Get("Range") == "" {
			_, _ = w.Write([]byte(weights[:100])) // a body that says it is whole
			return true
		}
		panic(http.ErrAbortHandler)
	}
	var broken *remote.UnreachableError
	if _, err := pull(t, o, model(t, "hf:me/tiny")); !errors.As(err, &broken) || broken.What != "me/tiny/model.safetensors" {
		t.Errorf("%v", err)
	}
	if info, err := os.Stat(filepath.Join(o.Cache.Dir, "models--me--tiny", "blobs", hubtest.ID(weights)+".incomplete")); err != nil || info.Size() != 100 {
		t.Errorf("%v, %v", info, err)
	}
	h.Fail = nil
	if _, err := pull(t, o, model(t, "hf:me/tiny")); err != nil {
		t.Error(err)
	}
}

// A listing that would lead out of the cache, or to another server, is refused.
func TestHostileListing(t *testing.T) {
	tests := map[string]string{
		"up":         `[{"type": "file", "path": "../../x", "size": 1, "oid": "0123456789abcdef0123456789abcdef01234567"}]`,
		"absolute":   `[{"type": "file", "path": "/etc/x", "size": 1, "oid": "0123456789abcdef0123456789abcdef01234567"}]`,
		"drive":      `[{"type": "file", "path": "c:x", "size": 1, "oid": "0123456789abcdef0123456789abcdef01234567"}]`,
		"digest":     `[{"type": "file", "path": "config.json", "size": 1, "oid": "../../../../../../../../../../../../../x"}]`,
		"size":       `[{"type": "file", "path": "config.json", "size": -1, "oid": "0123456789abcdef0123456789abcdef01234567"}]`,
		"no JSON":    `<html>`,
		"other host": "[]",
	}
	for name, listing := range tests {
		t.Run(name, func(t *testing.T) {
			h, o := newHub(t)
			h.Fail = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/tree/") {
					return false
				}
				if listing == "[]" {
					w.Header().Set("Link", "<"+h.CDN+r.URL.Path+`>; rel="next"`)
				}
				_, _ = w.Write([]byte(listing))
				return true
			}
			var bad *remote.ListingError
			if _, err := pull(t, o, model(t, "hf:me/tiny")); !errors.As(err, &bad) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A model with pickled weights only is refused before anything is fetched.
func TestPickle(t *testing.T) {
	h, o := newHub(t)
	h.Add("models/me/old", "config.json", "{}")
	h.Add("models/me/old", "pytorch_model.bin", weights)
	var pickle *remote.PickleError
	if _, err := pull(t, o, model(t, "hf:me/old")); !errors.As(err, &pickle) || pickle.Repo != "me/old" {
		t.Errorf("%v", err)
	}
	h.Add("models/me/other", "config.json", "{}")
	var none *remote.NoModelError
	if _, err := pull(t, o, model(t, "hf:me/other")); !errors.As(err, &none) {
		t.Errorf("%v", err)
	}
}

// Shards are taken whole.
func TestShards(t *testing.T) {
	h, o := newHub(t)
	h.Add("models/me/big", "config.json", "{}")
	h.Add("models/me/big", "model.safetensors.index.json", "{}")
	h.Add("models/me/big", "model-00001-of-00002.safetensors", "1")
	h.Add("models/me/big", "model-00002-of-00002.safetensors", "2")
	h.Add("models/me/big", "pytorch_model-00001-of-00002.bin", "no")
	if got, err := pull(t, o, model(t, "hf:me/big")); err != nil || len(got.Files) != 4 {
		t.Errorf("%+v, %v", got, err)
	}
}

// Several processes may pull at once; each file is fetched once.
func TestConcurrent(t *testing.T) {
	h, o := newHub(t)
	errs := make(chan error)
	for range 4 {
		go func() {
			c, err := remote.New(o)
			if err == nil {
				_, err = c.Pull(context.Background(), hub.Ref{Kind: hub.Models, Owner: "me", Name: "tiny", Revision: "main"})
			}
			errs <- err
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	fetched := 0
	for _, r := range h.Requests() {
		if strings.HasSuffix(h.CDN, r.Host) && strings.HasSuffix(r.Path, "model.safetensors") {
			fetched++
		}
	}
	if fetched != 1 {
		t.Errorf("the weights were fetched %d times", fetched)
	}
}

// The variables of the hub's tools are read as they read them.
func TestFromEnvironment(t *testing.T) {
	home := t.TempDir()
	for _, name := range []string{"HF_ENDPOINT", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_IMPLICIT_TOKEN"} {
		t.Setenv(name, "")
	}
	t.Setenv("HF_HOME", home)
	if err := os.WriteFile(filepath.Join(home, "token"), []byte("hf_kept\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := remote.FromEnvironment()
	if o.Endpoint != remote.DefaultEndpoint || o.Token != "hf_kept" || o.Offline || o.Cache.Dir != filepath.Join(home, "hub") {
		t.Errorf("%+v", o)
	}
	t.Setenv("HF_ENDPOINT", "https://mirror.example/")
	t.Setenv("HF_TOKEN", "hf_given")
	t.Setenv("HF_HUB_OFFLINE", "yes")
	t.Setenv("HF_HUB_CACHE", "/cache")
	o = remote.FromEnvironment()
	if o.Endpoint != "https://mirror.example" || o.Token != "hf_given" || !o.Offline || o.Cache.Dir != "/cache" {
		t.Errorf("%+v", o)
	}
	for _, endpoint := range []string{"huggingface.co", "ftp://x", "https://"} {
		o.Endpoint = endpoint
		if _, err := remote.New(o); err == nil {
			t.Errorf("%s was taken", endpoint)
		}
	}
}
