package schemagen_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/t5ctl/t5ctl/recipes"
	"github.com/t5ctl/t5ctl/recipes/schemagen"
)

// TestCommitted holds recipes/schema.json to the structs it is made from; go run ./cmd/gendocs
// makes it anew. It fails too where a key has no comment.
func TestCommitted(t *testing.T) {
	want, err := schemagen.Recipe("../..")
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("T5CTL_UPDATE_SCRIPTS") != "" {
		if err := os.WriteFile("../schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(recipes.Schema(), want) {
		t.Error("recipes/schema.json is not what the option structs say: run go run ./cmd/gendocs")
	}
}
