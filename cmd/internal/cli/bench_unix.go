//go:build unix

package cli

import (
	"runtime"
	"syscall"
)

// peakRSS is the most resident memory that the process has had, in MiB.
func peakRSS() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return float64(usage.Maxrss) / (1 << 20) // bytes there
	}
	return float64(usage.Maxrss) / (1 << 10)
}
