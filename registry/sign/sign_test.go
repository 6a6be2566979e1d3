package sign_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/registry/sign"
)

const someDigest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

func newKey(t testing.TB, name string) (sign.Keys, *sign.PrivateKey) {
	t.Helper()
	keys := sign.Keys{Dir: filepath.Join(t.TempDir(), "keys")}
	key, err := keys.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	return keys, key
}

func TestKeys(t *testing.T) {
	keys, key := newKey(t, "ci")
	path := filepath.Join(keys.Dir, "ci.key")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := keys.Create("ci"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a name was taken twice: %v", err)
	}
	again, err := keys.Load("ci")
	if err != nil || again.ID != key.ID {
		t.Fatalf("loaded %v, %v", again, err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Load("ci"); err == nil || !strings.Contains(err.Error(), "others may read it") {
		t.Errorf("a key that others may read was taken: %v", err)
	}
	if _, err := keys.Load("nobody"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key that is not there: %v", err)
	}
}

// TestRotationInterrupted stops a rotation after each of its steps and begins it anew.
func TestRotationInterrupted(t *testing.T) {
	for steps := range 4 {
		keys, first := newKey(t, "ci")
		old, fresh, err := keys.Follow("ci")
		if err != nil || old.ID != first.ID || fresh.ID == old.ID {
			t.Fatal(err)
		}
		if _, same, err := keys.Follow("ci"); err != nil || same.ID != fresh.ID {
			t.Errorf("a second attempt makes another key: %v", err)
		}
		place := filepath.Join(keys.Dir, "ci")
		done := []func() error{
			func() error { return os.Link(place+".pub", place+"."+old.ID[:8]+".pub") },
			func() error { return os.Rename(place+".next.pub", place+".pub") },
			func() error { return os.Link(place+".key", place+"."+old.ID[:8]+".key") },
		}
		for _, step := range done[:steps] {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		old, again, err := keys.Follow("ci")
		if err != nil || again.ID != fresh.ID || old.ID != first.ID {
			t.Fatalf("after %d steps: %v", steps, err)
		}
		if err := errors.Join(keys.Finish("ci", old), keys.Finish("ci", old)); err != nil {
			t.Fatal(err)
		}
		now, err := keys.Load("ci")
		kept, keptErr := keys.Load("ci." + first.ID[:8])
		if err != nil || keptErr != nil || now.ID != fresh.ID || kept.ID != first.ID {
			t.Errorf("after %d steps: %v, %v", steps, err, keptErr)
		}
		list, err := keys.List()
		if err != nil || len(list) != 2 || list[0].ID != fresh.ID {
			t.Errorf("keys %v, %v", list, err)
		}
	}
}

func TestParsePublicKeyRefuses(t *testing.T) {
	_, key := newKey(t, "ci")
	for name, text := range map[string]string{
		"nothing":    "",
		"two keys":   string(key.PEM) + string(key.PEM),
		"ed25519":    "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n",
		"other type": strings.ReplaceAll(string(key.PEM), "PUBLIC KEY", "CERTIFICATE"),
		"cut":        string(key.PEM[:60]),
	} {
		if _, err := sign.ParsePublicKey([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestEnvelope changes everything that a signature covers, in turn.
func TestEnvelope(t *testing.T) {
	_, key := newKey(t, "ci")
	_, other := newKey(t, "eve")
	sealed, err := key.Seal("text/plain", []byte("hello"))
	if err != nil || !sealed.Check(key.PublicKey) || sealed.Check(other.PublicKey) {
		t.Fatalf("a sound signature: %v", err)
	}
	changes := map[string]func(*sign.Envelope){
		"payload":        func(e *sign.Envelope) { e.Payload = []byte("hellO") },
		"type":           func(e *sign.Envelope) { e.PayloadType = "text/plaim" },
		"type and start": func(e *sign.Envelope) { e.PayloadType, e.Payload = "text/plain 5", []byte("hel") },
		"signature": func(e *sign.Envelope) {
			e.Signatures[0].Sig = bytes.Clone(e.Signatures[0].Sig)
			e.Signatures[0].Sig[10] ^= 1
		},
		"no signature": func(e *sign.Envelope) { e.Signatures = nil },
		"empty":        func(e *sign.Envelope) { e.Signatures = []sign.Signature{{KeyID: key.ID}} },
	}
	for name, change := range changes {
		e := sign.Envelope{PayloadType: sealed.PayloadType, Payload: sealed.Payload, Signatures: append([]sign.Signature{}, sealed.Signatures...)}
		change(&e)
		if e.Check(key.PublicKey) {
			t.Errorf("%s changed: accepted", name)
		}
	}
}

// FuzzParseBundle holds that no bundle panics, and that what is read has one subject.
func FuzzParseBundle(f *testing.F) {
	_, key := newKey(f, "ci")
	sound, err := key.Bundle("m", someDigest, "https://example.com/x", map[string]int{"a": 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sound)
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","dsseEnvelope":{"payloadType":"application/vnd.in-toto+json","payload":"e30="}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if signed, err := sign.ParseBundle(data); err == nil && len(signed.Statement.Subject) != 1 {
			t.Errorf("%d subjects", len(signed.Statement.Subject))
		}
	})
}

// TestFolder holds the form that model_signing 1.1.1 reads: digests in the order of the paths'
// components, not of their letters.
func TestFolder(t *testing.T) {
	_, key := newKey(t, "ci")
	files := []sign.File{{"a.txt", someDigest}, {"a/b", someDigest}, {"A", someDigest}}
	data, err := key.Folder("m", files)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := sign.ParseBundle(data)
	if err != nil || !signed.Envelope.Check(key.PublicKey) {
		t.Fatalf("the bundle does not hold: %v", err)
	}
	var predicate struct{ Resources []struct{ Name string } }
	if err := json.Unmarshal(signed.Statement.Predicate, &predicate); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range predicate.Resources {
		names = append(names, r.Name)
	}
	if got := strings.Join(names, " "); got != "A a/b a.txt" {
		t.Errorf("order %s", got)
	}
}

// TestOldBundles checks bundles that versions before this one have written: they hold for ever. In
// testdata/v1 they are those that cosign 3.1.3 and model_signing 1.1.1 accepted too.
func TestOldBundles(t *testing.T) {
	text, err := os.ReadFile("testdata/v1/ci.pub")
	if err != nil {
		t.Fatal(err)
	}
	key, err := sign.ParsePublicKey(text)
	if err != nil {
		t.Fatal(err)
	}
	for name, predicateType := range map[string]string{
		"signature": "https://sigstore.dev/cosign/sign/v1", "provenance": "https://slsa.dev/provenance/v1", "model": sign.FolderPredicate,
	} {
		data, err := os.ReadFile("testdata/v1/" + name + ".sigstore.json")
		if err != nil {
			t.Fatal(err)
		}
		signed, err := sign.ParseBundle(data)
		if err != nil || signed.Statement.PredicateType != predicateType || !signed.Envelope.Check(key) {
			t.Errorf("%s: %v, %s", name, err, signed.Statement.PredicateType)
		}
	}
}
