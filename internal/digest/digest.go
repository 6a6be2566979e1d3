// Package digest names content by its SHA-256, in the form "sha256:<64 hex digits>" that the
// registry, the run records and OCI images share.
package digest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
)

// Prefix stands before the hex digits of every digest.
const Prefix = "sha256:"

// MismatchError says that a file is not the one that was recorded.
type MismatchError struct {
	Path string // what was read
	Want string // the recorded digest
	Got  string // the digest of what is there
}

// Error names the file and both digests.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s has digest %s, recorded is %s", e.Path, e.Got, e.Want)
}

// Bytes is the digest of b.
func Bytes(b []byte) string {
	sum := sha256.Sum256(b)
	return Prefix + hex.EncodeToString(sum[:])
}

// Reader reads r to its end and gives the digest and the number of bytes.
func Reader(r io.Reader) (digest string, size int64, err error) {
	h := sha256.New()
	size, err = io.CopyBuffer(h, r, make([]byte, 1<<18))
	if err != nil {
		return "", size, err
	}
	return Sum(h), size, nil
}

// File is Reader on the file at path.
func File(path string) (digest string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close() //nolint:errcheck // read only
	return Reader(f)
}

// Check reads the file at path and compares; a *MismatchError says that it differs.
func Check(path, want string) error {
	got, _, err := File(path)
	if err != nil {
		return err
	}
	if got != want {
		return &MismatchError{Path: path, Want: want, Got: got}
	}
	return nil
}

// Sum is the digest of what has been written to h, which must be a SHA-256.
func Sum(h hash.Hash) string { return Prefix + hex.EncodeToString(h.Sum(nil)) }

// Valid says whether s has the form of a digest.
func Valid(s string) bool {
	digits, found := strings.CutPrefix(s, Prefix)
	if !found || len(digits) != 2*sha256.Size {
		return false
	}
	return strings.Trim(digits, "0123456789abcdef") == ""
}
