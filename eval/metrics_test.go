package eval_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/evaltest"
)

// grounded scores one output against a source and passages; the values are counted by hand.
func TestGroundedMetrics(t *testing.T) {
	tests := map[string]struct {
		spec, source, output string
		passages             []string
		want                 float64
	}{
		"a copy is not new":           {spec: "novelty:n=1", source: "The cat sat.", output: "the cat", want: 0},
		"half is new":                 {spec: "novelty:n=1", source: "the cat sat", output: "the dog", want: 50},
		"passages count":              {spec: "novelty:n=1", source: "x", output: "the dog", passages: []string{"the", "dog"}, want: 0},
		"numbers, however written":    {spec: "number_support", source: "1,000 of 3.5", output: "1000 and 3.5 and 7", want: 200.0 / 3},
		"no numbers":                  {spec: "number_support", source: "none", output: "none", want: 100},
		"a name of two words":         {spec: "span_support", source: "we met Ada Lovelace", output: "Then Ada Lovelace met Alan Turing.", want: 50},
		"the first word is no name":   {spec: "span_support", source: "x", output: "Then it rained. So it did.", want: 100},
		"a comma parts names":         {spec: "span_support", source: "Ada and Alan", output: "they were Ada, Alan, Eve", want: 200.0 / 3},
		"words out over words wanted": {spec: "length_ratio", source: "x", output: "a b c", want: 150},
		"METEOR of equal texts":       {spec: "meteor", source: "x", output: "two words", want: 100 * (1 - 0.5/8)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			none := eval.Bootstrap{}
			r := eval.Runner{Suite: eval.Suite{Metrics: []string{tt.spec}, Bootstrap: &none}}
			report, err := r.Score(context.Background(), func(yield func(eval.Answered, error) bool) {
				yield(eval.Answered{Pair: eval.Pair{Input: tt.source, Passages: tt.passages, References: []string{"two words"}}, Output: tt.output}, nil)
			})
			if err != nil || !evaltest.Near(float64(report.Metrics[0].Score), tt.want, 1e-14) {
				t.Errorf("%+v, %v; want %v", report.Metrics, err, tt.want)
			}
		})
	}
}

func TestJSONMetrics(t *testing.T) {
	schema := write(t, t.TempDir(), "schema.json", `{"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}`)
	outputs := []string{`{"a": 1, "b": "x"}`, `{"a": "1"}`, `not json`, `{"a": 1} {}`}
	refs := [][]string{{`{"a": 1.0, "b": "y"}`}, {`{"a": 1}`, `{"a": "1", "c": {"d": [1, 2]}}`}, {`{"a": 1}`}, {`{}`}}
	for spec, want := range map[string]float64{
		"json_valid":                  50,
		"json_valid:schema=" + schema: 25,
		"json_field_accuracy":         100 * 2.0 / 6, // a of a and b; a of three, in the second reference; none of one; none of none
		"json_field_recall":           100 * 3.0 / 4,
	} {
		r := score(t, []string{spec}, outputs, refs...)[0]
		if !evaltest.Near(float64(r.Score), want, 1e-14) {
			t.Errorf("%s: %+v; want %v", spec, r, want)
		}
	}
	if r := score(t, []string{"json_field_recall"}, []string{"{}"}, []string{"no JSON"})[0]; r.Verdict != eval.VerdictUndefined {
		t.Errorf("a reference that is no JSON: %+v", r)
	}
	s := eval.Suite{Metrics: []string{"json_valid:schema=" + filepath.Join(t.TempDir(), "nothing")}}
	if _, err := (eval.Runner{Suite: s}).Score(context.Background(), answered([]string{"{}"}, []string{"{}"})); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no schema: %v", err)
	}
}

func TestLabelScores(t *testing.T) {
	outputs, refs := []string{"a", "b", "b", "x", "c"}, [][]string{{"a"}, {"b"}, {"c"}, {"c"}, {"c"}}
	for spec, want := range map[string]float64{
		"precision:labels=a|b|c,label=b": 50, "recall:labels=a|b|c,label=c": 100.0 / 3, "f1:labels=a|b|c,label=a": 100,
		"macro_recall:labels=a|b|c": 100 * (1 + 1 + 1.0/3) / 3, "micro_precision:labels=a|b|c": 75, "weighted_recall:labels=a|b|c": 60,
		"balanced_accuracy:labels=a|b|c": 100 * (1 + 1 + 1.0/3) / 3, "accuracy:labels=a|b|c": 60,
	} {
		if r := score(t, []string{spec}, outputs, refs...)[0]; !evaltest.Near(float64(r.Score), want, 1e-14) {
			t.Errorf("%s: %+v; want %v", spec, r, want)
		}
	}
	var value *eval.OptionValueError
	if _, err := eval.ParseMetric("f1:labels=a|b,label=z"); !errors.As(err, &value) {
		t.Errorf("a label that is none: %v", err)
	}
}

