package remote

import (
	"context"
	"crypto/sha1" //nolint:gosec // git's digest of small files; the hub lists no other
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/hub"
)

// download brings one blob.
type download struct {
	client *Client
	ref    hub.Ref
	commit string
	file   File
	moved  func(n int64) // n more bytes have come
	have   func(n int64) // n bytes need not come
}

// run sees to it that the blob is in the cache, whole and checked. It says whether anything was fetched.
func (d *download) run(ctx context.Context) (fetched bool, err error) {
	blobs := filepath.Join(d.client.options.Cache.Repo(d.ref), "blobs")
	locks := d.client.options.Cache.Locks(d.ref)
	for _, dir := range []string{blobs, locks} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return false, err
		}
	}
	unlock, err := lock(ctx, filepath.Join(locks, d.file.ID+".lock"))
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	path := filepath.Join(blobs, d.file.ID)
	whole, err := d.matches(path)
	if err != nil || whole {
		d.have(d.file.Size)
		return false, err
	}
	part := path + ".incomplete"
	if info, err := os.Stat(part); err == nil {
		d.have(min(info.Size(), d.file.Size))
	}
	if err := d.fill(ctx, part); err != nil {
		return true, err
	}
	return true, os.Rename(part, path)
}

// fill completes a partial file. One that turns out wrong at the end is fetched once more from its start: what was there
// before may have been the cause.
func (d *download) fill(ctx context.Context, part string) error {
	for again := range 2 {
		if err := d.client.retry(ctx, func() error { return d.more(ctx, part) }); err != nil {
			return err
		}
		got, err := d.digest(part)
		if err != nil || got == d.file.ID {
			return err
		}
		if err := os.Remove(part); err != nil {
			return err
		}
		if again == 1 {
			return &ChecksumError{File: d.what(), Want: d.file.ID, Got: got}
		}
	}
	return nil
}

// more asks for what is missing of a partial file, and keeps what comes.
func (d *download) more(ctx context.Context, part string) (err error) {
	out, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	offset, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if offset > d.file.Size {
		offset = 0
		if err := out.Truncate(0); err != nil {
			return err
		}
	}
	if offset == d.file.Size {
		return out.Sync()
	}
	resp, cancel, err := d.client.get(ctx, d.ref, d.what(), d.client.content(d.ref, d.commit, d.file), offset)
	if err != nil {
		return err
	}
	defer func() {
		cancel()
		_ = resp.Body.Close() // read only
	}()
	if !continues(resp, offset) {
		if offset = 0; resp.StatusCode != http.StatusOK { // the server cannot go on from there: from the start, then
			return errors.Join(out.Truncate(0), d.client.unreachable(d.what(), errors.New("it sends another part than was asked for")))
		}
		if err := out.Truncate(0); err != nil {
			return err
		}
	}
	if _, err := out.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	return d.copy(out, resp.Body, offset)
}

// continues says whether an answer starts where it was asked to.
func continues(resp *http.Response, offset int64) bool {
	if offset == 0 {
		return resp.StatusCode == http.StatusOK
	}
	return resp.StatusCode == http.StatusPartialContent && strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset))
}

// copy writes a body behind offset. A body that breaks off leaves what came of it.
func (d *download) copy(out *os.File, body io.Reader, offset int64) error {
	missing := d.file.Size - offset
	source := &readErrors{r: body}
	n, err := io.Copy(out, &counted{io.LimitReader(source, missing), d.moved})
	if source.err == nil && err != nil {
		return err // of this machine's disk
	}
	if err = errors.Join(source.err); n == missing {
		return out.Sync()
	}
	if err == nil {
		err = fmt.Errorf("it ends after %d of %d bytes", offset+n, d.file.Size)
	}
	if err = d.client.unreachable(d.what(), err); n > 0 {
		return &progressed{err}
	}
	return err
}

// readErrors keeps what a reader failed with, so that it can be told from what the writer failed with.
type readErrors struct {
	r   io.Reader
	err error
}

func (r *readErrors) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

type counted struct {
	r     io.Reader
	moved func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.moved(int64(n))
	return n, err
}

// what names the file in messages.
func (d *download) what() string { return d.ref.Repo() + "/" + d.file.Path }

// matches says whether a blob is there and is what it should be; one that is not is taken away.
func (d *download) matches(path string) (bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if info.Size() == d.file.Size {
		got, err := d.digest(path)
		if err != nil || got == d.file.ID {
			return true, err
		}
	}
	return false, os.Remove(path)
}

// digest is a file's in the form of the listed one.
func (d *download) digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // read only
	var h hash.Hash
	if len(d.file.ID) == 64 {
		h = sha256.New()
	} else {
		h = sha1.New() //nolint:gosec // as git does
		_, _ = fmt.Fprintf(h, "blob %d\x00", d.file.Size)
	}
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// copyFile writes a copy, whole or not at all.
func copyFile(from, to string) error {
	return atomicfile.Write(to, func(w io.Writer) error {
		f, err := os.Open(from)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, f)
		return errors.Join(err, f.Close())
	})
}
