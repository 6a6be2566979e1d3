package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"

	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/t5ctl/t5ctl/internal/digest"
)

// copyBlob writes a blob to w and checks it on the way: its size, then its digest. What has been
// written counts only once nil is returned.
func (r *Registry) copyBlob(ctx context.Context, w io.Writer, model, what string, blob ocispec.Descriptor) error {
	return r.copyRest(ctx, w, model, what, blob, sha256.New(), 0)
}

// copyRest is copyBlob for one who has the first bytes, which sum has read.
func (r *Registry) copyRest(ctx context.Context, w io.Writer, model, what string, blob ocispec.Descriptor, sum hash.Hash, have int64) error {
	damaged := func(reason string) error {
		return &CorruptError{Model: model, What: what, Digest: blob.Digest.String(), Reason: reason}
	}
	content, err := r.openFrom(ctx, model, blob, have)
	if errors.Is(err, fs.ErrNotExist) {
		return damaged("it is missing")
	}
	if err != nil {
		return err
	}
	defer content.Close() //nolint:errcheck // read only
	limited := io.LimitReader(&cancelReader{ctx, content}, blob.Size-have+1)
	n, err := io.CopyBuffer(io.MultiWriter(sum, w), limited, make([]byte, min(blob.Size+1, 1<<18)))
	n += have
	switch got := digest.Sum(sum); {
	case err != nil:
		return fmt.Errorf("reading %s %s: %w", what, blob.Digest, err)
	case n < blob.Size:
		return damaged(fmt.Sprintf("it has %d of %d bytes", n, blob.Size))
	case n > blob.Size:
		return damaged(fmt.Sprintf("it has more than %d bytes", blob.Size))
	case got != blob.Digest.String():
		return damaged("its content has digest " + got)
	}
	return nil
}

// openFrom opens a blob from a byte on.
func (r *Registry) openFrom(ctx context.Context, model string, blob ocispec.Descriptor, from int64) (io.ReadCloser, error) {
	if far, ok := r.backend.(Resumer); ok && from > 0 && from < blob.Size {
		return far.OpenFrom(ctx, model, blob, from)
	}
	content, err := r.backend.Open(ctx, model, blob)
	if err != nil || from == 0 {
		return content, err
	}
	if seeker, ok := content.(io.Seeker); ok {
		_, err = seeker.Seek(from, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, content, from)
	}
	if err != nil {
		return nil, errors.Join(err, content.Close())
	}
	return content, nil
}

// cancelReader ends a long copy when the context does.
type cancelReader struct {
	ctx context.Context //nolint:containedctx // lives as long as one copy
	r   io.Reader
}

func (c *cancelReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// readBlob is copyBlob into memory, for manifests, configurations and reports.
func (r *Registry) readBlob(ctx context.Context, model, what string, blob ocispec.Descriptor) ([]byte, error) {
	if blob.Size > maxSmall {
		return nil, &CorruptError{Model: model, What: what, Digest: blob.Digest.String(), Reason: fmt.Sprintf("it claims %d bytes, %d are allowed", blob.Size, maxSmall)}
	}
	var data bytes.Buffer
	err := r.copyBlob(ctx, &data, model, what, blob)
	return data.Bytes(), err
}

// maxSmall bounds what is read into memory at once.
const maxSmall = 64 << 20

// model reads the manifest of a version.
func (r *Registry) model(ctx context.Context, name string, target Target) (Model, error) {
	what := fmt.Sprintf("manifest of v%d", target.Version)
	data, err := r.readBlob(ctx, name, what, target.descriptor())
	if err != nil {
		return Model{}, err
	}
	m, err := ParseModel(data)
	if err != nil {
		return Model{}, &CorruptError{Model: name, What: what, Digest: target.Digest, Reason: err.Error()}
	}
	return m, nil
}

func toDigest(sum string) digests.Digest { return digests.Digest(sum) }

// readAtMost reads a whole stream that must not be longer than limit.
func readAtMost(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("more than %d bytes", limit)
	}
	return data, err
}
