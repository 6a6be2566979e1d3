package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/lockedfile"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/digest"
)

// Options says what to install and where from.
type Options struct {
	Kind string // cpu, cuda12 or cuda13; cuda means cuda13

	// FromWheel names local files to use instead of the network: the wheels themselves, folders
	// that hold them, or one shared library, which is then installed as it is.
	FromWheel []string

	// IndexURL is the package index to ask. Empty: the one that pip is set up for, else
	// $PIP_INDEX_URL, else the public one.
	IndexURL string

	// Libraries is a folder with NVIDIA's libraries that are on the machine already, such as
	// site-packages/nvidia. They are linked to, not fetched.
	Libraries string

	// Progress hears what is being done, from the goroutine that called Install. May be nil.
	Progress func(Progress)
}

// Install is Store.Install on the default store.
func Install(ctx context.Context, o Options) (Plugin, error) {
	store, err := Default()
	if err != nil {
		return Plugin{}, err
	}
	return store.Install(ctx, o)
}

// Install puts a plugin in its place and returns it. One that is there already, and whole, stays
// as it is. Nothing is left behind on failure, and a plugin that could be used before still can.
// Of several processes that install at once one works and the others wait for it.
func (s Store) Install(ctx context.Context, o Options) (Plugin, error) {
	if o.Kind == CUDA {
		o.Kind = CUDA13
	}
	if err := s.Table.known(o.Kind); err != nil {
		return Plugin{}, err
	}
	work := job{store: s, options: o, progress: meter{tell: o.Progress}}
	place := work.installWheels
	if path, ok := sharedLibrary(o.FromWheel); ok {
		place = func(ctx context.Context) (Plugin, error) { return work.installLibrary(ctx, path) }
	} else if _, err := s.Table.bundle(o.Kind, s.OS, s.Arch); err != nil {
		return Plugin{}, err
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return Plugin{}, err
	}
	unlock, err := work.lock(ctx)
	if err != nil {
		return Plugin{}, err
	}
	defer unlock()
	if err := s.sweep(); err != nil {
		return Plugin{}, err
	}
	return place(ctx)
}

// job is one call of Install.
type job struct {
	store    Store
	options  Options
	progress meter
}

// lock waits until no other process installs anything into the folder.
func (j *job) lock(ctx context.Context) (unlock func(), err error) {
	type result struct {
		unlock func()
		err    error
	}
	held := make(chan result, 1)
	go func() {
		unlock, err := lockedfile.MutexAt(filepath.Join(j.store.Dir, ".lock")).Lock()
		held <- result{unlock, err}
	}()
	j.progress.start(StepWait, j.options.Kind, 0)
	select {
	case got := <-held:
		return got.unlock, got.err
	case <-ctx.Done():
		go func() { // the lock may still come, and must not be kept
			if got := <-held; got.err == nil {
				got.unlock()
			}
		}()
		return nil, ctx.Err()
	}
}

