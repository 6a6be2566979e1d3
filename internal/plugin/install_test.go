package plugin_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/t5ctl/t5ctl/internal/plugin"
)

func TestInstallFromWheel(t *testing.T) {
	good := standin(t)
	tests := map[string]struct {
		given func(t *testing.T) []string
		check func(error) bool // nil: it must be installed
	}{
		"the wheel":          {given: func(t *testing.T) []string { return []string{writeFile(t, standinFile, good)} }},
		"under another name": {given: func(t *testing.T) []string { return []string{writeFile(t, "x.whl", good)} }},
		"its folder": {given: func(t *testing.T) []string {
			return []string{filepath.Dir(writeFile(t, standinFile, good))}
		}},
		"another content": {
			given: func(t *testing.T) []string { return []string{writeFile(t, standinFile, append(slices.Clone(good), 0))} },
			check: isA[*plugin.ChecksumError],
		},
		"cut off": {
			given: func(t *testing.T) []string { return []string{writeFile(t, standinFile, good[:len(good)/2])} },
			check: isA[*plugin.ChecksumError],
		},
		"an empty folder": {given: func(t *testing.T) []string { return []string{t.TempDir()} }, check: isA[*plugin.MissingWheelsError]},
		"no such file": {
			given: func(*testing.T) []string { return []string{"no.whl"} },
			check: func(err error) bool { return errors.Is(err, os.ErrNotExist) },
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			got, err := store.Install(t.Context(), plugin.Options{Kind: plugin.CPU, FromWheel: tt.given(t)})
			if tt.check != nil {
				if !tt.check(err) {
					t.Errorf("Install: %v", err)
				}
				checkClean(t, store)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if found, err := store.Find(plugin.CPU); err != nil || found != got {
				t.Errorf("Find: %+v, %v; want %+v", found, err, got)
			}
			checkFile(t, got.Path, libraryText)
			checkFile(t, filepath.Join(filepath.Dir(got.Path), "licenses", "standin-pjrt", "LICENSE"), "Apache-2.0")
			checkClean(t, store, "cpu-1.0")
		})
	}
}

