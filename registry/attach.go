package registry

import (
	"context"
	"fmt"
)

// Attach binds more evidence to a version that exists: a report or gate result of a later job.
// Of pieces with one name the last counts; the others stay in the log. What is bound already is
// not bound twice.
func (r *Registry) Attach(ctx context.Context, ref Ref, reports []File, reason string) (Version, error) {
	_, v, err := r.find(ctx, ref)
	if err != nil {
		return Version{}, err
	}
	m, err := r.model(ctx, ref.Model, v.target)
	if err != nil {
		return Version{}, err
	}
	request := PushRequest{Model: ref.Model, Reports: reports, Created: m.Created, Reason: reason}
	p := &pushing{request: request, target: v.target, model: m}
	if p.evidence, err = bundles(request, v.target); err != nil {
		return Version{}, err
	}
	release, err := r.hold(ctx, ref.Model, false)
	if err != nil {
		return Version{}, err
	}
	defer release()
	for _, b := range p.evidence {
		if err := b.store(ctx, r, ref.Model); err != nil {
			return Version{}, fmt.Errorf("storing the evidence %s: %w", b.entry.Name, err)
		}
	}
	_, err = r.append(ctx, ref.Model, func(s *state) (*Event, error) {
		v := s.version(v.target.Version)
		signed, err := r.attestNew(ctx, p, v, v.target.Version)
		if err != nil {
			return nil, err
		}
		return p.more(v, signed), nil
	})
	if err != nil {
		return Version{}, err
	}
	return r.Resolve(ctx, Ref{Model: ref.Model, Version: v.target.Version})
}
