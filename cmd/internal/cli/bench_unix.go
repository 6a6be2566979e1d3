//go:build unix

package cli

import (
	"os"
	"runtime"
	"strconv"
	"strings"
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

// sinceStart is how many seconds ago the process began, as the kernel says; 0 where there is no /proc.
func sinceStart() float64 {
	const ticks, field = 100, 19 // field 22, the third being the first behind the name
	stat, _ := os.ReadFile("/proc/self/stat")
	uptime, _ := os.ReadFile("/proc/uptime")
	_, behind, _ := strings.Cut(string(stat), ") ")
	fields, now := strings.Fields(behind), strings.Fields(string(uptime))
	if len(fields) <= field || len(now) == 0 {
		return 0
	}
	start, errStart := strconv.ParseFloat(fields[field], 64)
	seconds, errNow := strconv.ParseFloat(now[0], 64)
	if errStart != nil || errNow != nil {
		return 0
	}
	return seconds - start/ticks
}
