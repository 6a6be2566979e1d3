package datasets_test

import (
	"bytes"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/t5ctl/t5ctl/datasets"
)

// collect ranges to the end or to the first error.
func collect(rows iter.Seq2[datasets.Example, error]) ([]datasets.Example, error) {
	var out []datasets.Example
	for example, err := range rows {
		if err != nil {
			return out, err
		}
		out = append(out, example)
	}
	return out, nil
}

// write puts content into a file of that name in a new folder.
func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func gzipped(t *testing.T, content string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(content))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func zstandard(t *testing.T, content string) string {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(w.EncodeAll([]byte(content), nil))
}

const (
	twoJSONL = `{"input": "a\tb", "target": "ü\u00fc", "references": ["x", "y"], "id": 7, "task": "t", "more": {"input": ["]}\""]}}` +
		"\r\n\n" + `{"target":"","input":"\ud83d\ude00 \"q\" \\"}`
	twoCSV = "id,input,target,references,task,more\n7,a\tb,üü,\"[\"\"x\"\", \"\"y\"\"]\",t,1\n,😀 \"\"q\"\" \\,,,,\n"
)

// two is what the files above hold.
func two() []datasets.Example {
	return []datasets.Example{
		{ID: "7", Task: "t", Input: "a\tb", Target: "üü", References: []string{"x", "y"}},
		{Row: 1, Input: "😀 \"q\" \\"},
	}
}