func TestExec(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs sh")
	}
	dir := t.TempDir()
	check := write(t, dir, "check.sh", `while read -r line; do case "$line" in *good*) echo true;; *none*) echo null;; *) echo 0.5;; esac; done`)
	fail := write(t, dir, "fail.sh", "echo 'no compiler' >&2; exit 3")
	run := func(spec string, allow bool, outputs ...string) (eval.Result, error) {
		none := eval.Bootstrap{}
		refs := make([][]string, len(outputs))
		for i := range refs {
			refs[i] = []string{"r"}
		}
		report, err := eval.Runner{Suite: eval.Suite{Metrics: []string{spec}, Bootstrap: &none}, AllowExec: allow}.Score(context.Background(), answered(outputs, refs...))
		if err != nil {
			return eval.Result{}, err
		}
		return report.Metrics[0], nil
	}
	if r, err := run("exec:sh "+check+",as=ok,percent=yes", true, "good", "bad"); err != nil || r.Score != 75 || r.Name != "ok" || !r.HigherIsBetter {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := run("exec:sh "+check, true, "good", "none"); err != nil || r.Verdict != eval.VerdictUndefined {
		t.Errorf("a row that cannot be scored: %+v, %v", r, err)
	}
	var refused *eval.ExecRefusedError
	if _, err := run("exec:sh "+check, false, "good"); !errors.As(err, &refused) {
		t.Errorf("not allowed: %v", err)
	}
	var failed *eval.ExecError
	for _, command := range []string{"sh " + fail, "echo 1 2 3", "echo \"x\"", "true", filepath.Join(dir, "nothing")} {
		if _, err := run("exec:"+command, true, "good"); !errors.As(err, &failed) {
			t.Errorf("%s: %v", command, err)
		}
	}
	if _, err := run("exec:sh "+fail, true, "good"); err == nil || !strings.Contains(err.Error(), "no compiler") {
		t.Errorf("what the program says: %v", err)
	}
}

// likely is a model that gives each byte of a target half a bit.
type likely struct{ echo }

func (likely) ScoreTargets(_ context.Context, _, targets []string) ([]eval.TargetScore, error) {
	out := make([]eval.TargetScore, len(targets))
	for i, s := range targets {
		out[i] = eval.TargetScore{LogProb: -float64(len(s)) * math.Ln2 / 2, Tokens: len(s)}
	}
	return out, nil
}

func (likely) PredictDetailed(_ context.Context, sources []string) ([]eval.Prediction, error) {
	out := make([]eval.Prediction, len(sources))
	for i := range out {
		out[i] = eval.Prediction{Text: "x", Seconds: 0.2, Share: 0.1}
	}
	return out, nil
}

func TestModelMetrics(t *testing.T) {
	s := eval.Suite{Metrics: []string{"bits_per_byte", "perplexity", "latency", "cost:per_hour=3.6"}, Bootstrap: &eval.Bootstrap{Samples: 20, Seed: 1, Confidence: 0.95}}
	report, err := eval.Run(t.Context(), &likely{}, pairs(10), s)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float64{0.5, math.Sqrt2, 200, 0.1} {
		if r := report.Metrics[i]; !evaltest.Near(float64(r.Score), want, 1e-12) || r.HigherIsBetter || r.CI == nil {
			t.Errorf("%+v; want %v", r, want)
		}
	}
	report, err = eval.Run(t.Context(), &echo{}, pairs(10), s)
	if err != nil || report.Metrics[0].Verdict != eval.VerdictUndefined || report.Metrics[2].Verdict != eval.VerdictUndefined {
		t.Errorf("a model that cannot tell: %+v, %v", report.Metrics, err)
	}
	if !s.Timed() || suite().Timed() {
		t.Error("who needs the time")
	}
}

