package plugin_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/internal/plugin"
)

const (
	standinFile = "standin_pjrt-1.0-py3-none-any.whl"
	libraryText = "not a library"
)

// wheel makes a wheel of the members given, name → content. A member under bin/ is executable.
func wheel(t *testing.T, members map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	archive := zip.NewWriter(&buf)
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		header := &zip.FileHeader{Name: name, Method: zip.Deflate}
		header.SetMode(0o644)
		if strings.Contains(name, "/bin/") {
			header.SetMode(0o755)
		}
		w, err := archive.CreateHeader(header)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(members[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// standin is a wheel like that of the CPU plugin, but small.
func standin(t *testing.T) []byte {
	return wheel(t, map[string]string{
		"standin_pjrt/__init__.py":                            "",
		"standin_pjrt/pjrt_c_api_cpu_plugin.so":               libraryText,
		"standin_pjrt-1.0.dist-info/METADATA":                 "Name: standin-pjrt\n",
		"standin_pjrt-1.0.dist-info/licenses/LICENSE":         "Apache-2.0",
		"standin_pjrt-1.0.dist-info/licenses/x/../../../../y": "leaves the folder",
	})
}

// pin describes a wheel as the table does.
func pin(name, file string, data []byte, extract map[string]string) plugin.Wheel {
	return plugin.Wheel{
		Name: name, Version: "1.0", File: file,
		SHA256: digest.Bytes(data), Size: int64(len(data)), Extract: extract,
	}
}

// newStore is an empty store for a machine "linux/test" whose table holds the stand-in.
func newStore(t *testing.T) plugin.Store {
	t.Helper()
	for _, name := range []string{"PIP_INDEX_URL", "PIP_NO_INDEX", "PIP_FIND_LINKS"} {
		t.Setenv(name, "")
	}
	t.Setenv("PATH", t.TempDir()) // no python3
	library := "pjrt_c_api_cpu_plugin.so"
	bundle := plugin.Bundle{
		Kind: plugin.CPU, Version: "1.0", OS: "linux", Arch: "test", Library: library,
		Wheels: []plugin.Wheel{pin("standin-pjrt", standinFile, standin(t), map[string]string{"standin_pjrt/" + library: library})},
	}
	table := plugin.Table{Version: 1, Bundles: []plugin.Bundle{bundle}}
	return plugin.Store{Dir: filepath.Join(t.TempDir(), "plugins"), Table: table, OS: "linux", Arch: "test"}
}

// writeFile puts content into a file of a new folder and returns its path.
func writeFile(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// checkFile fails unless the file holds the text.
func checkFile(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s holds %q, %v; want %q", path, got, err, want)
	}
}

// checkClean fails if the store holds anything but its lock and the folders named.
func checkClean(t *testing.T, store plugin.Store, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(store.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	got := []string{}
	for _, entry := range entries {
		if entry.Name() != ".lock" {
			got = append(got, entry.Name())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the store holds %q, want %q", got, want)
	}
}

func TestPinned(t *testing.T) {
	table, err := plugin.Pinned()
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, bundle := range table.Bundles {
		kinds = append(kinds, bundle.Kind)
		for _, wheel := range bundle.Wheels {
			if !strings.HasSuffix(wheel.File, "x86_64.whl") || bundle.OS != "linux" || bundle.Arch != "amd64" {
				t.Errorf("%s is for another machine than %s/%s", wheel.File, bundle.OS, bundle.Arch)
			}
		}
	}
	if want := []string{plugin.CPU, plugin.CUDA12, plugin.CUDA13}; !slices.Equal(kinds, want) {
		t.Errorf("the table has %q, want %q", kinds, want)
	}
	cpu := table.Bundles[0].Wheels[0]
	if want := "sha256:1319390d948b39f69f7dade496b7c385149d9ca6097a6b62114da113216d9ad1"; cpu.SHA256 != want {
		t.Errorf("the CPU plugin is pinned to %s, want %s", cpu.SHA256, want)
	}
}

func TestParseTable(t *testing.T) {
	table := newStore(t).Table
	tests := map[string]struct {
		change func(*plugin.Table)
		want   string // part of the error; empty: none
	}{
		"as it is":          {change: func(*plugin.Table) {}},
		"another format":    {change: func(t *plugin.Table) { t.Version = 2 }, want: "version 2"},
		"not pinned":        {change: func(t *plugin.Table) { t.Bundles[0].Wheels[0].SHA256 = "" }, want: "not pinned"},
		"no wheels":         {change: func(t *plugin.Table) { t.Bundles[0].Wheels = nil }, want: "0 wheels"},
		"a path as a file":  {change: func(t *plugin.Table) { t.Bundles[0].Wheels[0].File = "../x.whl" }, want: "plain file name"},
		"library elsewhere": {change: func(t *plugin.Table) { t.Bundles[0].Library = "../x.so" }, want: "leaves the folder"},
		"link elsewhere":    {change: func(t *plugin.Table) { t.Bundles[0].Links = map[string]string{"a": "../../b"} }, want: "leaves the folder"},
		"member elsewhere": {
			change: func(t *plugin.Table) { t.Bundles[0].Wheels[0].Extract = map[string]string{"a": "/etc/passwd"} },
			want:   "leaves the folder",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			data, err := json.Marshal(table)
			if err != nil {
				t.Fatal(err)
			}
			var changed plugin.Table
			if err := json.Unmarshal(data, &changed); err != nil {
				t.Fatal(err)
			}
			tt.change(&changed)
			if data, err = json.Marshal(changed); err != nil {
				t.Fatal(err)
			}
			_, err = plugin.ParseTable(data)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ParseTable: %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := plugin.ParseTable([]byte(`{"version": 1, "bundle": []}`)); err == nil {
		t.Error("an unknown key is accepted")
	}
}

func TestDefaultFolder(t *testing.T) {
	home := t.TempDir()
	tests := map[string]struct{ plugins, data, want string }{
		"named":    {plugins: filepath.Join(home, "p"), data: filepath.Join(home, "d"), want: filepath.Join(home, "p")},
		"XDG":      {data: filepath.Join(home, "d"), want: filepath.Join(home, "d", "t5ctl", "plugins")},
		"home":     {want: filepath.Join(home, ".local", "share", "t5ctl", "plugins")},
		"relative": {data: "d", want: filepath.Join(home, ".local", "share", "t5ctl", "plugins")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HOME", home)
			t.Setenv("USERPROFILE", home)
			t.Setenv("T5CTL_PLUGIN_DIR", tt.plugins)
			t.Setenv("XDG_DATA_HOME", tt.data)
			store, err := plugin.Default()
			if err != nil || store.Dir != tt.want {
				t.Errorf("Default: %q, %v; want %q", store.Dir, err, tt.want)
			}
		})
	}
}

func TestFind(t *testing.T) {
	store := newStore(t)
	if _, err := store.Find(plugin.CPU); !isA[*plugin.NotInstalledError](err) {
		t.Errorf("an empty store: %v", err)
	}
	if _, err := store.Find(plugin.CUDA); !isA[*plugin.UnknownKindError](err) {
		t.Errorf("no CUDA in the table: %v", err)
	}
	store.Table, _ = plugin.Pinned()
	if _, err := store.Find(plugin.CUDA); !isA[*plugin.NotInstalledError](err) {
		t.Errorf("no CUDA installed: %v", err)
	}
	if _, err := store.Find("tpu"); !isA[*plugin.UnknownKindError](err) {
		t.Errorf("an unknown kind: %v", err)
	}
}

// isA says whether err is or wraps an error of type E.
func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func TestFindDamaged(t *testing.T) {
	tests := map[string]func(t *testing.T, dir string){
		"library cut": func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "pjrt_c_api_cpu_plugin.so"), 3); err != nil {
				t.Fatal(err)
			}
		},
		"library gone": func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "pjrt_c_api_cpu_plugin.so")) },
		"record gone":  func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "plugin.json")) },
		"record of another format": func(t *testing.T, dir string) {
			rewrite(t, filepath.Join(dir, "plugin.json"), `"format": 1`, `"format": 2`)
		},
		"record that names a file elsewhere": func(t *testing.T, dir string) {
			rewrite(t, filepath.Join(dir, "plugin.json"), `"pjrt_c_api_cpu_plugin.so"`, `"../../../bin/sh"`)
		},
		"record with an unknown key": func(t *testing.T, dir string) {
			rewrite(t, filepath.Join(dir, "plugin.json"), `"format"`, `"fromat": 0, "format"`)
		},
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			options := plugin.Options{Kind: plugin.CPU, FromWheel: []string{writeFile(t, standinFile, standin(t))}}
			if _, err := store.Install(t.Context(), options); err != nil {
				t.Fatal(err)
			}
			damage(t, filepath.Join(store.Dir, "cpu-1.0"))
			if _, err := store.Find(plugin.CPU); !isA[*plugin.DamagedError](err) {
				t.Errorf("Find: %v, want a DamagedError", err)
			}
			states, err := store.List()
			if err != nil || len(states) != 1 || states[0].Problem == "" || states[0].Installed != nil {
				t.Errorf("List: %+v, %v; want a problem", states, err)
			}
			found, err := store.Install(t.Context(), options)
			if err != nil {
				t.Fatalf("installing it again: %v", err)
			}
			checkFile(t, found.Path, libraryText)
			checkClean(t, store, "cpu-1.0")
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func rewrite(t *testing.T, path, from, to string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), from) {
		t.Fatalf("%s does not hold %s", path, from)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(data), from, to, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestCUDADataDir(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "nvidia", "cu13"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "lib", "pjrt_c_api_cuda_plugin.so")
	for kind, want := range map[string]string{
		plugin.CUDA13: filepath.Join(dir, "nvidia", "cu13"),
		plugin.CUDA12: "", // its folder is not there
		plugin.CPU:    "",
	} {
		if got := (plugin.Plugin{Kind: kind, Path: path}).CUDADataDir(); got != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
}
