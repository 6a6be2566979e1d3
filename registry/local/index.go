package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/registry"
)

// The index says up to which record of the log it has been brought.
const (
	annotationSeq  = "dev.t5ctl.log.seq"
	annotationHead = "dev.t5ctl.log.head"
)

// index is an OCI image index whose annotations stand first, so that readers of the head need
// not read the rest.
type index struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	Annotations   map[string]string    `json:"annotations,omitempty"`
	Manifests     []ocispec.Descriptor `json:"manifests"`
}

func readIndex(repository string) (index, error) {
	var idx index
	data, err := os.ReadFile(filepath.Join(repository, ocispec.ImageIndexFile))
	if err != nil {
		return idx, err
	}
	return idx, json.Unmarshal(data, &idx)
}

func writeIndex(repository string, idx index) error {
	idx.SchemaVersion, idx.MediaType = 2, ocispec.MediaTypeImageIndex
	if idx.Manifests == nil {
		idx.Manifests = []ocispec.Descriptor{}
	}
	data, err := json.Marshal(idx)
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(repository, ocispec.ImageIndexFile), data)
}

// head is the end of the log as annotations tell it.
func head(annotations map[string]string) registry.Head {
	seq, err := strconv.ParseInt(annotations[annotationSeq], 10, 64)
	if err != nil || seq < 1 {
		return registry.Head{}
	}
	return registry.Head{Seq: seq, Digest: annotations[annotationHead]}
}

// Head reads the annotations of the index and no more.
func (s *Store) Head(_ context.Context, model string) (registry.Head, error) {
	repository, err := s.repository(model)
	if err != nil {
		return registry.Head{}, err
	}
	file, err := os.Open(filepath.Join(repository, ocispec.ImageIndexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return registry.Head{}, nil
	}
	if err != nil {
		return registry.Head{}, err
	}
	defer file.Close() //nolint:errcheck // read only
	decoder := json.NewDecoder(file)
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return registry.Head{}, fmt.Errorf("the index is not a JSON object")
	}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return registry.Head{}, err
		}
		if key != "annotations" {
			var skipped json.RawMessage
			if err := decoder.Decode(&skipped); err != nil {
				return registry.Head{}, err
			}
			continue
		}
		var annotations map[string]string
		if err := decoder.Decode(&annotations); err != nil {
			return registry.Head{}, err
		}
		return head(annotations), nil
	}
	return registry.Head{}, nil
}

// Publish writes the tags into the index. Entries of other tools stay: names that the registry
// does not use, and manifests without a name, such as signatures.
func (s *Store) Publish(_ context.Context, model string, at registry.Head, tags []registry.Tag) error {
	repository, err := s.repository(model)
	if err != nil {
		return err
	}
	unlock, err := lock(repository)
	if err != nil {
		return err
	}
	defer unlock()
	s.step("publish.locked")
	old, err := readIndex(repository)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		if err := keepDamaged(repository); err != nil {
			return err
		}
		old = index{}
	}
	if head(old.Annotations).Seq > at.Seq {
		return nil
	}
	next := old.with(at, tags)
	if reflect.DeepEqual(old, next) {
		return nil
	}
	err = writeIndex(repository, next)
	s.step("publish.written")
	return err
}

// keepDamaged puts an index that cannot be read aside for whoever wants to know what happened.
func keepDamaged(repository string) error {
	path := filepath.Join(repository, ocispec.ImageIndexFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	return atomicfile.WriteBytes(path+".damaged", data)
}

// with is the index with these tags at this place of the log.
func (idx index) with(at registry.Head, tags []registry.Tag) index {
	next := index{SchemaVersion: 2, MediaType: ocispec.MediaTypeImageIndex, Annotations: map[string]string{}}
	for key, value := range idx.Annotations {
		next.Annotations[key] = value
	}
	next.Annotations[annotationSeq], next.Annotations[annotationHead] = strconv.FormatInt(at.Seq, 10), at.Digest
	ours := map[string]bool{}
	for _, tag := range tags {
		ours[tag.Name] = true
		entry := tag.Manifest
		entry.Annotations = map[string]string{ocispec.AnnotationRefName: tag.Name}
		next.Manifests = append(next.Manifests, entry)
	}
	for _, entry := range idx.Manifests {
		if !ours[entry.Annotations[ocispec.AnnotationRefName]] {
			next.Manifests = append(next.Manifests, entry)
		}
	}
	return next
}

// Tags reads the index as other tools see it.
func (s *Store) Tags(_ context.Context, model string) (tags []registry.Tag, moving bool, err error) {
	repository, err := s.repository(model)
	if err != nil {
		return nil, true, err
	}
	idx, err := readIndex(repository)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, true, nil
	}
	if err != nil {
		return nil, true, &registry.CorruptError{Model: model, What: "index", Reason: err.Error()}
	}
	tags = make([]registry.Tag, 0, len(idx.Manifests))
	for _, entry := range idx.Manifests {
		tag := registry.Tag{Name: entry.Annotations[ocispec.AnnotationRefName], Manifest: entry}
		tag.Manifest.Annotations = nil
		tags = append(tags, tag)
	}
	return tags, true, nil
}

// Retag has nothing to do: Publish writes all tags of ours anew.
func (s *Store) Retag(context.Context, string, []registry.Tag) error { return nil }
