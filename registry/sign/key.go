// Package sign makes signatures that other tools check: statements in signed envelopes (DSSE)
// inside Sigstore bundles, made with NIST P-256 keys, without a server or a network.
//
// What is signed is what cosign and model_signing expect, so that whoever pulls a model can check
// it with those tools alone.
package sign

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

// KeyError says what is wrong with a key.
type KeyError struct{ Key, Reason string }

// Error names the key.
func (e *KeyError) Error() string { return "key " + e.Key + ": " + e.Reason }

// PublicKey checks signatures.
type PublicKey struct {
	ID  string // hex SHA-256 of PEM: how signatures name the key
	PEM []byte
	key *ecdsa.PublicKey
}

// PrivateKey makes signatures. What holds the secret may be a file, a token or a service.
type PrivateKey struct {
	PublicKey
	signer crypto.Signer
}

// newPublicKey describes a key. Only P-256 is taken: model_signing knows no other common kind.
func newPublicKey(key crypto.PublicKey) (PublicKey, error) {
	p256, ok := key.(*ecdsa.PublicKey)
	if !ok || p256.Curve != elliptic.P256() {
		return PublicKey{}, errors.New("it is not an ECDSA key on P-256")
	}
	der, err := x509.MarshalPKIXPublicKey(p256)
	if err != nil {
		return PublicKey{}, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	sum := sha256.Sum256(text)
	return PublicKey{ID: hex.EncodeToString(sum[:]), PEM: text, key: p256}, nil
}

// ParsePublicKey reads a public key in PEM.
func ParsePublicKey(text []byte) (PublicKey, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" || len(strings.TrimSpace(string(rest))) > 0 {
		return PublicKey{}, errors.New("it is not one PEM block PUBLIC KEY")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return PublicKey{}, err
	}
	return newPublicKey(key)
}

// Keys is a folder with keys: NAME.key, which only its owner may read, and NAME.pub.
type Keys struct{ Dir string }

// CheckName refuses names that would lead out of the folder.
func CheckName(name string) error {
	if name == "" || len(name) > 64 || strings.HasPrefix(name, ".") || strings.ContainsAny(name, `/\: `+"\n\t") {
		return &KeyError{name, "its name must be a plain word"}
	}
	return nil
}

// Create makes a new key. A name that is taken is an error that wraps fs.ErrExist.
func (k Keys) Create(name string) (*PrivateKey, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	public, err := newPublicKey(&secret.PublicKey)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(k.Dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(k.Dir, name+".key")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	err = errors.Join(pem.Encode(file, &pem.Block{Type: "PRIVATE KEY", Bytes: der}), file.Sync(), file.Close())
	if err == nil {
		err = atomicfile.WriteBytes(filepath.Join(k.Dir, name+".pub"), public.PEM)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return &PrivateKey{PublicKey: public, signer: secret}, nil
}

// next is the name of the key that follows another while it is being replaced.
func next(name string) string { return name + ".next" }

// Follow gives a key and the one that shall follow it, which is made where it is not there yet. A
// rotation that was interrupted goes on with the same.
func (k Keys) Follow(name string) (old, fresh *PrivateKey, err error) {
	if old, err = k.Load(name); err != nil {
		return nil, nil, err
	}
	if fresh, err = k.Load(next(name)); errors.Is(err, fs.ErrNotExist) {
		fresh, err = k.Create(next(name))
	}
	return old, fresh, err
}

// Finish puts the key that follows in the place of the old one, which is kept under the start of
// its identity. Done twice, it changes nothing.
func (k Keys) Finish(name string, old *PrivateKey) error {
	for _, ending := range []string{".pub", ".key"} {
		place := filepath.Join(k.Dir, name)
		if _, err := os.Stat(filepath.Join(k.Dir, next(name)+ending)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.Link(place+ending, place+"."+old.ID[:8]+ending); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := os.Rename(filepath.Join(k.Dir, next(name)+ending), place+ending); err != nil {
			return err
		}
	}
	return nil
}

// Named is a key of the folder.
type Named struct {
	Name string `json:"name"`
	ID   string `json:"id"`
	Path string `json:"public"` // of the public key
}

// List tells the keys of the folder, sorted by name.
func (k Keys) List() ([]Named, error) {
	paths, err := filepath.Glob(filepath.Join(k.Dir, "*.pub"))
	if err != nil {
		return nil, err
	}
	list := make([]Named, 0, len(paths))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		key, err := ParsePublicKey(text)
		if err != nil {
			return nil, &KeyError{path, err.Error()}
		}
		list = append(list, Named{strings.TrimSuffix(filepath.Base(path), ".pub"), key.ID, path})
	}
	slices.SortFunc(list, func(a, b Named) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Load reads a private key: a name in the folder, or the path of a file. One that others may
// read is refused.
func (k Keys) Load(name string) (*PrivateKey, error) {
	path := name
	if !strings.ContainsAny(name, `/\`) && !strings.HasSuffix(name, ".key") && !strings.HasSuffix(name, ".pem") {
		path = filepath.Join(k.Dir, name+".key")
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no key %s: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return nil, &KeyError{path, fmt.Sprintf("others may read it (mode %04o): chmod 600", mode)}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, &KeyError{path, "it is not a PEM block PRIVATE KEY"}
	}
	secret, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, &KeyError{path, err.Error()}
	}
	signer, ok := secret.(crypto.Signer)
	if !ok {
		return nil, &KeyError{path, "it cannot sign"}
	}
	public, err := newPublicKey(signer.Public())
	if err != nil {
		return nil, &KeyError{path, err.Error()}
	}
	return &PrivateKey{PublicKey: public, signer: signer}, nil
}
