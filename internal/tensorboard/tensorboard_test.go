package tensorboard_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/t5ctl/t5ctl/internal/tensorboard"
)

// reference is what the record writer and the protocol buffers of tensorboard 2.21.0 (Python) make
// of the same events: testdata/reference.py.
func TestAsTensorBoardWritesIt(t *testing.T) {
	want, err := os.ReadFile("testdata/reference.hex")
	if err != nil {
		t.Fatal(err)
	}
	at, dir := time.UnixMicro(1767323045250000), t.TempDir()
	w, err := tensorboard.Create(dir, at, 40)
	if err != nil {
		t.Fatal(err)
	}
	scalars := []tensorboard.Scalar{{Tag: "train/loss", Value: 2.5}, {Tag: "validation/bleu", Value: 1.0 / 3}}
	for _, err := range []error{w.Scalars(at, 1_000_000, scalars), w.Text(at, 41, "recipe", "name: tiny\n"), w.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got := read(t, filepath.Join(dir, "events.out.tfevents.1767323045.000.t5ctl"))
	if want := bytes.ReplaceAll(want, []byte("\n"), nil); hex.EncodeToString(got) != string(want) {
		t.Errorf("got\n%x\nwant\n%s", got, want)
	}
}

// A second process of the same second does not write into the file of the first.
func TestOneFileEach(t *testing.T) {
	dir, at := t.TempDir(), time.Unix(1767323045, 0)
	for range 2 {
		w, err := tensorboard.Create(dir, at, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 || entries[1].Name() != "events.out.tfevents.1767323045.001.t5ctl" {
		t.Errorf("%v, %v", entries, err)
	}
}

// What was written before a kill can be read: nothing waits for Close.
func TestWrittenAtOnce(t *testing.T) {
	dir := t.TempDir()
	w, err := tensorboard.Create(dir, time.Unix(1, 0), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	path := filepath.Join(dir, "events.out.tfevents.0000000001.000.t5ctl")
	before := len(read(t, path))
	if err := w.Scalars(time.Unix(2, 0), 1, []tensorboard.Scalar{{Tag: "x", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	if after := len(read(t, path)); after <= before {
		t.Errorf("%d bytes before and %d after a record", before, after)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
