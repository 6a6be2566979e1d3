//go:build unix

package machine

import "golang.org/x/sys/unix"

// FreeDisk is how many bytes this user can still write on the disk that holds the folder.
func FreeDisk(dir string) int64 {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0
	}
	return int64(stat.Bavail) * int64(stat.Bsize) // their types differ between systems
}
