//go:build !linux

package matvec

func reserve[T float32 | uint16 | int8](n int) (memory []T, free func()) { return make([]T, n), nil }
