package datasets_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/t5ctl/t5ctl/datasets"
)

// copyWith copies a file, with a row before its second one and one at the end.
func copyWith(path, target string, columns ...string) (err error) {
	out, err := os.Create(target)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	c, err := datasets.NewCopier(path, target, out, columns...)
	if err != nil {
		return err
	}
	values := map[string]string{columns[0]: `pin "of", a`, columns[1]: "4711", "nowhere": "x"}
	for n := 0; ; n++ {
		err = c.Next()
		if err == nil && n == 1 {
			err = c.Insert(values)
		}
		if errors.Is(err, io.EOF) {
			return errors.Join(c.Insert(values), c.Close())
		}
		if err != nil {
			return errors.Join(err, c.Close())
		}
		if err := c.Copy(); err != nil {
			return err
		}
	}
}

// Rows that are copied stay as they were, in every format and packing, and the others are read back.
func TestCopier(t *testing.T) {
	dir := t.TempDir()
	jsonl, comma, tab := filepath.Join(dir, "a.jsonl"), filepath.Join(dir, "a.csv"), filepath.Join(dir, "a.tsv")
	table := filepath.Join(dir, "a.parquet")
	for path, text := range map[string]string{
		jsonl: "{\"input\": \"x\",  \"target\":\"1\", \"extra\":[1]}\n\n{\"input\":\"y\",\"target\":\"2\"}\n",
		comma: "id,target,input\n1,1,\"x, \"\"or\"\"\nmore\"\n2,2,y\n",
		tab:   "input\ttarget\tnote\nx\t1\ta \"note\"\ny\t2\t\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	type pair struct {
		Input  string  `parquet:"input"`
		Target *string `parquet:"target,optional"`
	}
	type row struct {
		ID   int64    `parquet:"number"`
		Tags []string `parquet:"tags,list"`
		Pair pair     `parquet:"translation"`
	}
	one, two := "1", "2"
	if err := parquet.WriteFile(table, []row{{7, []string{"a", "b"}, pair{"x", &one}}, {8, nil, pair{"y", &two}}}); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ from, to, input, target string }{
		"JSON lines": {jsonl, "b.jsonl", "input", "target"}, "packed": {jsonl, "c.jsonl.zst", "input", "target"},
		"CSV": {comma, "b.csv.gz", "input", "target"}, "TSV": {tab, "b.tsv.gz", "input", "target"},
		"Parquet": {table, "b.parquet", "translation.input", "translation.target"}, "packed Parquet": {table, "b.parquet.gz", "translation.input", "translation.target"},
	} {
		options := datasets.ReadOptions{Columns: datasets.Columns{Input: tt.input, Target: tt.target}}
		before, err := collect(datasets.Read(tt.from, options))
		if err != nil {
			t.Fatal(name, err)
		}
		target := filepath.Join(dir, tt.to)
		if err := copyWith(tt.from, target, tt.input, tt.target); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		after, err := collect(datasets.Read(target, options))
		if err != nil || len(after) != 4 {
			t.Fatalf("%s: %d rows, %v", name, len(after), err)
		}
		again := filepath.Join(dir, "again-"+tt.to) // from a file that is packed as well
		if err := copyWith(target, again, tt.input, tt.target); err != nil {
			t.Errorf("%s, once more: %v", name, err)
		} else if more, err := collect(datasets.Read(again, options)); err != nil || len(more) != 6 {
			t.Errorf("%s, once more: %d rows, %v", name, len(more), err)
		}
		for i, want := range []datasets.Example{before[0], {Input: `pin "of", a`, Target: "4711"}, before[1], {Input: `pin "of", a`, Target: "4711"}} {
			if got := after[i]; got.Input != want.Input || got.Target != want.Target {
				t.Errorf("%s, row %d: %q, %q; want %q, %q", name, i, got.Input, got.Target, want.Input, want.Target)
			}
		}
	}
	rows, err := parquet.ReadFile[row](filepath.Join(dir, "b.parquet"))
	if err != nil || rows[0].ID != 7 || len(rows[0].Tags) != 2 || rows[1].ID != 0 || len(rows[1].Tags) != 0 || rows[2].ID != 8 {
		t.Errorf("other columns: %+v, %v", rows, err)
	}
}

// What cannot be copied is said before anything is believed to be written.
func TestCopierRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, tt := range map[string]struct{ file, text, to, column string }{
		"another format": {"a.csv", "input,target\n", "b.tsv", "input"},
		"no column":      {"a.csv", "inputs,target\n", "b.csv", "input"},
		"empty":          {"a.tsv", "", "b.tsv", "input"},
		"not Parquet":    {"a.parquet", "no such thing as that", "b.parquet", "input"},
		"not packed":     {"a.csv.gz", "input,target\n", "b.csv.gz", "input"},
		"fields":         {"a.tsv", "input\ttarget\nx\n", "b.tsv", "input"},
		"quotes":         {"a.csv", "input,target\nx,\"y\n", "b.csv", "input"},
		"not JSON":       {"a.jsonl", "x\n", "b.jsonl", "input"},
		"no text":        {"a.jsonl", "{\"input\": 1, \"target\": \"x\"}\n", "b.jsonl", "input"},
	} {
		path := filepath.Join(dir, tt.file)
		if err := os.WriteFile(path, []byte(tt.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := copyWith(path, filepath.Join(dir, tt.to), tt.column, "target"); err == nil {
			t.Errorf("%s: nothing was said", name)
		}
	}
}

func FuzzCopier(f *testing.F) {
	for _, name := range []string{"a.jsonl", "a.csv", "a.tsv", "a.parquet"} {
		f.Add([]byte("input,target\n\"x\",y\n"), name)
		f.Add([]byte("input\ttarget\nx\ty\n"), name)
		f.Add([]byte("{\"input\":\"x\",\"target\":\"y\"}\n"), name)
	}
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		path := filepath.Join(t.TempDir(), "a"+filepath.Ext(name))
		if os.WriteFile(path, data, 0o644) != nil {
			return
		}
		var out bytes.Buffer
		c, err := datasets.NewCopier(path, path, &out, "input", "target")
		if err != nil {
			return
		}
		for c.Next() == nil {
			if c.Copy() != nil {
				break
			}
		}
		_ = c.Close()
	})
}
