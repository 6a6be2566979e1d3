// Package mapped gives the content of a file without reading it into memory of its own, where
// the system can do that.
package mapped

import (
	"fmt"
	"os"
)

// NotRegularError says that a path is a folder, a pipe or a device.
type NotRegularError struct{ Path string }

// Error names the path.
func (e *NotRegularError) Error() string { return e.Path + " is not a regular file" }

// File is a mapped file.
type File struct {
	data  []byte
	unmap func() error
}

// Open maps the file at path for reading. Shortening the file while it is open is a fault that
// the process does not survive; files that are replaced by renaming are safe.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only; a mapping outlives its descriptor
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &NotRegularError{Path: path}
	}
	if info.Size() == 0 { // systems refuse to map nothing
		return &File{}, nil
	}
	if info.Size() != int64(int(info.Size())) {
		return nil, fmt.Errorf("%s has %d bytes, more than can be addressed", path, info.Size())
	}
	data, unmap, err := mapFile(f, int(info.Size()))
	if err != nil {
		return nil, &os.PathError{Op: "map", Path: path, Err: err}
	}
	return &File{data: data, unmap: unmap}, nil
}

// Bytes is the content. It must not be written to, nor touched once the file is closed.
func (f *File) Bytes() []byte { return f.data }

// Forget lets the system take back the memory that the content lies in by now; it is read from the
// file again where it is needed again.
func (f *File) Forget() {
	if f.unmap != nil {
		forget(f.data)
	}
}

// Close lets the content go. A second call does nothing.
func (f *File) Close() error {
	unmap := f.unmap
	f.data, f.unmap = nil, nil
	if unmap == nil {
		return nil
	}
	return unmap()
}
