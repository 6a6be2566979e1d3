package digest_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/internal/digest"
)

// abc is the example of FIPS 180-2, appendix B.1.
const abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

func TestDigests(t *testing.T) {
	if got := digest.Bytes([]byte("abc")); got != abc {
		t.Errorf("Bytes = %s", got)
	}
	if got, size, err := digest.Reader(strings.NewReader("abc")); got != abc || size != 3 || err != nil {
		t.Errorf("Reader = %s, %d, %v", got, size, err)
	}
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, size, err := digest.File(path); got != abc || size != 3 || err != nil {
		t.Errorf("File = %s, %d, %v", got, size, err)
	}
	if err := digest.Check(path, abc); err != nil {
		t.Errorf("Check: %v", err)
	}
	other := digest.Bytes(nil)
	mismatch, ok := errors.AsType[*digest.MismatchError](digest.Check(path, other))
	if !ok || *mismatch != (digest.MismatchError{Path: path, Want: other, Got: abc}) {
		t.Errorf("Check of another digest: %+v", mismatch)
	}
}

func TestValid(t *testing.T) {
	tests := map[string]bool{
		abc:                                  true,
		strings.TrimPrefix(abc, "sha256:"):   false,
		strings.ToUpper(abc):                 false,
		abc + "0":                            false,
		abc[:len(abc)-1] + "g":               false,
		"":                                   false,
		"sha512:" + strings.Repeat("0", 128): false,
	}
	for in, want := range tests {
		if got := digest.Valid(in); got != want {
			t.Errorf("Valid(%q) = %v", in, got)
		}
	}
}
