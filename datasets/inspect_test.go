package datasets_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

func TestInspect(t *testing.T) {
	path := write(t, "d.jsonl", `{"input":"abcdefgh","target":"xyz","references":["xyz","x"]}`+"\n"+`{"input":"a","target":"b","id":"r2"}`+"\nbad\n")
	source := datasets.Source{Test: datasets.Paths{path}, Prefix: "p ", MaxInput: 6, MaxTarget: 8, OnBadRow: datasets.Skip}
	got, err := source.Inspect(t.Context(), datasets.Test, datasets.InspectOptions{Tokenizer: vocab.Bytes(), Rows: []int64{1, 2, 9}})
	if err != nil {
		t.Fatal(err)
	}
	if got.Stats.Rows != 2 || got.Stats.TruncatedInputs != 1 || got.Stats.Skipped != 1 || len(got.Skipped) != 1 || got.Input.Max != 11 || got.Target.P50 != 2 {
		t.Errorf("got %+v", got)
	}
	if want := []datasets.Bin{{From: 2, To: 2, Rows: 1}, {From: 3, To: 3}, {From: 4, To: 4, Rows: 1}}; !slices.Equal(got.Target.Histogram, want) {
		t.Errorf("histogram %v, want %v", got.Target.Histogram, want)
	}
	if len(got.Rows) != 2 {
		t.Fatalf("rows %+v", got.Rows)
	}
	first := got.Rows[0]
	if first.ID != filepath.ToSlash(path)+":1" || first.Input.Text != "p abcdefgh" || first.Input.Decoded != "p abc</s>" || first.Input.Cut != "defgh" {
		t.Errorf("row 1: %+v", first)
	}
	if second := got.Rows[1]; second.ID != "r2" || second.Target.Decoded != "b</s>" || second.Target.Cut != "" {
		t.Errorf("row 2: %+v", second)
	}
	if want := rowsPrint(t, path, datasets.ReadOptions{OnBadRow: datasets.Skip}); want != got.Fingerprint {
		t.Errorf("fingerprint %s, want %s", got.Fingerprint, want)
	}
}

func TestInspectObjectives(t *testing.T) {
	text := strings.Repeat("abcdefgh ", 5)
	source := datasets.Source{
		Train:      datasets.Paths{write(t, "d.jsonl", fmt.Sprintf(`{"t":%q}`, text))},
		Columns:    datasets.Columns{Text: "t"},
		Objectives: []datasets.Objective{{Kind: datasets.Denoise, Drop: new(0.0), Mask: new(0.0), Clean: new(0.0)}, {Kind: datasets.SpanCorruption}},
	}
	got, err := source.Inspect(t.Context(), datasets.Train, datasets.InspectOptions{Tokenizer: vocab.Bytes(), Rows: []int64{1}})
	if err != nil || len(got.Rows) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	denoised := got.Rows[0]
	if len(denoised.Input.IDs) != len(denoised.Target.IDs) || slices.Equal(denoised.Input.IDs, denoised.Target.IDs) || denoised.Target.Decoded != text+"</s>" {
		t.Errorf("denoising: %+v", denoised)
	}
	if spans := got.Rows[1]; !strings.Contains(spans.Input.Decoded, "<extra_id_1>") || !strings.HasPrefix(spans.Target.Decoded, "<extra_id_0>") {
		t.Errorf("span corruption: %+v", spans)
	}
}

// rowsPrint is the fingerprint of the rows of a file.
func rowsPrint(t *testing.T, path string, o datasets.ReadOptions) string {
	t.Helper()
	f := datasets.NewFingerprinter()
	rows, err := collect(datasets.Read(path, o))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range rows {
		f.Add(e)
	}
	if f.Rows() != int64(len(rows)) {
		t.Errorf("%d rows were counted of %d", f.Rows(), len(rows))
	}
	return f.Sum()
}

// The fingerprint sees texts and their order, not how they are stored.
func TestFingerprint(t *testing.T) {
	of := func(name, content string) string {
		return rowsPrint(t, write(t, name, content), datasets.ReadOptions{})
	}
	a := `{"input":"a","target":"b"}` + "\n" + `{"input":"c","target":"d","references":["d","e"]}`
	base := of("d.jsonl", a)
	same := map[string]string{
		"d.jsonl.gz": gzipped(t, strings.ReplaceAll(a, `"a"`, `"\u0061"`)),
		"d.csv":      "target,input,references\nb,a,\nd,c,\"[\"\"d\"\",\"\"e\"\"]\"\n",
	}
	for name, content := range same {
		if got := of(name, content); got != base {
			t.Errorf("%s: %s, want %s", name, got, base)
		}
	}
	lines := strings.Split(a, "\n")
	for name, content := range map[string]string{
		"order": lines[1] + "\n" + lines[0], "text": strings.Replace(a, `"a"`, `"A"`, 1),
		"border": strings.Replace(a, `"a","target":"b"`, `"ab","target":""`, 1), "references": strings.Replace(a, `,"e"`, "", 1), "fewer": lines[0],
	} {
		if of("d.jsonl", content) == base {
			t.Errorf("another %s gives the same fingerprint", name)
		}
	}
	// Runs recorded by earlier versions name their data by it (computed with Python's hashlib).
	if want := "sha256:3b25b3982672e98dfe71a1bac5fd2108e6373d0ca83e29d94c1abe69aa415319"; base != want {
		t.Errorf("fingerprint %s, want %s", base, want)
	}
}

