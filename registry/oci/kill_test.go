package oci_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/t5ctl/t5ctl/registry"
	"github.com/t5ctl/t5ctl/registry/oci"
	"github.com/t5ctl/t5ctl/registry/registrytest"
)

// TestMain lets the tests start themselves as other processes, which can then be killed.
func TestMain(m *testing.M) {
	if job := os.Getenv("REGISTRY_TEST_JOB"); job != "" {
		os.Exit(busy(strings.Fields(job)))
	}
	if job := os.Getenv("REGISTRY_TEST_PULL"); job != "" {
		os.Exit(pullOnce(strings.Fields(job)))
	}
	os.Exit(m.Run())
}

// busy pushes and promotes without end: HOST FOLDER FOLDER.
func busy(job []string) int {
	store, err := oci.Open(oci.Scheme+job[0]+"/team/models", oci.Options{PlainHTTP: true, Journal: "child", Patience: time.Second})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	r := newRegistry(store)
	for i := 0; ; i++ {
		_, _ = os.Stdout.WriteString(".")
		_, err := r.Push(context.Background(), registry.PushRequest{Model: "m", Dir: job[1+i%2], Reports: registrytest.Evidence("pass")})
		if err == nil {
			_, err = r.Promote(context.Background(), registry.PromoteRequest{
				Ref: registry.Ref{Model: "m", Version: i%2 + 1}, Channel: fmt.Sprintf("c%d-%d", os.Getpid(), i),
			})
		}
		if blocked := (*oci.BlockedError)(nil); errors.As(err, &blocked) {
			return exitBlocked
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
}

// pullOnce pulls version 1: HOST FOLDER.
func pullOnce(job []string) int {
	store, err := oci.Open(oci.Scheme+job[0]+"/team/models", oci.Options{PlainHTTP: true, Journal: "child"})
	if err == nil {
		_, err = newRegistry(store).Pull(context.Background(), registry.Ref{Model: "m", Version: 1}, job[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestKilledPull kills a process that pulls, with its weights half there: the next process fetches
// the rest alone, what the dead one left is gone, and what it spoiled is fetched anew.
func TestKilledPull(t *testing.T) {
	const size, half = 8 << 20, 4 << 20
	for name, begin := range kinds() {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			dir := registrytest.WriteModel(t, t.TempDir(), 1)
			weights := bytes.Repeat([]byte("0123456789abcdef"), size/16)
			if err := os.WriteFile(filepath.Join(dir, "model.safetensors"), weights, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := newRegistry(open(t, s)).Push(t.Context(), registry.PushRequest{Model: "m", Dir: dir}); err != nil {
				t.Fatal(err)
			}
			for _, spoil := range []bool{false, true} {
				output := filepath.Join(t.TempDir(), "out")
				stalled := make(chan bool)
				slow := through(t, s, func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						next.ServeHTTP(&counted{ResponseWriter: w, left: half, full: func() { stalled <- true; <-r.Context().Done() }}, r)
					})
				})
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), "REGISTRY_TEST_PULL="+slow.host+" "+output)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				<-stalled
				part := waitForPart(t, output)
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				_ = cmd.Wait() // killed
				if spoil {
					if err := os.WriteFile(part, make([]byte, half/2), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				var sent atomic.Int64
				counting := through(t, s, func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						next.ServeHTTP(&counted{ResponseWriter: w, left: 1 << 40, sent: &sent}, r)
					})
				})
				if _, err := newRegistry(open(t, counting)).Pull(t.Context(), registry.Ref{Model: "m", Version: 1}, output); err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(filepath.Join(output, "model.safetensors")); err != nil || !bytes.Equal(got, weights) {
					t.Errorf("the pulled weights are others, %v", err)
				}
				if left, _ := filepath.Glob(filepath.Join(filepath.Dir(output), ".*")); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
				if n := sent.Load(); !spoil && n > size-half/2+1<<16 || spoil && n < size {
					t.Errorf("spoiled %v: %d bytes were fetched again", spoil, n)
				}
				if !spoil {
					t.Logf("faults: %s: pull of 8 MiB killed half way: the next process fetched %.1f MiB", name, float64(sent.Load())/(1<<20))
				}
			}
		})
	}
}

