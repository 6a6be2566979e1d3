// Package atomicfile puts files and folders on disk whole or not at all.
//
// Whoever reads a path written by this package sees the old content or the new one, never a
// part. Once a function has returned nil the content survives a crash or a power cut: the data
// is synced before it is renamed into place, and the folder that names it after.
package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Write puts what fill writes at path, or leaves path as it was. The file gets mode 0644,
// lessened by the user's umask.
func Write(path string, fill func(io.Writer) error) error {
	return WriteMode(path, 0o644, fill)
}

// WriteBytes puts data at path, or leaves path as it was.
func WriteBytes(path string, data []byte) error {
	return Write(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// WriteMode is Write with the mode of the new file, which the user's umask lessens.
func WriteMode(path string, mode fs.FileMode, fill func(io.Writer) error) (err error) {
	tmp, err := createTemp(path, mode)
	if err != nil {
		return err
	}
	done := false
	defer func() { // a panic of fill must not leave the temporary file behind either
		if !done {
			_ = tmp.Close() // closing twice is harmless
			_ = os.Remove(tmp.Name())
		}
	}()
	if err = fill(tmp); err != nil {
		return err
	}
	if err = errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	done = true
	return syncDir(filepath.Dir(path)) // the rename itself must reach the disk
}

// createTemp opens a new file beside path. os.CreateTemp would force mode 0600, and a later
// chmod would ignore the umask.
func createTemp(path string, mode fs.FileMode) (*os.File, error) {
	for range 100 {
		name := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp-"+suffix())
		file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		return file, err
	}
	return nil, fmt.Errorf("no free temporary name beside %s", path)
}

// WriteDir makes the folder path with what fill puts into dir, a folder beside it that is
// renamed once every file and folder in it has been synced. The path must not exist yet: an
// error that wraps fs.ErrExist says that it does. Nothing is left behind on failure.
func WriteDir(path string, fill func(dir string) error) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	stage, err := mkdirTemp(path)
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done {
			_ = os.RemoveAll(stage)
		}
	}()
	if err = fill(stage); err != nil {
		return err
	}
	err = RenameDir(stage, path)
	_, left := os.Lstat(stage)
	done = errors.Is(left, fs.ErrNotExist)
	return err
}

// RenameDir syncs every file and folder in stage and gives it the name path, on the same disk. The
// path must not exist yet: an error that wraps fs.ErrExist says that it does.
func RenameDir(stage, path string) error {
	if err := syncTree(stage); err != nil {
		return err
	}
	if err := renameNew(stage, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// mkdirTemp makes a new folder beside path.
func mkdirTemp(path string) (string, error) {
	for range 100 {
		name := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp-"+suffix())
		err := os.Mkdir(name, 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		return name, err
	}
	return "", fmt.Errorf("no free temporary name beside %s", path)
}

// renameNew renames a folder to a path that must not exist. Unix would let a folder replace an
// empty folder in silence; of two writers of the same path one must hear that it came second.
func renameNew(from, to string) error {
	if err := renameNoReplace(from, to); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return &fs.PathError{Op: "create", Path: to, Err: fs.ErrExist}
		}
		return err
	}
	return nil
}

// syncTree syncs every file and folder below root, the innermost first.
func syncTree(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			dirs = append(dirs, path)
			return nil
		case entry.Type().IsRegular():
			return syncFile(path)
		}
		return nil
	})
	for i := len(dirs) - 1; err == nil && i >= 0; i-- {
		err = syncDir(dirs[i])
	}
	return err
}
