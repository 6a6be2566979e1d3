package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/digest"
)

// stage is where the files of a pull lie until all of them are there: a folder beside the output,
// named after both output and version, so that a pull that was killed goes on where it was. One
// process at a time works in it.
type stage struct {
	dir  string
	lock *flock.Flock // given up by the system when the process dies
}

// enterStage makes the stage, or enters what a dead process left; while another one works in it, it
// waits.
func enterStage(ctx context.Context, output, version string) (*stage, error) {
	name := "." + filepath.Base(output) + ".pull-" + strings.TrimPrefix(version, digest.Prefix)[:12]
	s := &stage{dir: filepath.Join(filepath.Dir(output), name)}
	for {
		if err := os.Mkdir(s.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if info, err := os.Lstat(s.dir); errors.Is(err, fs.ErrNotExist) {
			continue // who was in it has just finished
		} else if err != nil || !info.IsDir() {
			return nil, errors.Join(err, &FolderError{s.dir, "is in the way: a pull keeps unfinished files there"})
		}
		path := filepath.Join(s.dir, "lock")
		s.lock = flock.New(path, flock.SetPermissions(0o600))
		_, err := s.lock.TryLockContext(ctx, 100*time.Millisecond)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		if err == nil && s.holds(path) {
			return s, nil
		}
		if err := s.lock.Close(); err != nil {
			return nil, err
		}
	}
}

// holds says whether the lock is that of the file that is there now: the one before may have been
// removed by whoever finished.
func (s *stage) holds(path string) bool {
	locked, err := s.lock.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(locked, there)
}

// files is the folder that becomes the output.
func (s *stage) files() string { return filepath.Join(s.dir, "files") }

// finish puts the files where they belong.
func (s *stage) finish(output string) error { return atomicfile.RenameDir(s.files(), output) }

// leave ends the work in the stage, and keeps what is in it for the next pull or not.
func (s *stage) leave(keep bool) error {
	var err error
	if !keep {
		err = os.RemoveAll(s.dir)
	}
	return errors.Join(err, s.lock.Close())
}
