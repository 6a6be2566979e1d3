package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/hub"
)

// File is one file of a commit, as the hub lists it.
type File struct {
	Path string `json:"path"` // slash-separated
	Size int64  `json:"size"`
	ID   string `json:"id"` // SHA-256 of a large file, the git SHA-1 of another
}

const (
	maxListing = 64 << 20 // bytes of one answer
	maxPages   = 1000
)

// commit asks which commit a revision is now.
func (c *Client) commit(ctx context.Context, ref hub.Ref) (string, error) {
	var info struct {
		SHA string `json:"sha"`
	}
	_, err := c.getJSON(ctx, ref, c.api(ref)+"/revision/"+url.PathEscape(ref.Revision), &info)
	if err == nil && !hub.IsCommit(info.SHA) {
		err = &ListingError{Host: c.host(), What: ref.String(), Reason: "it names no commit"}
	}
	return info.SHA, err
}

// list asks for the files of a commit, and records them.
func (c *Client) list(ctx context.Context, ref hub.Ref, commit string) ([]File, error) {
	var files []File
	next := c.api(ref) + "/tree/" + commit + "?recursive=true"
	for page := 0; next != ""; page++ {
		if page == maxPages {
			return nil, &ListingError{Host: c.host(), What: ref.String(), Reason: "it never ends"}
		}
		var entries []treeEntry
		header, err := c.getJSON(ctx, ref, next, &entries)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.Type != "file" {
				continue
			}
			file, err := e.file()
			if err != nil {
				return nil, &ListingError{Host: c.host(), What: ref.String(), Reason: err.Error()}
			}
			files = append(files, file)
		}
		if next, err = c.nextPage(next, header.Get("Link")); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files, c.record(ref, commit, files)
}

// treeEntry is one entry of the hub's listing.
type treeEntry struct {
	Type string `json:"type"`
	OID  string `json:"oid"`
	Size int64  `json:"size"`
	Path string `json:"path"`
	LFS  *struct {
		OID  string `json:"oid"`
		Size int64  `json:"size"`
	} `json:"lfs"`
}

// file checks an entry: nothing in it may lead out of the cache.
func (e treeEntry) file() (File, error) {
	f := File{Path: e.Path, Size: e.Size, ID: e.OID}
	if e.LFS != nil {
		f.ID, f.Size = strings.TrimPrefix(e.LFS.OID, "sha256:"), e.LFS.Size
	}
	return f, f.check(e.LFS != nil)
}

func (f File) check(large bool) error {
	digits := 40
	if large {
		digits = 64
	}
	switch {
	case !filepath.IsLocal(f.Path) || f.Path != path.Clean(f.Path) || strings.ContainsAny(f.Path, "\\:\x00"):
		return fmt.Errorf("the name %q leads out of its folder", f.Path)
	case f.Size < 0:
		return fmt.Errorf("%s has a negative size", f.Path)
	case len(f.ID) != digits || !regexp.MustCompile(`^[0-9a-f]+$`).MatchString(f.ID):
		return fmt.Errorf("%s has no digest", f.Path)
	}
	return nil
}

// nextPage is the address of the next page; it must be of the same server.
func (c *Client) nextPage(from, link string) (string, error) {
	m := regexp.MustCompile(`<([^>]+)>;\s*rel="next"`).FindStringSubmatch(link)
	if m == nil {
		return "", nil
	}
	base, err := url.Parse(from)
	if err != nil {
		return "", err
	}
	next, err := base.Parse(m[1])
	if err != nil || origin(next) != origin(base) {
		return "", &ListingError{Host: c.host(), What: base.Path, Reason: "its next page is on another server"}
	}
	return next.String(), nil
}

// getJSON asks the hub for a JSON value.
func (c *Client) getJSON(ctx context.Context, ref hub.Ref, address string, into any) (http.Header, error) {
	var header http.Header
	err := c.retry(ctx, func() error {
		resp, cancel, err := c.get(ctx, ref, ref.String(), address, 0)
		if err != nil {
			return err
		}
		defer func() {
			cancel()
			_ = resp.Body.Close() // read only
		}()
		data, err := io.ReadAll(io.LimitReader(resp.Body, maxListing+1))
		switch {
		case err != nil:
			return c.unreachable(ref.String(), err)
		case len(data) > maxListing:
			return &ListingError{Host: c.host(), What: ref.String(), Reason: "it is longer than any listing"}
		}
		header = resp.Header
		if err := json.Unmarshal(data, into); err != nil {
			return &ListingError{Host: c.host(), What: ref.String(), Reason: "it is not the JSON that was expected"}
		}
		return nil
	})
	return header, err
}

// api is the address of a repository in the hub's interface for programs.
func (c *Client) api(ref hub.Ref) string {
	return c.options.Endpoint + "/api/" + string(ref.Kind) + "/" + ref.Repo()
}

// content is the address of a file of a commit.
func (c *Client) content(ref hub.Ref, commit string, file File) string {
	kind := ""
	if ref.Kind == hub.Datasets {
		kind = "/datasets"
	}
	parts := strings.Split(file.Path, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return c.options.Endpoint + kind + "/" + ref.Repo() + "/resolve/" + commit + "/" + strings.Join(parts, "/")
}

// A commit never changes, so its listing is kept: later runs know without a connection whether all is there.

func (c *Client) recordPath(ref hub.Ref, commit string) string {
	return filepath.Join(c.options.Records, filepath.Base(c.options.Cache.Repo(ref)), commit+".json")
}

func (c *Client) recorded(ref hub.Ref, commit string) ([]File, bool) {
	data, err := os.ReadFile(c.recordPath(ref, commit))
	var files []File
	if err != nil || json.Unmarshal(data, &files) != nil {
		return nil, false
	}
	for _, f := range files {
		if f.check(len(f.ID) == 64) != nil {
			return nil, false
		}
	}
	return files, len(files) > 0
}

func (c *Client) record(ref hub.Ref, commit string, files []File) error {
	path := c.recordPath(ref, commit)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	data, err := json.Marshal(files)
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(path, data)
}
