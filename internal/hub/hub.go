// Package hub knows how models and data sets of the Hugging Face hub are named, and how the hub's own tools keep
// them on disk, so that what either side fetched serves the other.
//
// The layout below the cache's folder is that of huggingface_hub:
//
//	models--OWNER--NAME/blobs/ID              content; ID is its SHA-256 (large files) or its git SHA-1
//	models--OWNER--NAME/blobs/ID.incomplete   what an interrupted download left
//	models--OWNER--NAME/refs/REVISION         the commit that a branch or tag named when it was last asked for
//	models--OWNER--NAME/snapshots/COMMIT/…    the files of a commit, as links into blobs
//	.locks/models--OWNER--NAME/ID.lock        held while ID is being fetched
//
// This package opens no connection; package remote does.
package hub

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Prefix marks a reference to the hub.
const Prefix = "hf:"

// DefaultRevision is what a reference without a revision means.
const DefaultRevision = "main"

// Kind is what a repository of the hub holds.
type Kind string

// The kinds that t5ctl uses, as the cache spells them.
const (
	Models   Kind = "models"
	Datasets Kind = "datasets"
)

// Ref names a repository at a revision, and for data the files in it.
type Ref struct {
	Kind     Kind
	Owner    string
	Name     string
	Revision string // branch, tag or commit; never empty
	Path     string // of data: a file, or a pattern with * and ?; "" for a model
}

// RefError says that a text is no reference.
type RefError struct{ Text, Want string }

func (e *RefError) Error() string { return fmt.Sprintf("%s is not %s", e.Text, e.Want) }

// MissingError says that something is not there: in the cache, or on the hub itself.
type MissingError struct {
	Ref     string // as it was given
	Repo    string // OWNER/NAME
	Reason  string
	Offline bool // it might be on the hub, which must not be asked
	Denied  bool // it might be there, for those who may see it
}

func (e *MissingError) Error() string { return e.Ref + ": " + e.Reason }

// Is makes it a missing file.
func (e *MissingError) Is(target error) bool { return target == fs.ErrNotExist }

// IsRef says whether a text is meant as a reference to the hub.
func IsRef(text string) bool { return strings.HasPrefix(text, Prefix) }

// ParseModel reads hf:owner/name[@revision].
func ParseModel(text string) (Ref, error) {
	m := regexp.MustCompile(`^hf:([\w.-]+)/([\w.-]+)(?:@([\w.-]+(?:/[\w.-]+)*))?$`).FindStringSubmatch(text)
	if m == nil || !plain(m[1], m[2]) || !plain(strings.Split(m[3], "/")...) {
		return Ref{}, &RefError{Text: text, Want: "hf:owner/name[@revision]"}
	}
	return Ref{Kind: Models, Owner: m[1], Name: m[2], Revision: orMain(m[3])}, nil
}

// ParseData reads hf:owner/name[@revision]/path, where * and ? match names.
func ParseData(text string) (Ref, error) {
	m := regexp.MustCompile(`^hf:([\w.-]+)/([\w.-]+)(?:@([\w.-]+))?/(.+)$`).FindStringSubmatch(text)
	if m == nil || !plain(m[1:4]...) || !plain(strings.Split(m[4], "/")...) {
		return Ref{}, &RefError{Text: text, Want: "hf:owner/name[@revision]/file"}
	}
	if _, err := filepath.Match(m[4], ""); err != nil {
		return Ref{}, &RefError{Text: text, Want: "a pattern of file names: " + err.Error()}
	}
	return Ref{Kind: Datasets, Owner: m[1], Name: m[2], Revision: orMain(m[3]), Path: m[4]}, nil
}

// plain refuses what would lead out of a folder.
func plain(names ...string) bool {
	return !slices.Contains(names, ".") && !slices.Contains(names, "..")
}

func orMain(revision string) string {
	if revision == "" {
		return DefaultRevision
	}
	return revision
}

