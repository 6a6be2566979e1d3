package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// load reads a model's log, checks the chain, and folds it. A model that is not there is a
// state with no versions.
func (r *Registry) load(ctx context.Context, model string) (*state, error) {
	if err := CheckModel(model); err != nil {
		return nil, err
	}
	lines, err := r.backend.Log(ctx, model)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	before := r.parsed[model]
	r.mu.Unlock()
	records, err := parseOn(model, before, lines)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.parsed[model] = records
	r.mu.Unlock()
	return fold(model, records)
}

// known is load for a model that must exist.
func (r *Registry) known(ctx context.Context, model string) (*state, error) {
	s, err := r.load(ctx, model)
	if err != nil || len(s.versions) > 0 {
		return s, err
	}
	return nil, &NotFoundError{Ref: Ref{Model: model}, Nearest: r.nearestModels(ctx, model)}
}

// find is what a reference means now, and the state it was found in.
func (r *Registry) find(ctx context.Context, ref Ref) (*state, *version, error) {
	s, err := r.load(ctx, ref.Model)
	if err != nil {
		return nil, nil, err
	}
	if len(s.versions) == 0 {
		return nil, nil, &NotFoundError{Ref: ref, Nearest: r.nearestModels(ctx, ref.Model)}
	}
	v, err := s.resolve(ref)
	return s, v, err
}

// append adds the event that build makes of the present state. When another writer comes first,
// build is asked again with the new state. A nil event means that nothing is left to do.
func (r *Registry) append(ctx context.Context, model string, build func(*state) (*Event, error)) (*Record, error) {
	release, err := r.hold(ctx, model, false)
	if err != nil {
		return nil, err
	}
	defer release()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s, err := r.load(ctx, model)
		if err != nil {
			return nil, err
		}
		event, err := build(s)
		if err != nil {
			return nil, err
		}
		if event == nil {
			return nil, r.publish(ctx, s)
		}
		record, err := r.stamp(*event, s)
		if err != nil {
			return nil, err
		}
		err = r.backend.Append(ctx, model, record.Event.Seq, s.head.Digest, record.Bytes)
		if taken := (*SlotTakenError)(nil); errors.As(err, &taken) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("writing to the log: %w", err)
		}
		after, err := fold(model, append(slices.Clone(s.records), record))
		if err != nil {
			return nil, err
		}
		return &record, r.publish(ctx, after)
	}
}

// hold keeps Collect away, or is Collect; see Holder.
func (r *Registry) hold(ctx context.Context, model string, alone bool) (release func(), err error) {
	holder, ok := r.backend.(Holder)
	if !ok {
		return func() {}, nil
	}
	return holder.Hold(ctx, model, alone)
}

// stamp fills in what every event carries.
func (r *Registry) stamp(event Event, s *state) (Record, error) {
	event.Schema = schemaOf(event)
	event.Model = s.model
	event.Seq = s.head.Seq + 1
	event.Prev = s.head.Digest
	event.Actor = r.options.Actor
	event.Tool = r.options.Tool
	event.Time = r.options.Clock().UTC().Truncate(time.Second)
	return NewRecord(event, r.options.Key)
}

// publish brings the tags up to the log. The log already stands: an error here loses nothing,
// and the next command on the model mends it.
func (r *Registry) publish(ctx context.Context, s *state) error {
	if s.head.Seq == 0 {
		return nil
	}
	if err := r.backend.Publish(ctx, s.model, s.head, s.tags()); err != nil {
		return fmt.Errorf("the log is written (record %d), the tags that copy it are not: %w", s.head.Seq, err)
	}
	return nil
}
