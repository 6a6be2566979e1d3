package mapped

import (
	"bufio"
	"errors"
	"os"
	"unsafe"
)

// arrayMemory is how many bytes of an Array lie in memory before it goes on in a file.
const arrayMemory = 1 << 20

// Array is a list of numbers that grows at its end and is then read anywhere. What is more than a megabyte
// lies in a temporary file, so that it takes no memory that the system cannot take back. The zero value is
// an empty one.
type Array[T uint8 | int64 | float32 | float64] struct {
	values []T // all of them, or those that are not in the file yet
	count  int
	temp   *os.File
	out    *bufio.Writer
	file   *File
	err    error
}

func bytesOf[T any](values []T) []byte {
	if len(values) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), len(values)*int(unsafe.Sizeof(values[0]))) //nolint:gosec // numbers seen as bytes
}

// Append puts values behind the others, until Settle. An error is kept for Settle.
func (a *Array[T]) Append(values ...T) {
	a.values, a.count = append(a.values, values...), a.count+len(values)
	if len(a.values)*int(unsafe.Sizeof(*new(T))) < arrayMemory || a.err != nil {
		return
	}
	if a.temp == nil {
		if a.temp, a.err = os.CreateTemp("", "t5ctl-array-"); a.err != nil {
			return
		}
		a.out = bufio.NewWriterSize(a.temp, 1<<16)
	}
	_, a.err = a.out.Write(bytesOf(a.values))
	a.values = a.values[:0]
}

// Len is how many values there are.
func (a *Array[T]) Len() int { return a.count }

// Settle ends the growing: All gives the values from then on.
func (a *Array[T]) Settle() error {
	if a.temp == nil || a.err != nil {
		return a.err
	}
	_, err := a.out.Write(bytesOf(a.values))
	err = errors.Join(err, a.out.Flush(), a.temp.Close())
	if err == nil {
		a.file, err = Open(a.temp.Name())
	}
	err = errors.Join(err, os.Remove(a.temp.Name())) // the mapping holds it
	a.temp, a.out, a.values, a.err = nil, nil, nil, err
	if err == nil {
		data := a.file.Bytes()
		a.values = unsafe.Slice((*T)(unsafe.Pointer(&data[0])), a.count) //nolint:gosec // bytes seen as numbers; pages are aligned
	}
	return err
}

// All are the values. They must not be touched once the array is closed.
func (a *Array[T]) All() []T { return a.values }

// Close lets the values go. A second call does nothing.
func (a *Array[T]) Close() error {
	file, temp := a.file, a.temp
	*a = Array[T]{}
	switch {
	case file != nil:
		return file.Close()
	case temp != nil: // never settled
		return errors.Join(temp.Close(), os.Remove(temp.Name()))
	}
	return nil
}
