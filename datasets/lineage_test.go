package datasets_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// A run's record of a file says how it was made, from what, and how that was made.
func TestLineage(t *testing.T) {
	dir := t.TempDir()
	for i, name := range []string{"all.jsonl", "train.jsonl", "planted.jsonl"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(twoJSONL), 0o600); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			continue
		}
		parent := filepath.Join(dir, []string{"all.jsonl", "train.jsonl"}[i-1])
		if err := datasets.WriteLineage(path, datasets.Lineage{Command: []string{"data split", "exposure plant"}[i-1], Tool: "t5ctl 1"}, []string{parent}); err != nil {
			t.Fatal(err)
		}
	}
	open := func() datasets.SplitRecord {
		t.Helper()
		s := datasets.Source{Train: datasets.Paths{filepath.Join(dir, "planted.jsonl")}}
		d, err := s.Open(context.Background(), datasets.Train, datasets.OpenOptions{Tokenizer: vocab.Bytes()})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		return d.Record
	}
	made := open().Files[0].Made
	if made == nil || made.Command != "exposure plant" || made.Parents[0].Made == nil || made.Parents[0].Made.Command != "data split" || made.Parents[0].Made.Parents[0].Made != nil {
		b, _ := json.Marshal(made)
		t.Errorf("lineage %s", b)
	}
	path := filepath.Join(dir, "planted.jsonl")
	if err := os.WriteFile(path, []byte(twoJSONL+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if open().Files[0].Made != nil {
		t.Error("a file that was changed since is not what its lineage is about")
	}
	if err := os.WriteFile(datasets.LineagePath(path), []byte(`{"schema":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := datasets.Source{Train: datasets.Paths{path}}
	var bad *datasets.LineageError
	if _, err := s.Open(context.Background(), datasets.Train, datasets.OpenOptions{Tokenizer: vocab.Bytes()}); !errors.As(err, &bad) {
		t.Errorf("a broken lineage: %v", err)
	}
}
