package page_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/page"
)

const hostile = `<script>alert(1)</script><img src=x onerror=alert(1)>`

// evaluate scores outputs and keeps report and rows in dir.
func evaluate(t *testing.T, dir, name string, outputs []string) (eval.Evidence, []eval.Answered) {
	t.Helper()
	var rows bytes.Buffer
	var answers []eval.Answered
	for i, o := range outputs {
		answers = append(answers, eval.Answered{Output: o, Pair: eval.Pair{ID: fmt.Sprint(i), Input: "input " + hostile, References: []string{"the cat sat on the mat"}}})
	}
	s := eval.Suite{Name: name, Metrics: []string{"chrf", "exact_match", "wer"}, Bootstrap: &eval.Bootstrap{Samples: 50, Seed: 1}}
	report, err := eval.Runner{Suite: s, Rows: &rows}.Score(context.Background(), func(yield func(eval.Answered, error) bool) {
		for _, a := range answers {
			if !yield(a, nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	report.Model, report.Rows.Path = name, name+".rows.jsonl"
	if err := os.WriteFile(filepath.Join(dir, report.Rows.Path), rows.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := report.Encode(&text); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name+".json")
	if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	e, err := eval.ReadEvidence(path)
	if err != nil {
		t.Fatal(err)
	}
	return e, answers
}

func facts(t *testing.T) page.Facts {
	t.Helper()
	dir := t.TempDir()
	before, _ := evaluate(t, dir, "before", []string{"the cat sat on the mat", "the cat", "a cat sat on a mat"})
	now, answers := evaluate(t, dir, "now", []string{"the cat sat on the mat", hostile, "the cat sat quietly on the mat"})
	c, err := eval.Compare(t.Context(), before, now, eval.CompareOptions{Samples: 50, Trials: 50})
	if err != nil {
		t.Fatal(err)
	}
	f, err := page.Gather(now, page.Options{Baseline: &before, Comparison: &c, Predictions: answers, Worst: 2})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// tokens reads the page to its end as strictly as XML is read, as the page closes every element.
func tokens(t *testing.T, text string) (elements map[string]int) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	d.Entity = xml.HTMLEntity
	elements = map[string]int{}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return elements
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok {
			elements[e.Name.Local]++
			for _, a := range e.Attr {
				if a.Name.Local == "src" || a.Name.Local == "href" || strings.HasPrefix(a.Name.Local, "on") {
					t.Errorf("<%s %s=%q>", e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
}

// The page needs nothing else, and no text of a row becomes part of it.
func TestHTML(t *testing.T) {
	var b bytes.Buffer
	f := facts(t)
	if err := page.HTML(&b, f); err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(b.String(), "<!doctype html>", "")
	found := tokens(t, text)
	if found["script"]+found["img"]+found["link"]+found["iframe"] > 0 || found["svg"] < 4 || found["tr"] != 2+3+2 {
		t.Errorf("elements: %v", found)
	}
	if strings.Contains(text, "http://") || strings.Contains(text, "https://") || !strings.Contains(text, "&lt;script&gt;") {
		t.Error("the page points elsewhere, or a text was not escaped")
	}
	if strings.Contains(text, "%!") {
		t.Error("a value was not formatted")
	}
	if !strings.Contains(text, "<ins>quietly</ins>") || !strings.Contains(text, "Worst rows by chrf") {
		t.Error("the worst rows have no diff")
	}
}

func TestFacts(t *testing.T) {
	f := facts(t)
	if f.Worst[0].ID != "1" || f.Worst[1].ID != "2" || f.Baseline != "before" || f.Metrics[0].P == nil || f.Metrics[0].Before == nil {
		t.Errorf("%+v", f)
	}
	for _, h := range f.Histogram {
		total := 0
		for _, c := range h.Counts {
			total += c
		}
		if total != 3 {
			t.Errorf("%+v: every row counts once", h)
		}
	}
	m := page.Markdown(f)
	if !strings.Contains(m, "| chrf | ") || strings.Contains(m, "<script") || !strings.Contains(m, "## Worst rows by chrf") {
		t.Errorf("%s", m)
	}
	alone, err := page.Gather(eval.Evidence{Report: eval.Report{Metrics: []eval.Result{{Name: "x", Score: 1, Verdict: eval.VerdictOK}}}}, page.Options{})
	if err != nil || len(alone.Metrics) != 1 || page.HTML(io.Discard, alone) != nil {
		t.Errorf("a report without rows: %+v, %v", alone, err)
	}
}

// An exposure test shows what it draws, what makes it void, and an interval without an upper end.
func TestExposureTest(t *testing.T) {
	ci := [2]eval.Number{8, eval.Number(math.NaN())}
	r := eval.Report{Kind: eval.KindExposure, Name: "exposure", Bootstrap: &eval.Bootstrap{Confidence: 0.95}, Data: eval.DataFacts{N: 6}, Metrics: []eval.Result{
		{Name: "exposure_max", Label: "highest exposure", Score: 9.97, CI: &ci, N: 6, Signature: "refs:1000", Verdict: eval.VerdictVoid, Note: "the control looks memorized"},
		{Name: "exposure_mean", Score: 8, CI: &[2]eval.Number{7, 9}, N: 6, Signature: "refs:1000", Verdict: eval.VerdictOK},
	}}
	f, err := page.Gather(eval.Evidence{Report: r}, page.Options{Pictures: []page.Picture{{Title: "dose", Text: "told " + hostile, SVG: `<svg id="dose"></svg>`}}})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := page.HTML(&b, f); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	tokens(t, strings.ReplaceAll(text, "<!doctype html>", ""))
	for _, want := range []string{
		"<h1>Memorization: exposure</h1>", `<svg id="dose"></svg>`, "told &lt;script&gt;", "<b>Void:</b> the control looks memorized.",
		`<td class="i">at least 8.00</td>`, "95 % interval", `x2="200.0"`, "highest exposure",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if n := strings.Count(text, "refs:1000"); n != 1 || strings.Contains(text, "NaN") {
		t.Errorf("the signature stands %d times; want once, and no NaN", n)
	}
}
