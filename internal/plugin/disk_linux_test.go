package plugin_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"testing"

	"github.com/t5ctl/t5ctl/internal/plugin"
)

// limitVariable is set in a child of this test: no file may grow past that many bytes.
const limitVariable = "T5CTL_TEST_FILE_LIMIT"

// A disk that is full, at whatever point, leaves nothing of an installation behind, and no other
// route is tried. The limit holds for a whole process, hence the child.
func TestInstallDiskFull(t *testing.T) {
	if limit := os.Getenv(limitVariable); limit != "" {
		installUnderLimit(t, limit)
		return
	}
	for name, limit := range map[string]int{
		"before anything is stored": 0,
		"while unpacking":           5,
		"while writing the record":  100,
	} {
		t.Run(name, func(t *testing.T) {
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestInstallDiskFull$")
			child.Env = append(os.Environ(), fmt.Sprintf("%s=%d", limitVariable, limit))
			if out, err := child.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func installUnderLimit(t *testing.T, limit string) {
	size, err := strconv.ParseUint(limit, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	data := standin(t)
	server := httptest.NewServer(&index{wheel: data})
	defer server.Close()
	for name, options := range map[string]plugin.Options{
		"from the index": {Kind: plugin.CPU, IndexURL: server.URL + "/simple"},
		"from the wheel": {Kind: plugin.CPU, FromWheel: []string{writeFile(t, standinFile, data)}},
	} {
		store := newStore(t)
		var before syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Fatal(err)
		}
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: before.Max}); err != nil {
			t.Fatal(err)
		}
		_, err = store.Install(t.Context(), options)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Fatal(err)
		}
		if _, ok := errors.AsType[*os.PathError](err); !ok || !errors.Is(err, syscall.EFBIG) {
			t.Errorf("%s: %v, want the disk's error", name, err)
		}
		checkClean(t, store)
	}
}
