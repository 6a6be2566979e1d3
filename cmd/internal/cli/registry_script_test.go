package cli_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/rogpeppe/go-internal/testscript"
)

// damage flips a byte of the blob that holds a text: damage FOLDER TEXT.
func damage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: damage FOLDER TEXT")
	}
	blobs, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "blobs", "sha256", "*"))
	ts.Check(err)
	for _, path := range blobs {
		data, err := os.ReadFile(path)
		ts.Check(err)
		at := bytes.Index(data, []byte(args[1]))
		if at < 0 {
			continue
		}
		data[at] ^= 1
		ts.Check(os.Chmod(path, 0o644))
		ts.Check(os.WriteFile(path, data, 0o644))
		return
	}
	ts.Fatalf("no blob in %s holds %q", args[0], args[1])
}

// replace changes a text in a file: replace FILE OLD NEW.
func replace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: replace FILE OLD NEW")
	}
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(text, args[1], args[2])), 0o644))
}

// receive starts a receiver of webhooks that puts what it gets into a file, if it is signed with
// the secret, and its address into the variable NAME: receive NAME FILE SECRET.
func receive(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: receive NAME FILE SECRET")
	}
	path, secret := ts.MkAbs(args[1]), []byte(args[2])
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mac := hmac.New(sha256.New, secret)
		_, _ = mac.Write(body) // a hash takes everything
		if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); err != nil || !hmac.Equal([]byte(want), []byte(r.Header.Get("X-T5ctl-Signature-256"))) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if err := os.WriteFile(path, append(body, []byte(r.Header.Get("X-T5ctl-Delivery"))...), 0o600); err != nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.URL)
}

// serve starts a registry server that lives as long as the script, and puts its host into the
// variable NAME: serve NAME [closed|tls]. A closed one wants the password "open sesame" of "ali"; one with TLS
// leaves its certificate in the file NAME.pem.
func serve(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 || len(args) > 2 || len(args) == 2 && args[1] != "closed" && args[1] != "tls" {
		ts.Fatalf("usage: serve NAME [closed|tls]")
	}
	var handler http.Handler = ociserver.New(ocimem.New(), nil)
	if len(args) > 1 && args[1] == "closed" {
		inner := handler
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "ali" || password != "open sesame" {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}`, http.StatusUnauthorized)
				return
			}
			inner.ServeHTTP(w, r)
		})
	}
	server := httptest.NewUnstartedServer(handler)
	if len(args) > 1 && args[1] == "tls" {
		server.StartTLS()
		block := &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}
		ts.Check(os.WriteFile(ts.MkAbs(args[0]+".pem"), pem.EncodeToMemory(block), 0o600))
	} else {
		server.Start()
	}
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.Listener.Addr().String())
}
