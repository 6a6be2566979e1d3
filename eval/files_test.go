package eval_test

import (
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/eval"
)

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if strings.HasSuffix(name, ".gz") {
		z := gzip.NewWriter(f)
		if _, err := z.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	return path
}

func collect(hyps string, refs ...string) (out []eval.Answered, err error) {
	for a, err := range eval.OpenAnswers(hyps, refs) {
		if err != nil {
			return out, err
		}
		out = append(out, a)
	}
	return out, nil
}

func TestOpenAnswers(t *testing.T) {
	dir := t.TempDir()
	text := write(t, dir, "h.txt", "a\r\nb\n\nd")
	packed := write(t, dir, "r.txt.gz", "A\nB\nC\nD\n")
	lines := write(t, dir, "r.jsonl", `{"references": ["x", null, "y"]}`+"\n"+`{"target": "z"}`+"\n"+`{"references": [null], "target": "t"}`+"\n"+`{"target": ""}`+"\n")
	got, err := collect(text, packed, lines)
	if err != nil || len(got) != 4 {
		t.Fatalf("%v, %v", got, err)
	}
	for i, want := range [][]string{{"a", "A", "x", "y"}, {"b", "B", "z"}, {"", "C", "t"}, {"d", "D", ""}} {
		if row := append([]string{got[i].Output}, got[i].Pair.References...); !slices.Equal(row, want) {
			t.Errorf("row %d: %q; want %q", i, row, want)
		}
	}
	own := write(t, dir, "p.jsonl", `{"id": "7", "output": "o", "references": ["r"]}`+"\n")
	if got, err := collect(own); err != nil || got[0].Pair.ID != "7" || got[0].Pair.References[0] != "r" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestOpenAnswersRefuses(t *testing.T) {
	dir := t.TempDir()
	two := write(t, dir, "two.txt", "a\nb\n")
	three := write(t, dir, "three.txt", "a\nb\nc\n")
	empty := write(t, dir, "empty.txt", "")
	var length *eval.LengthError
	if _, err := collect(two, three); !errors.As(err, &length) || length.FirstRows != 2 || length.SecondRows != 3 {
		t.Errorf("fewer outputs: %v", err)
	}
	if _, err := collect(three, two); !errors.As(err, &length) || length.FirstRows != 3 || length.SecondRows != 2 {
		t.Errorf("fewer references: %v", err)
	}
	var none *eval.EmptyFileError
	for _, files := range [][]string{{empty, two}, {two, empty}, {empty, empty}} {
		if _, err := collect(files[0], files[1]); !errors.As(err, &none) {
			t.Errorf("%v: %v", files, err)
		}
	}
	if _, err := collect(filepath.Join(dir, "nothing"), two); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	bad := map[string]string{
		"bytes.txt": "a\xff\nb\n", "noref.jsonl": `{"output": "a"}` + "\n", "json.jsonl": "{\n", "noout.jsonl": `{"target": "a"}` + "\n",
	}
	for name, text := range bad {
		var line *eval.LineError
		if _, err := collect(write(t, dir, name, text)); !errors.As(err, &line) || line.Line != 1 {
			if name == "bytes.txt" {
				_, err = collect(filepath.Join(dir, name), two)
			}
			if !errors.As(err, &line) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	h := write(t, dir, "h.jsonl", `{"id": "1", "output": "a"}`+"\n"+`{"id": "2", "output": "b"}`+"\n")
	r := write(t, dir, "r.jsonl", `{"id": "2", "target": "a"}`+"\n"+`{"id": "1", "target": "b"}`+"\n")
	var order *eval.OrderError
	if _, err := collect(h, r); !errors.As(err, &order) || !strings.Contains(err.Error(), "order") {
		t.Errorf("another order: %v", err)
	}
	var line *eval.LineError
	if _, err := collect(write(t, dir, "mac.txt", "a\rb\n"), two); !errors.As(err, &line) || !strings.Contains(err.Error(), "carriage return") {
		t.Errorf("a lone carriage return: %v", err)
	}
}

func TestShiftedLines(t *testing.T) {
	dir := t.TempDir()
	var lines []string
	for i := range 30 {
		lines = append(lines, strings.Repeat("common ", i%3)+"word"+string(rune('a'+i))+" here")
	}
	whole := write(t, dir, "whole.txt", strings.Join(lines, "\n")+"\n")
	for name, tt := range map[string]struct {
		lines []string
		want  int
	}{
		"one is missing":  {slices.Concat(lines[:12], lines[13:]), 13},
		"two are missing": {slices.Concat(lines[:4], lines[6:]), 5},
		"one is extra":    {slices.Concat(lines[:20], []string{"surplus"}, lines[20:]), 21},
		"the end is cut":  {lines[:28], 29},
		"nothing alike":   {[]string{"x", "y"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			other := write(t, dir, "other.txt", strings.Join(tt.lines, "\n")+"\n")
			var length *eval.LengthError
			if _, err := collect(other, whole); !errors.As(err, &length) || length.Shifted != tt.want {
				t.Errorf("%v; want line %d", err, tt.want)
			}
		})
	}
}

func TestJoinAnswers(t *testing.T) {
	dir := t.TempDir()
	h := write(t, dir, "h.jsonl", `{"id": "1", "output": "a"}`+"\n"+`{"id": "2", "output": "b"}`+"\n")
	r := write(t, dir, "r.jsonl", `{"id": "2", "target": "B"}`+"\n"+`{"id": "1", "input": "i", "references": ["A"]}`+"\n")
	join := func(hyps string, refs ...string) (out []eval.Answered, err error) {
		for a, err := range eval.JoinAnswers(hyps, refs) {
			if err != nil {
				return nil, err
			}
			out = append(out, a)
		}
		return out, nil
	}
	got, err := join(h, r)
	if err != nil || len(got) != 2 || got[0].Pair.References[0] != "A" || got[0].Pair.Input != "i" || got[1].Output != "b" || got[1].Pair.References[0] != "B" {
		t.Errorf("%+v, %v", got, err)
	}
	var line *eval.LineError
	for name, refs := range map[string]string{
		"no id": `{"target": "x"}` + "\n", "twice": `{"id": "1", "target": "x"}` + "\n" + `{"id": "1", "target": "x"}` + "\n", "another id": `{"id": "9", "target": "x"}` + "\n",
	} {
		if _, err := join(h, write(t, dir, "bad.jsonl", refs)); !errors.As(err, &line) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var length *eval.LengthError
	more := write(t, dir, "more.jsonl", `{"id": "1", "target": "x"}`+"\n"+`{"id": "2", "target": "x"}`+"\n"+`{"id": "3", "target": "x"}`+"\n")
	if _, err := join(h, more); !errors.As(err, &length) || length.SecondRows != 3 {
		t.Errorf("a row without an answer: %v", err)
	}
}
