package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// publicIndex is asked where the user has named no other.
const publicIndex = "https://pypi.org/simple"

// A simple index answers with a list of files, as JSON or as a page of links.
const (
	typeJSON = "application/vnd.pypi.simple.v1+json"
	typeHTML = "application/vnd.pypi.simple.v1+html"
)

const (
	pageLimit  = 64 << 20         // no project's list of files is as long
	attempts   = 3                // how often a download is begun or taken up again
	stallAfter = 60 * time.Second // without a byte a download has failed
)

// fetchFromIndex asks a package index for the wheel's address and downloads it.
func (j *job) fetchFromIndex(ctx context.Context, wheel Wheel, dir string) (string, error) {
	if off, err := strconv.ParseBool(os.Getenv("PIP_NO_INDEX")); err == nil && off && j.options.IndexURL == "" {
		return "", errors.New("no index is asked, since PIP_NO_INDEX is set")
	}
	address := j.options.IndexURL
	if address == "" {
		address = pipIndex(ctx)
	}
	if address == "" {
		address = publicIndex
	}
	index, err := url.Parse(strings.TrimRight(address, "/") + "/")
	if err != nil {
		return "", fmt.Errorf("index: %w", err)
	}
	link, err := findLink(ctx, index.JoinPath(wheel.Name, "/"), wheel.File)
	if err != nil {
		return "", fmt.Errorf("index: %w", err)
	}
	if link.Host == index.Host && link.User == nil {
		link.User = index.User
	}
	file := filepath.Join(dir, wheel.File)
	for try := range attempts {
		if try > 0 {
			select {
			case <-ctx.Done():
				return "", ctx.Err()
			case <-time.After(time.Duration(try) * 200 * time.Millisecond):
			}
		}
		if err = j.download(ctx, link, file, wheel.Size); err == nil || !worthRetrying(err) {
			break
		}
	}
	if err != nil {
		return "", fmt.Errorf("index: %w", err)
	}
	return file, nil
}

// statusError says that a server answered with something other than success.
type statusError struct {
	address string
	code    int
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s answered %d %s", e.address, e.code, http.StatusText(e.code))
}

// worthRetrying says whether the same request may do better: not where a server has refused it,
// nor where the disk has.
func worthRetrying(err error) bool {
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.code >= http.StatusInternalServerError || e.code == http.StatusTooManyRequests
	}
	return !isDiskError(err)
}

// get asks for an address. The body must be closed.
func get(ctx context.Context, address *url.URL, header http.Header) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header = header
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err // names the address, without its password
	}
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusPartialContent {
		_ = response.Body.Close()
		return nil, &statusError{address: address.Redacted(), code: response.StatusCode}
	}
	return response, nil
}

// findLink finds the address of a file in a project's page of the index.
func findLink(ctx context.Context, page *url.URL, file string) (*url.URL, error) {
	ctx, cancel := context.WithTimeout(ctx, stallAfter)
	defer cancel()
	header := http.Header{"Accept": {typeJSON + ", " + typeHTML + ";q=0.2, text/html;q=0.1"}}
	response, err := get(ctx, page, header)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // read only
	body, err := io.ReadAll(io.LimitReader(response.Body, pageLimit))
	if err != nil {
		return nil, err
	}
	links, err := parsePage(response.Header.Get("Content-Type"), body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", page.Redacted(), err)
	}
	base := response.Request.URL // where redirects have led
	for _, link := range links {
		target, err := base.Parse(link)
		if err == nil && path.Base(target.Path) == file {
			target.Fragment = ""
			return target, nil
		}
	}
	return nil, fmt.Errorf("%s does not list %s", page.Redacted(), file)
}

// parsePage reads the addresses of all files that a project's page lists, in either of its forms.
func parsePage(contentType string, body []byte) ([]string, error) {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, fmt.Errorf("content type %q: %w", contentType, err)
	}
	var links []string
	switch kind {
	case typeJSON, "application/json":
		var page struct {
			Files []struct {
				URL string `json:"url"`
			} `json:"files"`
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return nil, err
		}
		for _, file := range page.Files {
			links = append(links, file.URL)
		}
	case typeHTML, "text/html":
		anchor := regexp.MustCompile(`(?is)<a\s(?:[^>]*\s)?href\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))`)
		for _, match := range anchor.FindAllSubmatch(body, -1) {
			for _, group := range match[1:] {
				if len(group) > 0 {
					links = append(links, html.UnescapeString(string(group)))
				}
			}
		}
	default:
		return nil, fmt.Errorf("content type %q is not that of a package index", kind)
	}
	return links, nil
}

// download fetches an address into file. What an earlier attempt has left there is not asked for
// again if the server can send the rest.
func (j *job) download(ctx context.Context, address *url.URL, file string, size int64) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := fmt.Errorf("%s sent nothing for %v", address.Redacted(), stallAfter)
	watch := time.AfterFunc(stallAfter, func() { cancel(stalled) })
	defer watch.Stop()

	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	have, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	header := http.Header{"Accept-Encoding": {"identity"}}
	if have > 0 && have < size {
		header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	response, err := get(ctx, address, header)
	if err != nil {
		return cause(ctx, err)
	}
	defer response.Body.Close() //nolint:errcheck // read only
	if rest := fmt.Sprintf("bytes %d-", have); !strings.HasPrefix(response.Header.Get("Content-Range"), rest) {
		have = 0
		if err := errors.Join(out.Truncate(0), rewind(out)); err != nil {
			return err
		}
	}
	j.progress.set(have)
	body := &watched{from: io.LimitReader(response.Body, size-have+1), watch: watch}
	if err := j.copyTo(ctx, out, body); err != nil {
		return cause(ctx, err)
	}
	if got := j.progress.now.Done; got < size {
		return fmt.Errorf("%s sent %d of %d bytes", address.Redacted(), got, size)
	}
	return nil
}

func rewind(file *os.File) error {
	_, err := file.Seek(0, io.SeekStart)
	return err
}

// cause is why the context ended where it has, else err.
func cause(ctx context.Context, err error) error {
	if why := context.Cause(ctx); why != nil {
		return why
	}
	return err
}

// watched puts off an alarm with each read.
type watched struct {
	from  io.Reader
	watch *time.Timer
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.from.Read(p)
	w.watch.Reset(stallAfter)
	return n, err
}
