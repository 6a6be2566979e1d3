package datasets_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/internal/hub"
)

// A data set is read from the hub's cache as the hub's tools lay it out: refs name commits, commits have
// snapshots, whose files are links.
func TestHubCache(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("HF_HUB_CACHE", cache)
	commit := strings.Repeat("0123456789", 4)
	set := filepath.Join(cache, "datasets--me--words")
	snapshot := filepath.Join(set, "snapshots", commit, "data")
	for _, dir := range []string{snapshot, filepath.Join(set, "refs"), filepath.Join(set, "blobs")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range map[string]string{filepath.Join(set, "refs", "main"): commit, filepath.Join(set, "blobs", "b"): twoJSONL, filepath.Join(set, "refs", "bad"): "../.."} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"train-1.jsonl", "train-0.jsonl"} {
		if err := os.Symlink(filepath.Join("..", "..", "..", "blobs", "b"), filepath.Join(snapshot, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, ref := range []string{"hf:me/words/data/train-*.jsonl", "hf:me/words@main/data/train-?.jsonl", "hf:me/words@" + commit + "/data/*.jsonl"} {
		files, err := (datasets.Source{Train: datasets.Paths{ref}}).At("elsewhere").Train.Files()
		if err != nil || len(files) != 2 || !strings.HasSuffix(files[0], "train-0.jsonl") {
			t.Errorf("%s: %v, %v", ref, files, err)
			continue
		}
		if rows, err := collect(datasets.ReadFiles(files, datasets.ReadOptions{})); err != nil || len(rows) != 4 {
			t.Errorf("%s: %d rows, %v", ref, len(rows), err)
		}
	}
	for ref, want := range map[string]string{
		"hf:me/other/x.jsonl": "holds no data set me/other", "hf:me/words@v2/x.jsonl": "no revision v2", "hf:me/words/x.jsonl": "has no file x.jsonl",
		"hf:me/words@bad/x.jsonl": "names no commit",
	} {
		_, err := datasets.Paths{ref}.Files()
		var missing *hub.MissingError
		if !errors.As(err, &missing) || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", ref, err, want)
		}
	}
	for _, ref := range []string{"hf:words/x.jsonl", "hf:me/words/../../x.jsonl", "hf:../words/x.jsonl"} {
		var format *hub.RefError
		if _, err := (datasets.Paths{ref}).Files(); !errors.As(err, &format) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}
