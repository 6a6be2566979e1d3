package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/hub"
)

// Pulled is what Pull brought, or found there.
type Pulled struct {
	Ref     string       `json:"ref"`
	Commit  string       `json:"commit"`
	Dir     string       `json:"dir"` // of the snapshot
	Files   []PulledFile `json:"files"`
	Fetched int64        `json:"fetched_bytes"`
}

// PulledFile is one file in the cache.
type PulledFile struct {
	File
	Fetched bool `json:"fetched"` // now; else it was there already
}

// Pull asks which commit the revision is now, fetches what of it is missing, and checks all of it. Offline it finds
// what is there.
func (c *Client) Pull(ctx context.Context, ref hub.Ref) (Pulled, error) {
	if c.options.Offline {
		return c.local(ref)
	}
	commit := ref.Revision
	if !hub.IsCommit(commit) {
		var err error
		if commit, err = c.commit(ctx, ref); err != nil {
			return Pulled{}, err
		}
	}
	files, err := c.list(ctx, ref, commit)
	if err != nil {
		return Pulled{}, err
	}
	wanted, err := choose(ref, commit, files)
	if err != nil {
		return Pulled{}, err
	}
	result := Pulled{Ref: ref.String(), Commit: commit, Dir: filepath.Join(c.options.Cache.Repo(ref), "snapshots", commit)}
	if result.Files, result.Fetched, err = c.fetchAll(ctx, ref, commit, wanted); err != nil {
		return Pulled{}, err
	}
	for _, f := range result.Files {
		if err := c.link(ref, result.Dir, f.File); err != nil {
			return Pulled{}, err
		}
	}
	return result, c.remember(ref, commit)
}

// Have finds what a reference means in the cache and connects only where that does not tell, or lacks something. A branch stands
// where the last Pull saw it.
func (c *Client) Have(ctx context.Context, ref hub.Ref) (Pulled, error) {
	found, err := c.local(ref)
	if missing := (*hub.MissingError)(nil); c.options.Offline || !errors.As(err, &missing) {
		return found, err
	}
	if commit, _, err := c.options.Cache.Snapshot(ref); err == nil {
		return c.Pull(ctx, ref.At(commit))
	}
	return c.Pull(ctx, ref)
}

// local finds a reference in the cache: every file that is listed, or where there is no listing, what a model needs.
func (c *Client) local(ref hub.Ref) (Pulled, error) {
	commit, dir, err := c.options.Cache.Snapshot(ref)
	if err != nil {
		return Pulled{}, c.offline(err)
	}
	result := Pulled{Ref: ref.String(), Commit: commit, Dir: dir}
	listed, known := c.recorded(ref, commit)
	if !known {
		if listed, err = filesOf(dir); err != nil {
			return Pulled{}, err
		}
	}
	incomplete := func(what string) (Pulled, error) {
		return Pulled{}, c.offline(&hub.MissingError{Ref: ref.String(), Repo: ref.Repo(), Reason: fmt.Sprintf("the hub's cache lacks %s of revision %.12s", what, commit)})
	}
	if !known && !c.options.Offline && strings.ContainsAny(ref.Path, "*?[") {
		return incomplete("the listing") // which files the pattern matches, nobody has said
	}
	wanted, err := choose(ref, commit, listed)
	if err != nil && !known {
		return incomplete("a file")
	}
	if err != nil {
		return Pulled{}, err
	}
	for _, f := range wanted {
		info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(f.Path)))
		if err != nil || known && info.Size() != f.Size {
			return incomplete(f.Path)
		}
		result.Files = append(result.Files, PulledFile{File: f})
	}
	return result, nil
}

// offline marks what is missing because nobody may be asked.
func (c *Client) offline(err error) error {
	if missing := (*hub.MissingError)(nil); errors.As(err, &missing) {
		missing.Offline = c.options.Offline
	}
	return err
}

// filesOf lists a snapshot by what is there.
func filesOf(dir string) ([]File, error) {
	var files []File
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := os.Stat(name)
		if err != nil {
			return nil //nolint:nilerr // a link whose content is gone is as good as none
		}
		relative, err := filepath.Rel(dir, name)
		files = append(files, File{Path: filepath.ToSlash(relative), Size: info.Size()})
		return err
	})
	return files, err
}

// choose picks the files that a reference asks for.
func choose(ref hub.Ref, commit string, files []File) ([]File, error) {
	if ref.Kind == hub.Models {
		return chooseModel(ref, files)
	}
	var chosen []File
	for _, f := range files {
		if ok, err := path.Match(ref.Path, f.Path); err == nil && ok || f.Path == ref.Path {
			chosen = append(chosen, f)
		}
	}
	if len(chosen) == 0 {
		return nil, &hub.MissingError{Ref: ref.String(), Repo: ref.Repo(), Reason: fmt.Sprintf("revision %.12s has no file %s%s", commit, ref.Path, among(files))}
	}
	return chosen, nil
}