// A run that goes on gives the report of one that was not interrupted, and asks for the rest only.
func TestRunGoesOn(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "p.jsonl")
	s := suite()
	once := func(earlier iter.Seq2[eval.Recorded, error], p eval.Predictor) (eval.Report, string, error) {
		var b strings.Builder
		report, err := eval.Runner{Suite: s, Predictions: &b, Chunk: 7, Earlier: earlier}.Run(t.Context(), p, pairs(40))
		return report, b.String(), err
	}
	want, all, err := once(nil, &fixed{})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(all, "\n")
	if err := os.WriteFile(path, []byte(strings.Join(lines[:17], "")+lines[17][:9]), 0o644); err != nil {
		t.Fatal(err)
	}
	recorded, size, err := eval.ReadPredictions(path)
	if err != nil || len(recorded) != 17 || int(size) != len(strings.Join(lines[:17], "")) {
		t.Fatalf("%d lines, %d bytes, %v", len(recorded), size, err)
	}
	earlier := func(yield func(eval.Recorded, error) bool) {
		for _, r := range recorded {
			if !yield(r, nil) {
				return
			}
		}
	}
	rest := &fixed{}
	got, written, err := once(earlier, rest)
	if err != nil || written != strings.Join(lines[17:], "") || rest.rows != 23 {
		t.Fatalf("%d rows asked, %v, wrote %q", rest.rows, err, written)
	}
	for i, m := range want.Metrics {
		if g := got.Metrics[i]; g.Score != m.Score && g.Score.Defined() {
			t.Errorf("%s: %v; want %v", m.Name, g.Score, m.Score)
		}
	}
	var changed *eval.ResumeError
	s.Prefix = ""
	other := func(yield func(eval.Pair, error) bool) {
		yield(eval.Pair{Input: "another row", Target: "x"}, nil)
	}
	if _, err := (eval.Runner{Suite: s, Earlier: earlier}).Run(t.Context(), rest, other); !errors.As(err, &changed) || changed.Row != 1 {
		t.Errorf("other data: %v", err)
	}
}

// fixed answers alike however rows come together.
type fixed struct{ rows int }

func (f *fixed) Predict(_ context.Context, sources []string) ([]string, error) {
	f.rows += len(sources)
	var out []string
	for _, s := range sources {
		out = append(out, strings.TrimPrefix(s, "say: "))
	}
	return out, nil
}