func TestRead(t *testing.T) {
	tests := map[string]struct {
		name, content string
		options       datasets.ReadOptions
		lines         []int64
	}{
		"jsonl":      {"d.jsonl", twoJSONL, datasets.ReadOptions{}, []int64{1, 3}},
		"mark":       {"d.jsonl", "\xef\xbb\xbf" + twoJSONL + "\n", datasets.ReadOptions{}, []int64{1, 3}},
		"upper case": {"D.NDJSON", twoJSONL, datasets.ReadOptions{}, []int64{1, 3}},
		"gz":         {"d.jsonl.gz", gzipped(t, twoJSONL), datasets.ReadOptions{}, []int64{1, 3}},
		"two gz":     {"d.jsonl.gz", gzipped(t, twoJSONL[:60]) + gzipped(t, twoJSONL[60:]), datasets.ReadOptions{}, []int64{1, 3}},
		"zst":        {"d.jsonl.zst", zstandard(t, twoJSONL), datasets.ReadOptions{}, []int64{1, 3}},
		"csv":        {"d.csv", strings.ReplaceAll(twoCSV, `😀 ""q"" \`, `"😀 ""q"" \"`), datasets.ReadOptions{}, []int64{2, 3}},
		"csv, other names": {"d.csv", strings.NewReplacer(`😀 ""q"" \`, `"😀 ""q"" \"`, "input", "source text", "target", "Target").Replace(twoCSV),
			datasets.ReadOptions{Columns: datasets.Columns{Input: "source text", Target: "Target"}}, []int64{2, 3}},
		"csv over lines": {"d.csv", "target,input\n\"x\ny\",\"a\r\nb\"\nz,c\n", datasets.ReadOptions{}, nil},
		"tsv":            {"d.tsv", "target\tid\tinput\nx\t\t\"say\" it\n\ny\tr\t\"q\"\r\n", datasets.ReadOptions{}, nil},
	}
	special := map[string][]datasets.Example{
		"csv over lines": {{Line: 2, Input: "a\nb", Target: "x\ny"}, {Line: 5, Row: 1, Input: "c", Target: "z"}},
		"tsv":            {{Line: 2, Input: `"say" it`, Target: "x"}, {Line: 4, Row: 1, ID: "r", Input: `"q"`, Target: "y"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			want, ok := special[name]
			if !ok {
				want = two()
				for i, line := range tt.lines {
					want[i].Line = line
				}
			}
			got, err := collect(datasets.Read(write(t, tt.name, tt.content), tt.options))
			if err != nil || !slices.EqualFunc(got, want, sameExample) {
				t.Errorf("got %+v, %v; want %+v", got, err, want)
			}
		})
	}
}

func sameExample(a, b datasets.Example) bool {
	return a.ID == b.ID && a.Line == b.Line && a.Row == b.Row && a.Task == b.Task && a.Input == b.Input &&
		a.Target == b.Target && slices.Equal(a.References, b.References) && bytes.Equal(a.Raw, b.Raw)
}

func TestNeeds(t *testing.T) {
	tests := map[string]struct {
		name, content string
		options       datasets.ReadOptions
		want          []datasets.Example
	}{
		"inputs alone": {"d.jsonl", `{"input":"a","n":[1, {"x":2}]}`, datasets.ReadOptions{Need: datasets.Inputs, Raw: true},
			[]datasets.Example{{Line: 1, Input: "a", Raw: []byte(`{"input":"a","n":[1, {"x":2}]}`)}}},
		"inputs of CSV": {"d.csv", "n,input\n\"<1>\",a\n", datasets.ReadOptions{Need: datasets.Inputs, Raw: true},
			[]datasets.Example{{Line: 2, Input: "a", Raw: []byte(`{"n":"<1>","input":"a"}`)}}},
		"a text column": {"d.jsonl", `{"text":"a","input":3}`, datasets.ReadOptions{Need: datasets.Texts, Columns: datasets.Columns{Text: "text"}},
			[]datasets.Example{{Line: 1, Input: "a"}}},
		"texts of pairs": {"d.jsonl", `{"target":"b","input":"a"}`, datasets.ReadOptions{Need: datasets.Texts},
			[]datasets.Example{{Line: 1, Input: "a", Target: "b"}}},
		"null id": {"d.jsonl", `{"target":"b","input":"a","id":null,"references":null}`, datasets.ReadOptions{},
			[]datasets.Example{{Line: 1, Input: "a", Target: "b"}}},
		"keys with escapes": {"d.jsonl", `{"t\u0061rget":"b","in\u0070ut":"a"}`, datasets.ReadOptions{},
			[]datasets.Example{{Line: 1, Input: "a", Target: "b"}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := collect(datasets.Read(write(t, tt.name, tt.content), tt.options))
			if err != nil || !slices.EqualFunc(got, tt.want, sameExample) {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

const good = `{"input":"a","target":"b"}` + "\n"

// Every kind of bad row is a RowError with its line, and can be skipped.
func TestBadRows(t *testing.T) {
	tests := map[string]struct{ row, want string }{
		"not JSON":          {`{"input": "a", }`, "is not JSON"},
		"cut":               {`{"input": "a`, "is not JSON"},
		"NUL":               {"\x00\x00", "is not JSON"},
		"escaped NUL":       {`{"input":"a\u0000","target":"b"}`, "input holds a NUL byte"},
		"not UTF-8":         {"{\"input\":\"\xff\",\"target\":\"b\"}", "is not UTF-8"},
		"lone surrogate":    {`{"input":"\ud800","target":"b"}`, "half a surrogate"},
		"reversed pair":     {`{"input":"\udc00\ud800","target":"b"}`, "half a surrogate"},
		"a list":            {`["a","b"]`, "is a list, not a JSON object"},
		"a number":          {`7`, "is a number, not a JSON object"},
		"no target":         {`{"input":"a"}`, `has no "target"`},
		"null target":       {`{"input":"a","target":null}`, "target is null"},
		"target a number":   {`{"input":"a","target":3}`, "target is a number, not a string"},
		"target a list":     {`{"input":"a","target":["b"]}`, "target is a list, not a string"},
		"twice":             {`{"input":"a","target":"b","input":"c"}`, `has the key "input" twice`},
		"other case":        {`{"Input":"a","target":"b"}`, `has no "input"`},
		"no reference":      {`{"input":"a","target":"b","references":[]}`, "references is an empty list"},
		"reference number":  {`{"input":"a","target":"b","references":["x",1]}`, "references holds a number, not only strings"},
		"references a text": {`{"input":"a","target":"b","references":"x"}`, "references is a string, not a list of strings"},
		"id an object":      {`{"input":"a","target":"b","id":{}}`, "id is an object, not a string"},
		"task a number":     {`{"input":"a","target":"b","task":1}`, "task is a number, not a string"},
		"too long":          {`{"input":"` + strings.Repeat("a", 1<<20) + `","target":"b"}`, "is longer than 1000 bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := write(t, "d.jsonl", good+tt.row+"\n"+good)
			rows, err := collect(datasets.Read(path, datasets.ReadOptions{MaxRowBytes: 1000}))
			bad, ok := errors.AsType[*datasets.RowError](err)
			if !ok || bad.Path != path || bad.Line != 2 || !strings.Contains(bad.Reason, tt.want) || len(rows) != 1 {
				t.Errorf("got %d rows, %v; want a RowError of line 2 with %q", len(rows), err, tt.want)
			}
			var skipped []*datasets.RowError
			rows, err = collect(datasets.Read(path, datasets.ReadOptions{
				MaxRowBytes: 1000, OnBadRow: datasets.Skip, OnSkip: func(e *datasets.RowError) { skipped = append(skipped, e) },
			}))
			if err != nil || len(rows) != 2 || len(skipped) != 1 || skipped[0].Line != 2 {
				t.Errorf("skipping: %d rows, %v, skipped %v", len(rows), err, skipped)
			}
			if len(rows) == 2 && (rows[1].Row != 2 || rows[1].Line != 3) {
				t.Errorf("the row behind the bad one is %+v", rows[1])
			}
		})
	}
}

func TestBadTables(t *testing.T) {
	tests := map[string]struct{ name, content, want string }{
		"too few fields":    {"d.csv", "input,target\na,b\nc\n", ":3: has 1 fields, the header has 2"},
		"bare quote":        {"d.csv", "input,target\na,b\nc\"d,e\n", ":3: is not CSV"},
		"not UTF-8":         {"d.csv", "input,target\na,b\n\xff,e\n", ":3: input is not UTF-8"},
		"NUL":               {"d.csv", "input,target\na,b\n\x00,e\n", ":3: input holds a NUL byte"},
		"references":        {"d.csv", "input,target,references\na,b,\nc,d,e\n", ":3: references is not a JSON list"},
		"references number": {"d.csv", "input,target,references\na,b,\nc,d,7\n", ":3: references is a number"},
		"tsv fields":        {"d.tsv", "input\ttarget\na\tb\nc\td\te\n", ":3: has 3 fields"},
		"tsv with quotes":   {"d.tsv", "input\ttarget\na\tb\n\"say \"\"c\"\"\"\td\n", ":3: input is quoted as in CSV"},
		"tsv too long":      {"d.tsv", "input\ttarget\na\tb\n" + strings.Repeat("c", 2000) + "\td\n", ":3: is longer than 1000 bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := write(t, tt.name, tt.content)
			_, err := collect(datasets.Read(path, datasets.ReadOptions{MaxRowBytes: 1000}))
			if _, ok := errors.AsType[*datasets.RowError](err); !ok || !strings.HasPrefix(err.Error(), path+tt.want) {
				t.Errorf("got %v, want a RowError with %q", err, tt.want)
			}
			rows, err := collect(datasets.Read(path, datasets.ReadOptions{MaxRowBytes: 1000, OnBadRow: datasets.Skip}))
			if err != nil || len(rows) != 1 {
				t.Errorf("skipping: %d rows, %v", len(rows), err)
			}
		})
	}
}

// A quote that is never closed stops the reading before it fills the memory, even if bad rows
// are skipped.
func TestOpenQuote(t *testing.T) {
	path := write(t, "d.csv", "input,target\na,b\nc,\""+strings.Repeat("x\n", 1<<20))
	for _, policy := range []string{datasets.Fail, datasets.Skip} {
		rows, err := collect(datasets.Read(path, datasets.ReadOptions{MaxRowBytes: 1000, OnBadRow: policy}))
		bad, ok := errors.AsType[*datasets.RowError](err)
		if !ok || bad.Line != 3 || !strings.Contains(bad.Reason, "longer than 1000 bytes") || len(rows) != 1 {
			t.Errorf("%s: %d rows, %v", policy, len(rows), err)
		}
	}
}

func TestWrongColumns(t *testing.T) {
	tests := map[string]struct {
		name, content string
		columns       datasets.Columns
		want          datasets.ColumnError
	}{
		"jsonl": {"d.jsonl", `{"inputs":"a","target":"b"}` + "\n" + good, datasets.Columns{},
			datasets.ColumnError{Column: "input", Have: []string{"inputs", "target"}, Nearest: "inputs"}},
		"csv": {"d.csv", "source,Target\na,b\n", datasets.Columns{Input: "source"},
			datasets.ColumnError{Column: "target", Have: []string{"source", "Target"}, Nearest: "Target"}},
		"tsv": {"d.tsv", "source\ttarget\na\tb\n", datasets.Columns{Input: "sourse"},
			datasets.ColumnError{Column: "sourse", Have: []string{"source", "target"}, Nearest: "source"}},
		"a named id": {"d.csv", "input,target\na,b\n", datasets.Columns{ID: "key"},
			datasets.ColumnError{Column: "key", Have: []string{"input", "target"}}},
		"named references in no row": {"d.jsonl", good + good, datasets.Columns{References: "answers"},
			datasets.ColumnError{Column: "answers", Have: []string{"input", "target"}}},
		"nothing": {"d.jsonl", "{}\n", datasets.Columns{}, datasets.ColumnError{Column: "input"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := write(t, tt.name, tt.content)
			for _, policy := range []string{datasets.Fail, datasets.Skip} {
				if name == "jsonl" && policy == datasets.Skip {
					continue // the second row is good
				}
				_, err := collect(datasets.Read(path, datasets.ReadOptions{Columns: tt.columns, OnBadRow: policy}))
				got, ok := errors.AsType[*datasets.ColumnError](err)
				if !ok || got.Path != path || got.Column != tt.want.Column || got.Nearest != tt.want.Nearest || !slices.Equal(got.Have, tt.want.Have) {
					t.Errorf("%s: got %#v, %v; want %#v", policy, got, err, tt.want)
				}
			}
		})
	}
}

func TestBadFiles(t *testing.T) {
	packed := gzipped(t, strings.Repeat(good, 1000))
	zst := zstandard(t, strings.Repeat(good, 1000))
	tests := map[string]struct{ name, content, want string }{
		"empty":           {"d.jsonl", "", "has no rows"},
		"blank":           {"d.jsonl", "\n \n\r\n", "has no rows"},
		"empty csv":       {"d.csv", "", "has no rows"},
		"header alone":    {"d.csv", "input,target\n", "has no rows"},
		"empty tsv":       {"d.tsv", "", "has no rows"},
		"empty gz":        {"d.jsonl.gz", "", "has no rows"},
		"empty zst":       {"d.jsonl.zst", "", "has no rows"},
		"empty parquet":   {"d.parquet", "", "has no rows"},
		"name":            {"d.txt", good, "its name must end in .jsonl"},
		"UTF-16":          {"d.jsonl", "\xff\xfe{\x00", "is UTF-16"},
		"gz in disguise":  {"d.jsonl", packed, "is packed by gzip"},
		"zst in disguise": {"d.csv", zst, "is packed by zstd"},
		"gz cut":          {"d.jsonl.gz", packed[:len(packed)-20], "cut short"},
		"gz damaged":      {"d.jsonl.gz", packed[:len(packed)-6] + "123456", "checksum differs"},
		"gz of nothing":   {"d.jsonl.gz", good, "is not gzip data"},
		"zst cut":         {"d.jsonl.zst", zst[:len(zst)-5], "cut short"},
		"zst of nothing":  {"d.jsonl.zst", good, "is not zstd data"},
		"header twice":    {"d.csv", "input,target,input\na,b,c\n", `names column "input" twice`},
		"bad header":      {"d.csv", "in\"put,target\na,b\n", "the header is not CSV"},
		"not parquet":     {"d.parquet", strings.Repeat("x", 100), "does not end in PAR1"},
		"short parquet":   {"d.parquet", "PAR1", "too short"},
		"parquet footer":  {"d.parquet", "PAR1\xff\xff\xff\xffPAR1", "footer claims"},
		"parquet of x":    {"d.parquet", "PAR1xxxx\x04\x00\x00\x00PAR1", "not sound Parquet"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := write(t, tt.name, tt.content)
			_, err := collect(datasets.Read(path, datasets.ReadOptions{}))
			_, isFormat := errors.AsType[*datasets.FormatError](err)
			_, isEmpty := errors.AsType[*datasets.EmptyError](err)
			if !isFormat && !isEmpty || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), path) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := collect(datasets.Read(filepath.Join(t.TempDir(), "none.jsonl"), datasets.ReadOptions{})); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := collect(datasets.Read(t.TempDir()+"/", datasets.ReadOptions{})); err == nil {
		t.Error("a folder was read")
	}
	path := write(t, "d.jsonl", "x\ny\n")
	_, err := collect(datasets.Read(path, datasets.ReadOptions{OnBadRow: datasets.Skip}))
	if empty, ok := errors.AsType[*datasets.EmptyError](err); !ok || empty.Skipped != 2 {
		t.Errorf("all rows bad: %v", err)
	}
}

// Rows of several files are numbered on, and lines of each file from 1.
func TestReadFiles(t *testing.T) {
	a, b := write(t, "a.jsonl", good+good), write(t, "b.csv", "input,target\nc,d\n")
	rows, err := collect(datasets.ReadFiles([]string{a, b}, datasets.ReadOptions{}))
	if err != nil || len(rows) != 3 || rows[2].Row != 2 || rows[2].Line != 2 || rows[1].Line != 2 {
		t.Errorf("got %+v, %v", rows, err)
	}
	for example, err := range datasets.Read(a, datasets.ReadOptions{}) {
		if err != nil || example.Input != "a" {
			t.Errorf("%+v, %v", example, err)
		}
		break // stopping early is no error
	}
}

// The line ending is read wherever the buffer happens to end.
func TestLongLines(t *testing.T) {
	for _, length := range []int{1<<18 - 30, 1<<18 - 27, 1<<18 - 26, 1<<18 - 25, 1 << 19, 3 << 18} {
		text := strings.Repeat("x", length)
		path := write(t, "d.jsonl", `{"input":"`+text+`","target":"b"}`+"\r\n"+good)
		rows, err := collect(datasets.Read(path, datasets.ReadOptions{}))
		if err != nil || len(rows) != 2 || rows[0].Input != text || rows[1].Input != "a" {
			t.Errorf("length %d: %d rows, %v", length, len(rows), err)
		}
	}
}

func BenchmarkReadJSONL(b *testing.B) {
	row := `{"input": "And the house that I am building \"is\" great, for greater is our God than all gods;", "target": "And the house which I am building is to be great, for our God is greater than all gods.", "id": "2CH.2.5"}` + "\n"
	path := filepath.Join(b.TempDir(), "d.jsonl")
	if err := os.WriteFile(path, []byte(strings.Repeat(row, 20000)), 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(20000 * len(row)))
	for b.Loop() {
		n := 0
		for _, err := range datasets.Read(path, datasets.ReadOptions{}) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 20000 {
			b.Fatal(n)
		}
	}
}
