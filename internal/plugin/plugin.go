// Package plugin finds and installs the compute plugins: the shared libraries through which
// t5ctl reaches XLA on the CPU or on an NVIDIA GPU.
//
// A plugin is installed from wheels that are pinned in pins.json by file name and SHA-256, so
// that it does not matter which mirror they come from. Install checks each wheel before it
// unpacks it, puts the plugin in place whole or not at all, and may run in several processes at
// once. Find and List read a small record; they never load a library, which could crash.
//
// Below the folder of a Store a plugin lies in KIND-VERSION, or in KIND-custom where it was
// given as a shared library by path; that one goes first.
package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// The kinds of plugin. CUDA stands for whichever of the two below is installed, the newer first.
const (
	CPU    = "cpu"
	CUDA   = "cuda"
	CUDA12 = "cuda12"
	CUDA13 = "cuda13"
)

// Custom is the version of a plugin that was given as a shared library by path.
const Custom = "custom"

// Plugin is an installed compute plugin.
type Plugin struct {
	Kind    string `json:"kind"`    // cpu, cuda12 or cuda13
	Path    string `json:"path"`    // absolute path of the shared library
	Version string `json:"version"` // the pinned version, or Custom
	SHA256  string `json:"sha256"`  // digest of the shared library, "sha256:…"
}

// CUDADataDir is the folder that XLA must be told of (--xla_gpu_cuda_data_dir) to find ptxas and
// libdevice. It is empty for the CPU plugin and where the plugin came without NVIDIA's libraries.
func (p Plugin) CUDADataDir() string {
	root := map[string]string{CUDA12: "cuda_nvcc", CUDA13: "cu13"}[p.Kind]
	if root == "" {
		return ""
	}
	dir := filepath.Join(filepath.Dir(filepath.Dir(p.Path)), "nvidia", root)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return ""
	}
	return dir
}

// State is what List tells of one kind of plugin.
type State struct {
	Kind      string  `json:"kind"`
	Version   string  `json:"version"`             // the version that Install would bring
	Download  int64   `json:"download_bytes"`      // size of its wheels
	Supported bool    `json:"supported"`           // whether there is one for this machine
	Installed *Plugin `json:"installed,omitempty"` // nil: not installed
	Problem   string  `json:"problem,omitempty"`   // why an installed one cannot be used
}

// Store is a folder of plugins and the table of what can be installed in it.
type Store struct {
	Dir      string // absolute
	Table    Table
	OS, Arch string // the machine, as GOOS and GOARCH name it
}

// Default is the store of this user with the built-in table: $T5CTL_PLUGIN_DIR, else t5ctl/plugins
// in $XDG_DATA_HOME, else in ~/.local/share.
func Default() (Store, error) {
	dir, err := defaultDir()
	if err != nil {
		return Store{}, err
	}
	table, err := Pinned()
	return Store{Dir: dir, Table: table, OS: runtime.GOOS, Arch: runtime.GOARCH}, err
}

