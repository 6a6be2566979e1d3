package atomicfile_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

// names lists what a folder holds, temporary files included.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, entry := range entries {
		out = append(out, entry.Name())
	}
	return out
}

func TestWrite(t *testing.T) {
	broken := errors.New("disk full")
	tests := map[string]struct {
		fill    func(io.Writer) error
		want    string
		wantErr error
	}{
		"replaces": {fill: func(w io.Writer) error { _, err := io.WriteString(w, "new"); return err }, want: "new"},
		"a failure keeps the old file": {
			fill: func(w io.Writer) error { _, _ = io.WriteString(w, "ne"); return broken },
			want: "old", wantErr: broken,
		},
		"nothing written": {fill: func(io.Writer) error { return nil }, want: ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			if err := atomicfile.WriteBytes(path, []byte("old")); err != nil {
				t.Fatal(err)
			}
			if err := atomicfile.Write(path, tt.fill); !errors.Is(err, tt.wantErr) {
				t.Fatalf("Write: %v, want %v", err, tt.wantErr)
			}
			got, err := os.ReadFile(path)
			if err != nil || string(got) != tt.want {
				t.Errorf("content %q, %v; want %q", got, err, tt.want)
			}
			if left := names(t, dir); len(left) != 1 {
				t.Errorf("the folder holds %q", left)
			}
		})
	}
}

func TestWriteLeavesNothingOnPanic(t *testing.T) {
	dir := t.TempDir()
	func() {
		defer func() { _ = recover() }()
		_ = atomicfile.Write(filepath.Join(dir, "file"), func(io.Writer) error { panic("graph") })
	}()
	func() {
		defer func() { _ = recover() }()
		_ = atomicfile.WriteDir(filepath.Join(dir, "folder"), func(string) error { panic("graph") })
	}()
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestWriteMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := atomicfile.WriteMode(path, 0o600, func(io.Writer) error { return nil }); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestWriteMissingFolder(t *testing.T) {
	err := atomicfile.WriteBytes(filepath.Join(t.TempDir(), "no", "file"), nil)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}

func TestWriteDir(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "step-7")
	fill := func(stage string) error {
		if err := os.Mkdir(filepath.Join(stage, "sub"), 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(stage, "sub", "a"), []byte("x"), 0o644)
	}
	if err := atomicfile.WriteDir(path, fill); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(path, "sub", "a")); err != nil || string(got) != "x" {
		t.Errorf("content %q, %v", got, err)
	}
	if err := atomicfile.WriteDir(path, fill); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second time: %v, want fs.ErrExist", err)
	}
	broken := errors.New("disk full")
	err := atomicfile.WriteDir(filepath.Join(dir, "step-8"), func(stage string) error {
		return errors.Join(fill(stage), broken)
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want the failure of fill", err)
	}
	if left := names(t, dir); len(left) != 1 {
		t.Errorf("the folder holds %q", left)
	}
}

// Of many writers of one new folder exactly one wins, and all others hear of it.
func TestWriteDirRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v1")
	var won atomic.Int32
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			err := atomicfile.WriteDir(path, func(stage string) error {
				return os.WriteFile(filepath.Join(stage, "who"), fmt.Append(nil, i), 0o644)
			})
			switch {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, fs.ErrExist):
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 {
		t.Errorf("%d writers won", won.Load())
	}
}
