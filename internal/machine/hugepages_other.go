//go:build !linux

package machine

// UseHugePages does nothing: only Linux gives huge pages on advice.
func UseHugePages() {}
