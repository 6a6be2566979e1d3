package vocab_test

import (
	"testing"

	"github.com/t5ctl/t5ctl/internal/vocab"
)

func TestBytesRoundTrip(t *testing.T) {
	dir := t.TempDir()
	tok := vocab.Bytes()
	if err := tok.WriteFiles(dir); err != nil {
		t.Fatal(err)
	}
	again, err := vocab.Load(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if again.Hash() != tok.Hash() || again.Size() != 384 || again.Mode() != vocab.ModeBytes {
		t.Errorf("loaded %v, wrote %v", again, tok)
	}
	if id, ok := again.Sentinel(124); !ok || id != 383 {
		t.Errorf("sentinel 124 is %d, %v", id, ok)
	}
	if _, ok := again.Sentinel(125); ok {
		t.Error("there is a sentinel 125")
	}
}
