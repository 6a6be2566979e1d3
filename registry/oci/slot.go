package oci

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/registry"
)

// Manifests of announcements. One that is withdrawn is overwritten before its tag is deleted, as
// not every server deletes tags.
const (
	artifactTypeIntent = "application/vnd.t5ctl.intent.v1+json"
	annotationState    = "dev.t5ctl.intent.state" // "live" or "withdrawn"
	annotationSince    = "dev.t5ctl.intent.since"
	annotationBy       = "dev.t5ctl.intent.by"
	probeTag           = "t5log-probe"
)

// BlockedError says that another writer has announced a record and not written it: it is slow,
// or it died.
type BlockedError struct {
	Model string
	Seq   int64
	Tags  []string // of the announcements
	By    string   // who made the first of them
	Since time.Time
}

// Error tells who and since when.
func (e *BlockedError) Error() string {
	return fmt.Sprintf("record %d of the log of %s was announced by %s at %s and never written", e.Seq, e.Model, e.By, e.Since.Format(time.RFC3339))
}

// announcements is what the guarded protocol needs of a server. Its steps are those between which
// another writer may come.
type announcements interface {
	announce(ctx context.Context) (tag string, err error) // under a new tag
	rivals(ctx context.Context, mine string) ([]string, error)
	taken(ctx context.Context) (bool, error)
	write(ctx context.Context) error
	withdraw(ctx context.Context, tag string) error
	lost(ctx context.Context) error                 // the error of one who came too late
	blocked(ctx context.Context, by []string) error // the error of one who has waited enough
}

// guarded writes a record on a server that lets tags move, so that of several writers at most one
// does. Whoever sees another's announcement withdraws and tries again later; whoever sees none
// after its own is in place is the only one that can: everybody who announces later sees it.
func guarded(ctx context.Context, a announcements, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for attempt := 1; ; attempt++ {
		mine, err := a.announce(ctx)
		if err != nil {
			return err
		}
		rivals, done, err := tryOnce(ctx, a, mine)
		if withdrawErr := a.withdraw(context.WithoutCancel(ctx), mine); err == nil && withdrawErr != nil && !done {
			err = withdrawErr
		}
		if err != nil || done {
			return err
		}
		if time.Now().After(deadline) {
			return a.blocked(ctx, rivals)
		}
		if err := pause(ctx, min(time.Duration(attempt)*15*time.Millisecond, time.Second)); err != nil {
			return err
		}
	}
}

// tryOnce writes the record if nobody else has announced or written it. The order matters: first
// the list, then whether the record is there. A rival that is no longer in the list has written
// before it withdrew, if it has written at all.
func tryOnce(ctx context.Context, a announcements, mine string) (rivals []string, done bool, err error) {
	if rivals, err = a.rivals(ctx, mine); err != nil {
		return nil, false, err
	}
	taken, err := a.taken(ctx)
	switch {
	case err != nil:
		return nil, false, err
	case taken:
		return nil, false, a.lost(ctx)
	case len(rivals) > 0:
		return rivals, false, nil
	}
	return nil, true, a.write(ctx)
}

// slot is the place of one record in a repository.
type slot struct {
	*repository
	seq      int64
	manifest []byte
	stored   func() error // waits until all that the manifest names is there
}

var _ announcements = (*slot)(nil)

func (s *slot) prefix() string { return fmt.Sprintf("t5int-%08d-", s.seq) }

func (s *slot) lost(context.Context) error {
	return &registry.SlotTakenError{Model: s.model, Seq: s.seq}
}

func (s *slot) taken(ctx context.Context) (bool, error) {
	_, found, err := s.resolve(ctx, logTag(s.seq))
	return found, err
}

// write puts the record at its tag. When the server says no, or does not say, the tag tells.
func (s *slot) write(ctx context.Context) error {
	if err := s.stored(); err != nil {
		return err
	}
	err := s.tagManifest(ctx, logTag(s.seq), s.manifest)
	if err == nil {
		return nil
	}
	sum, found, askErr := s.resolve(context.WithoutCancel(ctx), logTag(s.seq))
	switch {
	case askErr != nil || !found:
		return err
	case sum == digest.Bytes(s.manifest):
		return nil
	}
	return s.lost(ctx)
}

// intentManifest is an announcement.
func intentManifest(state, by string, since time.Time) ([]byte, error) {
	return json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: artifactTypeIntent, Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{ocispec.DescriptorEmptyJSON},
		Annotations: map[string]string{annotationState: state, annotationBy: by, annotationSince: since.UTC().Format(time.RFC3339)},
	})
}

