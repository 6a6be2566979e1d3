package registry

import (
	"context"
	"fmt"

	"github.com/t5ctl/t5ctl/registry/sign"
)

// RotateKey records in a model's log that the key which signs is followed by another: from the
// next record on the policy trusts that one in its place. Seq is 0 where that stands there already.
func (r *Registry) RotateKey(ctx context.Context, model string, next sign.PublicKey, reason string) (seq int64, err error) {
	if r.options.Key == nil {
		return 0, &RequestError{"a rotation is signed by the key that is replaced"}
	}
	return r.changeKey(ctx, model, Event{
		Kind: KindRotate, Reason: reason, Key: &KeyChange{ID: r.options.Key.ID, Next: next.ID, Public: string(next.PEM)},
	})
}

// RevokeKey records that what a key signs from here on does not count. What it signed before
// still does: the order of the log tells, not a clock.
func (r *Registry) RevokeKey(ctx context.Context, model, id, reason string) (seq int64, err error) {
	if r.options.Key == nil {
		return 0, &RequestError{"a revocation is signed: by the key itself, or by one that the policy calls root"}
	}
	return r.changeKey(ctx, model, Event{Kind: KindRevoke, Reason: reason, Key: &KeyChange{ID: id}})
}

func (r *Registry) changeKey(ctx context.Context, model string, event Event) (int64, error) {
	if _, err := r.known(ctx, model); err != nil {
		return 0, err
	}
	record, err := r.append(ctx, model, func(s *state) (*Event, error) {
		for _, before := range s.records {
			if e := before.Event; e.Kind == event.Kind && *e.Key == *event.Key && before.Envelope != nil && before.Envelope.Check(r.options.Key.PublicKey) {
				return nil, nil
			}
		}
		return &event, nil
	})
	if err != nil || record == nil {
		return 0, err
	}
	return record.Event.Seq, nil
}

// Keys tells which keys count for a model by the policy and the model's log.
func (r *Registry) Keys(ctx context.Context, model string) ([]KeyState, error) {
	if r.options.Policy == nil {
		return nil, &RequestError{"which keys count is what a policy says, and there is none"}
	}
	s, err := r.known(ctx, model)
	if err != nil {
		return nil, err
	}
	list := []KeyState{}
	for _, k := range r.options.Policy.ring(s.records) {
		state := KeyState{Name: k.name, ID: k.key.ID, Roles: k.roles, From: k.from}
		if k.until <= s.head.Seq {
			state.Until = k.until
		}
		list = append(list, state)
	}
	return list, nil
}

// KeyState is a key and the records of a log for which it counts.
type KeyState struct {
	Name  string   `json:"name"`
	ID    string   `json:"id"`
	Roles []string `json:"roles"`
	From  int64    `json:"from"`
	Until int64    `json:"until,omitempty"` // 0: it counts
}

// String is the record numbers as people read them.
func (k KeyState) String() string {
	if k.Until > 0 {
		return fmt.Sprintf("%d to %d", k.From, k.Until)
	}
	return fmt.Sprintf("from %d", k.From)
}
