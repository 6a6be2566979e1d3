package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	remote "oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// ServerError says that a server refused a request or failed at it.
type ServerError struct {
	Host    string
	Status  int
	Code    string // as the server calls it, such as DENIED; "" where it does not say
	Message string
}

// Error tells what the server said.
func (e *ServerError) Error() string {
	text := fmt.Sprintf("%s answers %d %s", e.Host, e.Status, strings.ToLower(http.StatusText(e.Status)))
	if e.Code != "" || e.Message != "" {
		text += ": " + strings.TrimPrefix(e.Code+" "+e.Message, " ")
	}
	return text
}

// UnreachableError says that a server could not be asked, or broke off.
type UnreachableError struct {
	Host string
	Err  error
}

// Error names the host.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%s cannot be reached: %v", e.Host, e.Err)
}

// Unwrap gives the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// redirectError says that a server sent a request on to where it must not go.
type redirectError struct {
	status        int
	place, reason string
}

func (e *redirectError) Error() string {
	return "it sends the request on to " + e.place + ", " + e.reason
}

// redirect lets what is read come from elsewhere, as servers have it that leave their blobs with others: it
// is checked against its digest, and credentials stay behind. What is written goes to the server that the
// user named and to no other, and without TLS nothing leaves this machine.
func redirect(next *http.Request, via []*http.Request) error {
	const most = 10
	first := via[0]
	refused := &redirectError{status: next.Response.StatusCode, place: next.URL.Scheme + "://" + next.URL.Host}
	switch {
	case len(via) >= most:
		refused.reason = "after many others"
	case next.URL.Scheme != "https" && (first.URL.Scheme == "https" || !isLoopback(next.URL.Host)):
		refused.reason = "without TLS"
	case first.Method != http.MethodGet && first.Method != http.MethodHead && (next.URL.Host != first.URL.Host || next.URL.Scheme != first.URL.Scheme):
		refused.reason = "which is not the server that was named"
	default:
		return nil
	}
	return refused
}

// told turns the errors of the protocol's client into ours.
func (s *Store) told(err error) error {
	if sent, ok := errors.AsType[*redirectError](err); ok {
		return &ServerError{Host: s.host, Status: sent.status, Message: sent.Error()}
	}
	if answer, ok := errors.AsType[*errcode.ErrorResponse](err); ok {
		told := &ServerError{Host: s.host, Status: answer.StatusCode}
		if len(answer.Errors) > 0 {
			told.Code, told.Message = clean(answer.Errors[0].Code), clean(answer.Errors[0].Message)
		}
		return told
	}
	if errors.Is(err, auth.ErrBasicCredentialNotFound) {
		return &ServerError{Host: s.host, Status: http.StatusUnauthorized, Message: "it wants credentials, and there are none"}
	}
	if failed, ok := errors.AsType[*url.Error](err); ok && !errors.Is(err, context.Canceled) {
		return &UnreachableError{s.host, failed.Err}
	}
	if failed, ok := errors.AsType[net.Error](err); ok && !errors.Is(err, context.Canceled) {
		return &UnreachableError{s.host, failed}
	}
	return err
}

// clean keeps a server's words to one short line.
func clean(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return text[:min(len(text), 200)]
}

// request is one request within a repository.
type request struct {
	method string
	url    string // relative to the repository, or whole
	accept string
	media  string // of the body
	body   *io.SectionReader
	header http.Header
}

// do sends a request. An answer of 400 and above is an error: a *ServerError. The body of every
// other must be closed.
func (r *repository) do(ctx context.Context, q request) (*http.Response, error) {
	actions := []string{auth.ActionPull}
	if q.method != http.MethodGet && q.method != http.MethodHead {
		actions = append(actions, auth.ActionPush)
	}
	ctx = auth.AppendRepositoryScope(ctx, remote.Reference{Registry: r.Reference.Registry, Repository: r.Reference.Repository}, actions...)
	target := q.url
	if !strings.Contains(target, "://") {
		target = r.base + target
	}
	req, err := http.NewRequestWithContext(ctx, q.method, target, nil)
	if err != nil {
		return nil, err
	}
	for key, values := range q.header {
		req.Header[key] = values
	}
	if q.accept != "" {
		req.Header.Set("Accept", q.accept)
	}
	if q.body != nil {
		req.ContentLength = q.body.Size()
		req.Header.Set("Content-Type", q.media)
		req.GetBody = func() (io.ReadCloser, error) { return content(q.body), nil }
		if req.ContentLength > 0 {
			req.Body, _ = req.GetBody()
		}
	}
	resp, err := r.store.client.Do(req)
	if err != nil {
		return nil, r.store.told(err)
	}
	if resp.StatusCode < http.StatusBadRequest {
		return resp, nil
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	return nil, r.refusal(resp)
}

// content is a body for one request. The rest of a file is read through a file of its own: without TLS the
// system then sends it by itself.
func content(part *io.SectionReader) io.ReadCloser {
	plain := io.NopCloser(io.NewSectionReader(part, 0, part.Size()))
	outer, from, _ := part.Outer()
	for inner, ok := outer.(*io.SectionReader); ok; inner, ok = outer.(*io.SectionReader) {
		var more int64
		outer, more, _ = inner.Outer()
		from += more
	}
	named, ok := outer.(interface {
		Name() string
		Stat() (fs.FileInfo, error)
	})
	if !ok {
		return plain
	}
	file, err := os.Open(named.Name())
	if err != nil {
		return plain
	}
	opened, err := file.Stat()
	given, givenErr := named.Stat()
	if err != nil || givenErr != nil || !os.SameFile(opened, given) || opened.Size() != from+part.Size() {
		_ = file.Close() // another file has this name by now, or more follows
		return plain
	}
	if _, err := file.Seek(from, io.SeekStart); err != nil {
		_ = file.Close() // it was only read
		return plain
	}
	return file
}

// refusal reads what a server says of a request that it did not fulfil.
func (r *repository) refusal(resp *http.Response) error {
	told := &ServerError{Host: r.store.host, Status: resp.StatusCode}
	var answer struct {
		Errors []struct{ Code, Message string }
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err == nil && json.Unmarshal(data, &answer) == nil && len(answer.Errors) > 0 {
		told.Code, told.Message = clean(answer.Errors[0].Code), clean(answer.Errors[0].Message)
	}
	return told
}

// status is the code of a server's refusal; 0 for other errors.
func status(err error) int {
	if refused, ok := errors.AsType[*ServerError](err); ok {
		return refused.Status
	}
	return 0
}

// resolve asks which manifest a tag or digest names.
func (r *repository) resolve(ctx context.Context, reference string) (sum string, found bool, err error) {
	resp, err := r.do(ctx, request{method: http.MethodHead, url: "manifests/" + reference, accept: ocispec.MediaTypeImageManifest + ", " + ocispec.MediaTypeImageIndex})
	if status(err) == http.StatusNotFound {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	if err := resp.Body.Close(); err != nil {
		return "", false, err
	}
	return resp.Header.Get("Docker-Content-Digest"), true, nil
}

// tagManifest puts a manifest under a tag.
func (r *repository) tagManifest(ctx context.Context, tag string, manifest []byte) error {
	body := io.NewSectionReader(bytes.NewReader(manifest), 0, int64(len(manifest)))
	resp, err := r.do(ctx, request{method: http.MethodPut, url: "manifests/" + tag, media: ocispec.MediaTypeImageManifest, body: body})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
