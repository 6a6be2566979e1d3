package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/registry/sign"
)

// EventSchema names the format of an Event; an event with a Share has the second one, which
// readers of the first alone refuse rather than misread.
const (
	EventSchema  = "t5ctl.event/v1"
	EventSchema2 = "t5ctl.event/v2"
)

// schemaOf is the format that an event needs.
func schemaOf(e Event) string {
	if e.Share != 0 {
		return EventSchema2
	}
	return EventSchema
}

// maxRecord bounds a record of the log; the longest real one is a few kilobytes.
const maxRecord = 1 << 20

// Kind says what an Event records.
type Kind string

// The kinds of events.
const (
	KindRegister Kind = "register"   // a version exists from here on
	KindEvidence Kind = "evidence"   // more evidence was bound to a version
	KindPromote  Kind = "promote"    // a channel moved forward
	KindRollback Kind = "rollback"   // a channel went back
	KindRefuse   Kind = "refuse"     // a promotion was refused for want of evidence
	KindApprove  Kind = "approve"    // a second person agrees to a promotion
	KindRotate   Kind = "rotate-key" // the key that signs this record is followed by another
	KindRevoke   Kind = "revoke-key" // what a key signs from here on does not count
)

// Target is a version as an event names it: the number for people, the digest for proof.
type Target struct {
	Version int    `json:"version"`
	Digest  string `json:"digest"`
	Size    int64  `json:"size"` // of the manifest, in bytes
}

