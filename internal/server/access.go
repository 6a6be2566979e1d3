package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
)

// SecretError says that a file which must be its owner's alone is not, or holds nothing.
type SecretError struct{ Path, Reason string }

func (e *SecretError) Error() string { return e.Path + " " + e.Reason }

// ReadToken reads the token that requests must bring. Nobody but its owner may be able to read the file.
func ReadToken(path string) (string, error) {
	if err := CheckSecret(path); err != nil {
		return "", err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if len(token) < 16 || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", &SecretError{Path: path, Reason: "must hold one token of at least 16 printable characters"}
	}
	return token, nil
}

// CheckSecret says whether a file is its owner's alone.
func CheckSecret(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return &SecretError{Path: path, Reason: fmt.Sprintf("has mode %04o: others can read it; chmod 600 makes it its owner's", info.Mode().Perm())}
	}
	if !info.Mode().IsRegular() {
		return &fs.PathError{Op: "reading", Path: path, Err: errors.New("not a file")}
	}
	return nil
}

// Loopback says whether an address like 127.0.0.1:8080 is one of this machine alone.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}

// guard lets through what may come in: with a token, requests that bring it, compared in constant
// time; without, those that name this machine as their host, so that no page in a browser can
// reach a server on loopback under a name of its own.
func (s *Server) guard(next http.HandlerFunc) http.HandlerFunc {
	want := sha256.Sum256([]byte(s.options.Token))
	return func(w http.ResponseWriter, r *http.Request) {
		if s.options.Token == "" {
			if !Loopback(r.Host) {
				s.refuse(w, http.StatusForbidden, "unauthorized", "the host of the request is not this machine")
				return
			}
			next(w, r)
			return
		}
		given, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		got := sha256.Sum256([]byte(given))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 || !bearer {
			w.Header().Set("WWW-Authenticate", "Bearer")
			s.refuse(w, http.StatusUnauthorized, "unauthorized", "the token is missing or wrong")
			return
		}
		next(w, r)
	}
}
