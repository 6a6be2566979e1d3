// Package safety holds a small set of probes to start from: instructions hidden in inputs, and requests
// for what a model must not give. They are data: rows with a rule that says when an answer passes.
//
// The set is small and fixed, so passing it proves little; failing it proves something. Copy it and
// add the probes that matter to your task.
package safety

import (
	"embed"
	"io/fs"
)

//go:embed files
var files embed.FS //nolint:gochecknoglobals // embedding needs a variable

// Files are the suite, its probes and its gates, by name.
func Files() (map[string][]byte, error) {
	out := map[string][]byte{}
	err := fs.WalkDir(files, "files", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := files.ReadFile(path)
		out[d.Name()] = text
		return err
	})
	return out, err
}
