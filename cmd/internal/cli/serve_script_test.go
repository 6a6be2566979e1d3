package cli_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// address puts an address that nobody listens at into a variable, and its port into NAME_PORT: address NAME.
func address(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: address NAME")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], l.Addr().String())
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(err)
	ts.Setenv(args[0]+"_PORT", port)
	ts.Check(l.Close())
}

// ask sends a request to a server that may still be starting, and writes its answer into a file:
// ask FILE ADDRESS PATH [BODY]. It asks again until the answer holds a text: ask -until TEXT FILE ….
func ask(ts *testscript.TestScript, neg bool, args []string) {
	until := ""
	if len(args) > 1 && args[0] == "-until" {
		until, args = args[1], args[2:]
	}
	if neg || len(args) < 3 || len(args) > 4 {
		ts.Fatalf("usage: ask [-until TEXT] FILE ADDRESS PATH [BODY]")
	}
	url := "http://" + args[1]
	last := ""
	for began := time.Now(); time.Since(began) < 2*time.Minute; time.Sleep(50 * time.Millisecond) {
		if ready, err := http.Get(url + "/readyz"); err != nil {
			continue
		} else if ready.Body.Close(); ready.StatusCode != http.StatusOK && ready.StatusCode != http.StatusNotFound {
			continue // one that says nothing of being ready is
		}
		response, err := http.Get(url + args[2])
		if len(args) == 4 {
			if err == nil {
				response.Body.Close()
			}
			response, err = http.Post(url+args[2], "application/json", strings.NewReader(args[3]))
		}
		ts.Check(err)
		data, err := io.ReadAll(response.Body)
		ts.Check(err)
		response.Body.Close()
		var out bytes.Buffer
		out.WriteString(strconv.Itoa(response.StatusCode) + "\n")
		out.Write(data)
		last = out.String()
		if strings.Contains(last, until) {
			ts.Check(os.WriteFile(ts.MkAbs(args[0]), out.Bytes(), 0o600))
			return
		}
	}
	ts.Fatalf("no such answer in two minutes; the last is\n%s", last)
}
