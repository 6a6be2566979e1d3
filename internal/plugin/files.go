package plugin

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/t5ctl/t5ctl/internal/digest"
)

// sharedLibrary says whether what the user gave is one shared library.
func sharedLibrary(given []string) (path string, ok bool) {
	if len(given) != 1 {
		return "", false
	}
	switch filepath.Ext(given[0]) {
	case ".so", ".dylib", ".dll":
		return given[0], true
	}
	return "", false
}

// matchFiles finds the wheels of a bundle among the files that the user gave, by their content.
// The result maps a digest to a path and has all of the wheels.
func (j *job) matchFiles(bundle Bundle) (map[string]string, error) {
	paths, err := expand(j.options.FromWheel)
	if err != nil {
		return nil, err
	}
	byDigest := map[string]string{}
	for _, path := range paths {
		j.progress.start(StepCheck, filepath.Base(path), 0)
		sum, _, err := digest.File(path)
		if err != nil {
			return nil, err
		}
		byDigest[sum] = path
	}
	var missing []string
	for _, wheel := range j.wheels(bundle) {
		if _, ok := byDigest[wheel.SHA256]; ok {
			continue
		}
		for sum, path := range byDigest {
			if filepath.Base(path) == wheel.File || len(byDigest) == 1 && len(bundle.Wheels) == 1 {
				return nil, &ChecksumError{File: path, Want: wheel.SHA256, Got: sum}
			}
		}
		missing = append(missing, wheel.File)
	}
	if len(missing) > 0 {
		return nil, &MissingWheelsError{Kind: bundle.Kind, Missing: missing}
	}
	return byDigest, nil
}

// expand replaces each folder by the wheels in it.
func expand(given []string) ([]string, error) {
	var paths []string
	for _, path := range given {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			paths = append(paths, path)
			continue
		}
		inside, err := filepath.Glob(filepath.Join(path, "*.whl"))
		if err != nil {
			return nil, err
		}
		paths = append(paths, inside...)
	}
	return paths, nil
}

// installLibrary installs a shared library that the user has brought. Nothing is known of it, so
// nothing is checked but what is written down: whoever gives a path answers for what is there.
func (j *job) installLibrary(ctx context.Context, path string) (Plugin, error) {
	sum, size, err := digest.File(path)
	if err != nil {
		return Plugin{}, err
	}
	target := j.store.folder(j.options.Kind, Custom)
	if found, err := load(target); err == nil && found.SHA256 == sum && j.whole(target) {
		return found, nil
	}
	rec := record{Format: recordFormat, Kind: j.options.Kind, Version: Custom, Library: libraryName(j.options.Kind, path)}
	rec.Sources = []recordSource{{File: filepath.Base(path), SHA256: sum}}
	err = replace(target, func(dir string) error {
		j.progress.start(StepUnpack, filepath.Base(path), size)
		if err := j.copyFile(ctx, path, filepath.Join(dir, filepath.FromSlash(rec.Library))); err != nil {
			return err
		}
		if libraries := j.libraries(path); libraries != "" {
			if err := linkLibraries(libraries, dir); err != nil {
				return err
			}
		}
		return writeRecord(dir, rec)
	})
	if err != nil {
		return Plugin{}, fmt.Errorf("installing %s: %w", path, err)
	}
	return load(target)
}

// libraryName is where a library of the kind lies in its folder. What loads it tells CPU from
// CUDA by this name.
func libraryName(kind, path string) string {
	if kind == CPU {
		return "pjrt_c_api_cpu_plugin" + filepath.Ext(path)
	}
	return "lib/pjrt_c_api_cuda_plugin" + filepath.Ext(path)
}

// libraries is the folder of NVIDIA's libraries that goes with a CUDA plugin: the one the user
// named, else the one that the plugin itself would look at where it comes from, else none.
func (j *job) libraries(path string) string {
	if j.options.Kind == CPU || j.options.Libraries != "" {
		return j.options.Libraries
	}
	for _, up := range []string{"..", "../.."} {
		dir := filepath.Join(filepath.Dir(path), filepath.FromSlash(up), "nvidia")
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
	}
	return ""
}

// copyFile copies a file.
func (j *job) copyFile(ctx context.Context, from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // read only
	return j.write(ctx, in, to, 0o644)
}

// write puts all of r into the file to, and makes the folder it lies in.
func (j *job) write(ctx context.Context, r io.Reader, to string, mode os.FileMode) (err error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := out.Close(); err == nil {
			err = closeErr
		}
	}()
	return j.copyTo(ctx, out, r)
}

// copyTo copies all of r, counting the bytes, until ctx is done.
func (j *job) copyTo(ctx context.Context, w io.Writer, r io.Reader) error {
	buf := make([]byte, 1<<18)
	for {
		n, readErr := r.Read(buf)
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		j.progress.add(int64(n))
		switch {
		case readErr == io.EOF:
			return nil
		case readErr != nil:
			return readErr
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// license says whether a member of a wheel is a licence text, which is kept beside the library.
func license(member string) bool {
	dir, rest, found := strings.Cut(member, "/")
	return found && strings.HasSuffix(dir, ".dist-info") && strings.HasPrefix(rest, "licenses/")
}
