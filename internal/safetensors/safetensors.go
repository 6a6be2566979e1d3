// Package safetensors reads and writes the tensor files of Hugging Face models.
//
// Reading maps the file into memory: opening is quick, and only the tensors that are looked at
// are read from the disk. Everything in the header is checked before a byte of a tensor is
// given out, so that a damaged file is an error that names what is wrong, never a crash.
// Writing is atomic and streams: memory does not grow with the file. The bytes are those that
// the Python library writes for the same tensors and metadata.
package safetensors

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/t5ctl/t5ctl/internal/mapped"
)

// DType is the element type of a tensor, spelled as in the file.
type DType string

// The element types that a file may hold.
const (
	Bool   DType = "BOOL"
	U8     DType = "U8"
	I8     DType = "I8"
	F8E5M2 DType = "F8_E5M2"
	F8E4M3 DType = "F8_E4M3"
	F8E8M0 DType = "F8_E8M0"
	I16    DType = "I16"
	U16    DType = "U16"
	F16    DType = "F16"
	BF16   DType = "BF16"
	I32    DType = "I32"
	U32    DType = "U32"
	F32    DType = "F32"
	C64    DType = "C64"
	F64    DType = "F64"
	I64    DType = "I64"
	U64    DType = "U64"
)

// Size is the number of bytes of one element, 0 for a type that is not known.
func (d DType) Size() int {
	switch d {
	case Bool, U8, I8, F8E5M2, F8E4M3, F8E8M0:
		return 1
	case I16, U16, F16, BF16:
		return 2
	case I32, U32, F32:
		return 4
	case C64, F64, I64, U64:
		return 8
	}
	return 0
}

// rank orders types as the Python library lays tensors out: the widest first, so that every
// tensor is aligned.
func (d DType) rank() int {
	order := []DType{Bool, U8, I8, F8E5M2, F8E4M3, F8E8M0, I16, U16, F16, BF16, I32, U32, F32, C64, F64, I64, U64}
	return slices.Index(order, d)
}

// Tensor is one named array. Data is little endian, row after row; that of a tensor read from a
// file aliases the mapping, must not be written to, and is valid until the file is closed.
type Tensor struct {
	Name  string
	DType DType
	Shape []int
	Data  []byte
}

// Len is the number of elements.
func (t Tensor) Len() int {
	n := 1
	for _, dim := range t.Shape {
		n *= dim
	}
	return n
}

// CorruptError says that a file is not a safetensors file, or is damaged.
type CorruptError struct{ Path, Reason string }

// Error names the file and what is wrong with it.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is not a sound safetensors file: %s", e.Path, e.Reason)
}

// File is an open file, or the shards of a folder seen as one file.
type File struct {
	path     string
	names    []string // in the order of the data
	tensors  map[string]Tensor
	metadata map[string]string
	unmap    []func() error
	forget   []func()
}

// Open maps the file at path and checks its header.
func Open(path string) (*File, error) {
	content, err := mapped.Open(path)
	if _, ok := errors.AsType[*mapped.NotRegularError](err); ok {
		return nil, &CorruptError{Path: path, Reason: "it is not a regular file"}
	}
	if err != nil {
		return nil, err
	}
	file, err := Parse(path, content.Bytes())
	if err != nil {
		return nil, errors.Join(err, content.Close())
	}
	file.unmap = append(file.unmap, content.Close)
	file.forget = append(file.forget, content.Forget)
	return file, nil
}

// Path is what the file was opened by.
func (f *File) Path() string { return f.path }

// Names lists the tensors in the order in which their data lies in the file, shard after shard.
func (f *File) Names() []string { return slices.Clone(f.names) }

// Tensor gives the tensor of that name.
func (f *File) Tensor(name string) (Tensor, bool) {
	t, ok := f.tensors[name]
	return t, ok
}

// Metadata is what the file says about itself, "format" included.
func (f *File) Metadata() map[string]string { return maps.Clone(f.metadata) }

// Forget lets the system take back the memory of what was read; tensors stay valid, and are read
// from the disk again where they are needed again.
func (f *File) Forget() {
	for _, forget := range f.forget {
		forget()
	}
}

// Close unmaps the file. Data of its tensors must not be touched any more.
func (f *File) Close() error {
	var errs []error
	for _, unmap := range f.unmap {
		errs = append(errs, unmap())
	}
	f.unmap, f.forget, f.tensors, f.names = nil, nil, nil, nil
	return errors.Join(errs...)
}