// among names some files that a mistaken pattern might have meant.
func among(files []File) string {
	var names []string
	for _, f := range files {
		if strings.Contains(f.Path, ".parquet") || strings.Contains(f.Path, ".jsonl") || strings.Contains(f.Path, ".csv") || strings.Contains(f.Path, ".tsv") {
			names = append(names, f.Path)
		}
	}
	if len(names) == 0 {
		return ""
	}
	more := ""
	if len(names) > 3 {
		names, more = names[:3], ", …"
	}
	return "; it has " + strings.Join(names, ", ") + more
}

// chooseModel picks configuration, tokenizer, card and weights. Weights of other frameworks and precisions stay where they are.
func chooseModel(ref hub.Ref, files []File) ([]File, error) {
	small := []string{
		"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
		"spiece.model", "adapter_config.json", "README.md", "LICENSE", "LICENSE.txt",
	}
	has := func(name string) bool {
		return slices.ContainsFunc(files, func(f File) bool { return f.Path == name })
	}
	shard := regexp.MustCompile(`^model-\d{5}-of-\d{5}\.safetensors$`)
	weights := func(name string) bool { return name == "model.safetensors" || name == "adapter_model.safetensors" }
	switch {
	case has("model.safetensors") || has("adapter_model.safetensors"):
	case has("model.safetensors.index.json"):
		weights = func(name string) bool { return name == "model.safetensors.index.json" || shard.MatchString(name) }
	default:
		for _, pickle := range []string{"pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin"} {
			if has(pickle) {
				return nil, &PickleError{Repo: ref.Repo(), Revision: ref.Revision, File: pickle}
			}
		}
		return nil, &NoModelError{Repo: ref.Repo(), Revision: ref.Revision, Missing: "model.safetensors"}
	}
	if !has("config.json") && !has("adapter_config.json") {
		return nil, &NoModelError{Repo: ref.Repo(), Revision: ref.Revision, Missing: "config.json"}
	}
	var chosen []File
	for _, f := range files {
		if slices.Contains(small, f.Path) || weights(f.Path) {
			chosen = append(chosen, f)
		}
	}
	return chosen, nil
}

// fetchAll brings the blobs of files into the cache, a few at a time.
func (c *Client) fetchAll(ctx context.Context, ref hub.Ref, commit string, files []File) ([]PulledFile, int64, error) {
	pulled := make([]PulledFile, len(files))
	var total, fetched atomic.Int64
	for _, f := range files {
		total.Add(f.Size)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for i, f := range files {
		group.Go(func() error {
			d := download{client: c, ref: ref, commit: commit, file: f}
			d.moved = func(n int64) {
				if sum := fetched.Add(n); c.options.Progress != nil {
					c.options.Progress(sum, total.Load())
				}
			}
			d.have = func(n int64) { total.Add(-n) }
			fresh, err := d.run(ctx)
			pulled[i] = PulledFile{File: f, Fetched: fresh}
			return err
		})
	}
	err := group.Wait()
	return pulled, fetched.Load(), err
}

// link puts a file into its snapshot.
func (c *Client) link(ref hub.Ref, dir string, file File) error {
	name := filepath.Join(dir, filepath.FromSlash(file.Path))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	up := strings.Repeat("../", strings.Count(file.Path, "/")+2)
	target := filepath.FromSlash(up + "blobs/" + file.ID)
	if now, err := os.Readlink(name); err == nil && now == target {
		return nil
	}
	blob := filepath.Join(c.options.Cache.Repo(ref), "blobs", file.ID)
	return relink(blob, target, name)
}

// relink makes name a link to target, or where links cannot be made, a copy of the blob.
func relink(blob, target, name string) error {
	next := name + ".tmp-link"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, next); err != nil {
		return copyFile(blob, name)
	}
	return os.Rename(next, name)
}

// remember notes which commit the revision was.
func (c *Client) remember(ref hub.Ref, commit string) error {
	if ref.Revision == commit {
		return nil
	}
	path := filepath.Join(c.options.Cache.Repo(ref), "refs", filepath.FromSlash(ref.Revision))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return atomicfile.WriteBytes(path, []byte(commit))
}

// Copy writes the pulled files to a new folder, which needs the cache no longer.
func (p Pulled) Copy(dir string) error {
	return atomicfile.WriteDir(filepath.Clean(dir), func(stage string) error {
		for _, f := range p.Files {
			name := filepath.Join(stage, filepath.FromSlash(f.Path))
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				return err
			}
			if err := copyFile(filepath.Join(p.Dir, filepath.FromSlash(f.Path)), name); err != nil {
				return err
			}
		}
		return nil
	})
}