// counted counts what a server sends, and stops once before a number of bytes.
type counted struct {
	http.ResponseWriter
	left int64
	full func()
	sent *atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	if c.full != nil && int64(len(p)) > c.left {
		c.full()
		return 0, io.ErrClosedPipe
	}
	n, err := c.ResponseWriter.Write(p)
	c.left -= int64(n)
	if c.sent != nil {
		c.sent.Add(int64(n))
	}
	return n, err
}

// waitForPart waits until half of a part of the weights is on disk, and names its file.
func waitForPart(t *testing.T, output string) string {
	t.Helper()
	for range 1000 {
		found, _ := filepath.Glob(filepath.Join(filepath.Dir(output), ".out.pull-*", "files", "model.safetensors"))
		if len(found) == 1 {
			if info, err := os.Stat(found[0]); err == nil && info.Size() >= 2<<20 {
				return found[0]
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("nothing of the weights was written")
	return ""
}

// exitBlocked is the exit code of a child that met the announcement of a dead one.
const exitBlocked = 5

// TestKilledClients kills a process that pushes and promotes without end at random moments: what
// is tagged is whole, the log is one chain, and the same work done again ends it.
func TestKilledClients(t *testing.T) {
	kills := 3
	if long() {
		kills = 40
	}
	for name, begin := range kinds() {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			a, b := registrytest.WriteModel(t, t.TempDir(), 1), registrytest.WriteModel(t, t.TempDir(), 2)
			random := rand.New(rand.NewPCG(40, 2))
			var last int64
			blocked := 0
			for range kills {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), "REGISTRY_TEST_JOB="+strings.Join([]string{s.host, a, b}, " "))
				cmd.Stderr = os.Stderr
				ready, err := cmd.StdoutPipe()
				if err = errors.Join(err, cmd.Start()); err != nil {
					t.Fatal(err)
				}
				for range 1 + random.IntN(4) {
					if _, err := ready.Read(make([]byte, 1)); err != nil { // it has ended by itself
						_ = cmd.Wait() // the code says it
						if code := cmd.ProcessState.ExitCode(); code != exitBlocked {
							t.Fatalf("a child ended with %d", code)
						}
						break
					}
				}
				time.Sleep(time.Duration(random.IntN(300_000)) * time.Microsecond)
				if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
					t.Fatal(err)
				}
				_ = cmd.Wait() // killed
				store := open(t, s)
				if name != "ocimem immutable" {
					broken, err := store.BreakIntents(t.Context(), "m")
					if err != nil {
						t.Fatal(err)
					}
					blocked += len(broken)
				}
				audit, err := newRegistry(store).Audit(t.Context(), "m", true)
				if missing := (*registry.NotFoundError)(nil); errors.As(err, &missing) {
					continue // nothing was registered yet
				}
				for _, problem := range audit.Problems {
					if !strings.HasPrefix(problem, "tag ") { // the next writer sets it
						t.Error(problem)
					}
				}
				if audit.Head.Seq < last {
					t.Fatalf("the log had %d records, now it has %d", last, audit.Head.Seq)
				}
				last = audit.Head.Seq
			}
			for _, dir := range []string{a, b} {
				if _, err := newRegistry(open(t, s)).Push(t.Context(), registry.PushRequest{Model: "m", Dir: dir, Reports: registrytest.Evidence("pass")}); err != nil {
					t.Fatal(err)
				}
			}
			if audit := sound(t, open(t, s)); audit.Versions != 2 {
				t.Errorf("%d versions of two models", audit.Versions)
			}
			t.Logf("faults: %s: %d clients killed, %d records, %d announcements of dead writers, nothing torn", name, kills, last, blocked)
		})
	}
}
