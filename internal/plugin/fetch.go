package plugin

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/t5ctl/t5ctl/internal/digest"
)

// fetch brings one wheel into dir and checks it. pip goes first, because it knows the user's
// mirror, proxy, certificates and local folders; without it, or when it fails, the index is asked
// directly. A wheel with another digest is never tried again elsewhere.
func (j *job) fetch(ctx context.Context, wheel Wheel, dir string) (string, error) {
	routes := []func(context.Context, Wheel, string) (string, error){j.fetchByPip, j.fetchFromIndex}
	var tried []error
	for _, route := range routes {
		j.progress.start(StepFetch, wheel.File, wheel.Size)
		path, err := route(ctx, wheel, dir)
		switch {
		case err == nil:
			j.progress.set(wheel.Size)
			return path, verify(wheel, path)
		case ctx.Err() != nil:
			return "", ctx.Err()
		case isDiskError(err):
			return "", err
		}
		tried = append(tried, err)
	}
	return "", &NoRouteError{Kind: j.options.Kind, Wheel: wheel.File, Tried: tried}
}

// verify compares a wheel that was fetched with what is pinned.
func verify(wheel Wheel, path string) error {
	sum, _, err := digest.File(path)
	if err == nil && sum != wheel.SHA256 {
		err = &ChecksumError{File: wheel.File, Want: wheel.SHA256, Got: sum}
	}
	return err
}

// isDiskError says whether something failed on this machine's disk, so that no other route would
// do better.
func isDiskError(err error) bool {
	_, ok := errors.AsType[*os.PathError](err)
	return ok
}

// folderSize is how many bytes the files below dir have; a file that vanishes meanwhile counts
// for nothing.
func folderSize(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(_ string, entry os.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			if info, err := entry.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}
