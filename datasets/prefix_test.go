package datasets_test

import (
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// Inputs and targets together are the running text, in pieces that are split at varying places.
func TestPrefixLM(t *testing.T) {
	path := words(t, 500)
	source := datasets.Source{
		Train: datasets.Paths{path}, MaxInput: 32, MaxTarget: 20,
		Objectives: []datasets.Objective{{Kind: datasets.PrefixLM}},
	}
	data, err := source.Open(t.Context(), datasets.Train, datasets.OpenOptions{Tokenizer: vocab.Bytes()})
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close() //nolint:errcheck // a test
	s, err := data.Batches(datasets.BatchOptions{Rows: 1, MaxBuckets: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // a test
	var text strings.Builder
	splits := map[int]bool{}
	for _, b := range next(t, s, s.PerEpoch()) {
		input, target := before(b.Inputs, seq2seq.Pad), before(b.Labels, seq2seq.Ignore)
		if input[len(input)-1] != 1 || target[len(target)-1] != 1 || len(target) < 2 || len(target) > 20 {
			t.Fatalf("input %v, target %v", input, target)
		}
		splits[len(target)] = true
		text.WriteString(vocab.Bytes().Decode(input, true) + vocab.Bytes().Decode(target, true))
	}
	if len(splits) < 15 {
		t.Errorf("only %d lengths of target", len(splits))
	}
	var want strings.Builder
	rows, err := collect(datasets.Read(path, datasets.ReadOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range rows {
		want.WriteString(e.Input + e.Target)
	}
	if text.String() != want.String() {
		t.Error("the pieces do not make up the text")
	}
}

// before is what stands before the filling.
func before(ids []int32, fill int32) []int32 {
	for i, id := range ids {
		if id == fill {
			return ids[:i]
		}
	}
	return ids
}
