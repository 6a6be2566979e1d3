package datasets_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// preferenceData opens one file as pairs of preference.
func preferenceData(t *testing.T, name, text string, columns datasets.Columns) (*datasets.Data, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	source := datasets.Source{Train: datasets.Paths{path}, Columns: columns, MaxTarget: 4, Objectives: []datasets.Objective{{Kind: datasets.Preference}}}
	data, err := source.Open(context.Background(), datasets.Train, datasets.OpenOptions{Tokenizer: vocab.Bytes()})
	if err == nil {
		t.Cleanup(func() { _ = data.Close() })
	}
	return data, err
}

func TestPairsOfPreference(t *testing.T) {
	data, err := preferenceData(t, "pairs.csv", "input,better,worse\na,b,cccc\nd,ee,\n", datasets.Columns{Chosen: "better", Rejected: "worse"})
	if err != nil {
		t.Fatal(err)
	}
	if r := data.Record; r.Rows != 2 || r.TruncatedTargets != 1 {
		t.Errorf("%d rows, %d targets cut; want 2 and 1", r.Rows, r.TruncatedTargets)
	}
	stream, err := data.Batches(datasets.BatchOptions{Rows: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	batch, err := stream.Next(context.Background())
	if err != nil || stream.PerEpoch() != 1 || batch.Rows != 6 {
		t.Fatalf("%d rows of %d batches, %v", batch.Rows, stream.PerEpoch(), err)
	}
	const none = seq2seq.Ignore
	id := func(b byte) int32 { return int32(b) + 3 }
	want := [][]int32{ // </s> is 1
		{id('b'), 1, none, none}, {id('c'), id('c'), id('c'), 1},
		{id('e'), id('e'), 1, none}, {1, none, none, none},
		{none, none, none, none}, {none, none, none, none},
	}
	if !slices.Equal(batch.Labels, slices.Concat(want...)) {
		t.Errorf("labels %v, want %v", batch.Labels, want)
	}
	if in := []int32{id('a'), 1, id('a'), 1, id('d'), 1, id('d'), 1, 0, 0, 0, 0}; !slices.Equal(batch.Inputs, in) {
		t.Errorf("inputs %v, want %v", batch.Inputs, in)
	}
}

func TestPairsNeedBothTexts(t *testing.T) {
	for name, text := range map[string]string{
		"jsonl": `{"input": "a", "chosen": "b"}` + "\n", "csv": "input,rejected\na,b\n", "tsv": "input\ttarget\na\tb\n",
	} {
		_, err := preferenceData(t, "pairs."+name, text, datasets.Columns{})
		if column, ok := errors.AsType[*datasets.ColumnError](err); !ok || column.Column != "chosen" && column.Column != "rejected" {
			t.Errorf("%s: %v; want a ColumnError", name, err)
		}
	}
	first, err := preferenceData(t, "a.jsonl", `{"input": "a", "chosen": "b", "rejected": "c"}`, datasets.Columns{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := preferenceData(t, "b.jsonl", `{"input": "a", "chosen": "b", "rejected": "d"}`, datasets.Columns{})
	if err != nil || first.Record.Fingerprint == second.Record.Fingerprint {
		t.Errorf("another rejected text has the same fingerprint (%v)", err)
	}
}
