package atomicfile

import (
	"errors"
	"io/fs"
	"os"
)

// renameChecked looks before it renames. Two processes can still pass the look at once; the
// rename then succeeds for the second only if the first one's folder is empty.
func renameChecked(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return fs.ErrExist
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(from, to)
}
