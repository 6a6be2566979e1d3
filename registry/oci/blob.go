package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/t5ctl/t5ctl/internal/digest"
)

// maxBuffered bounds content that cannot be read twice and is therefore kept in memory, and what
// is hashed here before it is sent.
const maxBuffered = 4 << 20

func isManifest(blob ocispec.Descriptor) bool {
	return blob.MediaType == ocispec.MediaTypeImageManifest || blob.MediaType == ocispec.MediaTypeImageIndex
}

// Open reads a blob or manifest. Where the connection breaks, the rest is asked for again.
func (s *Store) Open(ctx context.Context, model string, blob ocispec.Descriptor) (io.ReadCloser, error) {
	return s.OpenFrom(ctx, model, blob, 0)
}

// OpenFrom is Open from a byte on.
func (s *Store) OpenFrom(ctx context.Context, model string, blob ocispec.Descriptor, from int64) (io.ReadCloser, error) {
	r, err := s.repository(model)
	if err != nil {
		return nil, err
	}
	q := request{method: http.MethodGet, url: "blobs/" + blob.Digest.String()}
	if isManifest(blob) {
		q.url, q.accept = "manifests/"+blob.Digest.String(), blob.MediaType
	}
	first := q
	if from > 0 {
		first.header = http.Header{"Range": {fmt.Sprintf("bytes=%d-", from)}}
	}
	resp, err := r.do(ctx, first) //nolint:bodyclose // Close of what is returned does it
	if status(err) == http.StatusRequestedRangeNotSatisfiable {
		resp, err = r.do(ctx, q) //nolint:bodyclose // likewise
	}
	if status(err) == http.StatusNotFound {
		return nil, fmt.Errorf("%s on %s: %w", blob.Digest, s.host, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	d := &download{ctx: ctx, repository: r, query: q, body: resp.Body, left: s.options.Retries, size: blob.Size}
	switch {
	case from > 0 && resp.StatusCode == http.StatusPartialContent:
		d.at = from
	case from > 0: // the server gives all or nothing
		if _, err := io.CopyN(io.Discard, d, from); err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	return d, nil
}

// download is a body that goes on after the connection broke.
type download struct {
	ctx        context.Context //nolint:containedctx // lives as long as one download
	repository *repository
	query      request
	body       io.ReadCloser
	at, size   int64
	left       int
}

func (d *download) Read(p []byte) (int, error) {
	n, err := d.body.Read(p)
	d.at += int64(n)
	short := err == io.EOF && d.at < d.size                                         //nolint:errorlint // readers give io.EOF itself
	if err == nil || err == io.EOF && !short || d.ctx.Err() != nil || d.left == 0 { //nolint:errorlint // likewise
		return n, err
	}
	d.left--
	_ = d.body.Close() // broken
	again := d.query
	again.header = http.Header{"Range": {fmt.Sprintf("bytes=%d-", d.at)}}
	resp, askErr := d.repository.do(d.ctx, again)                  //nolint:bodyclose // it takes the place of the body that broke
	if status(askErr) == http.StatusRequestedRangeNotSatisfiable { // there is no more
		d.body = http.NoBody
		return n, io.EOF
	}
	if askErr != nil {
		d.body = http.NoBody
		return n, fmt.Errorf("after %d bytes: %w", d.at, askErr)
	}
	if resp.StatusCode != http.StatusPartialContent {
		if _, err := io.CopyN(io.Discard, resp.Body, d.at); err != nil {
			return n, err
		}
	}
	d.body = resp.Body
	return n, nil
}

func (d *download) Close() error { return d.body.Close() }

// Put stores a blob or manifest. Whether one that is there is sound the server must know: it is
// not read back.
func (s *Store) Put(ctx context.Context, model string, blob ocispec.Descriptor, content io.Reader) error {
	r, err := s.repository(model)
	if err != nil {
		return err
	}
	source, err := twice(blob, content)
	if err != nil {
		return err
	}
	if isManifest(blob) {
		return r.putManifest(ctx, blob, source)
	}
	resp, err := r.do(ctx, request{method: http.MethodHead, url: "blobs/" + blob.Digest.String()})
	if err == nil {
		return resp.Body.Close()
	}
	if status(err) != http.StatusNotFound {
		return err
	}
	return r.upload(ctx, blob, source)
}

// twice makes content that can be read more than once, as requests that are repeated need it.
// Short content is checked here, long content by the server.
func twice(blob ocispec.Descriptor, content io.Reader) (*io.SectionReader, error) {
	if at, ok := content.(io.ReaderAt); ok && blob.Size > maxBuffered {
		return io.NewSectionReader(at, 0, blob.Size), nil
	}
	if blob.Size > maxBuffered {
		return nil, fmt.Errorf("content of %d bytes that can be read only once", blob.Size)
	}
	data, err := io.ReadAll(io.LimitReader(content, blob.Size+1))
	if err != nil {
		return nil, err
	}
	if got := digest.Bytes(data); int64(len(data)) != blob.Size || got != blob.Digest.String() {
		return nil, fmt.Errorf("the content (%d bytes, %s) is not the blob %s of %d bytes", len(data), got, blob.Digest, blob.Size)
	}
	return io.NewSectionReader(bytes.NewReader(data), 0, blob.Size), nil
}

// putManifest pushes a manifest. One that refers to another is looked for among that one's
// referrers afterwards: servers without a list of their own lose entries when two writers come
// at once.
func (r *repository) putManifest(ctx context.Context, blob ocispec.Descriptor, source *io.SectionReader) error {
	data, err := io.ReadAll(source)
	if err != nil {
		return err
	}
	subject, err := subjectOf(data)
	if err != nil {
		return err
	}
	for attempt := 0; ; attempt++ {
		began := time.Now()
		err := r.Manifests().Push(ctx, blob, bytes.NewReader(data))
		if err := r.store.told(err); err != nil {
			told, _ := errors.AsType[*ServerError](err)
			passing := told != nil && (told.Code == digestInvalid || subject != nil && told.Status >= http.StatusInternalServerError)
			if !passing || attempt == attachments {
				return err
			}
			if err := pause(ctx, time.Duration(attempt+1)*20*time.Millisecond); err != nil {
				return err
			}
			continue
		}
		if subject == nil {
			return nil
		}
		seen, err := r.stays(ctx, *subject, blob, time.Since(began))
		if err != nil || seen {
			return err
		}
		if attempt == attachments {
			return fmt.Errorf("%s does not list %s among the referrers of %s", r.store.host, blob.Digest, subject.Digest)
		}
		if err := pause(ctx, time.Duration(attempt+1)*20*time.Millisecond); err != nil {
			return err
		}
	}
}

// A writer may take so long between reading and writing the list of referrers that clients keep for
// servers without one: some times what it has just taken us, on a machine or a line that is as busy.
const (
	settling  = 100 * time.Millisecond // at least
	slowest   = 5 * time.Second        // at most
	slackness = 5

	attachments = 20 // attempts to get into the list
)

// stays says whether a manifest is among the referrers of another, and, where clients keep the
// list, still is when those who read it before have written it. took is how long our own writing
// did. While the list changes, others are at it, and it is watched for longer.
func (r *repository) stays(ctx context.Context, subject, manifest ocispec.Descriptor, took time.Duration) (bool, error) {
	count, seen, err := r.refersTo(ctx, subject, manifest)
	if err != nil || !seen {
		return seen, err
	}
	_, kept, err := r.resolve(ctx, "sha256-"+subject.Digest.Encoded())
	if err != nil || !kept {
		return true, err
	}
	const watch = 4 // looks at a list that has changed
	for looks := 1; looks > 0; looks-- {
		if err := pause(ctx, min(max(settling, slackness*took), slowest)); err != nil {
			return false, err
		}
		now, seen, err := r.refersTo(ctx, subject, manifest)
		if err != nil || !seen {
			return seen, err
		}
		if now != count {
			count, looks = now, watch
		}
	}
	return true, nil
}

// refersTo says whether the server lists a manifest among the referrers of another, and how many
// it lists.
func (r *repository) refersTo(ctx context.Context, subject, manifest ocispec.Descriptor) (count int, seen bool, err error) {
	err = r.Referrers(ctx, subject, "", func(page []ocispec.Descriptor) error {
		count += len(page)
		seen = seen || slices.ContainsFunc(page, func(d ocispec.Descriptor) bool { return d.Digest == manifest.Digest })
		return nil
	})
	return count, seen, r.store.told(err)
}

// subjectOf reads what a manifest refers to; nil where it refers to nothing.
func subjectOf(manifest []byte) (*ocispec.Descriptor, error) {
	var head struct {
		Subject *ocispec.Descriptor `json:"subject"`
	}
	err := json.Unmarshal(manifest, &head)
	return head.Subject, err
}
