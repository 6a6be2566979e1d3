package cli_test

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/t5ctl/t5ctl/internal/hub/hubtest"
)

// hub starts a stand-in of the Hugging Face hub that holds folders as repositories, and points HF_ENDPOINT at it:
// hub [closed] models/owner/name=FOLDER ... With closed it wants a token.
func hubServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: hub [closed] KIND/OWNER/NAME=FOLDER ...")
	}
	h, stop := hubtest.Start()
	ts.Defer(stop)
	for _, arg := range args {
		repo, dir, found := strings.Cut(arg, "=")
		if !found {
			h.Closed = h.Closed || arg == "closed"
			continue
		}
		dir = ts.MkAbs(dir)
		ts.Check(filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name, err := filepath.Rel(dir, path)
			h.Add(repo, filepath.ToSlash(name), string(data))
			return err
		}))
	}
	ts.Setenv("HF_ENDPOINT", h.URL)
	ts.Setenv("HUB_TOKEN", hubtest.Token)
	ts.Setenv("HUB_COMMIT", hubtest.Commit)
}
