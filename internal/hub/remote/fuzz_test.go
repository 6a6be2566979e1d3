package remote

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever a server lists, no file of it leads out of its folder.
func FuzzListing(f *testing.F) {
	f.Add(`{"type": "file", "path": "data/a.jsonl", "size": 3, "oid": "0123456789abcdef0123456789abcdef01234567"}`)
	f.Add(`{"type": "file", "path": "../a", "size": 3, "oid": "0123456789abcdef0123456789abcdef01234567"}`)
	f.Add(`{"type": "file", "path": "a", "oid": "x", "lfs": {"oid": "sha256:../..", "size": -1}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var e treeEntry
		if json.Unmarshal([]byte(text), &e) != nil {
			return
		}
		file, err := e.file()
		if err != nil {
			return
		}
		if at := filepath.Join("/cache/x", file.Path); !strings.HasPrefix(at, "/cache/x") || strings.ContainsAny(file.ID, "./\\") || file.Size < 0 {
			t.Errorf("%s: %+v", text, file)
		}
	})
}
