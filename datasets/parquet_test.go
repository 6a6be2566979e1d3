package datasets_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/datasets"
)

// The files are written by pyarrow (testdata/make_parquet.py).
func TestReadParquet(t *testing.T) {
	columns := datasets.Columns{Input: "source", References: "answers", ID: "number"}
	for _, name := range []string{"pairs-snappy", "pairs-zstd-v2", "pairs-plain"} {
		t.Run(name, func(t *testing.T) {
			rows, err := collect(datasets.Read("testdata/"+name+".parquet", datasets.ReadOptions{Columns: columns}))
			if err != nil || len(rows) != 300 {
				t.Fatalf("%d rows, %v", len(rows), err)
			}
			for i, got := range rows {
				want := datasets.Example{
					ID: strconv.Itoa(i), Line: int64(i) + 1, Row: int64(i),
					Input: fmt.Sprintf("word %d", i), Target: fmt.Sprintf("wörd %d", i%7),
				}
				for j := range i % 4 {
					if i%3 != 0 {
						want.References = append(want.References, fmt.Sprintf("a%d", j))
					}
				}
				if !sameExample(got, want) {
					t.Fatalf("row %d: got %+v, want %+v", i, got, want)
				}
			}
		})
	}
}

// A packed Parquet file is unpacked to be read, and a dot leads into a nested column.
func TestNestedAndPackedParquet(t *testing.T) {
	data, err := os.ReadFile("testdata/nested.parquet")
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, "nested.parquet.zst", zstandard(t, string(data)))
	rows, err := collect(datasets.Read(path, datasets.ReadOptions{
		Columns: datasets.Columns{Input: "translation.en", Target: "translation.de"}, Raw: true,
	}))
	if err != nil || len(rows) != 5 || rows[4].Target != "Wort 4" || string(rows[4].Raw) != `{"translation.en":"word 4","translation.de":"Wort 4"}` {
		t.Errorf("got %+v, %v", rows, err)
	}
}

func TestParquetRefuses(t *testing.T) {
	const path = "testdata/pairs-snappy.parquet"
	tests := map[string]struct {
		columns datasets.Columns
		want    string
	}{
		"a null":           {datasets.Columns{Input: "null"}, path + ":201: null is null"},
		"a number":         {datasets.Columns{Input: "extra"}, `column "extra" is DOUBLE, not a string`},
		"a list":           {datasets.Columns{Input: "answers"}, `column "answers" is a list, not a string`},
		"not a list":       {datasets.Columns{Input: "source", References: "null"}, `column "null" is not a list of strings`},
		"no column":        {datasets.Columns{Input: "sources"}, `has no column "sources"; it has source, extra, target, number, answers, null`},
		"nested":           {datasets.Columns{Input: "source.x"}, `has no column "source.x"`},
		"missing optional": {datasets.Columns{Input: "source", Task: "tasks"}, `has no column "tasks"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := collect(datasets.Read(path, datasets.ReadOptions{Columns: tt.columns}))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	rows, err := collect(datasets.Read(path, datasets.ReadOptions{Columns: datasets.Columns{Input: "source", Task: "null"}}))
	if err != nil || len(rows) != 300 || rows[200].Task != "" || rows[199].Task != "x" {
		t.Errorf("an optional null: %d rows, %v", len(rows), err)
	}
	rows, err = collect(datasets.Read(path, datasets.ReadOptions{Columns: datasets.Columns{Input: "null"}, OnBadRow: datasets.Skip}))
	if err != nil || len(rows) != 299 || rows[200].Row != 201 || rows[200].Target != "wörd 5" {
		t.Errorf("skipping: %d rows, %v", len(rows), err)
	}
}

// A whole row is written with all its columns, whatever is read of it.
func TestRawParquet(t *testing.T) {
	rows, err := collect(datasets.Read("testdata/pairs-snappy.parquet", datasets.ReadOptions{
		Columns: datasets.Columns{ID: "number"}, Need: datasets.IDs, Raw: true,
	}))
	if err != nil || len(rows) != 300 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	want := map[int]string{
		0:   `{"source":"word 0","extra":0,"target":"wörd 0","number":0,"answers":[],"null":"x"}`,
		200: `{"source":"word 200","extra":200,"target":"wörd 4","number":200,"answers":[],"null":null}`,
		299: `{"source":"word 299","extra":299,"target":"wörd 5","number":299,"answers":["a0","a1","a2"],"null":"x"}`,
	}
	for i, w := range want {
		if got := string(rows[i].Raw); got != w || rows[i].ID != fmt.Sprint(i) {
			t.Errorf("row %d: %s, want %s", i, got, w)
		}
	}
}

// Damage anywhere is an error or goes unnoticed by the format; it is never a crash.
func TestDamagedParquet(t *testing.T) {
	data, err := os.ReadFile("testdata/pairs-zstd-v2.parquet")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	failed := 0
	for at := 4; at < len(data); at += 7 {
		damaged := slices.Clone(data)
		damaged[at] ^= 0x55
		path := filepath.Join(dir, "d.parquet")
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := collect(datasets.Read(path, datasets.ReadOptions{Columns: datasets.Columns{Input: "source", References: "answers"}}))
		if err != nil {
			failed++
		}
		_, isFormat := errors.AsType[*datasets.FormatError](err)
		_, isRow := errors.AsType[*datasets.RowError](err)
		_, isColumn := errors.AsType[*datasets.ColumnError](err)
		_, isEmpty := errors.AsType[*datasets.EmptyError](err)
		if err != nil && !isFormat && !isRow && !isColumn && !isEmpty {
			t.Errorf("byte %d: %T %v", at, err, err)
		}
	}
	t.Logf("%d of %d damages were noticed", failed, (len(data)-4)/7)
}
