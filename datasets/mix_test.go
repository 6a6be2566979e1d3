package datasets_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/t5ctl/t5ctl/datasets"
)

// numberedFile writes a file of n rows whose inputs are name-0, name-1, …
func numberedFile(t *testing.T, name string, n int) string {
	t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{\"input\":\"%s-%d\",\"target\":\"%d\",\"doc\":\"d%d\"}\n", name, i, i, i/10)
	}
	return write(t, name+".jsonl", b.String())
}

func inputs(t *testing.T, path string) (all []string) {
	t.Helper()
	rows, err := collect(datasets.Read(path, datasets.ReadOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range rows {
		all = append(all, e.Input)
	}
	return all
}

// A number of rows is met exactly, all choices are as likely, and the order stays.
func TestSampleRows(t *testing.T) {
	path, dir := numberedFile(t, "a", 20), t.TempDir()
	times := map[string]int{}
	const draws = 400
	for seed := range uint64(draws) {
		out := filepath.Join(dir, "s.jsonl")
		o := datasets.SampleOptions{Files: []string{path}, Rows: 5, Seed: seed}
		taken, err := o.WriteTo(context.Background(), out)
		if err != nil || taken.Rows != 5 || taken.Of != 20 {
			t.Fatalf("seed %d: %+v, %v", seed, taken, err)
		}
		last := -1
		for _, name := range inputs(t, out) {
			at := 0
			if _, err := fmt.Sscanf(name, "a-%d", &at); err != nil || at <= last {
				t.Fatalf("seed %d: %q behind row %d", seed, name, last)
			}
			last = at
			times[name]++
		}
	}
	for name, n := range times { // 100 expected, standard deviation 8.7
		if n < 60 || n > 140 {
			t.Errorf("%s was taken %d times in %d draws of 5 in 20", name, n, draws)
		}
	}
	_, err := datasets.SampleOptions{Files: []string{path}, Rows: 21}.WriteTo(context.Background(), filepath.Join(dir, "x.jsonl"))
	if few, ok := errors.AsType[*datasets.FewRowsError](err); !ok || few.Have != 20 {
		t.Errorf("21 of 20 rows: %v", err)
	}
}

// With a key a row's fate does not depend on the other rows, and rows of one key stay together.
func TestSampleKey(t *testing.T) {
	whole, dir := numberedFile(t, "a", 1000), t.TempDir()
	sample := func(name, path string) []string {
		o := datasets.SampleOptions{Files: []string{path}, Share: 0.3, Key: "doc", Seed: 3}
		if _, err := o.WriteTo(context.Background(), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		return inputs(t, filepath.Join(dir, name))
	}
	all := sample("whole.jsonl", whole)
	if len(all)%10 != 0 || len(all) < 150 || len(all) > 450 {
		t.Errorf("%d rows of 1000 at a share of 0.3", len(all))
	}
	data, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	part := sample("part.jsonl", write(t, "half.jsonl", string(bytes.Join(lines[500:], nil))))
	if want := all[len(all)-len(part):]; !reflect.DeepEqual(part, want) {
		t.Errorf("the second half of the file gives %d other rows", len(part))
	}
}

// Every block of 1,000 rows holds the rates exactly, and each source's rows keep their order.
func TestMixRates(t *testing.T) {
	a, b, dir := numberedFile(t, "a", 7000), numberedFile(t, "b", 300), t.TempDir()
	o := datasets.MixOptions{Sources: []datasets.MixSource{{[]string{a}, 0.7}, {[]string{b}, 0.3}}, Rows: 5000, Seed: 9}
	out := filepath.Join(dir, "m.jsonl")
	mixed, err := o.WriteTo(context.Background(), out)
	if err != nil {
		t.Fatal(err)
	}
	if mixed[0].Rows != 3500 || mixed[1].Rows != 1500 || mixed[0].Passes != 1 || mixed[1].Passes != 5 {
		t.Errorf("taken: %+v", mixed)
	}
	next := map[string]int{}
	count := 0
	for i, name := range inputs(t, out) {
		from, number, _ := strings.Cut(name, "-")
		if want := fmt.Sprint(next[from] % map[string]int{"a": 7000, "b": 300}[from]); number != want {
			t.Fatalf("row %d is %s, not %s-%s", i, name, from, want)
		}
		next[from]++
		if from == "a" {
			count++
		}
		if i%1000 == 999 {
			if count != 700 {
				t.Errorf("rows %d to %d hold %d of a", i-999, i, count)
			}
			count = 0
		}
	}
	again := filepath.Join(dir, "again.jsonl")
	if _, err := o.WriteTo(context.Background(), again); err != nil {
		t.Fatal(err)
	}
	one, _ := os.ReadFile(out)
	two, _ := os.ReadFile(again)
	if !bytes.Equal(one, two) {
		t.Error("the same seed gave other bytes")
	}
}

func TestMixEnds(t *testing.T) {
	a, b := numberedFile(t, "a", 2000), numberedFile(t, "b", 100)
	for until, want := range map[string][2]int64{datasets.UntilFirst: {1, 1}, datasets.UntilLast: {1, 20}} {
		o := datasets.MixOptions{Sources: []datasets.MixSource{{[]string{a}, 1}, {[]string{b}, 1}}, Until: until}
		mixed, err := o.WriteTo(context.Background(), filepath.Join(t.TempDir(), "m.jsonl"))
		if err != nil || mixed[0].Passes != want[0] || mixed[1].Passes < want[1] || mixed[1].Passes > want[1]+1 {
			t.Errorf("until the %s: %+v, %v", until, mixed, err)
		}
		if until == datasets.UntilLast && mixed[0].Rows != 2000 || until == datasets.UntilFirst && mixed[1].Rows != 100 {
			t.Errorf("until the %s: %+v", until, mixed)
		}
	}
	for name, rates := range map[string][]float64{"one": {1}, "zero": {1, 0}, "too small": {1, 1e-4}} {
		o := datasets.MixOptions{}
		for _, rate := range rates {
			o.Sources = append(o.Sources, datasets.MixSource{Files: []string{a}, Rate: rate})
		}
		if o.Validate() == nil {
			t.Errorf("%s: %v was taken", name, rates)
		}
	}
}

// What goes into a file of any format and packing is read back as it was, from any other.
func TestWriteFormats(t *testing.T) {
	dir := t.TempDir()
	source := write(t, "a.jsonl", `{"input":"x, \"or\"","target":"1","references":["1","one"],"n":3,"deep":{"a":[1]}}
{"input":"é","target":"","references":["2"],"n":null}
{"input":"","target":"3","references":null}
`)
	want, err := collect(datasets.Read(source, datasets.ReadOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, ending := range []string{".jsonl", ".jsonl.gz", ".csv", ".csv.zst", ".tsv", ".tsv.gz", ".parquet", ".parquet.zst"} {
		first, second := filepath.Join(dir, "first"+ending), filepath.Join(dir, "second"+ending+".jsonl")
		all := datasets.SampleOptions{Files: []string{source}, Share: 1}
		if _, err := all.WriteTo(context.Background(), first); err != nil {
			t.Fatalf("%s: %v", ending, err)
		}
		all.Files = []string{first}
		if _, err := all.WriteTo(context.Background(), second); err != nil {
			t.Fatalf("%s to .jsonl: %v", ending, err)
		}
		for _, path := range []string{first, second} {
			got, err := collect(datasets.Read(path, datasets.ReadOptions{}))
			if err != nil || len(got) != len(want) {
				t.Fatalf("%s: %d rows, %v", path, len(got), err)
			}
			for i, e := range got {
				w := want[i]
				if e.Input != w.Input || e.Target != w.Target || !reflect.DeepEqual(e.References, w.References) {
					t.Errorf("%s, row %d: %+v, want %+v", path, i, e, w)
				}
			}
		}
		var row struct{ N, Deep any }
		data, _ := os.ReadFile(second)
		if err := json.Unmarshal(bytes.Split(data, []byte("\n"))[0], &row); err != nil || fmt.Sprint(row.N) != "3" || row.Deep == nil {
			t.Errorf("%s: the first row came back as %s, %v", ending, data, err)
		}
	}
}

// Nested columns of Parquet stay nested.
func TestWriteNested(t *testing.T) {
	out := filepath.Join(t.TempDir(), "n.parquet")
	o := datasets.SampleOptions{Files: []string{"testdata/nested.parquet"}, Share: 1}
	if _, err := o.WriteTo(context.Background(), out); err != nil {
		t.Fatal(err)
	}
	read := datasets.ReadOptions{Columns: datasets.Columns{Input: "translation.en", Target: "translation.de"}}
	was, err := collect(datasets.Read(o.Files[0], read))
	is, err2 := collect(datasets.Read(out, read))
	if err != nil || err2 != nil || !reflect.DeepEqual(was, is) {
		t.Errorf("%+v, %v; want %+v, %v", is, err2, was, err)
	}
	data, _ := os.ReadFile(out)
	if bytes.Contains(data, []byte("translation.en")) {
		t.Error("the column was written flat")
	}
}

func TestWriteRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, tt := range map[string]struct{ rows, target, want string }{
		"a new column": {"{\"a\":\"1\"}\n{\"a\":\"1\",\"b\":\"2\"}\n", "x.csv", `x.csv:2: has a column "b" that the first rows do not have`},
		"a tab":        {"{\"a\":\"x\\ty\"}\n", "x.tsv", "x.tsv:1: a holds a tab"},
		"no list":      {"{\"a\":[\"x\"]}\n{\"a\":\"y\"}\n", "x.parquet", "x.parquet:2: a is a string, not a list of strings"},
		"half a pair":  {"{\"a\":\"\\ud800\"}\n", "x.csv", "half a surrogate pair"},
		"a name":       {"{\"a\":\"1\"}\n", "x.txt", "must end in .jsonl"},
	} {
		target := filepath.Join(dir, tt.target)
		o := datasets.SampleOptions{Files: []string{write(t, "r.jsonl", tt.rows)}, Share: 1}
		_, err := o.WriteTo(context.Background(), target)
		if err == nil || !strings.Contains(filepath.ToSlash(err.Error()), tt.want) {
			t.Errorf("%s: %v; want %q", name, err, tt.want)
		}
		if _, err := os.Stat(target); err == nil {
			t.Errorf("%s left a file", name)
		}
	}
}

// Any texts that a table can hold come back from it.
func TestWriteAnyText(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(r *rapid.T) {
		ending := rapid.SampledFrom([]string{".csv", ".parquet", ".jsonl"}).Draw(r, "ending")
		texts := rapid.SliceOfN(rapid.StringMatching(`[a-z"',\\ \n\t\x{e9}\x{1F600}]{0,8}`), 1, 5).Draw(r, "texts")
		var rows bytes.Buffer
		for _, text := range texts {
			line, _ := json.Marshal(map[string]string{"input": text})
			rows.Write(append(line, '\n'))
		}
		from, to := filepath.Join(dir, "from.jsonl"), filepath.Join(dir, "to"+ending)
		if err := os.WriteFile(from, rows.Bytes(), 0o600); err != nil {
			r.Fatal(err)
		}
		o := datasets.SampleOptions{Files: []string{from}, Share: 1}
		if _, err := o.WriteTo(context.Background(), to); err != nil {
			r.Fatal(err)
		}
		got, err := collect(datasets.Read(to, datasets.ReadOptions{Need: datasets.Inputs}))
		if err != nil || len(got) != len(texts) {
			r.Fatalf("%d rows of %d, %v", len(got), len(texts), err)
		}
		for i, e := range got {
			if e.Input != texts[i] {
				r.Errorf("%q came back as %q", texts[i], e.Input)
			}
		}
	})
}