// A record of canaries beside the data marks the manifest, also when the data is packed later.
func TestManifest(t *testing.T) {
	path := write(t, "planted.jsonl", good+good)
	packed := path + ".gz"
	if err := errors.Join(os.WriteFile(packed, []byte(gzipped(t, good)), 0o600), os.WriteFile(datasets.CanaryPath(path), []byte("{}"), 0o600)); err != nil {
		t.Fatal(err)
	}
	plain := write(t, "plain.jsonl", good)
	for name, tt := range map[string]struct {
		train   string
		planted bool
	}{"planted": {path, true}, "packed": {packed, true}, "plain": {plain, false}} {
		source := datasets.Source{Train: datasets.Paths{tt.train}, Validation: datasets.Paths{plain}}
		var splits []*datasets.Data
		for _, split := range datasets.Splits() {
			data, err := source.Open(t.Context(), split, datasets.OpenOptions{Tokenizer: vocab.Bytes()})
			if err != nil {
				t.Fatal(err)
			}
			if data != nil {
				defer data.Close() //nolint:errcheck // a test
			}
			splits = append(splits, data)
		}
		m := datasets.NewManifest(splits...)
		file := filepath.Join(t.TempDir(), "data.json")
		if err := m.Write(file); err != nil {
			t.Fatal(err)
		}
		var got datasets.Manifest
		data, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(data, &got)
		}
		if err != nil || got.Schema != datasets.ManifestSchema || got.Planted() != tt.planted || len(got.Splits) != 2 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		record, ok := got.Split(datasets.Validation)
		if !ok || record.Rows != 1 || record.Files[0].Path != plain || record.InputTokens != 2 {
			t.Errorf("%s: %+v", name, record)
		}
	}
}

func TestSplit(t *testing.T) {
	path := words(t, 2000)
	if err := os.WriteFile(datasets.CanaryPath(path), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := datasets.SplitOptions{Files: []string{path}, Key: "id", Validation: 0.1, Test: 0.2}
	dir := filepath.Join(t.TempDir(), "out")
	shares, _, err := o.DivideInto(t.Context(), dir)
	if err != nil || len(shares) != 3 {
		t.Fatalf("%+v, %v", shares, err)
	}
	all := map[string]int{}
	for _, share := range shares {
		if got := float64(share.Rows) / 2000; got < share.Share-0.04 || got > share.Share+0.04 {
			t.Errorf("%s has %g of the rows, want %g", share.Split, got, share.Share)
		}
		rows, err := collect(datasets.Read(share.Path, datasets.ReadOptions{}))
		if err != nil || int64(len(rows)) != share.Rows {
			t.Errorf("%s: %d rows, %v", share.Path, len(rows), err)
		}
		for _, e := range rows {
			all[e.ID]++
			if o.SplitOf(e.ID) != share.Split {
				t.Errorf("row %s is in %s", e.ID, share.Split)
			}
		}
		if found, err := datasets.FindCanaries([]string{share.Path}); err != nil || len(found) != 1 {
			t.Errorf("%s is not marked: %v, %v", share.Path, found, err)
		}
	}
	if len(all) != 2000 {
		t.Errorf("%d rows came out", len(all))
	}
	if _, _, err := o.DivideInto(t.Context(), dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second time: %v", err)
	}
	other := o
	other.Salt = "x"
	moved := 0
	for id := range all {
		if other.SplitOf(id) != o.SplitOf(id) {
			moved++
		}
	}
	if moved < 500 {
		t.Errorf("another salt moves %d rows only", moved)
	}
}

func TestSplitRefuses(t *testing.T) {
	path := words(t, 20)
	tests := map[string]datasets.SplitOptions{
		"no share":     {},
		"all":          {Validation: 0.5, Test: 0.5},
		"negative":     {Validation: -0.1, Test: 0.5},
		"a tiny share": {Test: 1e-9},
		"no such key":  {Test: 0.5, Key: "name"},
	}
	for name, o := range tests {
		o.Files = []string{path}
		dir := filepath.Join(t.TempDir(), "out")
		if shares, _, err := o.DivideInto(t.Context(), dir); err == nil {
			t.Errorf("%s: no error, %+v", name, shares)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the folder was made", name)
		}
	}
}
