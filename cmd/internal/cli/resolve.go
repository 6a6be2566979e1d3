package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/t5ctl/t5ctl/cmd/internal/settings"
	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/internal/hub"
	"github.com/t5ctl/t5ctl/internal/hub/remote"
	"github.com/t5ctl/t5ctl/registry"
)

// resolvedModel is a model reference turned into folders that hold it.
type resolvedModel struct {
	Ref     string // as it was given
	Name    string // name@vN; "" for a local folder
	Digest  string // of the version's manifest; "" for a local folder
	Tree    string // digest of the files of what was named: the adapter's, where it is one
	Dir     string // folder of the whole model
	Adapter string // folder of the adapter to put on it; "" where there is none
}

// resolveModel finds a model: a folder (of a model, an adapter, or a run), or a version in the
// registry, which is pulled into the cache and checked each time. An adapter brings its base,
// which must have the very files that the adapter was trained on.
func resolveModel(ctx context.Context, app *App, ref string) (resolvedModel, error) {
	if info, err := os.Stat(ref); err == nil && info.IsDir() {
		return app.resolveFolder(ctx, ref)
	}
	if hub.IsRef(ref) {
		return app.resolveHub(ctx, ref)
	}
	if dir := shippedModel(ref); dir != "" {
		return app.resolveFolder(ctx, dir)
	}
	if !strings.Contains(ref, "@") {
		return resolvedModel{}, &fs.PathError{Op: "no model folder", Path: ref, Err: fs.ErrNotExist}
	}
	parsed, err := registry.ParseRef(ref)
	if err != nil {
		return resolvedModel{}, err
	}
	r, err := app.registry()
	if err != nil {
		return resolvedModel{}, err
	}
	pulled, err := cached(ctx, r, parsed)
	if err != nil {
		return resolvedModel{}, err
	}
	m := resolvedModel{Ref: ref, Name: pulled.Name, Digest: pulled.Digest, Tree: pulled.Tree, Dir: pulled.Dir}
	if pulled.Kind == registry.KindAdapter {
		m.Adapter = pulled.Dir
		m.Dir, err = baseFolder(ctx, r, pulled.Name, *pulled.Base)
	}
	return m, err
}

// cached pulls a version into the cache; a copy that is there already is hashed again, and
// replaced where it has changed.
func cached(ctx context.Context, r *registry.Registry, ref registry.Ref) (registry.PullResult, error) {
	version, err := r.Resolve(ctx, ref)
	if err != nil {
		return registry.PullResult{}, err
	}
	dir := filepath.Join(settings.CacheHome(), "t5ctl", "models", strings.TrimPrefix(version.Digest, digest.Prefix))
	result, err := r.Pull(ctx, version.Ref, dir)
	if damaged := (*registry.OutputError)(nil); errors.As(err, &damaged) {
		if err := os.RemoveAll(dir); err != nil {
			return registry.PullResult{}, err
		}
		result, err = r.Pull(ctx, version.Ref, dir)
	}
	if err != nil {
		return result, fmt.Errorf("pulling %s: %w", version.Name, err)
	}
	return result, nil
}

// baseFolder finds the base of an adapter by the digest of its files: in the registry, else in
// the folder that the adapter's run named.
func baseFolder(ctx context.Context, r *registry.Registry, adapter string, base registry.Base) (string, error) {
	version, found, err := r.FindTree(ctx, base.Tree)
	if err != nil {
		return "", err
	}
	if found {
		pulled, err := cached(ctx, r, version.Ref)
		return pulled.Dir, err
	}
	got, err := registry.Tree(base.Name)
	if err != nil || got != base.Tree {
		return "", &registry.BaseError{Adapter: adapter, Base: base.Name, Want: base.Tree, Got: got}
	}
	return base.Name, nil
}

// resolveFolder finds the model in a folder: the folder itself, or that of a run.
func (a *App) resolveFolder(ctx context.Context, dir string) (resolvedModel, error) {
	source, err := registry.OpenSource(dir)
	if _, ok := errors.AsType[*registry.FolderError](err); ok && exists(filepath.Join(dir, "pytorch_model.bin")) {
		return resolvedModel{}, &remote.PickleError{Repo: dir, File: "pytorch_model.bin"}
	}
	if err != nil {
		return resolvedModel{}, err
	}
	m := resolvedModel{Ref: dir, Tree: source.Tree, Dir: source.ModelDir}
	if source.Kind != registry.KindAdapter {
		return m, nil
	}
	m.Adapter = source.ModelDir
	if source.Base == "" {
		return m, &registry.FolderError{Path: source.ModelDir, Reason: "an adapter, and nothing says which base it belongs to"}
	}
	if named, err := hub.ParseModel(hub.Prefix + source.Base); err == nil && !exists(source.Base) && named.Revision == hub.DefaultRevision {
		source.Base = named.String() // adapters of PEFT name models of the hub like this
	}
	base, err := resolveModel(ctx, a, source.Base)
	if err != nil {
		return m, fmt.Errorf("base of %s: %w", dir, err)
	}
	if base.Adapter != "" {
		return m, &registry.FolderError{Path: source.ModelDir, Reason: "its base is an adapter too"}
	}
	m.Dir = base.Dir
	return m, nil
}
