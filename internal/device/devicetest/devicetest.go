// Package devicetest opens backends for tests.
package devicetest

import (
	"errors"
	"os"
	"testing"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/plugin"
)

// Each runs a test on the pure-Go backend and on XLA.
func Each(t *testing.T, run func(t *testing.T, b *device.Backend)) {
	t.Helper()
	t.Run(device.Go, func(t *testing.T) { run(t, Go(t)) })
	t.Run(device.CPU, func(t *testing.T) { run(t, XLA(t)) })
}

// Go opens the pure-Go backend.
func Go(t testing.TB) *device.Backend {
	t.Helper()
	return open(t, device.Go)
}

// XLA opens XLA on the CPU. Where its plugin is not installed the test is skipped, or fails if
// T5CTL_REQUIRE_XLA is 1.
func XLA(t testing.TB) *device.Backend {
	t.Helper()
	_, err := plugin.Find(plugin.CPU)
	if _, none := errors.AsType[*plugin.NotInstalledError](err); none && os.Getenv("T5CTL_REQUIRE_XLA") != "1" {
		t.Skipf("SKIPPED: %v; t5ctl backend install cpu installs it", err)
	}
	return open(t, device.CPU)
}

func open(t testing.TB, name string) *device.Backend {
	t.Helper()
	b, err := device.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Finalize)
	return b
}
