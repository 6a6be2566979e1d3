package registry

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// SweepOptions say what a sweep may remove.
type SweepOptions struct {
	Grace  time.Duration // younger blobs stay: a push that broke off may go on with them
	DryRun bool          // only tell
}

// Swept is something that was removed, or would be.
type Swept struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
}

// NotKeptError says that a backend leaves the keeping of its content to others.
type NotKeptError struct{}

// Error says so.
func (*NotKeptError) Error() string {
	return "this registry looks after its content itself"
}

// Collect removes blobs that no version, evidence or record of the log names and that are older
// than the grace age. Versions are for ever, and so is everything that they need. It waits until nobody writes to
// the model: what they are about to name it could not know, and clocks may be wrong.
func (r *Registry) Collect(ctx context.Context, model string, options SweepOptions) ([]Swept, error) {
	keeper, ok := r.backend.(Keeper)
	if !ok {
		return nil, &NotKeptError{}
	}
	if err := CheckModel(model); err != nil {
		return nil, err
	}
	release, err := r.hold(ctx, model, true)
	if err != nil {
		return nil, err
	}
	defer release()
	s, err := r.load(ctx, model)
	if err != nil {
		return nil, err
	}
	keep, err := r.reachable(ctx, s)
	if err != nil {
		return nil, err
	}
	tags, _, err := keeper.Tags(ctx, model)
	if err != nil {
		return nil, err
	}
	for _, tag := range tags { // of other tools, with what they name
		if err := r.keepForeign(ctx, model, tag, keep); err != nil {
			return nil, err
		}
	}
	return keeper.Sweep(ctx, model, keep, options)
}

// reachable lists every blob that the log names, directly or through a manifest. A manifest that
// cannot be read is an error: what it names must not be lost on top.
func (r *Registry) reachable(ctx context.Context, s *state) (map[string]bool, error) {
	keep := map[string]bool{ocispec.DescriptorEmptyJSON.Digest.String(): true}
	for _, record := range s.records {
		keep[record.Digest] = true
	}
	for i := range s.versions {
		v := &s.versions[i]
		m, err := r.model(ctx, s.model, v.target)
		if err != nil {
			return nil, err
		}
		keep[v.target.Digest], keep[m.Config.Digest.String()] = true, true
		for _, layer := range m.Layers {
			keep[layer.Digest] = true
		}
		for _, e := range v.evidence {
			blobs, err := r.evidenceLayers(ctx, s.model, v.target, e)
			if err != nil {
				return nil, err
			}
			keep[e.Digest] = true
			for _, blob := range blobs {
				keep[blob.Digest.String()] = true
			}
		}
	}
	return keep, nil
}

// keepForeign keeps what another tool has put into the index, and everything that it names.
func (r *Registry) keepForeign(ctx context.Context, model string, tag Tag, keep map[string]bool) error {
	sum := tag.Manifest.Digest.String()
	if keep[sum] {
		return nil
	}
	keep[sum] = true
	data, err := r.readBlob(ctx, model, "manifest "+tag.Name, tag.Manifest)
	if err != nil {
		if _, damaged := errors.AsType[*CorruptError](err); damaged {
			return nil // nothing can be read off it, and nothing of ours depends on it
		}
		return err
	}
	var names struct {
		Config    ocispec.Descriptor   `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(data, &names); err != nil {
		return nil //nolint:nilerr // not a manifest: it names nothing
	}
	for _, blob := range append(names.Layers, names.Config) {
		keep[blob.Digest.String()] = true
	}
	for _, inner := range names.Manifests {
		if err := r.keepForeign(ctx, model, Tag{Name: tag.Name, Manifest: inner}, keep); err != nil {
			return err
		}
	}
	return nil
}
