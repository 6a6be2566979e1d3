package seal_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/t5ctl/t5ctl/registry/seal"
)

// sealed is content that a new key opens, the key's file, and the content in the clear.
func sealed(t *testing.T, size int) (data []byte, path string, plain []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keys", "ada.age")
	recipient, err := seal.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	recipients, err := seal.Recipients([]string{recipient})
	if err != nil {
		t.Fatal(err)
	}
	plain = bytes.Repeat([]byte("0123456789abcdef"), size/16)
	var out bytes.Buffer
	w, err := age.Encrypt(&out, recipients...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), path, plain
}

func open(t *testing.T, data []byte, paths ...string) ([]byte, error) {
	t.Helper()
	identities, err := seal.Identities(paths)
	if err != nil {
		t.Fatal(err)
	}
	r, err := seal.Open(bufio.NewReader(bytes.NewReader(data)), identities)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestOpen(t *testing.T) {
	data, path, plain := sealed(t, 200_000)
	if got, err := open(t, data, path); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("opened %d bytes, %v", len(got), err)
	}
	if got, err := open(t, plain); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("what is not sealed: %d bytes, %v", len(got), err)
	}
	if got, err := open(t, nil); err != nil || len(got) != 0 {
		t.Errorf("nothing: %d bytes, %v", len(got), err)
	}
	other := filepath.Join(t.TempDir(), "other.age")
	if _, err := seal.Create(other); err != nil {
		t.Fatal(err)
	}
	for name, paths := range map[string][]string{"no key": nil, "another key": {other}} {
		_, err := open(t, data, paths...)
		if e, ok := errors.AsType[*seal.OpenError](err); !ok || !e.Key {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := open(t, data, other, path); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("with the right key as the second: %d bytes, %v", len(got), err)
	}
}

// TestDamaged changes bytes all over, and cuts everywhere: nothing is given that was not written,
// and the end is never taken for the whole.
func TestDamaged(t *testing.T) {
	data, path, plain := sealed(t, 160_000)
	check := func(what string, at int, changed []byte) {
		t.Helper()
		got, err := open(t, changed, path)
		if e, ok := errors.AsType[*seal.OpenError](err); !ok || e.Key && at > 300 {
			t.Errorf("%s at %d: %v", what, at, err)
		}
		if !bytes.HasPrefix(plain, got) {
			t.Errorf("%s at %d gives what was never written", what, at)
		}
	}
	for at := len("age-encryption.org/"); at < len(data); at += 1 + at/7 {
		changed := bytes.Clone(data)
		changed[at] ^= 1
		check("a change", at, changed)
		check("a cut", at, data[:at])
	}
	check("more", len(data), append(bytes.Clone(data), 'x'))
}

func TestKeys(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ada.age")
	if _, err := seal.Create(path); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.Create(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a key was made over another: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	secret, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err = seal.Identities([]string{path})
	if e, ok := errors.AsType[*seal.KeyError](err); !ok || !strings.Contains(e.Reason, "0640") {
		t.Errorf("a key that others may read: %v", err)
	}
	broken := filepath.Join(dir, "broken.age")
	if err := os.WriteFile(broken, secret[:len(secret)-3], 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = seal.Identities([]string{broken})
	if e, ok := errors.AsType[*seal.KeyError](err); !ok || strings.Contains(e.Error(), "AGE-SECRET") {
		t.Errorf("a broken key: %v", err)
	}
	for _, wrong := range []string{"age1", "age1qqq", broken} {
		_, err = seal.Recipients([]string{wrong})
		if e, ok := errors.AsType[*seal.KeyError](err); !ok || strings.Contains(e.Error(), "AGE-SECRET") {
			t.Errorf("recipient %s: %v", wrong, err)
		}
	}
	if _, err := seal.Recipients([]string{filepath.Join(dir, "nowhere")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such file: %v", err)
	}
}
