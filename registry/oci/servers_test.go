package oci_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"

	"github.com/t5ctl/t5ctl/registry/oci"
)

// server is a registry server on this machine.
type server struct {
	host   string
	data   string // where it keeps its content; "" in memory
	prefix string // of the repositories; "": team/models
}

// memoryServer runs ocimem in this process; wrap may stand in front of it.
func memoryServer(t testing.TB, immutable bool, wrap func(http.Handler) http.Handler) server {
	t.Helper()
	handler := ociserver.New(ocimem.NewWithConfig(&ocimem.Config{ImmutableTags: immutable}), nil)
	if wrap != nil {
		handler = wrap(handler)
	}
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return server{host: strings.TrimPrefix(s.URL, "http://")}
}

// distributionProgram is the registry server of the distribution project, built by
// `make build/tools/distribution`. Tests that need it skip where it is not, and fail instead when
// T5CTL_REQUIRE_TOOLS is set.
func distributionProgram(t testing.TB) string {
	t.Helper()
	path, err := filepath.Abs("../../build/tools/distribution")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("T5CTL_REQUIRE_TOOLS") != "" {
			t.Fatalf("no registry server: %v", err)
		}
		t.Skipf("no registry server (make build/tools/distribution): %v", err)
	}
	return path
}

// distributionServer runs a server of the distribution project as a process of its own.
func distributionServer(t testing.TB, options ...string) server {
	t.Helper()
	s := server{data: t.TempDir()}
	start(t, &s, distributionProgram(t), "", options...)
	return s
}

// debianServer runs Debian's docker-registry, an older server of the same project, from
// build/tools (`make debian-registry`) or the machine; tests skip where neither has it.
func debianServer(t testing.TB) server {
	t.Helper()
	program, err := filepath.Abs("../../build/tools/debian-registry/bin/docker-registry")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		if program, err = exec.LookPath("docker-registry"); err != nil {
			t.Skip("NOT CHECKED: Debian's docker-registry is not installed")
		}
	}
	s := server{data: t.TempDir()}
	start(t, &s, program, "")
	return s
}

// start runs the server's program until the test ends, at addr or at a free port.
func start(t testing.TB, s *server, program, addr string, options ...string) *exec.Cmd {
	t.Helper()
	if addr == "" {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr = listener.Addr().String()
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s.host = addr
	config := filepath.Join(t.TempDir(), "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage:\n  filesystem: {rootdirectory: %q}\n  delete: {enabled: true}\nhttp: {addr: %q}\n%s",
		s.data, addr, strings.Join(options, "\n"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	cmd.Stdout = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may be dead already
		_ = cmd.Wait()
	})
	for range 200 {
		resp, err := http.Get("http://" + addr + "/v2/")
		if err == nil {
			_ = resp.Body.Close()
			return cmd
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("the server at %s does not answer", addr)
	return nil
}

// open opens a store as one who has seen nothing yet.
func open(t testing.TB, s server) *oci.Store {
	t.Helper()
	return openWith(t, s, oci.Options{Memory: t.TempDir()})
}

func openWith(t testing.TB, s server, options oci.Options) *oci.Store {
	t.Helper()
	options.PlainHTTP = true
	if options.Journal == "" {
		options.Journal = "tester"
	}
	if s.prefix == "" {
		s.prefix = "team/models"
	}
	store, err := oci.Open(oci.Scheme+s.host+"/"+s.prefix, options)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Init(context.Background()); err != nil {
		t.Fatal(err)
	}
	return store
}

// kinds are the servers that tests run against.
func kinds() map[string]func(t testing.TB) server {
	kinds := map[string]func(t testing.TB) server{
		"ocimem":           func(t testing.TB) server { return memoryServer(t, false, nil) },
		"ocimem immutable": func(t testing.TB) server { return memoryServer(t, true, nil) },
		"distribution":     func(t testing.TB) server { return distributionServer(t) },
	}
	if long() {
		kinds["docker-registry"] = debianServer
	}
	return kinds
}
