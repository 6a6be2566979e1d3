package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/modelpack/model-spec/specs-go/v1"

	"github.com/t5ctl/t5ctl/internal/digest"
)

// The kinds of artifacts.
const (
	KindModel   = "model"   // a whole model: config.json and weights
	KindAdapter = "adapter" // a LoRA adapter, useless without its base
)

// folder is a model or adapter on disk, looked through but not yet hashed.
type folder struct {
	dir     string
	kind    string
	files   []file   // sorted by path
	skipped []string // what does not belong to a model
}

// file is one file of a folder and the layer that it becomes.
type file struct {
	path      string // slash-separated, below the folder
	mediaType string
}

// openFolder says which files of a folder make up the model.
func openFolder(dir string) (*folder, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, &FolderError{dir, "not a folder"}
	}
	f := &folder{dir: dir}
	if err := fs.WalkDir(os.DirFS(dir), ".", f.add); err != nil {
		return nil, err
	}
	slices.SortFunc(f.files, func(a, b file) int { return strings.Compare(a.path, b.path) })
	f.kind = kindOf(f.files)
	if f.kind == "" {
		return nil, &FolderError{dir, "neither a model (config.json and *.safetensors) nor an adapter (adapter_config.json and adapter_model.safetensors)"}
	}
	return f, nil
}

// add sorts one entry of the folder. Links to files are followed, as the hub's cache is made of
// them; links to folders are not.
func (f *folder) add(name string, entry fs.DirEntry, err error) error {
	switch {
	case err != nil:
		return err
	case name == ".":
		return nil
	case strings.HasPrefix(path.Base(name), "."):
		if entry.IsDir() {
			return fs.SkipDir
		}
		return nil
	case entry.IsDir():
		return nil
	}
	info, err := os.Stat(filepath.Join(f.dir, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	mediaType := layerType(name)
	if !info.Mode().IsRegular() || mediaType == "" || checkPath(name) != nil {
		f.skipped = append(f.skipped, name)
		return nil
	}
	f.files = append(f.files, file{name, mediaType})
	return nil
}

// layerType is the media type of a file in a model's folder, or "" for what does not belong
// there: pickled weights, weights of other frameworks, and whatever nobody reads.
func layerType(name string) string {
	base := path.Base(name)
	stem := strings.ToUpper(strings.TrimSuffix(base, path.Ext(base)))
	switch stem {
	case "README", "LICENSE", "LICENCE", "NOTICE", "COPYING":
		return v1.MediaTypeModelDocRaw
	}
	switch strings.ToLower(path.Ext(base)) {
	case ".safetensors":
		return v1.MediaTypeModelWeightRaw
	case ".json", ".model", ".txt", ".vocab", ".jinja":
		return v1.MediaTypeModelWeightConfigRaw
	case ".md", ".png", ".svg":
		return v1.MediaTypeModelDocRaw
	}
	return ""
}

func kindOf(files []file) string {
	has := func(name string) bool {
		return slices.ContainsFunc(files, func(f file) bool { return f.path == name })
	}
	weights := slices.ContainsFunc(files, func(f file) bool {
		return f.mediaType == v1.MediaTypeModelWeightRaw && !strings.Contains(f.path, "/")
	})
	switch {
	case has("adapter_config.json") && has("adapter_model.safetensors"):
		return KindAdapter
	case has("config.json") && weights:
		return KindModel
	}
	return ""
}

// hash turns the files into layers.
func (f *folder) hash() ([]Layer, error) {
	layers := make([]Layer, 0, len(f.files))
	for _, file := range f.files {
		sum, size, err := digest.File(filepath.Join(f.dir, filepath.FromSlash(file.path)))
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", file.path, err)
		}
		layers = append(layers, Layer{Path: file.path, MediaType: file.mediaType, Digest: sum, Size: size})
	}
	return layers, nil
}

// Tree is the digest of the model files in a folder, documentation apart: two folders of the
// same tree are the same model.
func Tree(dir string) (string, error) {
	f, err := openFolder(dir)
	if err != nil {
		return "", err
	}
	layers, err := f.hash()
	if err != nil {
		return "", err
	}
	return treeDigest(layers), nil
}

// readOptional reads a file that need not be there.
func readOptional(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}