// Repo is OWNER/NAME.
func (r Ref) Repo() string { return r.Owner + "/" + r.Name }

// At is the same reference at another revision.
func (r Ref) At(revision string) Ref {
	r.Revision = revision
	return r
}

func (r Ref) String() string {
	text := Prefix + r.Repo()
	if r.Revision != DefaultRevision {
		text += "@" + r.Revision
	}
	if r.Path != "" {
		text += "/" + r.Path
	}
	return text
}

// IsCommit says whether a revision is a commit, which never changes.
func IsCommit(revision string) bool {
	return regexp.MustCompile(`^[0-9a-f]{40}$`).MatchString(revision)
}

// Cache is the folder that the hub's tools share.
type Cache struct{ Dir string }

// DefaultCache is where the hub's own tools keep what they fetched: HF_HUB_CACHE, HF_HOME, or the user's cache.
func DefaultCache() Cache {
	if dir := os.Getenv("HF_HUB_CACHE"); dir != "" {
		return Cache{dir}
	}
	return Cache{filepath.Join(Home(), "hub")}
}

// Home is the folder of the hub's tools: HF_HOME, else ~/.cache/huggingface.
func Home() string {
	if dir := os.Getenv("HF_HOME"); dir != "" {
		return dir
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			home = "."
		}
		cache = filepath.Join(home, ".cache")
	}
	return filepath.Join(cache, "huggingface")
}

// Repo is the folder of a repository.
func (c Cache) Repo(r Ref) string { return filepath.Join(c.Dir, repoFolder(r)) }

// Locks is the folder with the locks of a repository.
func (c Cache) Locks(r Ref) string { return filepath.Join(c.Dir, ".locks", repoFolder(r)) }

func repoFolder(r Ref) string { return string(r.Kind) + "--" + r.Owner + "--" + r.Name }

// Snapshot finds the folder of a revision, and its commit. It is a *MissingError where the cache does not hold it.
func (c Cache) Snapshot(r Ref) (commit, dir string, err error) {
	missing := func(format string, a ...any) (string, string, error) {
		return "", "", &MissingError{Ref: r.String(), Repo: r.Repo(), Reason: fmt.Sprintf(format, a...)}
	}
	what := map[Kind]string{Models: "model", Datasets: "data set"}[r.Kind]
	if _, err := os.Stat(c.Repo(r)); err != nil {
		return missing("the hub's cache %s holds no %s %s", c.Dir, what, r.Repo())
	}
	commit = r.Revision
	if named, err := os.ReadFile(filepath.Join(c.Repo(r), "refs", filepath.FromSlash(r.Revision))); err == nil {
		if commit = strings.TrimSpace(string(named)); !IsCommit(commit) {
			return missing("the cache's ref %s names no commit", r.Revision)
		}
	}
	dir = filepath.Join(c.Repo(r), "snapshots", filepath.FromSlash(commit))
	if _, err := os.Stat(dir); err != nil {
		return missing("the hub's cache holds no revision %s of it", r.Revision)
	}
	return commit, dir, nil
}

// Files finds the files of data in the cache, in the order of their names.
func (c Cache) Files(r Ref) ([]string, error) {
	commit, dir, err := c.Snapshot(r)
	if err != nil {
		return nil, err
	}
	matches, err := filepath.Glob(filepath.Join(escapeGlob(dir), filepath.FromSlash(r.Path)))
	if err != nil {
		return nil, err
	}
	if len(matches) == 0 {
		return nil, &MissingError{Ref: r.String(), Repo: r.Repo(), Reason: fmt.Sprintf("revision %.12s in the hub's cache has no file %s", commit, r.Path)}
	}
	slices.Sort(matches)
	return matches, nil
}

// escapeGlob takes a path as it is.
func escapeGlob(path string) string {
	if filepath.Separator == '\\' {
		return path // there it separates names, and escapes nothing
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
