package oci_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	digests "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	client "oras.land/oras-go/v2/registry/remote"

	"encoding/json"

	"github.com/t5ctl/t5ctl/registry"
	"github.com/t5ctl/t5ctl/registry/oci"
	"github.com/t5ctl/t5ctl/registry/registrytest"
)

// long says whether the long tests are asked for.
func long() bool { return os.Getenv("T5CTL_FAULTS") != "" }

func newRegistry(store registry.Backend) *registry.Registry {
	return registry.New(store, registry.Options{Actor: "tester", Parallel: 2})
}

func push(t testing.TB, store registry.Backend, value byte) registry.PushResult {
	t.Helper()
	result, err := newRegistry(store).Push(t.Context(), registrytest.Request(t, "m", value))
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func sound(t testing.TB, store registry.Backend) registry.Audit {
	t.Helper()
	audit, err := newRegistry(store).Audit(t.Context(), "m", true)
	if err != nil {
		t.Errorf("audit: %v, %v", err, audit.Problems)
	}
	return audit
}

// TestWriters lets several clients promote at the same time: everything that was acknowledged is
// in the log, once.
func TestWriters(t *testing.T) {
	writers, each := 3, 3
	if long() {
		writers, each = 8, 8
	}
	for name, begin := range kinds() {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			push(t, open(t, s), 1)
			started := time.Now()
			var group sync.WaitGroup
			for w := range writers {
				store := openWith(t, s, oci.Options{Memory: t.TempDir(), Patience: 5 * time.Minute})
				group.Go(func() {
					for i := range each {
						_, err := newRegistry(store).Promote(context.Background(), registry.PromoteRequest{
							Ref: registry.Ref{Model: "m", Version: 1}, Channel: fmt.Sprintf("c%d-%d", w, i), Expect: "none",
						})
						if err != nil {
							t.Errorf("writer %d: %v", w, err)
						}
					}
				})
			}
			group.Wait()
			audit := sound(t, open(t, s))
			if want := int64(1 + writers*each); audit.Head.Seq != want {
				t.Errorf("the log has %d records, %d were acknowledged", audit.Head.Seq, want)
			}
			t.Logf("faults: %s: %d writers × %d promotions: %d of %d kept, %.1f s", name, writers, each, audit.Head.Seq-1, writers*each, time.Since(started).Seconds())
		})
	}
}

// TestReferrersAtOnce attaches ten manifests to one at the same time: afterwards all are listed.
func TestReferrersAtOnce(t *testing.T) {
	const writers = 10
	for name, begin := range kinds() {
		if name == "ocimem immutable" {
			continue // it has a list of its own, as ocimem
		}
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			pushed := push(t, open(t, s), 1)
			subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digests.Digest(pushed.Digest)}
			detail, err := newRegistry(open(t, s)).Show(t.Context(), pushed.Ref)
			if err != nil {
				t.Fatal(err)
			}
			subject.Size = manifestSize(t, open(t, s), detail.Digest)
			var group sync.WaitGroup
			for w := range writers {
				manifest, err := json.Marshal(ocispec.Manifest{
					Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/x-test",
					Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{}, Subject: &subject,
					Annotations: map[string]string{"writer": fmt.Sprint(w)},
				})
				if err != nil {
					t.Fatal(err)
				}
				store := open(t, s)
				group.Go(func() {
					blob := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digests.FromBytes(manifest), Size: int64(len(manifest))}
					if err := store.Put(context.Background(), "m", blob, bytes.NewReader(manifest)); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
			repository, err := client.NewRepository(s.host + "/team/models/m")
			if err != nil {
				t.Fatal(err)
			}
			repository.PlainHTTP = true
			listed := 0
			err = repository.Referrers(t.Context(), subject, "application/x-test", func(page []ocispec.Descriptor) error {
				listed += len(page)
				return nil
			})
			if err != nil || listed != writers {
				t.Errorf("%d of %d referrers are listed, %v", listed, writers, err)
			}
			t.Logf("faults: %s: %d manifests attached at once: %d listed", name, writers, listed)
		})
	}
}

func manifestSize(t testing.TB, store *oci.Store, sum string) int64 {
	t.Helper()
	content, err := store.Open(t.Context(), "m", ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digests.Digest(sum)})
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, content)
	if err := errors.Join(err, content.Close()); err != nil {
		t.Fatal(err)
	}
	return n
}