func (s *slot) announce(ctx context.Context) (string, error) {
	manifest, err := intentManifest("live", s.store.options.Journal, time.Now())
	if err != nil {
		return "", err
	}
	tag := s.prefix() + strings.ToLower(rand.Text()[:16])
	if err := s.tagManifest(ctx, tag, manifest); err != nil {
		return "", errors.Join(err, s.withdraw(context.WithoutCancel(ctx), tag)) // it may have arrived
	}
	return tag, nil
}

// rivals lists the announcements of others that are not withdrawn.
func (s *slot) rivals(ctx context.Context, mine string) ([]string, error) {
	var tags []string
	err := s.Tags(ctx, s.prefix(), func(page []string) error {
		for _, tag := range page {
			if strings.HasPrefix(tag, s.prefix()) && tag != mine {
				tags = append(tags, tag)
			}
		}
		return nil
	})
	if err = s.store.told(err); status(err) == http.StatusNotFound {
		return nil, nil // there is no such repository yet
	}
	if err != nil {
		return nil, err
	}
	var live []string
	for _, tag := range tags {
		intent, err := s.intent(ctx, tag)
		if err != nil {
			return nil, err
		}
		if intent != nil {
			live = append(live, tag)
		}
	}
	return live, nil
}

// intent reads an announcement; nil where it is withdrawn or gone.
func (r *repository) intent(ctx context.Context, tag string) (map[string]string, error) {
	data, err := r.manifestAt(ctx, tag)
	if err != nil || data == nil {
		return nil, err
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(data, &manifest); err != nil {
		return nil, r.damaged(fmt.Sprintf("announcement %s: %v", tag, err))
	}
	if manifest.Annotations[annotationState] == "withdrawn" {
		return nil, nil
	}
	return manifest.Annotations, nil
}

// withdraw takes an announcement back.
func (r *repository) withdraw(ctx context.Context, tag string) error {
	manifest, err := intentManifest("withdrawn", "", time.Time{})
	if err != nil {
		return err
	}
	if err := r.tagManifest(ctx, tag, manifest); err != nil {
		return err
	}
	resp, err := r.do(ctx, request{method: http.MethodDelete, url: "manifests/" + tag})
	if err != nil {
		return nil //nolint:nilerr // it is withdrawn; that the tag stays is only untidy
	}
	return resp.Body.Close()
}

func (s *slot) blocked(ctx context.Context, tags []string) error {
	e := &BlockedError{Model: s.model, Seq: s.seq, Tags: tags}
	for _, tag := range tags {
		if notes, err := s.intent(ctx, tag); err == nil && notes != nil {
			e.By = notes[annotationBy]
			e.Since, _ = time.Parse(time.RFC3339, notes[annotationSince])
			break
		}
	}
	return e
}

// isStrict tries once whether the server refuses to move a tag: the same tag is given to two
// manifests.
func (r *repository) isStrict(ctx context.Context) (bool, error) {
	if r.strict != nil {
		return *r.strict, nil
	}
	strict := false
	for i, state := range []string{"probe", "probe moved"} {
		manifest, err := intentManifest(state, "", time.Time{})
		if err != nil {
			return false, err
		}
		err = r.tagManifest(ctx, probeTag, manifest)
		refused, _ := errors.AsType[*ServerError](err)
		if strict = refused != nil && refused.Status < http.StatusInternalServerError; err != nil && !strict {
			return false, err
		}
		if !strict {
			continue
		}
		if _, found, askErr := r.resolve(ctx, probeTag); askErr != nil || !found || i == 0 {
			return false, errors.Join(err, askErr)
		}
	}
	r.strict = &strict
	return strict, nil
}

// BreakIntents withdraws the announcements of the next record, for when their writer is known to
// be dead: were it only slow, its record could replace another's. It names those it withdrew.
func (s *Store) BreakIntents(ctx context.Context, model string) ([]string, error) {
	r, err := s.repository(model)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	lines, err := r.log(ctx)
	if err != nil {
		return nil, err
	}
	next := slot{repository: r, seq: int64(len(lines)) + 1}
	tags, err := next.rivals(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, tag := range tags {
		if err := r.withdraw(ctx, tag); err != nil {
			return nil, err
		}
	}
	return slices.Clone(tags), nil
}
