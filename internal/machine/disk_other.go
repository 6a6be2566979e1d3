//go:build !unix

package machine

// FreeDisk is how many bytes this user can still write on the disk that holds the folder.
func FreeDisk(string) int64 { return 0 }
