package oci

import (
	"context"
	"net/http"

	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/t5ctl/t5ctl/registry"
)

// names lists the tags of the repository; none where there is no such repository.
func (r *repository) names(ctx context.Context) (map[string]bool, error) {
	names := map[string]bool{}
	err := r.Tags(ctx, "", func(page []string) error {
		for _, tag := range page {
			names[tag] = true
		}
		return nil
	})
	if err = r.store.told(err); status(err) == http.StatusNotFound {
		return names, nil
	}
	return names, err
}

// Publish sets the tags that are missing, and moves those of channels where the server lets tags
// move.
func (s *Store) Publish(ctx context.Context, model string, _ registry.Head, tags []registry.Tag) error {
	r, err := s.repository(model)
	if err != nil {
		return err
	}
	r.mu.Lock()
	strict, err := r.isStrict(ctx)
	r.mu.Unlock()
	if err != nil {
		return err
	}
	there, err := r.names(ctx)
	if err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, tag := range tags {
		if tag.Moves && strict || !tag.Moves && there[tag.Name] {
			continue
		}
		group.Go(func() error { return r.set(groupCtx, tag) })
	}
	return group.Wait()
}

// set makes a tag name a manifest.
func (r *repository) set(ctx context.Context, tag registry.Tag) error {
	sum, found, err := r.resolve(ctx, tag.Name)
	if err != nil || found && sum == tag.Manifest.Digest.String() {
		return err
	}
	manifest, err := r.manifestAt(ctx, tag.Manifest.Digest.String())
	if err != nil {
		return err
	}
	if manifest == nil {
		return &registry.CorruptError{Model: r.model, What: "manifest of " + tag.Name, Digest: tag.Manifest.Digest.String(), Reason: "it is missing"}
	}
	return r.tagManifest(ctx, tag.Name, manifest)
}

// Tags asks what each tag names. Where tags cannot move, those of channels are not kept.
func (s *Store) Tags(ctx context.Context, model string) (tags []registry.Tag, moving bool, err error) {
	r, err := s.repository(model)
	if err != nil {
		return nil, false, err
	}
	r.mu.Lock()
	strict, err := r.isStrict(ctx)
	r.mu.Unlock()
	if err != nil {
		return nil, false, err
	}
	names, err := r.names(ctx)
	if err != nil {
		return nil, false, err
	}
	tags = make([]registry.Tag, 0, len(names))
	for name := range names {
		tags = append(tags, registry.Tag{Name: name})
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i := range tags {
		group.Go(func() error {
			sum, _, err := r.resolve(groupCtx, tags[i].Name)
			tags[i].Manifest = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digests.Digest(sum)}
			return err
		})
	}
	return tags, !strict, group.Wait()
}

// Retag makes tags name what they should where another tool has moved them.
func (s *Store) Retag(ctx context.Context, model string, tags []registry.Tag) error {
	r, err := s.repository(model)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		if err := r.set(ctx, tag); err != nil {
			return err
		}
	}
	return nil
}
