package audit_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/datasets/audit"
)

func write(t *testing.T, name string, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func row(input, target string) string {
	b, _ := json.Marshal(map[string]string{"input": input, "target": target})
	return string(b)
}

func run(t *testing.T, o audit.Options) *audit.Report {
	t.Helper()
	o.OnBadRow = datasets.Skip
	o.TempDir = t.TempDir()
	r, err := audit.Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(o.TempDir); len(left) > 0 {
		t.Errorf("%d temporary files were left", len(left))
	}
	return r
}

// The split of the published corpus has these faults, counted by its maker.
func TestBible(t *testing.T) {
	parts := []audit.Part{}
	for _, name := range []string{"train", "validation", "test"} {
		parts = append(parts, audit.Part{Name: name, Files: []string{"../../recipes/data/bible-ylt-bbe/" + name + ".jsonl.gz"}})
	}
	r := run(t, audit.Options{Parts: parts, Near: 0.8, Ngram: 13})
	train, validation, test := r.Parts[0], r.Parts[1], r.Parts[2]
	if train.Rows != 27595 || validation.Rows != 1642 || test.Rows != 1835 {
		t.Errorf("%d, %d and %d rows", train.Rows, validation.Rows, test.Rows)
	}
	if train.Inputs != (audit.Repeats{Surplus: 234, Distinct: 71}) || validation.Inputs.Surplus != 3 {
		t.Errorf("train repeats %+v, validation %+v", train.Inputs, validation.Inputs)
	}
	shared := map[string]int64{}
	for _, c := range r.Cross {
		shared[c.A+" "+c.B] = c.Inputs
	}
	if shared["train test"] != 1 || shared["train validation"] != 2 || shared["validation test"] != 0 {
		t.Errorf("shared inputs %v", shared)
	}
	if r.Cross[1].Contaminated < 1 || train.NearRows == 0 || train.Languages["en"] < 20000 {
		t.Errorf("contaminated %d, near %d, languages %v", r.Cross[1].Contaminated, train.NearRows, train.Languages)
	}
	if err := r.Judge(audit.DefaultLimits()); err != nil || r.Passed {
		t.Errorf("leaked rows must fail: %+v, %v", r.Checks, err)
	}
	if err := r.Judge(audit.Limits{"shared_inputs": 3, "repeated_inputs": 237}); err != nil || !r.Passed {
		t.Errorf("within the limits: %+v, %v", r.Checks, err)
	}
	if err := r.Judge(audit.Limits{"nonsense": 3}); err == nil {
		t.Error("a limit for nothing must be refused")
	}
}

func TestFindings(t *testing.T) {
	long := "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
	train := write(t, "train.jsonl",
		row("the cat is on the mat and that is it", "a"), row("der Hund ist nicht auf dem Dach und das ist gut", "b"),
		row("same", "same"), row("", "c"), row("d", " "), row("Ã¤rger", "e"), row("bell \u0007", "f"), row("привет мир", "g"),
		row("twice", "x"), row("twice", "y"), row("twice", "x"), row("long "+long, "z"), "not JSON",
		row("He went to the great city, in the morning of the day!", "n"), row("he went to the great city in the morning of the day.", "m"))
	test := write(t, "test.jsonl", row("twice", "x"), row("other words, "+long, "q"), row("He went to the great city in the morning of the day", "p"))
	r := run(t, audit.Options{Parts: []audit.Part{{Name: "train", Files: []string{train}}, {Name: "test", Files: []string{test}}}, Near: 0.8, Ngram: 13})
	p, c := r.Parts[0], r.Cross[0]
	if p.EmptyInputs != 1 || p.EmptyTargets != 1 || p.Copied != 1 || p.Damaged != 2 || p.BadRows != 1 || p.Conflicting != 1 {
		t.Errorf("%+v", p)
	}
	if p.Inputs != (audit.Repeats{Surplus: 2, Distinct: 1}) || p.Pairs != (audit.Repeats{Surplus: 1, Distinct: 1}) {
		t.Errorf("repeats %+v, %+v", p.Inputs, p.Pairs)
	}
	if p.Languages["en"] != 3 || p.Languages["de"] != 1 || p.Languages["Cyrillic"] != 1 {
		t.Errorf("languages %v", p.Languages)
	}
	if p.NearPairs != 1 || p.NearRows != 2 || c.NearPairs < 1 {
		t.Errorf("near %d pairs of %d rows, across %d", p.NearPairs, p.NearRows, c.NearPairs)
	}
	if c.Inputs != 1 || c.RowsA != 3 || c.RowsB != 1 || c.Pairs != 1 || c.Contaminated != 1 {
		t.Errorf("across %+v", c)
	}
	if err := r.Judge(audit.DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(*bytes.Buffer) error{
		"JSON": func(b *bytes.Buffer) error { return r.WriteJSON(b) }, "Markdown": func(b *bytes.Buffer) error { return r.WriteMarkdown(b) },
		"SARIF": func(b *bytes.Buffer) error { return r.WriteSARIF(b) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "great city") || strings.Contains(b.String(), "привет") {
			t.Errorf("%s holds texts", name)
		}
		if name != "Markdown" && !json.Valid(b.Bytes()) {
			t.Errorf("%s is no JSON", name)
		}
		if !strings.Contains(b.String(), "shared-input") {
			t.Errorf("%s lacks a finding", name)
		}
	}
}

func TestLabels(t *testing.T) {
	var lines []string
	for i := range 100 {
		label := "yes"
		if i%10 == 0 {
			label = "no"
		}
		lines = append(lines, row(fmt.Sprint("text ", i), label))
	}
	r := run(t, audit.Options{Parts: []audit.Part{{Name: "all", Files: []string{write(t, "a.jsonl", lines...)}}}})
	if l := r.Parts[0].Labels; l == nil || l.Distinct != 2 || l.Largest != 0.9 || l.Smallest != 0.1 {
		t.Errorf("labels %+v", r.Parts[0].Labels)
	}
}

// Memory must not grow with the rows: four times as many take no more of it.
func TestMemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	peak := func(rows int) uint64 {
		path := filepath.Join(t.TempDir(), "big.jsonl")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range rows {
			fmt.Fprintf(f, "{\"input\":\"row %d of many that say %d things\",\"target\":\"%d\"}\n", i, i%97, i)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		most := uint64(0)
		_, err = audit.Run(context.Background(), audit.Options{
			Parts: []audit.Part{{Name: "big", Files: []string{path}}}, TempDir: t.TempDir(),
			Progress: func(string, int64) {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapInuse)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return most
	}
	few, many := peak(25_000), peak(100_000)
	if many > few+few/2+(8<<20) {
		t.Errorf("25,000 rows took %d MiB, 100,000 took %d", few>>20, many>>20)
	}
}

// So many rows with one input that their records are divided again, and read without being sorted, are
// counted like few.
func TestManyRepeats(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 300,000 rows")
	}
	path := filepath.Join(t.TempDir(), "d.jsonl")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(f)
	const same, others = 280_000, 20_000
	for i := range same {
		fmt.Fprintf(w, "{\"input\":\"one and the same input of some words\",\"target\":\"%d\"}\n", i/2)
	}
	for i := range others {
		fmt.Fprintf(w, "{\"input\":\"word%d and word%d here\",\"target\":\"x\"}\n", i/2, i/2)
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		t.Fatal(err)
	}
	r, err := audit.Run(t.Context(), audit.Options{Parts: []audit.Part{{Name: "train", Files: []string{path}}}})
	if err != nil {
		t.Fatal(err)
	}
	p := r.Parts[0]
	if want := (audit.Repeats{Surplus: same - 1 + others/2, Distinct: 1 + others/2}); p.Inputs != want {
		t.Errorf("inputs: %+v, want %+v", p.Inputs, want)
	}
	if want := (audit.Repeats{Surplus: same/2 + others/2, Distinct: same/2 + others/2}); p.Pairs != want || p.Conflicting != 1 {
		t.Errorf("pairs: %+v, want %+v; %d conflicting", p.Pairs, want, p.Conflicting)
	}
}
