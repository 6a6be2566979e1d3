package main

import (
	"bytes"
	"maps"
	"slices"
	"testing"
)

// TestGenerateAgain says that what is generated depends on the source alone.
func TestGenerateAgain(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	first, err := generate("../..")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("T5CTL_BACKEND", "go")
	second, err := generate("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(first)) {
		if !bytes.Equal(first[name], second[name]) {
			t.Errorf("%s differs between two runs", name)
		}
	}
	for _, name := range []string{"docs/cli/t5ctl.md", "docs/cli/exit-codes.md", "docs/man/t5ctl-recipe-show.1", "completions/t5ctl.bash", "recipes/schema.json"} {
		if len(first[name]) == 0 {
			t.Errorf("%s is not made", name)
		}
	}
}