// sweep removes what installations that were killed have left. The lock must be held.
func (s Store) sweep() error {
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") && strings.Contains(entry.Name(), ".tmp-") {
			if err := os.RemoveAll(filepath.Join(s.Dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// installWheels installs the pinned plugin.
func (j *job) installWheels(ctx context.Context) (Plugin, error) {
	bundle, err := j.store.Table.bundle(j.options.Kind, j.store.OS, j.store.Arch)
	if err != nil {
		return Plugin{}, err
	}
	target := j.store.folder(bundle.Kind, bundle.Version)
	if !j.whole(target) || j.options.Libraries == "" && incomplete(target) {
		var files map[string]string
		if len(j.options.FromWheel) > 0 {
			if files, err = j.matchFiles(bundle); err != nil {
				return Plugin{}, err
			}
		}
		err := replace(target, func(dir string) error { return j.fill(ctx, bundle, files, dir) })
		if err != nil {
			return Plugin{}, err
		}
	}
	// Whoever asks for the pinned plugin no longer wants the one given by path, which would go first.
	if err := os.RemoveAll(j.store.folder(bundle.Kind, Custom)); err != nil {
		return Plugin{}, err
	}
	return load(target)
}

// whole says whether the plugin in a folder is there and its library has the recorded digest.
func (j *job) whole(dir string) bool {
	found, err := load(dir)
	if err != nil {
		return false
	}
	j.progress.start(StepCheck, filepath.Base(found.Path), 0)
	return digest.Check(found.Path, found.SHA256) == nil
}

// wheels are those of the bundle that have to be unpacked.
func (j *job) wheels(bundle Bundle) []Wheel {
	if j.options.Libraries == "" {
		return bundle.Wheels
	}
	return slices.DeleteFunc(slices.Clone(bundle.Wheels), Wheel.isLibrary)
}

// fill makes the plugin's folder in dir. One wheel after the other is fetched, checked, unpacked
// and removed, so that the disk need not hold all of them at once.
func (j *job) fill(ctx context.Context, bundle Bundle, files map[string]string, dir string) error {
	rec := record{Format: recordFormat, Kind: bundle.Kind, Version: bundle.Version, Library: bundle.Library}
	for _, wheel := range j.wheels(bundle) {
		path, given := files[wheel.SHA256]
		if !given {
			scratch := filepath.Join(dir, ".fetch")
			if err := os.Mkdir(scratch, 0o755); err != nil {
				return err
			}
			var err error
			if path, err = j.fetch(ctx, wheel, scratch); err != nil {
				return err
			}
		}
		if err := j.unpack(ctx, wheel, path, dir); err != nil {
			return fmt.Errorf("unpacking %s: %w", wheel.File, err)
		}
		if err := os.RemoveAll(filepath.Join(dir, ".fetch")); err != nil {
			return err
		}
		rec.Sources = append(rec.Sources, recordSource{File: wheel.File, SHA256: wheel.SHA256})
	}
	if err := j.link(bundle, dir); err != nil {
		return err
	}
	return writeRecord(dir, rec)
}

// link makes the symbolic links of a bundle, or the one to NVIDIA's libraries that are there.
func (j *job) link(bundle Bundle, dir string) error {
	if j.options.Libraries != "" {
		return linkLibraries(j.options.Libraries, dir)
	}
	for name, target := range bundle.Links {
		if err := os.Symlink(filepath.FromSlash(target), filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			return err
		}
	}
	return nil
}

// linkLibraries lets the plugin in dir find NVIDIA's libraries, which it looks for in nvidia/.
func linkLibraries(libraries, dir string) error {
	abs, err := filepath.Abs(libraries)
	if err != nil {
		return err
	}
	info, err := os.Stat(abs)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &fs.PathError{Op: "link", Path: abs, Err: errors.New("not a folder")}
	}
	return os.Symlink(abs, filepath.Join(dir, strings.TrimSuffix(nvidiaDir, "/")))
}

// writeRecord completes the record with what the library is, and writes it.
func writeRecord(dir string, rec record) (err error) {
	library := filepath.Join(dir, filepath.FromSlash(rec.Library))
	if rec.SHA256, rec.Size, err = digest.File(library); err != nil {
		return err
	}
	data, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, recordName), append(data, '\n'), 0o644)
}

// replace makes the folder target with what fill puts into it. A folder that is there is removed
// only once the new one is complete.
func replace(target string, fill func(dir string) error) error {
	if _, err := os.Lstat(target); errors.Is(err, fs.ErrNotExist) {
		return atomicfile.WriteDir(target, fill)
	}
	ready := filepath.Join(filepath.Dir(target), "."+filepath.Base(target)+".tmp-ready")
	if err := atomicfile.WriteDir(ready, fill); err != nil {
		return err
	}
	if err := os.RemoveAll(target); err != nil {
		return err
	}
	return os.Rename(ready, target)
}
