package registry

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/t5ctl/t5ctl/internal/digest"
)

// ExpectNone says that a channel shall not serve anything yet.
const ExpectNone = "none"

// PromoteRequest asks that a channel serve a version from now on.
type PromoteRequest struct {
	Ref     Ref
	Channel string
	Expect  string // "v6", "sha256:…" or "none": what must serve now; "": what serves when the call begins
	Reason  string
	Ticket  string
	Share   int  // percent of the traffic that is meant for the version, 1 to 99; 0: all of it
	DryRun  bool // only say what would happen
	Approve bool // only agree to the promotion, which another will make
}

// RollbackRequest asks that a channel serve again what it served before.
type RollbackRequest struct {
	Model   string
	Channel string
	To      Ref    // zero: the version before the present one
	Expect  string // as in PromoteRequest
	Reason  string // required
	Ticket  string
	DryRun  bool
}

// Move is a channel's change.
type Move struct {
	Model   string  `json:"model"`
	Channel string  `json:"channel"`
	From    *Target `json:"from,omitempty"` // nil: the channel is new
	To      Target  `json:"to"`
	Seq     int64   `json:"seq,omitempty"` // 0: nothing was written
	DryRun  bool    `json:"dry_run,omitempty"`
	Share   int     `json:"share,omitempty"`   // percent of the traffic that was meant for it
	Approve bool    `json:"approve,omitempty"` // the move was agreed to, not made

	Warnings []string `json:"warnings,omitempty"` // what the policy would refuse if it were enforced
	Record   []byte   `json:"-"`                  // what was written
}

// Promote makes a channel serve a version whose evidence passes. Of several promotions that
// expect the same, one wins and the others get a *ConflictError. A version without passing gates
// gets a *GateError, and the refusal is recorded. The version's content is checked first.
func (r *Registry) Promote(ctx context.Context, request PromoteRequest) (Move, error) {
	if err := request.check(); err != nil {
		return Move{}, err
	}
	s, v, err := r.find(ctx, request.Ref)
	if err != nil {
		return Move{}, err
	}
	expect, err := s.expectation(request.Channel, request.Expect)
	if err != nil {
		return Move{}, err
	}
	if err := s.checkMove(request.Channel, expect, v.target); err != nil {
		return Move{}, err
	}
	m, err := r.checkVersion(ctx, s, v)
	if err != nil {
		return Move{}, err
	}
	reasons, err := r.judge(ctx, s.model, v, m)
	if err != nil {
		return Move{}, err
	}
	event := Event{Kind: KindPromote, Channel: request.Channel, To: &v.target, Evidence: v.current(), Reason: request.Reason, Ticket: request.Ticket, Policy: r.options.Policy.name(), Share: request.Share}
	if request.Approve {
		event.Kind = KindApprove
	}
	warnings, missing, err := r.lacks(ctx, s, v, event)
	if err != nil {
		return Move{}, err
	}
	if reasons = append(reasons, missing...); len(reasons) > 0 {
		return Move{}, r.refuse(ctx, request, v.target, reasons)
	}
	check := func(now *state) error { return now.checkMove(request.Channel, expect, v.target) }
	move, err := r.move(ctx, s, event, request.DryRun, check)
	move.Warnings = warnings
	return move, err
}

// lacks lists what the policy asks for and a move does not have: as warnings, or as reasons to
// refuse it.
func (r *Registry) lacks(ctx context.Context, s *state, v *version, event Event) (warnings, reasons []string, err error) {
	j, err := r.underPolicy(ctx, s, v, event.Channel)
	if err != nil || j.ring == nil {
		return nil, nil, err
	}
	need := 1
	if event.Kind == KindPromote {
		need = max(j.policy.channel(event.Channel).Signatures[RolePromoter], 1)
	}
	j.mover(r.options.Key, event.Channel, need)
	if j.policy.Mode == "warn" {
		return j.reasons, nil, nil
	}
	return nil, j.reasons, nil
}

func (q PromoteRequest) check() error {
	if err := CheckChannel(q.Channel); err != nil {
		return err
	}
	if q.Share < 0 || q.Share > 99 {
		return &RequestError{fmt.Sprintf("a share of %d %% is not between 1 and 99", q.Share)}
	}
	return checkExpect(q.Expect)
}

// checkExpect refuses what could not be an expectation.
func checkExpect(s string) error {
	if s == "" || s == ExpectNone || digest.Valid(s) {
		return nil
	}
	if _, err := ParseVersion(s); err != nil {
		return &RequestError{fmt.Sprintf("cannot expect %q: write v6, sha256:…, or none", s)}
	}
	return nil
}

// expectation turns what a caller expects into a form that later states can be compared with.
func (s *state) expectation(channel, expect string) (string, error) {
	if expect != "" {
		return expect, nil
	}
	if now := s.channels[channel].current(); now != nil {
		return now.Digest, nil
	}
	return ExpectNone, nil
}

// checkMove says whether a channel may be moved on to a version by one who expects that.
func (s *state) checkMove(name, expect string, to Target) error {
	now := s.channels[name].current()
	if err := s.checkExpected(name, expect); err != nil {
		return err
	}
	if now != nil && to.Version < now.Version {
		return &OlderError{Ref: Ref{Model: s.model, Version: to.Version}, Channel: name, Serving: Ref{Model: s.model, Version: now.Version}}
	}
	return nil
}