// big is a blob of several parts, in a file.
func big(t testing.TB, size int) (ocispec.Descriptor, *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "big")
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digests.FromBytes(data), Size: int64(len(data))}, file
}

// through runs a proxy in front of a server.
func through(t testing.TB, s server, wrap func(http.Handler) http.Handler) server {
	t.Helper()
	target := &url.URL{Scheme: "http", Host: s.host}
	proxy := httptest.NewServer(wrap(&httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}))
	t.Cleanup(proxy.Close)
	return server{host: strings.TrimPrefix(proxy.URL, "http://")}
}

const part = 1 << 20

// TestUploadGoesOn breaks off an upload after three of eight parts; the next process sends the
// rest alone.
func TestUploadGoesOn(t *testing.T) {
	for name, begin := range kinds() {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int64
			var parts atomic.Int64
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := through(t, begin(t), func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodPatch || r.Method == http.MethodPut {
						sent.Add(max(r.ContentLength, 0))
					}
					if r.Method == http.MethodPatch && parts.Add(1) == 4 {
						cancel()
						w.WriteHeader(http.StatusBadGateway)
						return
					}
					next.ServeHTTP(w, r)
				})
			})
			options := oci.Options{Memory: t.TempDir(), Chunk: part, Retries: 1}
			blob, file := big(t, 8*part)
			if err := openWith(t, s, options).Put(ctx, "m", blob, file); err == nil {
				t.Fatal("the upload was not broken off")
			}
			sent.Store(0)
			if err := openWith(t, s, options).Put(t.Context(), "m", blob, file); err != nil {
				t.Fatal(err)
			}
			if n := sent.Load(); n != 5*part {
				t.Errorf("%d bytes were sent again, %d were missing", n, 5*part)
			}
			if left, _ := filepath.Glob(filepath.Join(options.Memory, "*.upload")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			fetched(t, openWith(t, s, options), blob)
			t.Logf("faults: %s: upload broken off after 3 of 8 MiB: the next process sent %d MiB", name, sent.Load()/part)
		})
	}
}

// fetched reads a blob back and compares it with its digest.
func fetched(t testing.TB, store *oci.Store, blob ocispec.Descriptor) {
	t.Helper()
	content, err := store.Open(t.Context(), "m", blob)
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close() //nolint:errcheck // read only
	verifier := blob.Digest.Verifier()
	if n, err := io.Copy(verifier, content); err != nil || n != blob.Size || !verifier.Verified() {
		t.Errorf("read %d of %d bytes, %v", n, blob.Size, err)
	}
}

// TestServerKilled kills the server in the middle of an upload and starts it anew: the same
// command goes on.
func TestServerKilled(t *testing.T) {
	program := distributionProgram(t)
	s := server{data: t.TempDir()}
	cmd := start(t, &s, program, "")
	var parts atomic.Int64
	proxied := through(t, s, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPatch && parts.Add(1) == 4 {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				start(t, &s, program, s.host)
			}
			next.ServeHTTP(w, r)
		})
	})
	blob, file := big(t, 8*part)
	store := openWith(t, proxied, oci.Options{Memory: t.TempDir(), Chunk: part})
	if err := store.Put(t.Context(), "m", blob, file); err != nil {
		t.Fatal(err)
	}
	fetched(t, store, blob)
	t.Logf("faults: distribution: server killed after 3 of 8 MiB and started anew: the upload went on, %d parts in all", parts.Load())
}

