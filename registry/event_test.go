package registry_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/t5ctl/t5ctl/registry"
)

func exampleEvent() registry.Event {
	target := registry.Target{Version: 2, Digest: someDigest, Size: 700}
	return registry.Event{
		Schema: registry.EventSchema, Seq: 5, Prev: someDigest, Model: "m", Kind: registry.KindPromote, Channel: "prod",
		To: &target, Reason: "é <b> & \x00\u2028", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

func TestRecord(t *testing.T) {
	record, err := registry.NewRecord(exampleEvent(), nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := registry.ParseRecord(record.Bytes)
	if err != nil || again.Digest != record.Digest || again.Event.Reason != exampleEvent().Reason {
		t.Errorf("read back: %+v, %v", again, err)
	}
	text := string(record.Bytes)
	for name, changed := range map[string]string{
		"a key twice":     strings.Replace(text, `"seq":5`, `"seq":4,"seq":5`, 1),
		"unknown key":     strings.Replace(text, `"seq":5`, `"seq":5,"extra":1`, 1),
		"key in capitals": strings.Replace(text, `"seq":5`, `"SEQ":5`, 1),
		"spaces":          strings.Replace(text, `"seq":5`, `"seq": 5`, 1),
		"something after": text + "{}",
		"a line end":      text + "\n",
		"other schema":    strings.Replace(text, registry.EventSchema, "t5ctl.event/v2", 1),
		"other number":    strings.Replace(text, `"seq":5`, `"seq":5.0`, 1),
		"other zone":      strings.Replace(text, `04:05Z`, `04:05+00:00`, 1),
		"nothing":         "",
		"not an object":   "[]",
		"too long":        strings.Replace(text, `"m"`, `"`+strings.Repeat("m", 1<<20)+`"`, 1),
	} {
		if _, err := registry.ParseRecord([]byte(changed)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// An event with a share is of the second format, and only such an event is.
func TestRecordWithShare(t *testing.T) {
	event := exampleEvent()
	event.Schema, event.Share = registry.EventSchema2, 10
	record, err := registry.NewRecord(event, nil)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := registry.ParseRecord(record.Bytes); err != nil || again.Event.Share != 10 {
		t.Errorf("read back: %+v, %v", again, err)
	}
	old := strings.Replace(string(record.Bytes), registry.EventSchema2, registry.EventSchema, 1)
	if _, err := registry.ParseRecord([]byte(old)); err == nil {
		t.Error("an event of the first format may not have a share")
	}
}

func TestParseLogRefusesOtherModels(t *testing.T) {
	event := exampleEvent()
	event.Seq, event.Prev = 1, ""
	record, err := registry.NewRecord(event, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := registry.ParseLog("m", [][]byte{record.Bytes}); err != nil {
		t.Error(err)
	}
	if _, err := registry.ParseLog("other", [][]byte{record.Bytes}); err == nil {
		t.Error("a log was read under another model's name")
	}
}

// FuzzParseRecord holds that what is accepted is exactly what would be written.
func FuzzParseRecord(f *testing.F) {
	record, err := registry.NewRecord(exampleEvent(), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(record.Bytes)
	f.Add([]byte(`{"payloadType":"application/vnd.t5ctl.event.v1+json","payload":"e30=","signatures":[{"keyid":"","sig":""}]}`))
	f.Add([]byte(`{"schema":"t5ctl.event/v1","seq":1,"model":"m","kind":"note","time":"2026-01-02T03:04:05Z"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		read, err := registry.ParseRecord(data)
		if err != nil {
			return
		}
		if read.Envelope != nil {
			data = read.Envelope.Payload
		}
		again, err := registry.NewRecord(read.Event, nil)
		if err != nil || !bytes.Equal(again.Bytes, data) {
			t.Errorf("%q is written as %q, %v", data, again.Bytes, err)
		}
	})
}
