//go:build !linux

package atomicfile

// renameNoReplace renames, or fails with an error that is fs.ErrExist if to exists.
func renameNoReplace(from, to string) error { return renameChecked(from, to) }
