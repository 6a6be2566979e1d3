package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/registry"
)

// Blobs lists what lies under blobs/sha256.
func (s *Store) Blobs(_ context.Context, model string) ([]string, error) {
	repository, err := s.repository(model)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(repository, "blobs", "sha256"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var sums []string
	for _, entry := range entries {
		if sum := digest.Prefix + entry.Name(); digest.Valid(sum) {
			sums = append(sums, sum)
		}
	}
	return sums, nil
}

// Sweep removes old blobs that nobody keeps, and what dead writers left.
func (s *Store) Sweep(ctx context.Context, model string, keep map[string]bool, options registry.SweepOptions) ([]registry.Swept, error) {
	repository, err := s.repository(model)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(repository); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	unlock, err := lock(repository)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var swept []registry.Swept
	for _, dir := range []string{repository, filepath.Join(repository, "blobs", "sha256")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return swept, err
		}
		for _, entry := range entries {
			sum := digest.Prefix + entry.Name()
			blob := digest.Valid(sum) && dir != repository
			if err := ctx.Err(); err != nil {
				return swept, err
			}
			if blob && keep[sum] || !blob && !isLeftover(entry) {
				continue
			}
			one, removed, err := sweepOne(filepath.Join(dir, entry.Name()), options)
			if err != nil {
				return swept, err
			}
			if removed {
				swept = append(swept, one)
				s.step("sweep")
			}
		}
	}
	return swept, nil
}

// isLeftover says whether an entry is a temporary file or folder of a writer.
func isLeftover(entry fs.DirEntry) bool {
	return strings.HasPrefix(entry.Name(), ".") && strings.Contains(entry.Name(), ".tmp-")
}

// sweepOne removes a file unless it is young: then a writer may be about to name it.
func sweepOne(path string, options registry.SweepOptions) (registry.Swept, bool, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return registry.Swept{}, false, nil // its writer was alive and has renamed it
	}
	if err != nil {
		return registry.Swept{}, false, err
	}
	if time.Since(info.ModTime()) < options.Grace {
		return registry.Swept{}, false, nil
	}
	swept := registry.Swept{Path: path, Size: info.Size()}
	if options.DryRun {
		return swept, true, nil
	}
	return swept, true, os.RemoveAll(path)
}
