package datasets_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/t5ctl/t5ctl/datasets"
)

// packedLine writes a packed file of one line without end.
func packedLine(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "d.jsonl.zst")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	block := bytes.Repeat([]byte("x"), 1<<20)
	for range size >> 20 {
		if _, err := z.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// A line of a gigabyte, and a file that unpacks to far more than it is, end with a message and little
// memory.
func TestHostileSizes(t *testing.T) {
	if testing.Short() {
		t.Skip("unpacks gigabytes")
	}
	for name, tt := range map[string]struct {
		size int64
		want string
	}{
		"a line of 1 GB": {1 << 30, "is longer than"},
		"a bomb":         {2 << 30, "expands more than 2000-fold"},
	} {
		path := packedLine(t, tt.size)
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := collect(datasets.Read(path, datasets.ReadOptions{}))
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want %q", name, err, tt.want)
		}
		if grown := int64(after.Sys) - int64(before.Sys); grown > 256<<20 {
			t.Errorf("%s took %d MiB", name, grown>>20)
		}
	}
}
