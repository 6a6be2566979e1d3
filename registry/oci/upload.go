package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

const octets = "application/octet-stream"

// partsFrom is the size from which a blob is sent so that it can go on after it broke off. A part
// is long: a server that loses its writer keeps what it has got.
const partsFrom = 8 << 20

// inParts says whether a blob is sent so.
func (r *repository) inParts(blob ocispec.Descriptor) bool {
	return blob.Size > min(r.store.options.Chunk, partsFrom)
}

// upload sends a blob: in parts where it is long and the server takes parts, so that one that
// broke off goes on where it was, by this process or the next; else in one piece.
func (r *repository) upload(ctx context.Context, blob ocispec.Descriptor, source *io.SectionReader) error {
	journal := r.journal(blob)
	place, at := r.unfinished(ctx, journal)
	for attempt := 0; ; attempt++ {
		err := r.send(ctx, blob, source, journal, place, at)
		if err == nil {
			return forget(journal)
		}
		if ctx.Err() != nil || attempt >= r.store.options.Retries || !again(err) {
			return err
		}
		if err := pause(ctx, time.Duration(attempt+1)*200*time.Millisecond); err != nil {
			return err
		}
		if place, at = r.unfinished(ctx, journal); attempt > 0 { // going on has failed: from the start
			place, at = "", 0
		}
	}
}

// digestInvalid is what a server answers that has read other bytes than were announced; an older one
// does at times when two write the same.
const digestInvalid = "DIGEST_INVALID"

// again says whether an upload that failed may succeed when it is begun or gone on with anew: its
// place expired, the server lost count, the connection broke, or bytes got in that are not ours, as
// when a part arrived twice.
func again(err error) bool {
	if _, broken := errors.AsType[*UnreachableError](err); broken {
		return true
	}
	if told, ok := errors.AsType[*ServerError](err); ok && told.Code == digestInvalid {
		return true
	}
	switch status(err) {
	case http.StatusNotFound, http.StatusRequestedRangeNotSatisfiable, http.StatusTooManyRequests:
		return true
	}
	return status(err) >= http.StatusInternalServerError
}

// send makes one attempt, from the byte at of the upload at place, or from the start of a new one.
func (r *repository) send(ctx context.Context, blob ocispec.Descriptor, source *io.SectionReader, journal, place string, at int64) error {
	var err error
	if place == "" {
		at = 0
		if place, err = r.begin(ctx); err != nil {
			return err
		}
		if journal != "" {
			if err := note(journal, place); err != nil {
				return err
			}
		}
	}
	if r.inParts(blob) {
		if place, at, err = r.sendParts(ctx, source, journal, place, at); err != nil {
			if at > 0 || !noParts(err) {
				return err
			}
			if place, err = r.begin(ctx); err != nil { // in one piece, then
				return err
			}
		}
	}
	target, err := url.Parse(place)
	if err != nil {
		return err
	}
	query := target.Query()
	query.Set("digest", blob.Digest.String())
	target.RawQuery = query.Encode()
	rest := io.NewSectionReader(source, at, blob.Size-at)
	last := request{method: http.MethodPut, url: target.String(), media: octets, body: rest}
	if at > 0 && at < blob.Size {
		last.header = http.Header{"Content-Range": {fmt.Sprintf("%d-%d", at, blob.Size-1)}}
	}
	resp, err := r.do(ctx, last)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// noParts says whether a server refused the first part because it takes none.
func noParts(err error) bool {
	switch status(err) {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusRequestEntityTooLarge, http.StatusRequestedRangeNotSatisfiable, http.StatusUnsupportedMediaType:
		return true
	}
	return false
}

// begin asks for a place to upload to.
func (r *repository) begin(ctx context.Context) (string, error) {
	empty := io.NewSectionReader(strings.NewReader(""), 0, 0)
	resp, err := r.do(ctx, request{method: http.MethodPost, url: "blobs/uploads/", media: octets, body: empty})
	if err != nil {
		return "", err
	}
	if err := resp.Body.Close(); err != nil {
		return "", err
	}
	return r.location(resp)
}

// location is where an upload goes on. Another host is not followed: our content and credentials
// are for the one that the user named.
func (r *repository) location(resp *http.Response) (string, error) {
	place, err := resp.Location()
	if err != nil {
		return "", &ServerError{Host: r.store.host, Status: resp.StatusCode, Message: "it names no place to upload to"}
	}
	asked := resp.Request.URL
	if place.Host != asked.Host || place.Scheme != asked.Scheme {
		return "", &ServerError{Host: r.store.host, Status: resp.StatusCode, Message: fmt.Sprintf("it sends the upload to another place, %s://%s", place.Scheme, place.Host)}
	}
	return place.String(), nil
}

// sendParts sends the parts, and notes after each how to go on.
func (r *repository) sendParts(ctx context.Context, source *io.SectionReader, journal, place string, at int64) (string, int64, error) {
	for at < source.Size() {
		part := io.NewSectionReader(source, at, min(r.store.options.Chunk, source.Size()-at))
		header := http.Header{"Content-Range": {fmt.Sprintf("%d-%d", at, at+part.Size()-1)}}
		resp, err := r.do(ctx, request{method: http.MethodPatch, url: place, media: octets, body: part, header: header})
		if err != nil {
			return place, at, err
		}
		if err := resp.Body.Close(); err != nil {
			return place, at, err
		}
		if place, err = r.location(resp); err != nil {
			return place, at, err
		}
		if at += part.Size(); journal != "" {
			if err := note(journal, place); err != nil {
				return place, at, err
			}
		}
	}
	return place, at, nil
}

// journal is the file that says where an upload of the blob goes on; "" where nothing is kept.
func (r *repository) journal(blob ocispec.Descriptor) string {
	if r.store.options.Memory == "" || !r.inParts(blob) {
		return ""
	}
	return filepath.Join(r.store.options.Memory, r.memoryName()+"-"+blob.Digest.Encoded()[:32]+".upload")
}

func note(journal, place string) error {
	data, err := json.Marshal(map[string]string{"location": place})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(journal), 0o700); err != nil {
		return err
	}
	return atomicfile.WriteBytes(journal, data)
}

func forget(journal string) error {
	if journal == "" {
		return nil
	}
	if err := os.Remove(journal); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// unfinished asks how far the upload came that the journal speaks of; "" where there is none or
// the server has forgotten it.
func (r *repository) unfinished(ctx context.Context, journal string) (place string, at int64) {
	if journal == "" {
		return "", 0
	}
	data, err := os.ReadFile(journal)
	var noted struct{ Location string }
	if err != nil || json.Unmarshal(data, &noted) != nil {
		return "", 0
	}
	if u, err := url.Parse(noted.Location); err != nil || !strings.HasPrefix(r.base, u.Scheme+"://"+u.Host+"/") {
		return "", 0
	}
	resp, err := r.do(ctx, request{method: http.MethodGet, url: noted.Location})
	if err != nil {
		return "", 0
	}
	_ = resp.Body.Close() // it has none
	if place, err = r.location(resp); err != nil {
		place = noted.Location // some servers do not repeat it
	}
	_, end, found := strings.Cut(resp.Header.Get("Range"), "-")
	last, err := strconv.ParseInt(end, 10, 64)
	if !found || err != nil || last < 1 { // "0-0" is both nothing and one byte
		return "", 0
	}
	return place, last + 1
}

// pause waits, about as long as asked, unless the context ends.
func pause(ctx context.Context, about time.Duration) error {
	timer := time.NewTimer(about/2 + rand.N(about))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