func TestInstallTwice(t *testing.T) {
	store := newStore(t)
	path := writeFile(t, standinFile, standin(t))
	first, err := store.Install(t.Context(), plugin.Options{Kind: plugin.CPU, FromWheel: []string{path}})
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(first.Path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := store.Install(t.Context(), plugin.Options{Kind: plugin.CPU, FromWheel: []string{"gone.whl"}})
	if err != nil || again != first {
		t.Errorf("the second time: %+v, %v; want %+v", again, err, first)
	}
	if after, err := os.Stat(first.Path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the library was written again: %v", err)
	}
}

// A library whose content has changed but not its length is found out by the next installation.
func TestInstallMendsContent(t *testing.T) {
	store := newStore(t)
	options := plugin.Options{Kind: plugin.CPU, FromWheel: []string{writeFile(t, standinFile, standin(t))}}
	got, err := store.Install(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, got.Path, "not", "now")
	if got, err = store.Install(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	checkFile(t, got.Path, libraryText)
}

// What could be used before a failure can be used after it.
func TestInstallFailureKeepsDamaged(t *testing.T) {
	store := newStore(t)
	options := plugin.Options{Kind: plugin.CPU, FromWheel: []string{writeFile(t, standinFile, standin(t))}}
	got, err := store.Install(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, got.Path, "not", "now")
	options.FromWheel = []string{writeFile(t, standinFile, []byte("PK"))}
	if _, err := store.Install(t.Context(), options); !isA[*plugin.ChecksumError](err) {
		t.Errorf("Install: %v", err)
	}
	checkFile(t, got.Path, strings.Replace(libraryText, "not", "now", 1))
	checkClean(t, store, "cpu-1.0")
}

func TestInstallPlatform(t *testing.T) {
	store := newStore(t)
	store.Arch = "s390x"
	_, err := store.Install(t.Context(), plugin.Options{Kind: plugin.CPU})
	if e, ok := errors.AsType[*plugin.UnsupportedPlatformError](err); !ok || !slices.Equal(e.Supported, []string{"linux/test"}) {
		t.Errorf("Install: %v", err)
	}
	if _, err := store.Install(t.Context(), plugin.Options{Kind: "tpu"}); !isA[*plugin.UnknownKindError](err) {
		t.Errorf("an unknown kind: %v", err)
	}
	states, err := store.List()
	if err != nil || len(states) != 1 || states[0].Supported {
		t.Errorf("List: %+v, %v", states, err)
	}
	checkClean(t, store)
}

// A library given by path goes before the pinned plugin until that is asked for again.
func TestInstallLibrary(t *testing.T) {
	store := newStore(t)
	options := plugin.Options{Kind: plugin.CPU, FromWheel: []string{writeFile(t, standinFile, standin(t))}}
	pinned, err := store.Install(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"mine", "mine", "my second"} {
		got, err := store.Install(t.Context(), plugin.Options{
			Kind: plugin.CPU, FromWheel: []string{writeFile(t, "build/anything.so", []byte(text))},
		})
		if err != nil {
			t.Fatal(err)
		}
		checkFile(t, got.Path, text)
		if want := filepath.Join(store.Dir, "cpu-custom", "pjrt_c_api_cpu_plugin.so"); got.Path != want || got.Version != plugin.Custom {
			t.Errorf("installed as %+v, want %s", got, want)
		}
		if found, err := store.Find(plugin.CPU); err != nil || found != got {
			t.Errorf("Find: %+v, %v; want %+v", found, err, got)
		}
	}
	if got, err := store.Install(t.Context(), options); err != nil || got != pinned {
		t.Errorf("the pinned one again: %+v, %v", got, err)
	}
	if found, err := store.Find(plugin.CPU); err != nil || found != pinned {
		t.Errorf("Find: %+v, %v; want %+v", found, err, pinned)
	}
	checkClean(t, store, "cpu-1.0")
}

// cudaStore is a store whose table has a CUDA plugin of two wheels, and the folder with both.
func cudaStore(t *testing.T) (plugin.Store, string) {
	t.Helper()
	store := newStore(t)
	main := wheel(t, map[string]string{"jax_plugins/xla_cuda13/xla_cuda_plugin.so": "cuda"})
	extra := wheel(t, map[string]string{"nvidia/cu13/bin/ptxas": "#!", "nvidia/cu13/lib/libcublas.so.13": "blas"})
	store.Table.Bundles = append(store.Table.Bundles, plugin.Bundle{
		Kind: plugin.CUDA13, Version: "1.0", OS: "linux", Arch: "test", Library: "lib/pjrt_c_api_cuda_plugin.so",
		Links: map[string]string{"nvidia/bin": "cu13/bin"},
		Wheels: []plugin.Wheel{
			pin("main", "main.whl", main, map[string]string{"jax_plugins/xla_cuda13/xla_cuda_plugin.so": "lib/pjrt_c_api_cuda_plugin.so"}),
			pin("extra", "extra.whl", extra, map[string]string{"nvidia/": "nvidia/"}),
		},
	})
	dir := filepath.Dir(writeFile(t, "main.whl", main))
	if err := os.WriteFile(filepath.Join(dir, "extra.whl"), extra, 0o644); err != nil {
		t.Fatal(err)
	}
	return store, dir
}

func TestInstallCUDA(t *testing.T) {
	store, dir := cudaStore(t)
	_, err := store.Install(t.Context(), plugin.Options{Kind: plugin.CUDA, FromWheel: []string{filepath.Join(dir, "main.whl")}})
	if e, ok := errors.AsType[*plugin.MissingWheelsError](err); !ok || !slices.Equal(e.Missing, []string{"extra.whl"}) {
		t.Errorf("half of it: %v", err)
	}
	got, err := store.Install(t.Context(), plugin.Options{Kind: plugin.CUDA, FromWheel: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(store.Dir, "cuda13-1.0")
	checkFile(t, filepath.Join(root, "lib", "pjrt_c_api_cuda_plugin.so"), "cuda")
	checkFile(t, filepath.Join(root, "nvidia", "cu13", "lib", "libcublas.so.13"), "blas")
	checkFile(t, filepath.Join(root, "nvidia", "bin", "ptxas"), "#!")
	if info, err := os.Stat(filepath.Join(root, "nvidia", "bin", "ptxas")); err != nil || info.Mode()&0o100 == 0 {
		t.Errorf("ptxas cannot be executed: %v, %v", info, err)
	}
	if dir := got.CUDADataDir(); dir != filepath.Join(root, "nvidia", "cu13") {
		t.Errorf("CUDADataDir: %q", dir)
	}
	if found, err := store.Find(plugin.CUDA); err != nil || found != got {
		t.Errorf("Find: %+v, %v; want %+v", found, err, got)
	}
}

// A library that is gone comes back, although the plugin itself is whole.
func TestInstallBringsLibrariesBack(t *testing.T) {
	store, dir := cudaStore(t)
	options := plugin.Options{Kind: plugin.CUDA13, FromWheel: []string{dir}}
	if _, err := store.Install(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	blas := filepath.Join(store.Dir, "cuda13-1.0", "nvidia", "cu13", "lib", "libcublas.so.13")
	if err := os.Remove(blas); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Install(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	checkFile(t, blas, "blas")
}

// NVIDIA's libraries that are on the machine are linked to and their wheels not asked for.
func TestInstallCUDALibraries(t *testing.T) {
	store, dir := cudaStore(t)
	there := filepath.Dir(filepath.Dir(writeFile(t, "nvidia/cu13/x", nil)))
	options := plugin.Options{Kind: plugin.CUDA13, FromWheel: []string{filepath.Join(dir, "main.whl")}, Libraries: there}
	if _, err := store.Install(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	checkFile(t, filepath.Join(store.Dir, "cuda13-1.0", "nvidia", "cu13", "x"), "")

	// A plugin given by path brings the libraries that lie where it would look for them.
	site := t.TempDir()
	library := filepath.Join(site, "jax_plugins", "xla_cuda13", "xla_cuda_plugin.so")
	for _, path := range []string{library, filepath.Join(site, "nvidia", "cu13", "y")} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := store.Install(t.Context(), plugin.Options{Kind: plugin.CUDA13, FromWheel: []string{library}})
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, filepath.Join(filepath.Dir(got.Path), "..", "nvidia", "cu13", "y"), "")

	options.Libraries = filepath.Join(there, "missing")
	if _, err := store.Install(t.Context(), plugin.Options{
		Kind: plugin.CUDA13, FromWheel: []string{library}, Libraries: options.Libraries,
	}); err != nil {
		t.Errorf("the same library again changes nothing: %v", err)
	}
}

// Many installations at once end with one plugin, and with none of them failing.
func TestInstallConcurrently(t *testing.T) {
	store := newStore(t)
	path := writeFile(t, standinFile, standin(t))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			got, err := store.Install(t.Context(), plugin.Options{Kind: plugin.CPU, FromWheel: []string{path}})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := os.Stat(got.Path); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	checkClean(t, store, "cpu-1.0")
}

// What a killed installation has left is swept by the next one; the lock file is not.
func TestInstallSweeps(t *testing.T) {
	store := newStore(t)
	left := filepath.Join(store.Dir, ".cpu-1.0.tmp-0123", "nvidia")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	path := writeFile(t, standinFile, standin(t))
	if _, err := store.Install(t.Context(), plugin.Options{Kind: plugin.CPU, FromWheel: []string{path}}); err != nil {
		t.Fatal(err)
	}
	checkClean(t, store, "cpu-1.0")
}

func TestInstallCancelled(t *testing.T) {
	store := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	options := plugin.Options{Kind: plugin.CPU, FromWheel: []string{writeFile(t, standinFile, standin(t))}}
	options.Progress = func(p plugin.Progress) {
		if p.Step == plugin.StepUnpack {
			cancel()
		}
	}
	// One read takes all of so small a member, so that the end may come before the signal is seen;
	// either way nothing half done may be left.
	if _, err := store.Install(ctx, options); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Install: %v", err)
	} else if err != nil {
		checkClean(t, store)
	}
	cancel()
	if _, err := newStore(t).Install(ctx, plugin.Options{Kind: plugin.CPU}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled from the start: %v", err)
	}
}

func TestInstallUnwritable(t *testing.T) {
	if runtime.GOOS == "windows" || os.Getuid() == 0 {
		t.Log("a folder that cannot be written to: not tried, this user may write anywhere")
		return
	}
	store := newStore(t)
	store.Dir = filepath.Join(t.TempDir(), "closed", "plugins")
	if err := os.Mkdir(filepath.Dir(store.Dir), 0o500); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Install(t.Context(), plugin.Options{Kind: plugin.CPU}); !errors.Is(err, os.ErrPermission) {
		t.Errorf("Install: %v", err)
	}
}

func TestProgress(t *testing.T) {
	store := newStore(t)
	var steps []plugin.Step
	var last plugin.Progress
	_, err := store.Install(t.Context(), plugin.Options{
		Kind: plugin.CPU, FromWheel: []string{writeFile(t, standinFile, standin(t))},
		Progress: func(p plugin.Progress) {
			if len(steps) == 0 || steps[len(steps)-1] != p.Step {
				steps = append(steps, p.Step)
			}
			last = p
		},
	})
	want := []plugin.Step{plugin.StepWait, plugin.StepCheck, plugin.StepUnpack}
	if err != nil || !slices.Equal(steps, want) {
		t.Errorf("steps %q, %v; want %q", steps, err, want)
	}
	if last.Done != last.Total || last.Total == 0 {
		t.Errorf("the end is not told: %+v", last)
	}
}
