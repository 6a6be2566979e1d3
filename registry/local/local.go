// Package local keeps a registry in a folder.
//
// Every model has a folder of its own, which is an OCI image layout that other tools can read:
//
//	<root>/<model>/oci-layout
//	<root>/<model>/index.json      tags, a copy of what the log says
//	<root>/<model>/log.jsonl       the log, one record a line; it only grows
//	<root>/<model>/blobs/sha256/…  everything by its digest, the records of the log included
//	<root>/<model>/.lock           held while the log or the index is written
//
// What a call has returned from survives a crash and a power cut: files are synced before they
// get their name, and folders after. Readers take no lock. Any number of processes may write at
// the same time; a process that dies lets go of its lock.
package local

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/lockedfile"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/registry"
)

// Store is a registry.Backend in a folder.
type Store struct {
	root string
	step func(point string) // called at every step of a write, so that tests can die there
}

var (
	_ registry.Backend = (*Store)(nil)
	_ registry.Keeper  = (*Store)(nil)
	_ registry.Holder  = (*Store)(nil)
)

// Open uses the folder root, which need not exist: it is made by the first write.
func Open(root string) *Store {
	return &Store{root: root, step: func(string) {}}
}

// Init makes the folder, so that nothing stands in the way of the first push.
func (s *Store) Init(context.Context) error { return os.MkdirAll(s.root, 0o755) }

// Root is the folder.
func (s *Store) Root() string { return s.root }

// Models looks for layouts with a log in them.
func (s *Store) Models(ctx context.Context) ([]string, error) {
	var models []string
	err := filepath.WalkDir(s.root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // no registry yet, or a folder that has just gone
			return nil
		case err != nil:
			return err
		case entry.IsDir() && path != s.root && (entry.Name() == "blobs" || strings.HasPrefix(entry.Name(), ".")):
			return fs.SkipDir
		case entry.IsDir() || entry.Name() != logFile:
			return ctx.Err()
		}
		model, err := filepath.Rel(s.root, filepath.Dir(path))
		if err != nil {
			return err
		}
		if model = filepath.ToSlash(model); registry.CheckModel(model) == nil && hasContent(path) {
			models = append(models, model)
		}
		return nil
	})
	slices.Sort(models)
	return models, err
}

func hasContent(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() > 0
}

// repository is the folder of a model.
func (s *Store) repository(model string) (string, error) {
	if err := registry.CheckModel(model); err != nil {
		return "", err
	}
	return filepath.Join(s.root, filepath.FromSlash(model)), nil
}

// blobPath is where a blob lies.
func blobPath(repository, sum string) (string, error) {
	if !digest.Valid(sum) {
		return "", fmt.Errorf("%q is not the digest of a blob", sum)
	}
	return filepath.Join(repository, "blobs", "sha256", strings.TrimPrefix(sum, digest.Prefix)), nil
}

// create makes the layout of a model, whole or not at all.
func (s *Store) create(repository string) error {
	if _, err := os.Stat(filepath.Join(repository, ocispec.ImageLayoutFile)); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(repository), 0o755); err != nil {
		return err
	}
	err := atomicfile.WriteDir(repository, fillLayout)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	// Another process came first, or the folder is there because models lie below it.
	if _, err := os.Stat(filepath.Join(repository, ocispec.ImageLayoutFile)); err == nil {
		return nil
	}
	return fillLayout(repository)
}

// fillLayout writes an empty image layout with an empty log. It may find parts of one.
func fillLayout(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(dir, logFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	if err := log.Close(); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, ocispec.ImageIndexFile)); errors.Is(err, fs.ErrNotExist) {
		if err := writeIndex(dir, index{}); err != nil {
			return err
		}
	}
	layout := fmt.Sprintf(`{"imageLayoutVersion":%q}`, ocispec.ImageLayoutVersion)
	return atomicfile.WriteBytes(filepath.Join(dir, ocispec.ImageLayoutFile), []byte(layout))
}

// lock keeps other writers of the model out until unlock is called, or the process ends.
func lock(repository string) (unlock func(), err error) {
	unlock, err = lockedfile.MutexAt(filepath.Join(repository, ".lock")).Lock()
	if err != nil {
		return nil, fmt.Errorf("locking the store: %w", err)
	}
	return unlock, nil
}

// Hold is for all who write to a model at once, or for one alone.
func (s *Store) Hold(ctx context.Context, model string, alone bool) (release func(), err error) {
	repository, err := s.repository(model)
	if err != nil {
		return nil, err
	}
	mode := os.O_RDONLY | os.O_CREATE
	if alone {
		if _, err := os.Stat(repository); errors.Is(err, fs.ErrNotExist) {
			return func() {}, nil
		}
		mode = os.O_RDWR | os.O_CREATE
	} else if err := s.create(repository); err != nil {
		return nil, err
	}
	type held struct {
		file *lockedfile.File
		err  error
	}
	got := make(chan held, 1)
	go func() {
		file, err := lockedfile.OpenFile(filepath.Join(repository, ".writers"), mode, 0o666)
		got <- held{file, err}
	}()
	select {
	case h := <-got:
		if h.err != nil {
			return nil, fmt.Errorf("waiting for those who write to %s: %w", model, h.err)
		}
		return func() { _ = h.file.Close() }, nil // nothing was written
	case <-ctx.Done(): // it is let go as soon as it comes
		go func() {
			if h := <-got; h.err == nil {
				_ = h.file.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// Open reads a blob.
func (s *Store) Open(_ context.Context, model string, blob ocispec.Descriptor) (io.ReadCloser, error) {
	repository, err := s.repository(model)
	if err != nil {
		return nil, err
	}
	path, err := blobPath(repository, blob.Digest.String())
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

// Put stores a blob. One that is there already is hashed: if it is sound it is kept and counts
// as new for Sweep, if it is damaged it is replaced.
func (s *Store) Put(_ context.Context, model string, blob ocispec.Descriptor, content io.Reader) error {
	repository, err := s.repository(model)
	if err != nil {
		return err
	}
	if err := s.create(repository); err != nil {
		return err
	}
	err = s.put(repository, blob.Digest.String(), blob.Size, content)
	s.step("put")
	return err
}

func (s *Store) put(repository, sum string, size int64, content io.Reader) error {
	path, err := blobPath(repository, sum)
	if err != nil {
		return err
	}
	switch got, _, err := digest.File(path); {
	case err == nil && got == sum:
		now := time.Now()
		return os.Chtimes(path, now, now)
	case err == nil:
		if err := os.Remove(path); err != nil { // some systems do not rename over what is read only
			return err
		}
	case !errors.Is(err, fs.ErrNotExist) && !isDamage(err):
		return err
	}
	return atomicfile.WriteMode(path, 0o444, func(w io.Writer) error {
		hash := sha256.New()
		n, err := io.CopyBuffer(io.MultiWriter(w, hash), io.LimitReader(content, size+1), make([]byte, min(size+1, 1<<20)))
		if err != nil {
			return err
		}
		if got := digest.Sum(hash); n != size || got != sum {
			return fmt.Errorf("the content (%d bytes, %s) is not the blob %s of %d bytes", n, got, sum, size)
		}
		return nil
	})
}

// isDamage says whether a blob could not be read because the disk has lost it.
func isDamage(err error) bool {
	var path *fs.PathError
	return errors.As(err, &path) && path.Op == "read"
}
