//go:build !linux

package cli_test

// forbidSockets does nothing here; the scripts that need it are skipped.
func forbidSockets() {}
