package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/t5ctl/t5ctl/registry/sign"
)

// checkpointType is the type of a Checkpoint in its signed envelope.
const checkpointType = "application/vnd.t5ctl.checkpoint.v1+json"

// Checkpoint says how far a model's log went, to be kept where whoever runs the registry cannot
// reach: a log that later is shorter, or another, is told by it.
type Checkpoint struct {
	Schema   string            `json:"schema"`
	Model    string            `json:"model"`
	Head     LogEnding         `json:"head"`
	Versions int               `json:"versions"`
	Channels map[string]string `json:"channels"` // to "v7 sha256:…"
	Time     time.Time         `json:"time"`     // information only
}

// checkpointSchema names the format.
const checkpointSchema = "t5ctl.checkpoint/v1"

// Checkpoint makes a signed checkpoint of a model's log.
func (r *Registry) Checkpoint(ctx context.Context, model string) (Checkpoint, []byte, error) {
	if r.options.Key == nil {
		return Checkpoint{}, nil, &RequestError{"a checkpoint is signed, and there is no key"}
	}
	s, err := r.known(ctx, model)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	c := Checkpoint{
		Schema: checkpointSchema, Model: model, Head: LogEnding(s.head), Versions: len(s.versions), Channels: map[string]string{},
		Time: r.options.Clock().UTC().Truncate(time.Second),
	}
	for _, name := range s.channelNames() {
		now := s.channels[name].current()
		c.Channels[name] = "v" + strconv.Itoa(now.Version) + " " + now.Digest
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return c, nil, err
	}
	envelope, err := r.options.Key.Seal(checkpointType, payload)
	if err != nil {
		return c, nil, err
	}
	data, err := json.Marshal(envelope)
	return c, append(data, '\n'), err
}

// parseCheckpoint reads a checkpoint and its envelope.
func parseCheckpoint(data []byte) (Checkpoint, sign.Envelope, error) {
	var c Checkpoint
	if n := len(data); n > 0 && data[n-1] == '\n' {
		data = data[:n-1]
	}
	envelope, err := sign.ParseEnvelope(data)
	if err != nil {
		return c, envelope, err
	}
	if envelope.PayloadType != checkpointType {
		return c, envelope, fmt.Errorf("payload type %q is not %s", envelope.PayloadType, checkpointType)
	}
	if err := uniqueKeys(envelope.Payload); err != nil {
		return c, envelope, err
	}
	err = json.Unmarshal(envelope.Payload, &c)
	if err == nil && c.Schema != checkpointSchema {
		err = fmt.Errorf("schema %q is not %s", c.Schema, checkpointSchema)
	}
	return c, envelope, err
}

// CheckAgainst holds a log against a checkpoint of it: the record that was last then must stand
// where it stood. With a policy, the checkpoint must be signed by one of its keys.
func (r *Registry) CheckAgainst(ctx context.Context, data []byte) (Checkpoint, error) {
	c, envelope, err := parseCheckpoint(data)
	if err != nil {
		return c, &RequestError{"not a checkpoint: " + err.Error()}
	}
	s, err := r.load(ctx, c.Model)
	if err != nil {
		return c, err
	}
	if p := r.options.Policy; p != nil && p.Mode != "off" && len(signers(p.ring(s.records), envelope, c.Head.Seq, "")) == 0 {
		return c, &PolicyError{Ref: Ref{Model: c.Model}, Reasons: []string{"no key of the policy has signed the checkpoint"}}
	}
	damaged := func(reason string) error {
		return &CorruptError{Model: c.Model, What: "log", Reason: reason}
	}
	switch {
	case c.Head.Seq < 1:
		return c, &RequestError{"not a checkpoint: it names no record"}
	case c.Head.Seq > s.head.Seq:
		return c, damaged(fmt.Sprintf("it has %d records, the checkpoint has seen %d", s.head.Seq, c.Head.Seq))
	case s.records[c.Head.Seq-1].Digest != c.Head.Digest:
		return c, damaged(fmt.Sprintf("record %d is %s, the checkpoint has seen %s", c.Head.Seq, s.records[c.Head.Seq-1].Digest, c.Head.Digest))
	}
	return c, nil
}

// signedRecords checks, where a policy is enforced, that who has written each record might.
func (c *checker) signedRecords(s *state) {
	p := c.registry.options.Policy
	if p == nil || p.Mode != "enforce" {
		return
	}
	ring := p.ring(s.records)
	for _, record := range s.records {
		e := record.Event
		roles := []string{""}
		switch e.Kind {
		case KindRegister:
			roles = []string{RoleBuilder}
		case KindEvidence:
			roles = []string{RoleBuilder, RoleEvaluator, RolePromoter}
		case KindPromote, KindRollback, KindApprove:
			roles = []string{RolePromoter}
		case KindRefuse: // whoever tried and might not
			continue
		case KindRotate, KindRevoke:
		}
		found := false
		for _, role := range roles {
			found = found || record.Envelope != nil && len(signers(ring, *record.Envelope, e.Seq, role)) > 0
		}
		if !found {
			c.note(&PolicyError{Ref: Ref{Model: c.model}, Reasons: []string{fmt.Sprintf("record %d (%s) is not signed by a key that counts for it", e.Seq, e.Kind)}})
		}
	}
}