// TestFaultyServer puts a server with one fault between us and a sound one: what can be survived
// is, the rest is an error that says so.
func TestFaultyServer(t *testing.T) {
	is := func(r *http.Request, method, path string) bool {
		return r.Method == method && strings.Contains(r.URL.Path, path)
	}
	once := func(match func(*http.Request) bool, times int64, fault http.HandlerFunc) func(http.Handler) http.Handler {
		var seen atomic.Int64
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if match(r) && seen.Add(1) <= times {
					_, _ = io.Copy(io.Discard, r.Body)
					fault(w, r)
					return
				}
				next.ServeHTTP(w, r)
			})
		}
	}
	answer := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(code)
		}
	}
	upload := func(r *http.Request) bool { return is(r, http.MethodPatch, "/uploads/") }
	begin := func(r *http.Request) bool { return is(r, http.MethodPost, "/uploads/") }
	read := func(r *http.Request) bool { return is(r, http.MethodGet, "/blobs/sha256") }
	tests := map[string]struct {
		wrap func(http.Handler) http.Handler
		want string // in the error of a push or of reading it back; "": survived
	}{
		"busy, 429 with Retry-After": {once(begin, 1, answer(429)), ""},
		"500 twice":                  {once(upload, 2, answer(500)), ""},
		"500 for ever":               {once(begin, 1<<30, answer(500)), "answers 500"},
		"upload expired, 404":        {once(upload, 1, answer(404)), ""},
		"lost count, 416":            {once(upload, 1, answer(416)), ""},
		"takes no parts, 405":        {once(upload, 1<<30, answer(405)), ""},
		"parts too long, 413":        {once(upload, 1<<30, answer(413)), ""},
		"forbidden, 403":             {once(begin, 1<<30, answer(403)), "answers 403"},
		"upload sent elsewhere": {once(begin, 1<<30, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://example.com/v2/x/blobs/uploads/1")
			w.WriteHeader(http.StatusAccepted)
		}), "sends the upload to another place, http://example.com"},
		"no place to upload to": {once(begin, 1<<30, answer(202)), "names no place to upload to"},
		"connection cut while reading": {once(read, 2, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write(bytes.Repeat([]byte("0123456789abcdef"), 64))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}), ""},
		"other bytes than asked for": {once(read, 1<<30, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(bytes.Repeat([]byte("0123456789abcdeF"), 3*part/16))
		}), "digest"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := through(t, memoryServer(t, false, nil), tt.wrap)
			store := openWith(t, s, oci.Options{Memory: t.TempDir(), Chunk: part, Retries: 2})
			blob, file := big(t, 3*part)
			err := store.Put(t.Context(), "m", blob, file)
			if err == nil {
				err = readBack(t, store, blob)
			}
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestServerFull fills the disk of a server: the error says so, nothing half is tagged, and with room again the
// same push ends. The disk is one in memory, which not everybody may mount.
func TestServerFull(t *testing.T) {
	program := distributionProgram(t)
	dir := t.TempDir()
	mount := func(options string) error {
		return exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).Run()
	}
	if err := mount("size=4m"); err != nil {
		t.Skipf("NOT CHECKED: no disk of 4 MiB can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := exec.Command("umount", "--lazy", dir).Run(); err != nil {
			t.Error(err)
		}
	})
	s := server{data: dir}
	start(t, &s, program, "")
	request := registrytest.Request(t, "m", 1)
	if err := os.WriteFile(filepath.Join(request.Dir, "model.safetensors"), bytes.Repeat([]byte("weights "), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	options := oci.Options{Memory: t.TempDir(), Retries: 1}
	_, err := newRegistry(openWith(t, s, options)).Push(t.Context(), request)
	if e := (*oci.ServerError)(nil); !errors.As(err, &e) || e.Status != http.StatusInternalServerError {
		t.Errorf("pushed onto a full disk: %v", err)
	}
	tags, _, tagErr := open(t, s).Tags(t.Context(), "m")
	if refused := (*oci.ServerError)(nil); len(tags) > 0 || tagErr != nil && !errors.As(tagErr, &refused) {
		t.Errorf("after that there are the tags %v, %v", tags, tagErr)
	}
	if err := mount("remount,size=64m"); err != nil {
		t.Fatal(err)
	}
	if _, err := newRegistry(openWith(t, s, options)).Push(t.Context(), request); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	if audit := sound(t, open(t, s)); audit.Versions != 1 || audit.Head.Seq != 1 {
		t.Errorf("%d versions, %d records of one push", audit.Versions, audit.Head.Seq)
	}
	t.Logf("faults: distribution: disk of 4 MiB, a version of 8: answers 500, nothing is tagged; with more room the same push ends")
}

// TestRedirects lets a server send requests on: what is read may come from elsewhere on this machine, without
// our credentials and if it is what was asked for; what is written goes nowhere else.
func TestRedirects(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 3*part/16)
	var arrived, told atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived.Add(1)
		if r.Header.Get("Authorization") != "" {
			told.Add(1)
		}
		if strings.HasSuffix(r.URL.Path, "/wrong") {
			_, _ = w.Write(bytes.ToUpper(content))
			return
		}
		_, _ = w.Write(content)
	}))
	t.Cleanup(other.Close)
	const closed = "Basic YWxpOm9wZW4gc2VzYW1l"
	tests := map[string]struct {
		method, path, to string
		code             int
		want             string // in the error of a push, or of reading it back; "": survived
		reached          bool   // the other place was asked
	}{
		"reading, elsewhere":               {http.MethodGet, "/blobs/sha256", other.URL + "/right", 307, "", true},
		"reading, other bytes elsewhere":   {http.MethodGet, "/blobs/sha256", other.URL + "/wrong", 307, "digest", true},
		"reading, another machine":         {http.MethodGet, "/blobs/sha256", "http://example.com/x", 302, "to http://example.com, without TLS", false},
		"reading, in circles":              {http.MethodGet, "/blobs/sha256", "", 307, "after many others", false},
		"beginning an upload, elsewhere":   {http.MethodPost, "/uploads/", other.URL, 307, "which is not the server that was named", false},
		"a part of an upload, elsewhere":   {http.MethodPatch, "/uploads/", other.URL, 308, "which is not the server that was named", false},
		"the end of an upload, elsewhere":  {http.MethodPut, "/uploads/", other.URL, 307, "which is not the server that was named", false},
		"an upload that becomes a reading": {http.MethodPut, "/uploads/", other.URL, 303, "which is not the server that was named", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			arrived.Store(0)
			s := through(t, memoryServer(t, false, nil), func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Authorization") != closed {
						w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
						w.WriteHeader(http.StatusUnauthorized)
						return
					}
					if r.Method == tt.method && strings.Contains(r.URL.Path, tt.path) {
						to := tt.to
						if to == "" {
							to = r.URL.Path
						}
						_, _ = io.Copy(io.Discard, r.Body)
						http.Redirect(w, r, to, tt.code)
						return
					}
					next.ServeHTTP(w, r)
				})
			})
			docker := t.TempDir()
			t.Setenv("DOCKER_CONFIG", docker)
			config := fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, s.host, strings.TrimPrefix(closed, "Basic "))
			if err := os.WriteFile(filepath.Join(docker, "config.json"), []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			store := openWith(t, s, oci.Options{Memory: t.TempDir(), Chunk: part, Retries: 1})
			blob, file := big(t, 3*part)
			err := store.Put(t.Context(), "m", blob, file)
			if err == nil {
				err = readBack(t, store, blob)
			}
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if reached := arrived.Load() > 0; reached != tt.reached {
				t.Errorf("the other place was asked: %v", reached)
			}
			if told.Load() > 0 {
				t.Error("the other place was given our credentials")
			}
		})
	}
}

