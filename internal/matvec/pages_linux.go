package matvec

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// pageBytes is the size from which memory gets pages of its own.
const pageBytes = 1 << 20

// reserve makes memory for weights. Much of it lies outside of the heap, whose collector would otherwise leave as much
// garbage lying as there are weights, and in large pages, as a step reads all of it. free, which may be nil, gives it
// back.
func reserve[T float32 | uint16 | int8](n int) (memory []T, free func()) {
	var zero T
	size := n * int(unsafe.Sizeof(zero))
	if size < pageBytes {
		return make([]T, n), nil
	}
	data, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return make([]T, n), nil
	}
	_ = unix.Madvise(data, unix.MADV_HUGEPAGE) // advice: nothing depends on it
	return unsafe.Slice((*T)(unsafe.Pointer(&data[0])), n), func() { _ = unix.Munmap(data) }
}