// Evidence is a report or record bound to a version: a manifest whose subject is the version's.
type Evidence struct {
	Kind   string `json:"kind"` // "gate", "run", or what the report says of itself
	Name   string `json:"name"` // of the file, such as gate.json
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

// KeyChange is what happens to a key: it is followed by another, or does not count any more.
type KeyChange struct {
	ID     string `json:"id"`               // of the key
	Next   string `json:"next,omitempty"`   // of the one that follows it
	Public string `json:"public,omitempty"` // the one that follows, in PEM
}

// Event is one line of a model's history. Order is Seq and Prev; clocks never decide. A record
// of the log holds one event, bare or in a signed envelope; Prev is the digest of the whole record
// before, so that a signature cannot be taken off an old one.
type Event struct {
	Schema   string     `json:"schema"`
	Seq      int64      `json:"seq"`            // from 1, without gaps
	Prev     string     `json:"prev,omitempty"` // digest of the record before
	Model    string     `json:"model"`
	Kind     Kind       `json:"kind"`
	Channel  string     `json:"channel,omitempty"`
	From     *Target    `json:"from,omitempty"` // what the channel served until now
	To       *Target    `json:"to,omitempty"`   // the version that the event is about
	Tree     string     `json:"tree,omitempty"` // register: digest of the model files alone
	Canaries bool       `json:"canaries,omitempty"`
	Evidence []Evidence `json:"evidence,omitempty"`
	Refused  []string   `json:"refused,omitempty"` // refuse: what was missing or failed
	Policy   string     `json:"policy,omitempty"`  // digest of the policy that it was judged by
	Key      *KeyChange `json:"key,omitempty"`     // rotate-key, revoke-key
	Share    int        `json:"share,omitempty"`   // promote: percent of the traffic that is meant for the version; 0: all
	Actor    string     `json:"actor,omitempty"`
	Reason   string     `json:"reason,omitempty"`
	Ticket   string     `json:"ticket,omitempty"`
	Tool     string     `json:"tool,omitempty"`
	Time     time.Time  `json:"time"` // when the writer's clock says; information only
}

// Record is an event as it is stored.
type Record struct {
	Event    Event
	Bytes    []byte
	Digest   string
	Envelope *sign.Envelope // nil: it is not signed
}

// recordType is the type of an event in a signed envelope.
const recordType = "application/vnd.t5ctl.event.v1+json"

// NewRecord puts an event into the form that is stored, signed where there is a key. Without one
// the same event gives the same bytes.
func NewRecord(event Event, key *sign.PrivateKey) (Record, error) {
	data, err := json.Marshal(event)
	if err != nil {
		return Record{}, err
	}
	var envelope *sign.Envelope
	if key != nil {
		sealed, err := key.Seal(recordType, data)
		if err != nil {
			return Record{}, err
		}
		if data, err = json.Marshal(sealed); err != nil {
			return Record{}, err
		}
		envelope = &sealed
	}
	if len(data) > maxRecord {
		return Record{}, &RequestError{fmt.Sprintf("the event is %d bytes long, %d are allowed", len(data), maxRecord)}
	}
	return Record{Event: event, Bytes: data, Digest: digest.Bytes(data), Envelope: envelope}, nil
}

// ParseRecord reads a stored event. Whose signature it bears remains to be checked. Only the
// exact form that NewRecord writes is one: unknown or doubled keys, other spacing, and anything after the value are errors, so that two readers can
// never see two different events in the same bytes.
func ParseRecord(data []byte) (Record, error) {
	var event Event
	if len(data) > maxRecord {
		return Record{}, fmt.Errorf("the record is %d bytes long, %d are allowed", len(data), maxRecord)
	}
	record := Record{Bytes: data, Digest: digest.Bytes(data)}
	if bytes.HasPrefix(data, []byte(`{"payloadType":`)) {
		envelope, err := sign.ParseEnvelope(data)
		if err != nil {
			return Record{}, err
		}
		if envelope.PayloadType != recordType {
			return Record{}, fmt.Errorf("payload type %q is not %s", envelope.PayloadType, recordType)
		}
		record.Envelope, data = &envelope, envelope.Payload
	}
	if err := json.Unmarshal(data, &event); err != nil {
		return Record{}, fmt.Errorf("not an event: %w", err)
	}
	if event.Schema != schemaOf(event) {
		return Record{}, fmt.Errorf("schema %q is not %s", event.Schema, schemaOf(event))
	}
	again, err := json.Marshal(event)
	if err != nil {
		return Record{}, err
	}
	if !bytes.Equal(again, data) {
		return Record{}, fmt.Errorf("the event is not in its canonical form")
	}
	record.Event = event
	return record, nil
}

// ParseLog reads the records of a model's log and checks that they are one chain: numbered from
// 1 without gaps, each naming the digest of the one before, all of this model.
func ParseLog(model string, lines [][]byte) ([]Record, error) {
	return parseOn(model, nil, lines)
}

// parseOn is ParseLog for one who has parsed the start of the log before: records that are the
// same bytes again are taken over.
func parseOn(model string, before []Record, lines [][]byte) ([]Record, error) {
	known := 0
	for known < min(len(before), len(lines)) && bytes.Equal(before[known].Bytes, lines[known]) {
		known++
	}
	parsed, errs := parseAll(lines[known:])
	records := append(make([]Record, 0, len(lines)), before[:known]...)
	prev := ""
	if known > 0 {
		prev = records[known-1].Digest
	}
	for i, record := range parsed {
		seq := int64(known+i) + 1
		if errs[i] != nil {
			return records, &CorruptError{Model: model, What: fmt.Sprintf("record %d of the log", seq), Reason: errs[i].Error()}
		}
		if reason := chained(record.Event, model, seq, prev); reason != "" {
			return records, &CorruptError{Model: model, What: fmt.Sprintf("record %d of the log", seq), Digest: record.Digest, Reason: reason}
		}
		records, prev = append(records, record), record.Digest
	}
	return records, nil
}

// parseAll reads records by themselves, on all cores; the error of each stands at its place.
func parseAll(lines [][]byte) ([]Record, []error) {
	const few = 64 // records for which another goroutine is worth its while
	records, errs := make([]Record, len(lines)), make([]error, len(lines))
	share := max(few, (len(lines)+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0))
	var group sync.WaitGroup
	for start := 0; start < len(lines); start += share {
		group.Go(func() {
			for i := start; i < min(start+share, len(lines)); i++ {
				records[i], errs[i] = ParseRecord(lines[i])
			}
		})
	}
	group.Wait()
	return records, errs
}

// chained says why an event cannot stand at its place, or "".
func chained(e Event, model string, seq int64, prev string) string {
	switch {
	case e.Model != model:
		return fmt.Sprintf("it is of model %q", e.Model)
	case e.Seq != seq:
		return fmt.Sprintf("it has number %d", e.Seq)
	case e.Prev != prev:
		return fmt.Sprintf("it follows %s, the record before is %s", orNone(e.Prev), orNone(prev))
	}
	return ""
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
