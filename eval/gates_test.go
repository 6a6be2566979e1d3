package eval_test

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/eval"
)

func ptr[T any](v T) *T { return &v }

// bible unpacks the statistics of one of two published systems that rewrite Young's Literal Translation
// in Basic English, without their texts.
func bible(t *testing.T, dir, system string) eval.Evidence {
	t.Helper()
	in, err := os.Open(filepath.Join("testdata", "bible", system+".rows.jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	z, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, system+".rows.jsonl"), rows, 0o644); err != nil {
		t.Fatal(err)
	}
	report, err := os.ReadFile(filepath.Join("testdata", "bible", system+".json"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, system+".json")
	if err := os.WriteFile(path, report, 0o644); err != nil {
		t.Fatal(err)
	}
	e, err := eval.ReadEvidence(path)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The p-values are sacreBLEU 2.6.0's for the same outputs: BLEU 0.2038, which is noise, and chrF2
// 0.0010, which is not.
func TestGatesKnowNoiseFromLoss(t *testing.T) {
	dir := t.TempDir()
	before, after := bible(t, dir, "moses-ylt-bbe"), bible(t, dir, "seq2seq-all-all")
	gates := eval.Gates{Version: 1, Gates: []eval.Gate{
		{Metric: "bleu", MaxDrop: ptr(0.0), Confidence: ptr(0.95)},
		{Metric: "chrf", MaxDrop: ptr(0.0), Confidence: ptr(0.95)},
		{Metric: "chrf", MaxDrop: ptr(2.0), Confidence: ptr(0.95)},
	}}
	got := eval.Judge(gates, []eval.Evidence{after}, &before)
	want := []struct {
		verdict eval.Outcome
		p       float64
	}{{eval.Pass, 204.0 / 1001}, {eval.Fail, 1.0 / 1001}, {eval.Pass, -1}}
	for i, w := range want {
		c := got.Checks[i]
		if c.Verdict != w.verdict || (w.p >= 0 && (c.PValue == nil || float64(*c.PValue) != w.p)) || (w.p < 0 && c.PValue != nil) {
			t.Errorf("%s, %s: %+v; want %v", c.Metric, c.Bound, c, w)
		}
	}
	var refused *eval.GateError
	if got.Passed || !errors.As(got.Err(), &refused) || len(refused.Failed) != 1 {
		t.Errorf("the gates must fail on one check: %v", got.Err())
	}
	if err := eval.Judge(gates, []eval.Evidence{before}, &after).Err(); err != nil {
		t.Errorf("the other way round all pass: %v", err)
	}
}

// A drop is tested against the bound, not against none, and the burden of proof can be turned. The
// p-values are those of testdata/bible/drop.py, with sacreBLEU 2.6.0 and numpy 2.4.6.
func TestGatesTestTheDropBeyondTheBound(t *testing.T) {
	dir := t.TempDir()
	before, after := bible(t, dir, "moses-ylt-bbe"), bible(t, dir, "seq2seq-all-all")
	tests := []struct {
		metric      string
		bound       float64
		nonInferior bool
		want        eval.Outcome
		p           float64
		reason      string
	}{
		{"chrf", 1, false, eval.Fail, 1, "that is no noise"},
		{"chrf", 1.7, false, eval.Pass, 116, "not significantly more"}, // though it differs from none at p = 1/1001
		{"chrf", 1.7, true, eval.Inconclusive, 116, "do not show"},
		{"chrf", 2, true, eval.Inconclusive, 188, "do not show"},
		{"chrf", 3, true, eval.Pass, 1, "with confidence"},
		{"bleu", 0, true, eval.Inconclusive, 204, "do not show"},
		{"bleu", 0.5, true, eval.Inconclusive, 79, "do not show"},
		{"bleu", 1, true, eval.Pass, 2, "with confidence"},
	}
	for _, tt := range tests {
		gate := eval.Gate{Metric: tt.metric, MaxDrop: &tt.bound, Confidence: ptr(0.95), NonInferior: tt.nonInferior}
		c := eval.Judge(eval.Gates{Version: 1, Gates: []eval.Gate{gate}}, []eval.Evidence{after}, &before).Checks[0]
		if c.Verdict != tt.want || c.PValue == nil || float64(*c.PValue) != tt.p/1001 || !strings.Contains(c.Reason, tt.reason) || c.DropCI == nil ||
			c.DropCI[0] >= *c.Drop || c.DropCI[1] <= *c.Drop {
			t.Errorf("%s, drop of %v: %+v; want %s, p = %v/1001", tt.metric, tt.bound, c, tt.want, tt.p)
		}
	}
	// The same outputs are no worse, whatever the bound.
	gate := eval.Gate{Metric: "bleu", MaxDrop: ptr(0.0), Confidence: ptr(0.95), NonInferior: true}
	if err := eval.Judge(eval.Gates{Version: 1, Gates: []eval.Gate{gate}}, []eval.Evidence{after}, &after).Err(); err != nil {
		t.Error(err)
	}
}

// Whatever cannot be judged does not pass, and says why.
func TestGatesFailClosed(t *testing.T) {
	good := func() eval.Evidence {
		return eval.Evidence{Path: "r.json", Report: eval.Report{
			Data: eval.DataFacts{Fingerprint: "sha256:a", N: 10},
			Metrics: []eval.Result{{Name: "bleu", Spec: "bleu", Score: 30, Signature: "s", HigherIsBetter: true, N: 10, Verdict: eval.VerdictOK,
				CI: &[2]eval.Number{28, 32}}},
			Bootstrap: &eval.Bootstrap{Confidence: 0.95},
		}}
	}
	drop := eval.Gate{Metric: "bleu", MaxDrop: ptr(1.0)}
	floor := eval.Gate{Metric: "bleu", Min: ptr(10.0)}
	tests := map[string]struct {
		gate     eval.Gate
		change   func(*eval.Report)
		base     func(*eval.Report) // nil: no baseline
		outcome  eval.Outcome
		contains string
	}{
		"all is well":             {gate: floor, outcome: eval.Pass},
		"below":                   {gate: eval.Gate{Metric: "bleu", Min: ptr(31.0)}, outcome: eval.Fail, contains: "below min 31 by 1"},
		"above":                   {gate: eval.Gate{Metric: "bleu", Max: ptr(29.0)}, outcome: eval.Fail, contains: "above max 29 by 1"},
		"the interval is below":   {gate: eval.Gate{Metric: "bleu", Min: ptr(29.0), Confidence: ptr(0.95)}, outcome: eval.Fail, contains: "lower end"},
		"the interval is above":   {gate: eval.Gate{Metric: "bleu", Max: ptr(31.0), Confidence: ptr(0.95)}, outcome: eval.Fail, contains: "upper end"},
		"the interval holds":      {gate: eval.Gate{Metric: "bleu", Min: ptr(28.0), Max: ptr(32.0), Confidence: ptr(0.95)}, outcome: eval.Pass},
		"another confidence":      {gate: eval.Gate{Metric: "bleu", Min: ptr(1.0), Confidence: ptr(0.99)}, outcome: eval.Inconclusive, contains: "0.95"},
		"no interval":             {gate: eval.Gate{Metric: "bleu", Min: ptr(1.0), Confidence: ptr(0.95)}, change: func(r *eval.Report) { r.Metrics[0].CI = nil }, outcome: eval.Inconclusive, contains: "no interval"},
		"missing metric":          {gate: eval.Gate{Metric: "chrf", Min: ptr(1.0)}, outcome: eval.Fail, contains: "no such metric"},
		"missing, not required":   {gate: eval.Gate{Metric: "chrf", Min: ptr(1.0), Required: ptr(false)}, outcome: eval.Skipped},
		"missing slice":           {gate: eval.Gate{Metric: "bleu", Slice: "long", Min: ptr(1.0)}, outcome: eval.Fail, contains: "no such metric"},
		"twice":                   {gate: floor, change: func(r *eval.Report) { r.Metrics = append(r.Metrics, r.Metrics[0]) }, outcome: eval.Inconclusive, contains: "2 results"},
		"not a number":            {gate: floor, change: func(r *eval.Report) { r.Metrics[0].Score = eval.Number(math.NaN()) }, outcome: eval.Inconclusive, contains: "not a number"},
		"no rows":                 {gate: floor, change: func(r *eval.Report) { r.Metrics[0].N = 0 }, outcome: eval.Inconclusive, contains: "no rows"},
		"void":                    {gate: floor, change: func(r *eval.Report) { r.Metrics[0].Verdict = eval.VerdictVoid }, outcome: eval.Inconclusive, contains: "void"},
		"no verdict":              {gate: floor, change: func(r *eval.Report) { r.Metrics[0].Verdict = "" }, outcome: eval.Inconclusive},
		"no baseline":             {gate: drop, outcome: eval.Inconclusive, contains: "no baseline"},
		"as good":                 {gate: drop, base: func(*eval.Report) {}, outcome: eval.Pass},
		"a drop within":           {gate: drop, base: func(r *eval.Report) { r.Metrics[0].Score = 31 }, outcome: eval.Pass},
		"a drop beyond":           {gate: drop, base: func(r *eval.Report) { r.Metrics[0].Score = 32 }, outcome: eval.Fail, contains: "by 2"},
		"better":                  {gate: drop, base: func(r *eval.Report) { r.Metrics[0].Score = 3 }, outcome: eval.Pass},
		"other data":              {gate: drop, base: func(r *eval.Report) { r.Data.Fingerprint = "sha256:b" }, outcome: eval.Inconclusive, contains: "other data"},
		"no fingerprint":          {gate: drop, base: func(r *eval.Report) { r.Data.Fingerprint = "" }, outcome: eval.Inconclusive, contains: "other data"},
		"other signature":         {gate: drop, base: func(r *eval.Report) { r.Metrics[0].Signature = "t" }, outcome: eval.Inconclusive, contains: "signature"},
		"other specification":     {gate: drop, base: func(r *eval.Report) { r.Metrics[0].Spec = "bleu:x=y" }, outcome: eval.Inconclusive, contains: "metric"},
		"other rows":              {gate: drop, base: func(r *eval.Report) { r.Metrics[0].N = 9 }, outcome: eval.Inconclusive, contains: "9 rows"},
		"baseline undefined":      {gate: drop, base: func(r *eval.Report) { r.Metrics[0].Verdict = eval.VerdictUndefined }, outcome: eval.Inconclusive, contains: "in the baseline"},
		"baseline lacks it":       {gate: drop, base: func(r *eval.Report) { r.Metrics = nil }, outcome: eval.Inconclusive, contains: "no such metric"},
		"significance, no rows":   {gate: eval.Gate{Metric: "bleu", MaxDrop: ptr(1.0), Confidence: ptr(0.95)}, base: func(r *eval.Report) { r.Metrics[0].Score = 32 }, outcome: eval.Inconclusive, contains: "rows file"},
		"lower is better, rises":  {gate: drop, change: lower, base: func(r *eval.Report) { lower(r); r.Metrics[0].Score = 28 }, outcome: eval.Fail, contains: "by 2"},
		"lower is better, falls":  {gate: drop, change: lower, base: func(r *eval.Report) { lower(r); r.Metrics[0].Score = 40 }, outcome: eval.Pass},
		"ways of better disagree": {gate: drop, change: lower, base: func(*eval.Report) {}, outcome: eval.Inconclusive, contains: "which way"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e := good()
			if tt.change != nil {
				tt.change(&e.Report)
			}
			var base *eval.Evidence
			if tt.base != nil {
				b := good()
				tt.base(&b.Report)
				base = &b
			}
			got := eval.Judge(eval.Gates{Version: 1, Gates: []eval.Gate{tt.gate}}, []eval.Evidence{e}, base)
			c := got.Checks[0]
			if c.Verdict != tt.outcome || !strings.Contains(c.Reason, tt.contains) {
				t.Errorf("%+v; want %s (%s)", c, tt.outcome, tt.contains)
			}
			if passed := tt.outcome == eval.Pass || tt.outcome == eval.Skipped; got.Passed != passed || (got.Err() == nil) != passed {
				t.Errorf("passed %v, error %v", got.Passed, got.Err())
			}
			if _, err := json.Marshal(got); err != nil {
				t.Errorf("the result is not JSON: %v", err)
			}
		})
	}
}

func lower(r *eval.Report) { r.Metrics[0].HigherIsBetter = false }

// The p-values are sacreBLEU 2.6.0's.
func TestCompare(t *testing.T) {
	dir := t.TempDir()
	a, b := bible(t, dir, "moses-ylt-bbe"), bible(t, dir, "seq2seq-all-all")
	c, err := eval.Compare(t.Context(), a, b, eval.CompareOptions{Trials: 200, Margin: 1})
	if err != nil || len(c.Metrics) != 2 {
		t.Fatalf("%+v, %v", c, err)
	}
	bleu, chrf := c.Metrics[0], c.Metrics[1]
	if *bleu.BootstrapP != 204.0/1001 || !*bleu.NonInferior || bleu.CI[0] > 0 || bleu.CI[1] < 0 || len(bleu.Moved) != 10 {
		t.Errorf("bleu: %+v", bleu)
	}
	if *chrf.BootstrapP != 1.0/1001 || *chrf.NonInferior || chrf.CI[1] > 0 || *chrf.RandomP > 0.01 {
		t.Errorf("chrf: %+v", chrf)
	}
	same, err := eval.Compare(t.Context(), a, a, eval.CompareOptions{Trials: 10})
	if err != nil || !same.Metrics[0].Identical || *same.Metrics[0].BootstrapP != 1 {
		t.Errorf("a system and itself: %+v, %v", same, err)
	}
	b.Report.Data.Fingerprint = "sha256:other"
	var mismatch *eval.MismatchError
	if _, err := eval.Compare(t.Context(), a, b, eval.CompareOptions{}); !errors.As(err, &mismatch) {
		t.Errorf("other data: %v", err)
	}
}

// A rows file that was changed is not trusted.
func TestGatesCheckRows(t *testing.T) {
	dir := t.TempDir()
	before, after := bible(t, dir, "moses-ylt-bbe"), bible(t, dir, "seq2seq-all-all")
	if err := os.WriteFile(filepath.Join(dir, "moses-ylt-bbe.rows.jsonl"), []byte("{}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	gates := eval.Gates{Version: 1, Gates: []eval.Gate{{Metric: "chrf", MaxDrop: ptr(0.0), Confidence: ptr(0.95)}}}
	got := eval.Judge(gates, []eval.Evidence{after}, &before)
	if got.Passed || !strings.Contains(got.Checks[0].Reason, "another digest") {
		t.Errorf("%+v", got.Checks[0])
	}
}

func TestParseGatesRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "no gates": "version: 1", "no version": "gates: [{metric: a, min: 1}]", "unknown key": "version: 1\ngates: [{metric: a, mn: 1}]",
		"no bound": "version: 1\ngates: [{metric: a}]", "no metric": "version: 1\ngates: [{min: 1}]", "unsure drop": "version: 1\ngates: [{metric: a, max_drop: 1, confidence: 0.3}]", "no proof": "version: 1\ngates: [{metric: a, max_drop: 1, non_inferior: true}]",
		"negative drop": "version: 1\ngates: [{metric: a, max_drop: -1}]",
		"confidence 95": "version: 1\ngates: [{metric: a, min: 1, confidence: 95}]", "crossed": "version: 1\ngates: [{metric: a, min: 2, max: 1}]",
		"not a number": "version: 1\ngates: [{metric: a, min: .nan}]", "text": "version: 1\ngates: [{metric: a, min: many}]",
	} {
		if _, err := eval.ParseGates("g.yaml", []byte(text)); err == nil {
			t.Errorf("%s must be refused", name)
		}
	}
	g, err := eval.ParseGates("g.yaml", []byte("version: 1\ngates:\n  - {metric: bleu, slice: long, min: 30, max_drop: 0.5, confidence: 0.95, required: false}\n"))
	if err != nil || !g.NeedsBaseline() || *g.Gates[0].Min != 30 || *g.Gates[0].Required {
		t.Errorf("%+v, %v", g, err)
	}
}

func TestRender(t *testing.T) {
	gates := eval.Gates{Version: 1, Gates: []eval.Gate{{Metric: "a|b", Min: ptr(1.0)}, {Metric: "c", Min: ptr(1.0), Required: ptr(false)}}}
	r := eval.Judge(gates, []eval.Evidence{{Path: "r.json"}}, nil)
	x, err := r.JUnit()
	if err != nil || !strings.Contains(string(x), `failures="1"`) || !strings.Contains(string(x), `skipped="1"`) {
		t.Errorf("%s, %v", x, err)
	}
	if a := r.Annotations(); a != "::error title=gate a|b min 1::fail: the report has no such metric\n"+
		"::notice title=gate c min 1::skipped: the report has no such metric, and it is not required\n" {
		t.Errorf("%s", a)
	}
	if m := r.Markdown(); !strings.Contains(m, `a\|b`) || !strings.Contains(m, "did not pass") {
		t.Errorf("%s", m)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("version: 1\ngates: [{metric: bleu, min: 1}]", `{"schema":1,"kind":"evaluation"}`, `{"schema":1,"kind":"rows","metrics":[]}`)
	f.Add("version: 1\nmetrics: [bleu]\ndata: x.jsonl", `{}`, "{\"schema\":1,\"kind\":\"rows\",\"metrics\":[{\"name\":\"wer\",\"spec\":\"wer\",\"columns\":[\"value\"]}]}\n{\"id\":\"1\",\"stats\":{\"wer\":[1]}}")
	f.Fuzz(func(t *testing.T, yaml, report, rows string) {
		_, _ = eval.ParseGates("g", []byte(yaml))
		_, _ = eval.ParseSuite("s", []byte(yaml))
		_, _ = eval.ParseReport("r", []byte(report))
		_, _ = eval.ParseRows("w", strings.NewReader(rows))
		_, _ = eval.ParseMetric(yaml)
		_, _ = eval.ParseRule([]byte(report))
	})
}