func defaultDir() (string, error) {
	if dir := os.Getenv("T5CTL_PLUGIN_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	if data := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(data) {
		return filepath.Join(data, "t5ctl", "plugins"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no folder for compute plugins: %w", err)
	}
	return filepath.Join(home, ".local", "share", "t5ctl", "plugins"), nil
}

// Find is Store.Find on the default store.
func Find(kind string) (Plugin, error) {
	store, err := Default()
	if err != nil {
		return Plugin{}, err
	}
	return store.Find(kind)
}

// List is Store.List on the default store.
func List() ([]State, error) {
	store, err := Default()
	if err != nil {
		return nil, err
	}
	return store.List()
}

// Find gives the installed plugin of a kind. A *NotInstalledError says that there is none, a
// *DamagedError that what is there cannot be used. The library is not loaded, and not hashed.
func (s Store) Find(kind string) (Plugin, error) {
	if kind == CUDA {
		found, err := s.Find(CUDA13)
		if _, none := errors.AsType[*NotInstalledError](err); none {
			if found, err = s.Find(CUDA12); err != nil {
				if _, none = errors.AsType[*NotInstalledError](err); none {
					return Plugin{}, &NotInstalledError{Kind: CUDA, Dir: s.Dir}
				}
			}
		}
		return found, err
	}
	if err := s.Table.known(kind); err != nil {
		return Plugin{}, err
	}
	versions := []string{Custom}
	if bundle, err := s.Table.bundle(kind, s.OS, s.Arch); err == nil {
		versions = append(versions, bundle.Version)
	}
	for _, version := range versions {
		found, err := load(s.folder(kind, version))
		if !errors.Is(err, fs.ErrNotExist) {
			return found, err
		}
	}
	return Plugin{}, &NotInstalledError{Kind: kind, Dir: s.Dir}
}

// List says of every kind in the table whether it is installed and can be.
func (s Store) List() ([]State, error) {
	var states []State
	for _, kind := range s.Table.kinds() {
		state := State{Kind: kind}
		if bundle, err := s.Table.bundle(kind, s.OS, s.Arch); err == nil {
			state.Supported, state.Version, state.Download = true, bundle.Version, bundle.size()
		}
		found, err := s.Find(kind)
		switch _, none := errors.AsType[*NotInstalledError](err); {
		case err == nil:
			state.Installed = &found
		case !none:
			state.Problem = err.Error()
		}
		states = append(states, state)
	}
	return states, nil
}

func (s Store) folder(kind, version string) string {
	return filepath.Join(s.Dir, kind+"-"+version)
}

// recordName is the file in a plugin's folder that says what it holds.
const recordName = "plugin.json"

// record is the content of plugin.json.
type record struct {
	Format  int            `json:"format"` // of this file, now 1
	Kind    string         `json:"kind"`
	Version string         `json:"version"`
	Library string         `json:"library"` // slash-separated, relative to the folder
	SHA256  string         `json:"sha256"`
	Size    int64          `json:"size"`
	Sources []recordSource `json:"sources"`
}

// recordSource names a file that a plugin was made of.
type recordSource struct {
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
}

const recordFormat = 1

// load reads the record in dir and checks that the library it names is there in full length. The
// error wraps fs.ErrNotExist only if there is no such folder.
func load(dir string) (Plugin, error) {
	if _, err := os.Stat(dir); err != nil {
		return Plugin{}, err
	}
	rec, err := readRecord(dir)
	if err != nil {
		return Plugin{}, &DamagedError{Dir: dir, Reason: err.Error()}
	}
	path := filepath.Join(dir, filepath.FromSlash(rec.Library))
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return Plugin{}, &DamagedError{Dir: dir, Reason: rec.Library + " is missing"}
	case info.Size() != rec.Size:
		reason := fmt.Sprintf("%s has %d bytes, %d were installed", rec.Library, info.Size(), rec.Size)
		return Plugin{}, &DamagedError{Dir: dir, Reason: reason}
	}
	return Plugin{Kind: rec.Kind, Path: path, Version: rec.Version, SHA256: rec.SHA256}, nil
}

func readRecord(dir string) (record, error) {
	data, err := os.ReadFile(filepath.Join(dir, recordName))
	if err != nil {
		return record{}, fmt.Errorf("%s cannot be read", recordName)
	}
	var rec record
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&rec); err != nil {
		return record{}, fmt.Errorf("%s: %w", recordName, err)
	}
	switch {
	case rec.Format != recordFormat:
		return record{}, fmt.Errorf("%s has format %d, this t5ctl reads %d", recordName, rec.Format, recordFormat)
	case !filepath.IsLocal(filepath.FromSlash(rec.Library)):
		return record{}, fmt.Errorf("%s names a library outside its folder: %q", recordName, rec.Library)
	}
	return rec, nil
}
