package oci

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	digests "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/registry"
)

const (
	artifactTypeRecord = "application/vnd.t5ctl.record.v1+json"
	mediaTypeRecord    = "application/vnd.t5ctl.event.v1+json"
	annotationWriter   = "dev.t5ctl.writer" // sets apart two writers of the same bytes
	maxManifest        = 4 << 20
)

// logTag is the tag of a record.
func logTag(seq int64) string { return fmt.Sprintf("t5log-%08d", seq) }

// recordManifest holds a record, its bytes included, so that one request reads it.
func recordManifest(record []byte, writer string) ([]byte, error) {
	return json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: artifactTypeRecord, Config: ocispec.DescriptorEmptyJSON,
		Layers: []ocispec.Descriptor{{
			MediaType: mediaTypeRecord, Digest: digests.Digest(digest.Bytes(record)), Size: int64(len(record)), Data: record,
		}},
		Annotations: map[string]string{annotationWriter: writer},
	})
}

// parseRecordManifest gives the record in a manifest, checked against its digest.
func parseRecordManifest(data []byte) ([]byte, error) {
	var manifest ocispec.Manifest
	if err := json.Unmarshal(data, &manifest); err != nil {
		return nil, err
	}
	if manifest.ArtifactType != artifactTypeRecord || len(manifest.Layers) != 1 {
		return nil, fmt.Errorf("its manifest (type %q) holds no record", manifest.ArtifactType)
	}
	layer := manifest.Layers[0]
	if digest.Bytes(layer.Data) != layer.Digest.String() {
		return nil, fmt.Errorf("its content is not %s", layer.Digest)
	}
	return layer.Data, nil
}

// Log reads a model's log: what is remembered, if the server still has it, and what came after.
func (s *Store) Log(ctx context.Context, model string) ([][]byte, error) {
	r, err := s.repository(model)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log(ctx)
}

func (r *repository) log(ctx context.Context) ([][]byte, error) {
	if r.known == nil {
		r.known = r.remembered()
	}
	m := &memory{records: slices.Clone(r.known.records), last: r.known.last}
	if n := int64(len(m.records)); n > 0 {
		sum, found, err := r.resolve(ctx, logTag(n))
		switch {
		case err != nil:
			return nil, err
		case !found:
			return nil, r.another(fmt.Sprintf("the server shows fewer records than the %d seen before", n))
		case sum != m.last:
			return nil, r.another(fmt.Sprintf("record %d is not the one seen before: the server shows another log", n))
		}
	}
	if err := r.readOn(ctx, m); err != nil {
		return nil, err
	}
	if len(m.records) > len(r.known.records) {
		if err := r.remember(m); err != nil {
			return nil, fmt.Errorf("remembering the log: %w", err)
		}
	}
	return m.records, nil
}

// another is the error of a log that is not a continuation of what was seen.
func (r *repository) another(reason string) error {
	if path := r.memoryFile(); path != "" {
		reason += fmt.Sprintf(" (what was seen is in %s; remove it only if the registry was set up anew)", path)
	}
	return r.damaged(reason)
}

func (r *repository) damaged(reason string) error {
	return &registry.CorruptError{Model: r.model, What: "log", Reason: reason}
}

// readOn asks for the records that follow, some at a time and more each time, until one is not
// there. No list of tags is needed.
func (r *repository) readOn(ctx context.Context, m *memory) error {
	for window := 1; ; window = min(window*4, 64) {
		type answer struct{ record, manifest []byte }
		answers := make([]answer, window)
		group, groupCtx := errgroup.WithContext(ctx)
		group.SetLimit(16)
		start := int64(len(m.records)) + 1
		for i := range answers {
			group.Go(func() error {
				manifest, err := r.manifestAt(groupCtx, logTag(start+int64(i)))
				if err != nil || manifest == nil {
					return err
				}
				record, err := parseRecordManifest(manifest)
				if err != nil {
					return &registry.CorruptError{Model: r.model, What: fmt.Sprintf("record %d of the log", start+int64(i)), Reason: err.Error()}
				}
				answers[i] = answer{record, manifest}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		for i, a := range answers {
			if a.manifest != nil {
				m.records, m.last = append(m.records, a.record), digest.Bytes(a.manifest)
				continue
			}
			if slices.ContainsFunc(answers[i:], func(a answer) bool { return a.manifest != nil }) {
				return r.lateOrLost(ctx, start+int64(i), m)
			}
			return nil
		}
	}
}

// lateOrLost tells a record that was written while we read from one that is gone.
func (r *repository) lateOrLost(ctx context.Context, seq int64, m *memory) error {
	_, found, err := r.resolve(ctx, logTag(seq))
	if err != nil {
		return err
	}
	if !found {
		return r.damaged(fmt.Sprintf("record %d is gone, later ones are there", seq))
	}
	return r.readOn(ctx, m)
}

// manifestAt reads the manifest under a tag; nil where there is none.
func (r *repository) manifestAt(ctx context.Context, tag string) ([]byte, error) {
	resp, err := r.do(ctx, request{method: http.MethodGet, url: "manifests/" + tag, accept: ocispec.MediaTypeImageManifest})
	if status(err) == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	switch {
	case err != nil:
		return nil, &UnreachableError{r.store.host, err}
	case len(data) > maxManifest:
		return nil, r.damaged(fmt.Sprintf("the manifest %s is longer than %d bytes", tag, maxManifest))
	}
	return data, nil
}

// Append adds a record if prev is the last one's digest.
func (s *Store) Append(ctx context.Context, model string, seq int64, prev string, record []byte) error {
	r, err := s.repository(model)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	lines, err := r.log(ctx)
	if err != nil {
		return err
	}
	head := ""
	if len(lines) > 0 {
		head = digest.Bytes(lines[len(lines)-1])
	}
	if seq != int64(len(lines))+1 || head != prev {
		return &registry.SlotTakenError{Model: model, Seq: seq}
	}
	manifest, err := recordManifest(record, rand.Text())
	if err != nil {
		return err
	}
	if len(manifest) > maxManifest {
		return fmt.Errorf("the record is %d bytes long, more than a manifest may hold", len(record))
	}
	if err := r.storeSmall(ctx, ocispec.DescriptorEmptyJSON.Data); err != nil {
		return err
	}
	strict, err := r.isStrict(ctx)
	if err != nil {
		return fmt.Errorf("trying whether tags can move: %w", err)
	}
	var stored errgroup.Group
	stored.Go(func() error { return r.storeSmall(ctx, record) })
	slot := slot{repository: r, seq: seq, manifest: manifest, stored: stored.Wait}
	if strict {
		err = slot.write(ctx)
	} else {
		err = guarded(ctx, &slot, r.store.options.Patience)
	}
	if err := errors.Join(err, stored.Wait()); err != nil {
		return err
	}
	return r.remember(&memory{records: append(slices.Clone(lines), bytes.Clone(record)), last: digest.Bytes(manifest)})
}

// storeSmall stores what the manifests of records and announcements name.
func (r *repository) storeSmall(ctx context.Context, data []byte) error {
	blob := ocispec.Descriptor{MediaType: octets, Digest: digests.Digest(digest.Bytes(data)), Size: int64(len(data))}
	return r.store.Put(ctx, r.model, blob, bytes.NewReader(data))
}

// Prepare asks beforehand what Append will need to know.
func (s *Store) Prepare(ctx context.Context, model string) {
	r, err := s.repository(model)
	if err != nil {
		return
	}
	if err := r.storeSmall(ctx, ocispec.DescriptorEmptyJSON.Data); err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = r.isStrict(ctx) // Append asks again
}
