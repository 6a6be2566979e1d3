package mapped_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/t5ctl/t5ctl/internal/mapped"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	for _, content := range []string{"", "x", "some more"} {
		path := filepath.Join(dir, "f")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := mapped.Open(path)
		if err != nil || string(file.Bytes()) != content {
			t.Fatalf("got %q, %v; want %q", file.Bytes(), err, content)
		}
		file.Forget()
		if string(file.Bytes()) != content {
			t.Errorf("after Forget: %q, want %q", file.Bytes(), content)
		}
		if err := errors.Join(file.Close(), file.Close()); err != nil {
			t.Errorf("closing: %v", err)
		}
	}
	if _, err := mapped.Open(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, ok := errors.AsType[*mapped.NotRegularError](second(mapped.Open(dir))); !ok {
		t.Error("a folder was mapped")
	}
}

func second[T any](_ T, err error) error { return err }
