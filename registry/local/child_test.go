package local_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/t5ctl/t5ctl/registry"
	"github.com/t5ctl/t5ctl/registry/local"
	"github.com/t5ctl/t5ctl/registry/registrytest"
	"github.com/t5ctl/t5ctl/registry/sign"
)

// TestMain lets the tests start themselves as other processes, which can then be killed.
func TestMain(m *testing.M) {
	if job := os.Getenv("REGISTRY_TEST_JOB"); job != "" {
		os.Exit(work(strings.Fields(job)))
	}
	os.Exit(m.Run())
}

// child starts this test binary on a job.
func child(t testing.TB, job ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "REGISTRY_TEST_JOB="+strings.Join(job, " "))
	cmd.Stderr = os.Stderr
	return cmd
}

// work does a job: VERB STORE ARGUMENTS. The exit code is 0 for done, 5 for a conflict, 1 else.
func work(job []string) int {
	verb, root, args := job[0], job[1], job[2:]
	store := local.Open(root)
	r := registry.New(store, registry.Options{Actor: "child"})
	var err error
	switch verb {
	case "push": // FOLDER [DIE-AT-STEP]
		dieAt(store, args[1:])
		err = pushFolder(r, args[0])
	case "promote": // REF CHANNEL EXPECT [DIE-AT-STEP]
		dieAt(store, args[3:])
		err = promoteRef(r, args[0], args[1], args[2])
	case "collect": // [DIE-AT-STEP]
		dieAt(store, args)
		_, err = r.Collect(context.Background(), "m", registry.SweepOptions{})
	case "sweep": // collects, as if its clock were years ahead, until it is killed
		for err == nil {
			_, err = r.Collect(context.Background(), "m", registry.SweepOptions{})
		}
	case "rotate": // [DIE-AT-STEP]: the key "ci" that lies beside the store
		dieAt(store, args)
		err = rotate(root, store)
	case "limited": // BYTES VERB …
		limit, _ := strconv.ParseUint(args[0], 10, 64)
		if err := limitFileSize(limit); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 9
		}
		return work(append([]string{args[1], root}, args[2:]...))
	case "busy": // FOLDER FOLDER: pushes, promotes, collects and rotates a key until it is killed
		for i := 0; ; i++ {
			_, _ = os.Stdout.WriteString(".")
			err = errors.Join(err, pushFolder(r, args[i%2]), promoteRef(r, fmt.Sprintf("m@v%d", i%2+1), fmt.Sprintf("c%d-%d", os.Getpid(), i), ""))
			_, collectErr := r.Collect(context.Background(), "m", registry.SweepOptions{})
			err = errors.Join(err, collectErr, rotate(root, store))
			if err != nil {
				break
			}
		}
	}
	if conflict := (*registry.ConflictError)(nil); errors.As(err, &conflict) {
		return 5
	}
	if err != nil {
		if os.Getenv("REGISTRY_TEST_QUIET") == "" {
			fmt.Fprintln(os.Stderr, err)
		}
		return 1
	}
	return 0
}

// dieAt kills this process at its n-th step of writing.
func dieAt(store *local.Store, args []string) {
	if len(args) == 0 {
		return
	}
	count, _ := strconv.ParseInt(args[0], 10, 64)
	var left atomic.Int64 // a push writes from several goroutines
	left.Store(count)
	store.OnStep(func(string) {
		if left.Add(-1) == 0 {
			self, _ := os.FindProcess(os.Getpid())
			_ = self.Kill()
			time.Sleep(time.Minute) // the signal is on its way
		}
	})
}

// keysOf is the folder of keys beside a store.
func keysOf(root string) sign.Keys { return sign.Keys{Dir: root + "-keys"} }

// rotate replaces the key "ci", as registry key rotate does.
func rotate(root string, store *local.Store) error {
	keys := keysOf(root)
	old, fresh, err := keys.Follow("ci")
	if err != nil {
		return err
	}
	r := registry.New(store, registry.Options{Actor: "child", Key: old})
	if _, err := r.RotateKey(context.Background(), "m", fresh.PublicKey, "yearly"); err != nil {
		return err
	}
	return keys.Finish("ci", old)
}

func pushFolder(r *registry.Registry, dir string) error {
	_, err := r.Push(context.Background(), registry.PushRequest{Model: "m", Dir: dir, Reports: registrytest.Evidence("pass")})
	return err
}

func promoteRef(r *registry.Registry, text, channel, expect string) error {
	ref, err := registry.ParseRef(text)
	if err != nil {
		return err
	}
	_, err = r.Promote(context.Background(), registry.PromoteRequest{Ref: ref, Channel: channel, Expect: expect})
	return err
}