// TestLyingServer lets a server answer with what was not asked for: nothing is resolved, verified or pulled.
func TestLyingServer(t *testing.T) {
	s := memoryServer(t, false, nil)
	one, two := push(t, open(t, s), 1), push(t, open(t, s), 2)
	memory := t.TempDir() // of one who has seen the log
	if _, err := newRegistry(openWith(t, s, oci.Options{Memory: memory})).Resolve(t.Context(), one.Ref); err != nil {
		t.Fatal(err)
	}
	fetch := func(path string) []byte {
		t.Helper()
		resp, err := http.Get("http://" + s.host + "/v2/team/models/m/manifests/" + path)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d, %v", path, resp.StatusCode, err)
		}
		return data
	}
	record := fetch("t5log-00000002")
	tests := map[string]struct {
		path   string
		answer func(w http.ResponseWriter)
	}{
		"another version's manifest": {one.Digest, func(w http.ResponseWriter) { _, _ = w.Write(fetch(two.Digest)) }},
		"half a manifest":            {one.Digest, func(w http.ResponseWriter) { _, _ = w.Write(fetch(one.Digest)[:100]) }},
		"a manifest without end":     {one.Digest, func(w http.ResponseWriter) { _, _ = w.Write(bytes.Repeat([]byte(" "), 80<<20)) }},
		"a record without end":       {"t5log-00000002", func(w http.ResponseWriter) { _, _ = w.Write(bytes.Repeat([]byte(" "), 5<<20)) }},
		"a record of other bytes": {"t5log-00000002", func(w http.ResponseWriter) {
			_, _ = w.Write(bytes.Replace(record, []byte(`"data":"ey`), []byte(`"data":"eY`), 1))
		}},
		"a version for a record": {"t5log-00000002", func(w http.ResponseWriter) { _, _ = w.Write(fetch(one.Digest)) }},
		"the record before":      {"t5log-00000002", func(w http.ResponseWriter) { _, _ = w.Write(fetch("t5log-00000001")) }},
		"another digest":         {"t5log-00000002", func(w http.ResponseWriter) { w.Header().Set("Docker-Content-Digest", one.Digest) }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			lying := through(t, s, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if strings.HasSuffix(r.URL.Path, "/manifests/"+tt.path) {
						w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
						tt.answer(w)
						return
					}
					next.ServeHTTP(w, r)
				})
			})
			options := oci.Options{Memory: t.TempDir(), Retries: 1}
			if name == "another digest" { // who has seen nothing reads the record itself
				copied := filepath.Join(t.TempDir(), "memory")
				if err := os.CopyFS(copied, os.DirFS(memory)); err != nil {
					t.Fatal(err)
				}
				options.Memory = copied
			}
			damaged := func(what string, err error) {
				t.Helper()
				if e := (*registry.CorruptError)(nil); !errors.As(err, &e) {
					t.Errorf("%s: %v", what, err)
				}
			}
			r := newRegistry(openWith(t, lying, options))
			_, err := r.Verify(t.Context(), one.Ref)
			damaged("verify", err)
			dir := filepath.Join(t.TempDir(), "pulled")
			_, err = r.Pull(t.Context(), one.Ref, dir)
			damaged("pull", err)
			if _, err := os.Stat(dir); err == nil {
				t.Error("pull has left something")
			}
		})
	}
}

