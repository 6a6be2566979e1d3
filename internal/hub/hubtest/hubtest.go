// Package hubtest is a stand-in for the Hugging Face hub on the loopback interface: repositories kept in memory,
// served as the hub serves them, with every failure it can have.
package hubtest

import (
	"crypto/sha1" //nolint:gosec // git's digest, as the hub lists it
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Commit is the one commit of every repository.
const Commit = "0123456789abcdef0123456789abcdef01234567"

// Token opens the repositories that are closed.
const Token = "hf_stand_in"

// Hub is a running stand-in. Its fields may be changed between requests.
type Hub struct {
	URL    string // of the hub
	CDN    string // of the other host, to which large files are redirected
	Fail   func(w http.ResponseWriter, r *http.Request) bool
	Closed bool // wants the token

	mu       sync.Mutex
	repos    map[string]map[string]string // "models/owner/name" → path → content
	requests []Request
}

// Request is what a server saw.
type Request struct {
	Host, Path, Range, Authorization string
}

// New starts a hub that lives as long as the test. Files of 100 bytes and more are large ones.
func New(t testing.TB) *Hub {
	t.Helper()
	h, stop := Start()
	t.Cleanup(stop)
	return h
}

// Start is New without a test to end it.
func Start() (h *Hub, stop func()) {
	h = &Hub{repos: map[string]map[string]string{}}
	main := httptest.NewServer(http.HandlerFunc(h.serve))
	other := httptest.NewServer(http.HandlerFunc(h.serveContent))
	h.URL, h.CDN = main.URL, other.URL
	return h, func() {
		main.Close()
		other.Close()
	}
}

// Add puts a file into a repository: Add("models/me/tiny", "config.json", "{}").
func (h *Hub) Add(repo, path, content string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.repos[repo] == nil {
		h.repos[repo] = map[string]string{}
	}
	h.repos[repo][path] = content
}

// Requests gives what was asked so far, and forgets it.
func (h *Hub) Requests() []Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := h.requests
	h.requests = nil
	return seen
}

func (h *Hub) note(r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests = append(h.requests, Request{r.Host, r.URL.Path, r.Header.Get("Range"), r.Header.Get("Authorization")})
}

func large(content string) bool { return len(content) >= 100 }

// ID is the name of a content's blob.
func ID(content string) string {
	if large(content) {
		sum := sha256.Sum256([]byte(content))
		return hex.EncodeToString(sum[:])
	}
	sum := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(content), content)) //nolint:gosec // as git does
	return hex.EncodeToString(sum[:])
}

func (h *Hub) serve(w http.ResponseWriter, r *http.Request) {
	h.note(r)
	if h.Fail != nil && h.Fail(w, r) {
		return
	}
	if h.Closed && r.Header.Get("Authorization") != "Bearer "+Token {
		refuse(w, http.StatusUnauthorized, "RepoNotFound", "Repository not found")
		return
	}
	if rest, ok := strings.CutPrefix(r.URL.Path, "/api/"); ok {
		h.serveAPI(w, r, rest)
		return
	}
	repo, rest, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/resolve/")
	if !strings.HasPrefix(repo, "datasets/") {
		repo = "models/" + repo
	}
	_, path, _ := strings.Cut(rest, "/")
	content, found := h.file(repo, path)
	switch {
	case !ok || !found:
		refuse(w, http.StatusNotFound, "EntryNotFound", "Entry not found")
	case large(content):
		w.Header().Set("X-Repo-Commit", Commit)
		w.Header().Set("X-Linked-Etag", strconv.Quote(ID(content)))
		w.Header().Set("X-Linked-Size", strconv.Itoa(len(content)))
		http.Redirect(w, r, h.CDN+"/"+repo+"/"+path, http.StatusFound)
	default:
		w.Header().Set("X-Repo-Commit", Commit)
		w.Header().Set("ETag", strconv.Quote(ID(content)))
		if r.Method != http.MethodHead {
			send(w, r, content)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	}
}

// serveContent is the other host.
func (h *Hub) serveContent(w http.ResponseWriter, r *http.Request) {
	h.note(r)
	if h.Fail != nil && h.Fail(w, r) {
		return
	}
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/"), "/", 4)
	content, _ := h.file(strings.Join(parts[:3], "/"), parts[3])
	send(w, r, content)
}

func (h *Hub) file(repo, path string) (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	content, ok := h.repos[repo][path]
	return content, ok
}

// send answers a request for content, or for what follows an offset.
func send(w http.ResponseWriter, r *http.Request, content string) {
	from := 0
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
		if from >= len(content) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(content)-1, len(content)))
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(content)-from))
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	_, _ = w.Write([]byte(content[from:])) // the client may have gone
}

// serveAPI answers models/owner/name/revision/REVISION and …/tree/COMMIT, two files a page.
func (h *Hub) serveAPI(w http.ResponseWriter, r *http.Request, rest string) {
	parts := strings.SplitN(rest, "/", 5)
	if len(parts) < 5 {
		refuse(w, http.StatusNotFound, "", "no such page")
		return
	}
	h.mu.Lock()
	files, found := h.repos[strings.Join(parts[:3], "/")]
	h.mu.Unlock()
	switch {
	case !found:
		refuse(w, http.StatusUnauthorized, "RepoNotFound", "Repository not found")
	case parts[4] != "main" && parts[4] != Commit:
		refuse(w, http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+parts[4])
	case parts[3] == "revision":
		// huggingface_hub reads the list of files here, t5ctl from the tree.
		var siblings []map[string]string
		for path := range files {
			siblings = append(siblings, map[string]string{"rfilename": path})
		}
		answer(w, map[string]any{"id": parts[1] + "/" + parts[2], "sha": Commit, "siblings": siblings, "tags": []string{}, "private": false, "downloads": 0})
	default:
		var entries []any
		for path, content := range files {
			entry := map[string]any{"type": "file", "path": path, "size": len(content), "oid": ID("pointer")[:40]}
			if large(content) {
				entry["lfs"] = map[string]any{"oid": ID(content), "size": len(content), "pointerSize": 130}
			} else {
				entry["oid"] = ID(content)
			}
			entries = append(entries, entry)
		}
		slices.SortFunc(entries, func(a, b any) int {
			return strings.Compare(a.(map[string]any)["path"].(string), b.(map[string]any)["path"].(string))
		})
		from, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
		to := min(from+2, len(entries))
		if to < len(entries) {
			w.Header().Set("Link", fmt.Sprintf(`<%s%s?recursive=true&cursor=%d>; rel="next"`, h.URL, r.URL.Path, to))
		}
		answer(w, entries[from:to])
	}
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value) // the client may have gone
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("X-Error-Code", code)
	w.Header().Set("X-Error-Message", message)
	w.WriteHeader(status)
}
