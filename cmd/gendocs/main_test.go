package main

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestGenerateAgain says that what is generated depends on the source alone.
func TestGenerateAgain(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	first := all(t)
	t.Setenv("HOME", t.TempDir())
	t.Setenv("T5CTL_BACKEND", "go")
	second := all(t)
	for _, name := range slices.Sorted(maps.Keys(first)) {
		if !bytes.Equal(first[name], second[name]) {
			t.Errorf("%s differs between two runs", name)
		}
	}
	for _, name := range []string{"docs/cli/t5ctl.md", "docs/cli/exit-codes.md", "man/t5ctl-recipe-show.1", "completions/t5ctl.bash", "recipes/schema.json"} {
		if len(first[name]) == 0 {
			t.Errorf("%s is not made", name)
		}
	}
}

func all(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := forRepository("../..")
	if err != nil {
		t.Fatal(err)
	}
	released, err := forRelease()
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(files, released)
	return files
}

// TestRun writes both kinds of files, and removes what is made no more.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "man", "t5ctl-gone.1")
	if err := os.MkdirAll(filepath.Dir(stale), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run("../..", dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", stale, err)
	}
	for _, name := range []string{"man/t5ctl.1", "completions/_t5ctl"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "docs")); err == nil {
		t.Error("docs were written to the folder of a release")
	}
}
