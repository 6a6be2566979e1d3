package registry

import (
	"context"
	"slices"
	"time"

	"github.com/t5ctl/t5ctl/internal/nearest"
)

// Version is a version as list and show tell it.
type Version struct {
	Ref        Ref        `json:"-"`
	Name       string     `json:"name"` // model@vN
	Model      string     `json:"model"`
	Version    int        `json:"version"`
	Digest     string     `json:"digest"` // of the manifest
	Tree       string     `json:"tree"`   // of the model files alone
	Registered time.Time  `json:"registered"`
	Channels   []string   `json:"channels"` // that serve it now
	Canaries   bool       `json:"canaries,omitempty"`
	Evidence   []Evidence `json:"evidence"`
	Reason     string     `json:"reason,omitempty"`
}

// Detail is a version with what its manifest says.
type Detail struct {
	Version
	Kind   string  `json:"kind"`
	Base   *Base   `json:"base,omitempty"`
	Size   int64   `json:"size"` // bytes of all layers
	Layers []Layer `json:"layers"`
}

func (s *state) describe(v *version) Version {
	d := Version{
		Ref:     Ref{Model: s.model, Version: v.target.Version},
		Model:   s.model,
		Version: v.target.Version, Digest: v.target.Digest, Tree: v.event.Tree,
		Registered: v.event.Time, Canaries: v.event.Canaries, Reason: v.event.Reason,
		Evidence: v.current(), Channels: []string{},
	}
	d.Name = d.Ref.String()
	for _, name := range s.channelNames() {
		if now := s.channels[name].current(); now != nil && *now == v.target {
			d.Channels = append(d.Channels, name)
		}
	}
	return d
}

// current is the evidence that counts: of several pieces with one name the last.
func (v *version) current() []Evidence {
	list := []Evidence{}
	for _, e := range v.evidence {
		same := func(o Evidence) bool { return o.Name == e.Name }
		if at := slices.IndexFunc(list, same); at >= 0 {
			list[at] = e
		} else {
			list = append(list, e)
		}
	}
	return list
}

// List tells every version of a model, the oldest first.
func (r *Registry) List(ctx context.Context, model string) ([]Version, error) {
	s, err := r.known(ctx, model)
	if err != nil {
		return nil, err
	}
	list := make([]Version, 0, len(s.versions))
	for i := range s.versions {
		list = append(list, s.describe(&s.versions[i]))
	}
	return list, nil
}

// Channels tells which version each channel of a model serves.
func (r *Registry) Channels(ctx context.Context, model string) (map[string]Version, error) {
	s, err := r.known(ctx, model)
	if err != nil {
		return nil, err
	}
	serving := map[string]Version{}
	for name, c := range s.channels {
		if now := c.current(); now != nil {
			serving[name] = s.describe(s.version(now.Version))
		}
	}
	return serving, nil
}

// Resolve finds the version that a reference means now.
func (r *Registry) Resolve(ctx context.Context, ref Ref) (Version, error) {
	s, v, err := r.find(ctx, ref)
	if err != nil {
		return Version{}, err
	}
	return s.describe(v), nil
}

// Show is Resolve with the manifest's content, checked against its digest.
func (r *Registry) Show(ctx context.Context, ref Ref) (Detail, error) {
	s, v, err := r.find(ctx, ref)
	if err != nil {
		return Detail{}, err
	}
	m, err := r.model(ctx, ref.Model, v.target)
	if err != nil {
		return Detail{}, err
	}
	detail := Detail{Version: s.describe(v), Kind: m.Kind, Base: m.Base, Layers: m.Layers}
	for _, layer := range m.Layers {
		detail.Size += layer.Size
	}
	return detail, nil
}

// FindTree finds a version whose model files have the digest tree, the newest first; ok is
// false where no model of the registry holds them.
func (r *Registry) FindTree(ctx context.Context, tree string) (found Version, ok bool, err error) {
	models, err := r.Models(ctx)
	if err != nil {
		return Version{}, false, err
	}
	for _, model := range models {
		s, err := r.load(ctx, model)
		if err != nil {
			return Version{}, false, err
		}
		for i := len(s.versions) - 1; i >= 0; i-- {
			if s.versions[i].event.Tree == tree {
				return s.describe(&s.versions[i]), true, nil
			}
		}
	}
	return Version{}, false, nil
}

// nearestModels names the models that a mistyped one may have meant.
func (r *Registry) nearestModels(ctx context.Context, model string) []Ref {
	models, err := r.Models(ctx)
	if err != nil {
		return nil
	}
	var refs []Ref
	for _, name := range nearest.Ranked(model, models) {
		refs = append(refs, Ref{Model: name})
	}
	return refs
}
