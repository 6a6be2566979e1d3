//go:build unix

package local_test

import (
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// limitFileSize makes every write beyond the size fail, as on a full disk.
func limitFileSize(bytes uint64) error {
	signal.Ignore(syscall.SIGXFSZ)
	return unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: bytes})
}
