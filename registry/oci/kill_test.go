package oci_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
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
