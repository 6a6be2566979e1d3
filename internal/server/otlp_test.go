package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/t5ctl/t5ctl/internal/server"
)

// A collector gets the spans of a request, with the version that answered and the trace that the
// client began; without an endpoint nothing is sent.
func TestTraces(t *testing.T) {
	var mu sync.Mutex
	var got bytes.Buffer
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path != "/v1/traces" {
			t.Errorf("sent to %s", r.URL.Path)
		}
		_, _ = io.Copy(&got, r.Body)
	}))
	defer collector.Close()
	tracer, flush, err := server.Tracing(t.Context(), collector.URL, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r := &running{url: "http://" + listener.Addr().String(), log: &lockedBuffer{}, done: make(chan error, 1)}
	s := server.New(newStore(map[string]string{"m@production": "v7"}), options(), slog.New(slog.NewJSONHandler(r.log, nil)), tracer)
	go func() { r.done <- s.Run(ctx, listener, nil) }()
	r.await(t, func() bool { code, _ := r.get(t, "/readyz"); return code == http.StatusOK })
	r.post(t, `{"input": "confidential"}`, "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "X-Request-Id", "request-1")
	stop()
	if err := <-r.done; err != nil {
		t.Fatal(err)
	}
	if err := flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"generate", "queue", "decode", "t5ctl.version", "v7", "sha256:v7", "request-1", "1.2.3", "\x0a\xf7\x65\x19\x16\xcd\x43\xdd\x84\x48\xeb\x21\x1c\x80\x31\x9c"} {
		if !bytes.Contains(got.Bytes(), []byte(want)) {
			t.Errorf("the spans lack %q", want)
		}
	}
	if bytes.Contains(got.Bytes(), []byte("confidential")) {
		t.Error("the spans hold the text of a request")
	}
	if !bytes.Contains([]byte(r.log.String()), []byte(`"trace_id":"0af7651916cd43dd8448eb211c80319c"`)) {
		t.Error("the log does not name the trace")
	}
	for _, endpoint := range []string{"localhost:4318", "ftp://x", "http://"} {
		if _, _, err := server.Tracing(t.Context(), endpoint, ""); !errors.As(err, new(*server.EndpointError)) {
			t.Errorf("endpoint %q: %v", endpoint, err)
		}
	}
}
