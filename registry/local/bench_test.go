package local_test

import (
	"fmt"
	"testing"

	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/registry"
	"github.com/t5ctl/t5ctl/registry/local"
	"github.com/t5ctl/t5ctl/registry/registrytest"
)

func BenchmarkPush(b *testing.B) {
	root := tempDir(b)
	dir := registrytest.WriteModel(b, tempDir(b), 1)
	for b.Loop() {
		if err := pushFolder(open(root), dir); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLongLog asks a model of 1,000 versions and 10,000 records.
func BenchmarkLongLog(b *testing.B) {
	root, _ := filled(b, 1)
	store := local.Open(root)
	lines, err := store.Log(b.Context(), "m")
	if err != nil {
		b.Fatal(err)
	}
	records, err := registry.ParseLog("m", lines)
	if err != nil {
		b.Fatal(err)
	}
	first := records[0].Event
	last, moved := records[len(records)-1], records[len(records)-1].Event.To
	for seq := last.Event.Seq + 1; seq <= 10_000; seq++ {
		event := registry.Event{Schema: registry.EventSchema, Seq: seq, Prev: last.Digest, Model: "m", Time: first.Time}
		if seq <= 1001 {
			to := *first.To
			to.Version, to.Digest = int(seq)-1, digest.Bytes([]byte(fmt.Sprint(seq)))
			event.Kind, event.To, event.Tree, event.Evidence = registry.KindRegister, &to, first.Tree, first.Evidence
		} else {
			event.Kind, event.Channel, event.From, event.To, event.Reason = registry.KindPromote, "prod", moved, moved, "because it is better than the one before"
		}
		if last, err = registry.NewRecord(event, nil); err != nil {
			b.Fatal(err)
		}
		records = append(records, last)
	}
	lines = nil
	for _, record := range records {
		lines = append(lines, record.Bytes)
	}
	if err := store.Restore(b.Context(), "m", lines); err != nil {
		b.Fatal(err)
	}
	b.Run("resolve", func(b *testing.B) {
		for b.Loop() {
			if _, err := open(root).Resolve(b.Context(), registry.Ref{Model: "m", Channel: "prod"}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("history", func(b *testing.B) {
		for b.Loop() {
			if _, err := open(root).History(b.Context(), "m", "prod", registry.Moment{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("promote", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if err := promoteRef(open(root), "m@v1", fmt.Sprintf("c%d", i), ""); err != nil {
				b.Fatal(err)
			}
		}
	})
}
