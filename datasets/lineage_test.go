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

// A record that is read is one of ours, whatever lies there.
func FuzzLineage(f *testing.F) {
	f.Add([]byte(`{"schema":"t5ctl.lineage/1","digest":"sha256:0","command":"data split","tool":"t5ctl","parents":[{"path":"a","digest":"d","bytes":1}]}`))
	path := filepath.Join(f.TempDir(), "a.jsonl")
	if err := os.WriteFile(path, []byte(twoJSONL), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(datasets.LineagePath(path), data, 0o600); err != nil {
			t.Fatal(err)
		}
		child := filepath.Join(t.TempDir(), "b.jsonl")
		if err := os.WriteFile(child, []byte(twoJSONL), 0o600); err != nil {
			t.Fatal(err)
		}
		err := datasets.WriteLineage(child, datasets.Lineage{Command: "x"}, []string{path})
		var bad *datasets.LineageError
		if err != nil && !errors.As(err, &bad) {
			t.Fatalf("%T: %v", err, err)
		}
	})
}

// A reference to the hub finds files inside the cache's snapshot, or none.
func FuzzHubReference(f *testing.F) {
	cache := f.TempDir()
	f.Setenv("HF_HUB_CACHE", cache)
	snapshot := filepath.Join(cache, "datasets--a--b", "snapshots", "main")
	if err := os.MkdirAll(snapshot, 0o755); err != nil {
		f.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(snapshot, "x.jsonl"), []byte(twoJSONL), 0o600); err != nil {
		f.Fatal(err)
	}
	for _, ref := range []string{"a/b/x.jsonl", "a/b@main/*.jsonl", "a/b/../../../x", "../b/x", "a/b@../x", "a/b@./.", "a/b/./x.jsonl"} {
		f.Add(ref)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		files, err := datasets.Paths{"hf:" + ref}.Files()
		if err != nil {
			return
		}
		for _, file := range files {
			if rel, err := filepath.Rel(snapshot, file); err != nil || !filepath.IsLocal(rel) {
				t.Fatalf("%q leads to %s", ref, file)
			}
		}
	})
}
