// Package machine says what this computer has: memory, disk and processors. Where the system does
// not tell, a number is 0, and nothing may be concluded from it.
package machine

import (
	"os"
	"strconv"
	"strings"
)

// Memory is the machine's memory in bytes, or less where a container's limit is lower.
func Memory() int64 {
	total := meminfo("MemTotal")
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if limit := number(path); limit > 0 && (total == 0 || limit < total) {
			total = limit
		}
	}
	return total
}

// FreeMemory is what programs can have now without swapping.
func FreeMemory() int64 {
	free := meminfo("MemAvailable")
	if limit := number("/sys/fs/cgroup/memory.max"); limit > 0 {
		free = min(free, max(0, limit-number("/sys/fs/cgroup/memory.current")))
	}
	return free
}

// number reads a file that holds one number; "max" and what cannot be read are 0.
func number(path string) int64 {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// meminfo reads a line of /proc/meminfo, which counts in units of 1,024 bytes.
func meminfo(name string) int64 {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0
			}
			return n * 1024
		}
	}
	return 0
}
