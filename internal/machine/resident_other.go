//go:build !linux

package machine

func Resident() int64 { return 0 }
