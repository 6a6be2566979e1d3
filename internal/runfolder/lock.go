package runfolder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

// LockedError says that another process trains in a folder.
type LockedError struct {
	Dir string
	PID int // of that process; 0 where it could not be read
}

func (e *LockedError) Error() string {
	who := "another process"
	if e.PID != 0 {
		who = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("%s trains in %s at this moment", who, e.Dir)
}

// Lock is the right to train in a folder. The system gives it up when the process ends, however
// it ends, so that no folder stays locked after a crash.
type Lock struct{ file *flock.Flock }

// LockDir takes the lock of a folder, without waiting.
func LockDir(dir string) (*Lock, error) {
	path := filepath.Join(dir, lockFile)
	l := &Lock{file: flock.New(path)}
	free, err := l.file.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	if !free {
		return nil, &LockedError{Dir: dir, PID: holder(path)}
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return nil, errors.Join(err, l.file.Close())
	}
	return l, nil
}

// holder is the process that wrote its number into a lock file.
func holder(path string) int {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0
	}
	return pid
}

// Release gives the lock up. The file stays: who removed it could take away a lock that somebody
// else has just got.
func (l *Lock) Release() { _ = l.file.Close() } // the end of the process would do the same
