package registry

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/t5ctl/t5ctl/internal/digest"
)

// PullResult tells what was pulled.
type PullResult struct {
	Detail
	Dir   string `json:"dir"`
	Fresh bool   `json:"fresh"` // false: the folder held this very version already

	Warnings []string `json:"warnings,omitempty"` // what the policy would refuse if it were enforced
}

// Pull writes a version's files to the folder dir, which must not exist, be empty, or hold that
// version already. Every byte is checked on the way; after an error nothing is left there.
func (r *Registry) Pull(ctx context.Context, ref Ref, dir string) (PullResult, error) {
	detail, err := r.Show(ctx, ref)
	if err != nil {
		return PullResult{}, err
	}
	result := PullResult{Detail: detail, Dir: dir}
	s, v, err := r.find(ctx, ref)
	if err != nil {
		return PullResult{}, err
	}
	if result.Warnings, err = r.underVerdict(ctx, s, v, ref); err != nil {
		return PullResult{}, err
	}
	if holds, err := holdsAlready(dir, detail.Layers); err != nil || holds {
		return result, err
	}
	result.Fresh, err = r.pullTo(ctx, detail, filepath.Clean(dir))
	return result, err
}

// holdsAlready says whether a folder holds these files; one that holds others is an *OutputError.
func holdsAlready(dir string, layers []Layer) (bool, error) {
	empty, err := isEmpty(dir)
	if err != nil || empty {
		return false, err
	}
	if CheckFolder(dir, layers) != nil {
		return false, &OutputError{Path: dir}
	}
	return true, nil
}

// pullTo makes the folder dir, which is missing or empty, unless another process has meanwhile.
func (r *Registry) pullTo(ctx context.Context, detail Detail, dir string) (fresh bool, err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return false, err
	}
	s, err := enterStage(ctx, dir, detail.Digest)
	if err != nil {
		return false, err
	}
	keep := false
	defer func() { err = errors.Join(err, s.leave(keep)) }()
	if holds, err := holdsAlready(dir, detail.Layers); err != nil || holds {
		return false, err
	}
	if err := os.MkdirAll(s.files(), 0o755); err != nil {
		return false, err
	}
	if err := r.fill(ctx, detail.Ref.Model, detail.Layers, s.files()); err != nil {
		keep = r.worthKeeping(err)
		return false, err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err = s.finish(dir); errors.Is(err, fs.ErrExist) {
		err = &OutputError{Path: dir}
	}
	return err == nil, err
}

// worthKeeping says whether a pull that ended so may go on later with what it has: it was cut off
// from a server, and neither that nor this disk has done anything wrong.
func (r *Registry) worthKeeping(err error) bool {
	_, damaged := errors.AsType[*CorruptError](err)
	_, disk := errors.AsType[*fs.PathError](err)
	_, far := r.backend.(Resumer)
	return far && !damaged && !disk
}

// isEmpty says whether nothing is at a path, or a folder with nothing in it.
func isEmpty(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		if info, statErr := os.Stat(dir); statErr == nil && !info.IsDir() {
			return false, &OutputError{Path: dir}
		}
		return false, err
	}
	return len(entries) == 0, nil
}

// fill writes layers below a folder that holds nothing yet.
func (r *Registry) fill(ctx context.Context, model string, layers []Layer, stage string) (err error) {
	root, err := os.OpenRoot(stage) // no path can leave it, whatever it holds
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return r.each(ctx, model, layers, func(ctx context.Context, layer Layer) error {
		return r.fillOne(ctx, root, model, layer)
	})
}

func (r *Registry) fillOne(ctx context.Context, root *os.Root, model string, layer Layer) (err error) {
	name := filepath.FromSlash(layer.Path)
	if dir := filepath.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha256.New()
	have, err := io.CopyBuffer(sum, &cancelReader{ctx, f}, make([]byte, 1<<18)) // what a pull before has left
	if err != nil {
		return err
	}
	what := "layer " + layer.Path
	if have > 0 && have <= layer.Size {
		err := r.copyRest(ctx, f, model, what, layer.descriptor(), sum, have)
		if _, damaged := errors.AsType[*CorruptError](err); !damaged {
			return err
		}
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return r.copyBlob(ctx, f, model, what, layer.descriptor())
}

// CheckFolder says whether a folder holds exactly these files. A *digest.MismatchError names the
// first that differs; a file that is missing or does not belong there is an error too.
func CheckFolder(dir string, layers []Layer) error {
	want := map[string]Layer{}
	for _, layer := range layers {
		want[layer.Path] = layer
	}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		layer, found := want[name]
		if !found || !entry.Type().IsRegular() {
			return &FolderError{path, "does not belong to the version"}
		}
		delete(want, name)
		return digest.Check(path, layer.Digest)
	})
	if err != nil {
		return err
	}
	for _, layer := range layers {
		if _, missing := want[layer.Path]; missing {
			return &FolderError{filepath.Join(dir, filepath.FromSlash(layer.Path)), "is missing"}
		}
	}
	return nil
}

// ReadFile gives one file of a version, such as its README.md, checked.
func (r *Registry) ReadFile(ctx context.Context, ref Ref, path string) ([]byte, error) {
	detail, err := r.Show(ctx, ref)
	if err != nil {
		return nil, err
	}
	for _, layer := range detail.Layers {
		if layer.Path == path {
			return r.readBlob(ctx, ref.Model, "layer "+path, layer.descriptor())
		}
	}
	return nil, fmt.Errorf("%s holds no %s: %w", detail.Name, path, fs.ErrNotExist)
}

// checkLayer checks a blob without keeping it.
func (r *Registry) checkLayer(ctx context.Context, model string, layer Layer) error {
	return r.copyBlob(ctx, io.Discard, model, "layer "+layer.Path, layer.descriptor())
}