func readBack(t testing.TB, store *oci.Store, blob ocispec.Descriptor) error {
	t.Helper()
	content, err := store.Open(t.Context(), "m", blob)
	if err != nil {
		return err
	}
	defer content.Close() //nolint:errcheck // read only
	verifier := blob.Digest.Verifier()
	if _, err := io.Copy(verifier, content); err != nil {
		return err
	}
	if !verifier.Verified() {
		return errors.New("another digest")
	}
	return nil
}

// TestOldLogServed lets a server show what it showed before, or something else: whoever has seen
// more says so; whoever comes for the first time cannot know.
func TestOldLogServed(t *testing.T) {
	var behind atomic.Pointer[http.Handler]
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*behind.Load()).ServeHTTP(w, r) }))
	t.Cleanup(front.Close)
	s := server{host: strings.TrimPrefix(front.URL, "http://")}
	show := func(other server) {
		var h http.Handler = httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: other.host})
		behind.Store(&h)
	}
	old, now, fork := memoryServer(t, false, nil), memoryServer(t, false, nil), memoryServer(t, false, nil)
	clock := func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	write := func(other server, values ...byte) {
		show(other)
		r := registry.New(open(t, s), registry.Options{Actor: "tester", Clock: clock})
		for _, value := range values {
			if _, err := r.Push(t.Context(), registrytest.Request(t, "m", value)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(old, 1)
	write(now, 1, 2)
	write(fork, 1, 3)
	memory := t.TempDir()
	resolve := func() error {
		store := openWith(t, s, oci.Options{Memory: memory})
		_, err := newRegistry(store).Resolve(t.Context(), registry.Ref{Model: "m", Version: 1})
		return err
	}
	// The manifests of records differ between servers by who wrote them; a copy does not.
	show(now)
	if err := resolve(); err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]server{"fewer records": old, "another log": fork} {
		show(other)
		if e := (*registry.CorruptError)(nil); !errors.As(resolve(), &e) || !strings.Contains(e.Reason, name) {
			t.Errorf("%s: %v", name, resolve())
		}
	}
	show(now)
	if err := resolve(); err != nil {
		t.Errorf("the log that was seen: %v", err)
	}
}

// TestRecordGone removes a record from the middle of a log.
func TestRecordGone(t *testing.T) {
	s := memoryServer(t, false, nil)
	store := open(t, s)
	for value := range byte(3) {
		push(t, store, value)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+s.host+"/v2/team/models/m/manifests/t5log-00000002", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("deleting: %v, %v", resp, err)
	}
	_ = resp.Body.Close()
	_, err = newRegistry(open(t, s)).List(t.Context(), "m")
	if e := (*registry.CorruptError)(nil); !errors.As(err, &e) {
		t.Errorf("a record is gone: %v", err)
	}
}

// TestDeadWriter leaves an announcement behind, as a writer does that dies: others wait, are told
// who it was, and go on once it is broken.
func TestDeadWriter(t *testing.T) {
	s := memoryServer(t, false, nil)
	dying := through(t, s, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/tags/list"):
				panic(http.ErrAbortHandler) // after the announcement
			case r.Method != http.MethodGet && r.Method != http.MethodHead && r.Header.Get("Content-Type") == ocispec.MediaTypeImageManifest && strings.Contains(r.URL.Path, "t5int-"):
				data, _ := io.ReadAll(r.Body)
				if bytes.Contains(data, []byte(`"withdrawn"`)) {
					panic(http.ErrAbortHandler)
				}
				r.Body = io.NopCloser(bytes.NewReader(data))
			}
			next.ServeHTTP(w, r)
		})
	})
	request := registrytest.Request(t, "m", 1)
	if _, err := newRegistry(openWith(t, dying, oci.Options{Retries: 1, Journal: "the dead one"})).Push(t.Context(), request); err == nil {
		t.Fatal("the writer did not die")
	}
	other := openWith(t, s, oci.Options{Patience: 50 * time.Millisecond})
	_, err := newRegistry(other).Push(t.Context(), request)
	if e := (*oci.BlockedError)(nil); !errors.As(err, &e) || e.By != "the dead one" || e.Seq != 1 {
		t.Fatalf("blocked by a dead writer: %v", err)
	}
	broken, err := other.BreakIntents(t.Context(), "m")
	if err != nil || len(broken) != 1 {
		t.Fatalf("broken: %v, %v", broken, err)
	}
	push(t, other, 1)
	sound(t, open(t, s))
}

