package plugin

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/internal/digest"
)

// Table says what can be installed, and of which wheels each thing is made.
type Table struct {
	Version int      `json:"version"` // format of the table, now 1
	Bundles []Bundle `json:"bundles"`
}

// Bundle is a plugin for one platform with the libraries that it opens.
type Bundle struct {
	Kind    string            `json:"kind"`
	Version string            `json:"version"`
	OS      string            `json:"os"`
	Arch    string            `json:"arch"`
	Library string            `json:"library"`         // where the plugin lies in its folder
	Links   map[string]string `json:"links,omitempty"` // symbolic links to make, name → target
	Wheels  []Wheel           `json:"wheels"`
}

// Wheel is one pinned file.
type Wheel struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	File    string `json:"file"`
	SHA256  string `json:"sha256"`
	Size    int64  `json:"size"`
	// Extract says which members to unpack and where to; a name ending in / stands for all below it.
	Extract map[string]string `json:"extract"`
}

const tableVersion = 1

// nvidiaDir is where a CUDA plugin looks for NVIDIA's libraries.
const nvidiaDir = "nvidia/"

//go:embed pins.json
var pins []byte

// Pinned is the built-in table. scripts/pin-plugins.py writes it.
func Pinned() (Table, error) { return ParseTable(pins) }

// ParseTable reads a table and checks that nothing in it is missing or points outside a folder.
func ParseTable(data []byte) (Table, error) {
	var table Table
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&table); err != nil {
		return Table{}, fmt.Errorf("table of plugins: %w", err)
	}
	if table.Version != tableVersion {
		return Table{}, fmt.Errorf("table of plugins: version %d, want %d", table.Version, tableVersion)
	}
	for _, bundle := range table.Bundles {
		if err := bundle.check(); err != nil {
			return Table{}, fmt.Errorf("table of plugins: %s: %w", bundle.Kind, err)
		}
	}
	return table, nil
}

func (b Bundle) check() error {
	if b.Kind == "" || b.Version == "" || len(b.Wheels) == 0 {
		return fmt.Errorf("kind %q, version %q and %d wheels", b.Kind, b.Version, len(b.Wheels))
	}
	paths := []string{b.Library}
	for name, target := range b.Links {
		paths = append(paths, name, target)
	}
	for _, wheel := range b.Wheels {
		if !digest.Valid(wheel.SHA256) || wheel.Name == "" || wheel.Version == "" || wheel.Size <= 0 {
			return fmt.Errorf("wheel %q is not pinned", wheel.File)
		}
		if wheel.File != filepath.Base(wheel.File) {
			return fmt.Errorf("wheel %q is not a plain file name", wheel.File)
		}
		for _, to := range wheel.Extract {
			paths = append(paths, strings.TrimSuffix(to, "/"))
		}
	}
	for _, path := range paths {
		if !filepath.IsLocal(filepath.FromSlash(path)) {
			return fmt.Errorf("path %q leaves the folder", path)
		}
	}
	return nil
}

// isLibrary says whether a wheel holds NVIDIA's libraries, which may be on the machine already.
func (w Wheel) isLibrary() bool {
	_, ok := w.Extract[nvidiaDir]
	return ok
}

// size is how many bytes the wheels have.
func (b Bundle) size() int64 {
	var sum int64
	for _, wheel := range b.Wheels {
		sum += wheel.Size
	}
	return sum
}

// kinds lists the kinds in the order of the table.
func (t Table) kinds() []string {
	var kinds []string
	for _, bundle := range t.Bundles {
		if !slices.Contains(kinds, bundle.Kind) {
			kinds = append(kinds, bundle.Kind)
		}
	}
	return kinds
}

func (t Table) known(kind string) error {
	if kinds := t.kinds(); !slices.Contains(kinds, kind) {
		return &UnknownKindError{Kind: kind, Known: kinds}
	}
	return nil
}

// bundle is the one for a platform; an *UnsupportedPlatformError names those there are.
func (t Table) bundle(kind, os, arch string) (Bundle, error) {
	if err := t.known(kind); err != nil {
		return Bundle{}, err
	}
	var supported []string
	for _, bundle := range t.Bundles {
		if bundle.Kind != kind {
			continue
		}
		if bundle.OS == os && bundle.Arch == arch {
			return bundle, nil
		}
		supported = append(supported, bundle.OS+"/"+bundle.Arch)
	}
	return Bundle{}, &UnsupportedPlatformError{Kind: kind, OS: os, Arch: arch, Supported: supported}
}
