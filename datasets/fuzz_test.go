package datasets_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/t5ctl/t5ctl/datasets"
)

// read reads data as a file of that name.
func read(t *testing.T, name string, data []byte, o datasets.ReadOptions) iter.Seq2[datasets.Example, error] {
	t.Helper()
	return datasets.Read(write(t, name, string(data)), o)
}

// sound fails if a reader let through what no example may hold.
func sound(t *testing.T, rows []datasets.Example) {
	t.Helper()
	for i, e := range rows {
		for _, text := range append([]string{e.ID, e.Task, e.Input, e.Target}, e.References...) {
			if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
				t.Fatalf("row %d holds %q", i, text)
			}
		}
		if i > 0 && e.Line <= rows[i-1].Line || e.Line < 1 {
			t.Fatalf("row %d is on line %d", i, e.Line)
		}
	}
}

// domain fails if an error is not one of the package's own.
func domain(t *testing.T, err error) {
	t.Helper()
	_, row := errors.AsType[*datasets.RowError](err)
	_, column := errors.AsType[*datasets.ColumnError](err)
	_, empty := errors.AsType[*datasets.EmptyError](err)
	_, format := errors.AsType[*datasets.FormatError](err)
	if err != nil && !row && !column && !empty && !format {
		t.Fatalf("%T: %v", err, err)
	}
}

// A line that is read is what encoding/json makes of it.
func FuzzJSONL(f *testing.F) {
	f.Add([]byte(twoJSONL))
	for _, row := range []string{
		`{"input":"a\u00e9\ud83d\ude00","target":"b","references":["x","\\\""],"id":-1.5e3}`,
		`{"a":{"b":[1,{"c":"]}\""}],"d":null},"target":"","input":"\/\b\f\n\r\t"}`, `{"input":"\ud800x","target":""}`,
		`{ "input" : "a" , "target" : "b" }  `, `[1]`, `{"input":"a","input":"b","target":"c"}`, "\xef\xbb\xbf{}",
	} {
		f.Add([]byte(row))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o := datasets.ReadOptions{MaxRowBytes: 4096, OnBadRow: datasets.Skip, Raw: true}
		rows, err := collect(read(t, "f.jsonl", data, o))
		domain(t, err)
		sound(t, rows)
		for _, e := range rows {
			var want map[string]any
			if err := json.Unmarshal(e.Raw, &want); err != nil {
				t.Fatalf("%q was read: %v", e.Raw, err)
			}
			if want["input"] != e.Input || want["target"] != e.Target {
				t.Fatalf("%q was read as %+v", e.Raw, e)
			}
			references, _ := want["references"].([]any)
			if !slices.EqualFunc(references, e.References, func(a any, b string) bool { return a == b }) {
				t.Fatalf("%q was read as %+v", e.Raw, e)
			}
		}
	})
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte(twoCSV))
	f.Add([]byte("input,target\n\"a\nb\",\"\"\"\"\n\nc\n\"x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rows, err := collect(read(t, "f.csv", data, datasets.ReadOptions{MaxRowBytes: 4096}))
		domain(t, err)
		sound(t, rows)
		if err != nil {
			return
		}
		records, err := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))).ReadAll()
		if err != nil || len(records) != len(rows)+1 {
			t.Fatalf("%d rows of %d records, %v", len(rows), len(records), err)
		}
	})
}

func FuzzTSV(f *testing.F) {
	f.Add([]byte("input\ttarget\na\tb\r\n\n\"q\tx\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rows, err := collect(read(t, "f.tsv", data, datasets.ReadOptions{MaxRowBytes: 4096, OnBadRow: datasets.Skip}))
		domain(t, err)
		sound(t, rows)
	})
}

func FuzzParquet(f *testing.F) {
	for _, name := range []string{"nested", "pairs-snappy", "pairs-zstd-v2"} {
		data, err := os.ReadFile("testdata/" + name + ".parquet")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	path := filepath.Join(f.TempDir(), "f.parquet")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		columns := datasets.Columns{Input: "source", References: "answers"}
		if bytes.Contains(data, []byte("translation")) {
			columns = datasets.Columns{Input: "translation.en", Target: "translation.de"}
		}
		rows, err := collect(datasets.Read(path, datasets.ReadOptions{Columns: columns, OnBadRow: datasets.Skip}))
		domain(t, err)
		sound(t, rows)
	})
}

// Whatever is packed, the decoders are held in bounds.
func FuzzPacked(f *testing.F) {
	var t testing.T
	f.Add([]byte(gzipped(&t, twoJSONL)), true)
	f.Add([]byte(zstandard(&t, twoJSONL)), false)
	f.Fuzz(func(t *testing.T, data []byte, gz bool) {
		name := "f.jsonl.zst"
		if gz {
			name = "f.jsonl.gz"
		}
		rows, err := collect(read(t, name, data, datasets.ReadOptions{MaxRowBytes: 4096}))
		domain(t, err)
		sound(t, rows)
	})
}