// TestTagMoved lets another tool move tags: the log decides, audit tells, repair mends.
func TestTagMoved(t *testing.T) {
	s := memoryServer(t, false, nil)
	store := open(t, s)
	one, two := push(t, store, 1), push(t, store, 2)
	if _, err := newRegistry(store).Promote(t.Context(), registry.PromoteRequest{Ref: one.Ref, Channel: "prod"}); err != nil {
		t.Fatal(err)
	}
	wrong := []registry.Tag{}
	for _, name := range []string{"prod", "v1"} {
		wrong = append(wrong, registry.Tag{Name: name, Manifest: ocispec.Descriptor{Digest: digests.Digest(two.Digest)}})
	}
	if err := store.Retag(t.Context(), "m", wrong); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []registry.Ref{{Model: "m", Channel: "prod"}, {Model: "m", Version: 1}} {
		if v, err := newRegistry(open(t, s)).Resolve(t.Context(), ref); err != nil || v.Digest != one.Digest {
			t.Errorf("%s is %s, %v", ref, v.Name, err)
		}
	}
	audit, err := newRegistry(store).Audit(t.Context(), "m", false)
	if err == nil || len(audit.Problems) != 2 {
		t.Errorf("audit tells %v", audit.Problems)
	}
	if repaired, err := newRegistry(store).Repair(t.Context(), "m"); err != nil || len(repaired.Done) != 2 || len(repaired.Lost) > 0 {
		t.Errorf("repaired %+v, %v", repaired, err)
	}
	sound(t, store)
}

