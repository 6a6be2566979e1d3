// Package seal encrypts what is carried by hand, so that only those can read it whom it is meant
// for, in the format of age (age-encryption.org/v1): the age program opens what is sealed here,
// and what it has encrypted is opened here.
package seal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"filippo.io/age"
)

// magic is how an encrypted file begins.
const magic = "age-encryption.org/"

// KeyError says what is wrong with a key, public or secret, or with the file that it is in. It
// never holds the secret.
type KeyError struct{ Key, Reason string }

// Error names the key.
func (e *KeyError) Error() string { return "age key " + e.Key + ": " + e.Reason }

// OpenError says why something sealed cannot be read.
type OpenError struct {
	Reason string
	Key    bool // another identity is all that is missing
}

func (e *OpenError) Error() string { return e.Reason }

// Create makes a secret key at path, which only its owner may read, in the form that age-keygen
// writes, and tells whom to encrypt to. A file that is there is an error that wraps fs.ErrExist.
func Create(path string) (recipient string, err error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = fmt.Fprintf(file, "# public key: %s\n%s\n", identity.Recipient(), identity)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return "", errors.Join(err, os.Remove(path))
	}
	return identity.Recipient().String(), nil
}

// Recipients reads whom to encrypt to: each is a public key (age1…) or a file with one a line.
func Recipients(from []string) ([]age.Recipient, error) {
	var all []age.Recipient
	for _, text := range from {
		var source io.Reader = strings.NewReader(text)
		if !strings.HasPrefix(text, "age1") {
			file, err := os.Open(text)
			if err != nil {
				return nil, err
			}
			defer file.Close() //nolint:errcheck // read only
			source = file
		}
		list, err := age.ParseRecipients(source)
		if err != nil {
			return nil, &KeyError{text, err.Error()}
		}
		all = append(all, list...)
	}
	return all, nil
}

// Identities reads files of secret keys (AGE-SECRET-KEY-1…), which only their owner may read.
func Identities(paths []string) ([]age.Identity, error) {
	var all []age.Identity
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
			return nil, &KeyError{path, fmt.Sprintf("others may read it (mode %04o): chmod 600", mode)}
		}
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		list, err := age.ParseIdentities(file)
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, &KeyError{path, "it is not a file of age identities"} // the cause could quote a secret
		}
		all = append(all, list...)
	}
	return all, nil
}

// Reader gives what was sealed, or what was not sealed as it is.
type Reader struct {
	Sealed bool  // it was encrypted
	Err    error // why it can be read no further, an *OpenError; nil: it can, or has ended

	from io.Reader
}

// Open reads what may be sealed. Bytes come only after they have been authenticated.
func Open(from *bufio.Reader, identities []age.Identity) (*Reader, error) {
	start, err := from.Peek(len(magic))
	if err != nil || string(start) != magic {
		return &Reader{from: from}, nil //nolint:nilerr // too short for anything: whoever reads it will say so
	}
	if len(identities) == 0 {
		return nil, &OpenError{Reason: "it is encrypted", Key: true}
	}
	plain, err := age.Decrypt(from, identities...)
	if _, other := errors.AsType[*age.NoIdentityMatchError](err); other {
		return nil, &OpenError{Reason: "it is encrypted to other keys", Key: true}
	}
	if err != nil {
		return nil, &OpenError{Reason: "the encryption is damaged: " + err.Error()}
	}
	return &Reader{Sealed: true, from: plain}, nil
}

func (r *Reader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && r.Sealed {
		r.Err = &OpenError{Reason: "the encryption is damaged: " + err.Error()}
		err = r.Err
	}
	return n, err
}