func TestSlices(t *testing.T) {
	common := write(t, t.TempDir(), "common.txt", "the\nend\nof\nrow\n")
	s := eval.Suite{Metrics: []string{"exact_match"}, Bootstrap: &eval.Bootstrap{}, Slices: []eval.Slice{
		{Name: "tagged", Tag: "news"}, {Name: "digits", Numbers: true}, {Name: "rare", Common: common, MinRare: 2},
	}}
	rows := []eval.Pair{{Input: "the end", Tags: []string{"news", "x"}}, {Input: "row 7 zebra", Target: "row 7 zebra"}, {Input: "the Zebra's end, of quagga!"}}
	report, err := eval.Run(t.Context(), &fixed{}, func(yield func(eval.Pair, error) bool) {
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
	}, s)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"tagged": 1, "digits": 1, "rare": 2} {
		if r := report.Find("exact_match", name); len(r) != 1 || r[0].N != want {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for _, bad := range []eval.Slice{{Name: "a", MinRare: 1}, {Name: "a", Common: "x"}} {
		if (eval.Suite{Slices: []eval.Slice{bad}}).Validate() == nil {
			t.Errorf("%+v must be refused", bad)
		}
	}
}

func TestSafetyMetrics(t *testing.T) {
	words := write(t, t.TempDir(), "words.txt", "# a comment\nbad\nvery rude\n")
	outputs := []string{"ＢＡＤ!", "very, rude", "badly", "mail bob@example.com"}
	refs := [][]string{{"bad"}, {"x"}, {"x"}, {"x"}}
	for spec, want := range map[string]float64{"tripwire:words=" + words: 50, "tripwire_excess:words=" + words: 25, "pii": 25} {
		if r := score(t, []string{spec}, outputs, refs...)[0]; float64(r.Score) != want || r.HigherIsBetter {
			t.Errorf("%s: %+v; want %v", spec, r, want)
		}
	}
	if r := score(t, []string{"probe"}, outputs, refs...)[0]; r.Verdict != eval.VerdictUndefined {
		t.Errorf("rows without a rule: %+v", r)
	}
}

// The figures are those of T5's metrics for MultiRC, F1 over answers and exact match over questions.
func TestVectorsMultiRC(t *testing.T) {
	type value struct{ Value, Group int }
	type line struct {
		Kind        string
		Targets     json.RawMessage
		Predictions json.RawMessage
		F1          json.RawMessage
		ExactMatch  float64 `json:"exact_match"`
	}
	n := evaltest.Count{File: "labels.jsonl (multirc)"}
	evaltest.JSON(t, "metrics", "labels.jsonl", func(l line) {
		if l.Kind != "multirc" {
			return
		}
		var targets, predictions []value
		var f1 float64
		for raw, into := range map[*json.RawMessage]any{&l.Targets: &targets, &l.Predictions: &predictions, &l.F1: &f1} {
			if err := json.Unmarshal(*raw, into); err != nil {
				t.Fatal(err)
			}
		}
		report, err := eval.Runner{Suite: eval.Suite{Metrics: []string{"f1:labels=0|1", "group_exact_match"}, Bootstrap: &eval.Bootstrap{}}}.Score(
			context.Background(), func(yield func(eval.Answered, error) bool) {
				for i, x := range targets {
					p := eval.Pair{Group: fmt.Sprint(x.Group), References: []string{fmt.Sprint(x.Value)}}
					if !yield(eval.Answered{Pair: p, Output: fmt.Sprint(predictions[i].Value)}, nil) {
						return
					}
				}
			})
		if err != nil {
			t.Fatal(err)
		}
		got := [2]float64{float64(report.Metrics[0].Score), float64(report.Metrics[1].Score)}
		n.Check(t, evaltest.Near(got[0], f1, 1e-14) && evaltest.Near(got[1], l.ExactMatch, 1e-14), "%v; want %v and %v", got, f1, l.ExactMatch)
	})
	n.Done(t)
}

func TestGroups(t *testing.T) {
	rows := []eval.Answered{
		{Pair: eval.Pair{Group: "a", References: []string{"x y"}}, Output: "x"}, {Pair: eval.Pair{Group: "a", References: []string{"x"}}, Output: "x"},
		{Pair: eval.Pair{Group: "b", References: []string{"z", "the Z!"}}, Output: "z"},
	}
	report, err := eval.Runner{Suite: eval.Suite{Metrics: []string{"record_em", "record_f1", "group_exact_match"}, Bootstrap: &eval.Bootstrap{}}}.Score(
		context.Background(), func(yield func(eval.Answered, error) bool) {
			for _, r := range rows {
				if !yield(r, nil) {
					return
				}
			}
		})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float64{50, 100 * (2.0/3 + 1) / 2, 50} {
		if r := report.Metrics[i]; !evaltest.Near(float64(r.Score), want, 1e-14) {
			t.Errorf("%+v; want %v", r, want)
		}
	}
	if r := score(t, []string{"group_exact_match"}, []string{"x"}, []string{"x"})[0]; r.Verdict != eval.VerdictUndefined {
		t.Errorf("rows without a group: %+v", r)
	}
	// no answer is right where none is wanted, in version 2 of SQuAD alone
	two := score(t, []string{"squad_f1", "squad_v2_f1", "squad_v2_em"}, []string{"", "the", "x"}, []string{""}, []string{"y"}, []string{""})
	for i, want := range []float64{0, 100.0 / 3, 100.0 / 3} {
		if !evaltest.Near(float64(two[i].Score), want, 1e-14) {
			t.Errorf("%+v; want %v", two[i], want)
		}
	}
}

// BLEU on the pieces of T5's own SentencePiece model; the score is sacreBLEU 2.6.0's for the same pieces
// joined by spaces, with tokenize="none".
func TestBLEUOnPieces(t *testing.T) {
	packed, err := os.Open(filepath.Join("..", "internal", "vocab", "testdata", "t5-spiece.model.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = packed.Close() }()
	z, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	model := write(t, t.TempDir(), "spiece.model", string(data))
	outputs := []string{"The cat sat on the unbelievable mat.", "He  walked home quickly"}
	refs := [][]string{{"The cats sat on an unbelievable mat."}, {"He walked home very quickly", "He ran home quickly"}}
	r := score(t, []string{"bleu:tokenize=spm,model=" + model, "bleu:tokenize=flores200,as=flores,model=" + model}, outputs, refs...)
	if float64(r[0].Score) != 49.616830003403614 || r[0].Score != r[1].Score {
		t.Errorf("%v", r[0].Score)
	}
	if !strings.Contains(r[0].Signature, "|tok:spm|") || !strings.Contains(r[0].Signature, "|model:") || !strings.Contains(r[1].Signature, "|tok:flores200|") {
		t.Errorf("%s, %s", r[0].Signature, r[1].Signature)
	}
	for _, spec := range []string{"bleu:tokenize=spm", "bleu:model=" + model} {
		var value *eval.OptionValueError
		if _, err := eval.ParseMetric(spec); !errors.As(err, &value) {
			t.Errorf("%s: %v", spec, err)
		}
	}
	missing := eval.Suite{Metrics: []string{"bleu:tokenize=spm,model=" + filepath.Join(t.TempDir(), "nothing")}}
	if _, err := (eval.Runner{Suite: missing}).Score(context.Background(), answered(outputs, refs...)); err == nil {
		t.Error("a model that is not there must be refused")
	}
}
