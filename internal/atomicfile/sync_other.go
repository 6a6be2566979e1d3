//go:build !unix

package atomicfile

import (
	"errors"
	"os"
)

// syncDir does nothing: only Unix lets a folder be opened and synced.
func syncDir(string) error { return nil }

// syncFile makes the content of a file that is already closed durable. Windows syncs only
// through a handle that may write.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