// checkExpected compares what a channel serves with what the caller expects.
func (s *state) checkExpected(name, expect string) error {
	now, serving := s.channels[name].current(), ExpectNone
	matches := expect == ExpectNone
	if now != nil {
		serving = "v" + strconv.Itoa(now.Version)
		matches = expect == serving || expect == now.Digest
	}
	if matches {
		return nil
	}
	if strings.HasPrefix(expect, digest.Prefix) { // people read numbers
		if number, found := s.byDigest[expect]; found {
			expect = "v" + strconv.Itoa(number)
		}
	}
	return &ConflictError{Model: s.model, Channel: name, Expected: expect, Serving: serving}
}

// move appends the event that moves a channel, unless check objects to the state it meets.
func (r *Registry) move(ctx context.Context, now *state, event Event, dryRun bool, check func(*state) error) (Move, error) {
	result := Move{Model: now.model, Channel: event.Channel, To: *event.To, Share: event.Share, DryRun: dryRun, Approve: event.Kind == KindApprove}
	if dryRun {
		result.From = now.channels[event.Channel].current()
		return result, nil
	}
	record, err := r.append(ctx, now.model, func(s *state) (*Event, error) {
		if err := check(s); err != nil {
			return nil, err
		}
		result.From = s.channels[event.Channel].current()
		if result.From != nil && *result.From == *event.To && !result.Approve {
			return nil, nil
		}
		event.From = result.From
		return &event, nil
	})
	if record != nil {
		result.Seq, result.Record = record.Event.Seq, record.Bytes
	}
	return result, err
}

// refuse records that a promotion was refused, and says so.
func (r *Registry) refuse(ctx context.Context, request PromoteRequest, to Target, reasons []string) error {
	refused := &GateError{Ref: Ref{Model: request.Ref.Model, Version: to.Version}, Channel: request.Channel, Reasons: reasons}
	if request.DryRun {
		return refused
	}
	record, err := r.append(ctx, request.Ref.Model, func(s *state) (*Event, error) {
		return &Event{
			Kind: KindRefuse, Channel: request.Channel, From: s.channels[request.Channel].current(), To: &to,
			Refused: reasons, Reason: request.Reason, Ticket: request.Ticket, Policy: r.options.Policy.name(),
		}, nil
	})
	if err != nil {
		return err
	}
	refused.Seq = record.Event.Seq
	return refused
}

// Rollback makes a channel serve a version that it served before. Nothing is erased: the way
// back is an event like the way forward. The target's content is checked first.
func (r *Registry) Rollback(ctx context.Context, request RollbackRequest) (Move, error) {
	if strings.TrimSpace(request.Reason) == "" {
		return Move{}, &RequestError{"a rollback needs a reason"}
	}
	if err := checkExpect(request.Expect); err != nil {
		return Move{}, err
	}
	s, err := r.known(ctx, request.Model)
	if err != nil {
		return Move{}, err
	}
	target, err := s.wayBack(request)
	if err != nil {
		return Move{}, err
	}
	expect, err := s.expectation(request.Channel, request.Expect)
	if err != nil {
		return Move{}, err
	}
	if err := s.checkExpected(request.Channel, expect); err != nil {
		return Move{}, err
	}
	if _, err := r.checkVersion(ctx, s, s.version(target.Version)); err != nil {
		return Move{}, err
	}
	event := Event{Kind: KindRollback, Channel: request.Channel, To: &target, Reason: request.Reason, Ticket: request.Ticket, Policy: r.options.Policy.name()}
	warnings, reasons, err := r.lacks(ctx, s, s.version(target.Version), event)
	if err != nil {
		return Move{}, err
	}
	if len(reasons) > 0 {
		refused := PromoteRequest{Ref: Ref{Model: s.model}, Channel: request.Channel, Reason: request.Reason, Ticket: request.Ticket, DryRun: request.DryRun}
		return Move{}, r.refuse(ctx, refused, target, reasons)
	}
	move, err := r.move(ctx, s, event, request.DryRun, func(now *state) error {
		return now.checkExpected(request.Channel, expect)
	})
	move.Warnings = warnings
	return move, err
}

// wayBack finds the version that a rollback returns to.
func (s *state) wayBack(request RollbackRequest) (Target, error) {
	c := s.channels[request.Channel]
	if c.current() == nil {
		ref := Ref{Model: s.model, Channel: request.Channel}
		return Target{}, &NotFoundError{Ref: ref, Nearest: s.nearest(ref)}
	}
	if request.To == (Ref{}) {
		if before := c.before(); before != nil {
			return *before, nil
		}
		return Target{}, &NoWayBackError{Model: s.model, Channel: request.Channel, Served: s.refs(c.served)}
	}
	v, err := s.resolve(request.To)
	if err != nil {
		return Target{}, err
	}
	if !slices.Contains(c.served, v.target) {
		return Target{}, &NoWayBackError{Model: s.model, Channel: request.Channel, Target: "v" + strconv.Itoa(v.target.Version), Served: s.refs(c.served)}
	}
	return v.target, nil
}

// refs names targets, the latest first.
func (s *state) refs(targets []Target) []Ref {
	refs := make([]Ref, 0, len(targets))
	for i := len(targets) - 1; i >= 0; i-- {
		refs = append(refs, Ref{Model: s.model, Version: targets[i].Version})
	}
	return refs
}
