package datasets

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// hubPrefix marks a file of a data set on the Hugging Face hub: hf:owner/name[@revision]/path, where * and ?
// match names. It is taken from the hub's cache on this machine; nothing is ever asked over a network.
const hubPrefix = "hf:"

// HubError says that the hub's cache does not hold what was named.
type HubError struct {
	Ref    string
	Name   string // owner/name
	Reason string
}

func (e *HubError) Error() string { return e.Ref + ": " + e.Reason }

// Is makes it a missing file.
func (e *HubError) Is(target error) bool { return target == fs.ErrNotExist }

// hubFiles finds the files of a reference in the cache.
func hubFiles(ref string) ([]string, error) {
	parts := regexp.MustCompile(`^hf:([\w.-]+)/([\w.-]+)(?:@([\w.-]+))?/(.+)$`).FindStringSubmatch(ref)
	if parts == nil || slices.ContainsFunc(append(strings.Split(parts[4], "/"), parts[1:4]...), func(s string) bool { return s == "." || s == ".." }) {
		return nil, &FormatError{Path: ref, Reason: "is not hf:owner/name[@revision]/file"}
	}
	fail := func(format string, a ...any) ([]string, error) {
		return nil, &HubError{Ref: ref, Name: parts[1] + "/" + parts[2], Reason: fmt.Sprintf(format, a...)}
	}
	dir := filepath.Join(hubCache(), "datasets--"+parts[1]+"--"+parts[2])
	if _, err := os.Stat(dir); err != nil {
		return fail("the hub's cache %s holds no data set %s/%s", hubCache(), parts[1], parts[2])
	}
	revision := parts[3]
	if revision == "" {
		revision = "main"
	}
	if commit, err := os.ReadFile(filepath.Join(dir, "refs", revision)); err == nil {
		if revision = strings.TrimSpace(string(commit)); !regexp.MustCompile(`^[0-9a-f]{40}$`).MatchString(revision) {
			return fail("the cache's ref %s names no commit", parts[3])
		}
	}
	snapshot := filepath.Join(dir, "snapshots", revision)
	if _, err := os.Stat(snapshot); err != nil {
		return fail("the hub's cache holds no revision %s of it", revision)
	}
	matches, err := filepath.Glob(filepath.Join(snapshot, filepath.FromSlash(parts[4])))
	if err != nil {
		return nil, &FormatError{Path: ref, Reason: "is not a pattern of file names: " + err.Error()}
	}
	if len(matches) == 0 {
		return fail("revision %.12s in the hub's cache has no file %s", revision, parts[4])
	}
	slices.Sort(matches)
	return matches, nil
}

// hubCache is where the hub's own tools keep what they fetched.
func hubCache() string {
	if dir := os.Getenv("HF_HUB_CACHE"); dir != "" {
		return dir
	}
	if dir := os.Getenv("HF_HOME"); dir != "" {
		return filepath.Join(dir, "hub")
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			home = "."
		}
		cache = filepath.Join(home, ".cache")
	}
	return filepath.Join(cache, "huggingface", "hub")
}