// TestServerCollects runs the garbage collection of a server, untagged manifests included: every
// version and every piece of evidence is still there.
func TestServerCollects(t *testing.T) {
	program := distributionProgram(t)
	s := distributionServer(t)
	store := open(t, s)
	one := push(t, store, 1)
	push(t, store, 2)
	for _, version := range []int{1, 2} {
		request := registry.PromoteRequest{Ref: registry.Ref{Model: "m", Version: version}, Channel: "prod"}
		if _, err := newRegistry(store).Promote(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(t.TempDir(), "gc.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage:\n  filesystem: {rootdirectory: %q}\n  delete: {enabled: true}\nhttp: {addr: %q}\n", s.data, s.host)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program, "garbage-collect", "--delete-untagged", config).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	again := server{data: s.data}
	start(t, &again, program, "")
	fresh := openWith(t, again, oci.Options{Memory: t.TempDir()})
	audit := sound(t, fresh)
	move, err := newRegistry(fresh).Rollback(t.Context(), registry.RollbackRequest{Model: "m", Channel: "prod", Reason: "after the collection"})
	if err != nil || move.To.Digest != one.Digest {
		t.Errorf("rolled back to %+v, %v", move.To, err)
	}
	t.Logf("faults: distribution: garbage-collect --delete-untagged: %d versions, %d blobs, all there, rollback works", audit.Versions, audit.Blobs)
}

// TestRottenServer changes bytes in the server's data folder: verify names them, pull keeps
// nothing.
func TestRottenServer(t *testing.T) {
	s := distributionServer(t)
	store := open(t, s)
	push(t, store, 1)
	detail, err := newRegistry(store).Show(t.Context(), registry.Ref{Model: "m", Version: 1})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(detail.Layers, func(l registry.Layer) bool { return l.Path == "model.safetensors" })
	sum := detail.Layers[at].Digest
	hex := strings.TrimPrefix(sum, "sha256:")
	path := filepath.Join(s.data, "docker/registry/v2/blobs/sha256", hex[:2], hex, "data")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func() error{
		"one bit":   func() error { d := bytes.Clone(data); d[len(d)/2] ^= 1; return os.WriteFile(path, d, 0o644) },
		"zeroes":    func() error { return os.WriteFile(path, make([]byte, len(data)), 0o644) },
		"truncated": func() error { return os.WriteFile(path, data[:len(data)/2], 0o644) },
		"missing":   func() error { return os.Remove(path) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		_, err := newRegistry(open(t, s)).Verify(t.Context(), registry.Ref{Model: "m", Version: 1})
		if e := (*registry.CorruptError)(nil); !errors.As(err, &e) || e.Digest != sum {
			t.Errorf("%s: verify says %v", name, err)
		}
		dir := filepath.Join(t.TempDir(), "pulled")
		if _, err := newRegistry(open(t, s)).Pull(t.Context(), registry.Ref{Model: "m", Version: 1}, dir); err == nil {
			t.Errorf("%s: pulled", name)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: pull has left something", name)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sound(t, open(t, s))
}

// cutting is a body that ends with a call after some bytes.
type cutting struct {
	io.ReadCloser
	left int
	cut  func()
}

func (c *cutting) Read(p []byte) (int, error) {
	if c.left <= 0 {
		c.cut()
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.ReadCloser.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// TestUploadCut kills the client within a part: the server keeps what it has got, and the next
// process sends the rest.
func TestUploadCut(t *testing.T) {
	var sent atomic.Int64
	var once sync.Once
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := through(t, distributionServer(t), func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPatch {
				sent.Add(r.ContentLength)
				once.Do(func() { r.Body = &cutting{r.Body, 9 * part, cancel} })
			}
			next.ServeHTTP(w, r)
		})
	})
	options := oci.Options{Memory: t.TempDir(), Retries: 1}
	blob, file := big(t, 12*part)
	if err := openWith(t, s, options).Put(ctx, "m", blob, file); err == nil {
		t.Fatal("the upload was not cut")
	}
	time.Sleep(100 * time.Millisecond) // the server has yet to notice
	sent.Store(0)
	if err := openWith(t, s, options).Put(t.Context(), "m", blob, file); err != nil {
		t.Fatal(err)
	}
	if n := sent.Load(); n == 0 || n >= 12*part {
		t.Errorf("%d bytes were sent again of %d", n, 12*part)
	}
	fetched(t, openWith(t, s, options), blob)
	t.Logf("faults: distribution: client gone within a part after 9 of 12 MiB: the next process sent %.1f MiB", float64(sent.Load())/part)
}
