//go:build !linux

package trainer

func residentBytes() int64 { return 0 }
