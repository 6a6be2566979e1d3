package eval_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/evaltest"
)

func answered(outputs []string, refs ...[]string) iter.Seq2[eval.Answered, error] {
	return func(yield func(eval.Answered, error) bool) {
		for i, o := range outputs {
			if !yield(eval.Answered{Pair: eval.Pair{ID: fmt.Sprint(i), Input: fmt.Sprintf("input %d", i), References: refs[i]}, Output: o}, nil) {
				return
			}
		}
	}
}

func score(t *testing.T, specs []string, outputs []string, refs ...[]string) []eval.Result {
	t.Helper()
	none := eval.Bootstrap{}
	r := eval.Runner{Suite: eval.Suite{Metrics: specs, Bootstrap: &none}}
	report, err := r.Score(context.Background(), answered(outputs, refs...))
	if err != nil {
		t.Fatal(err)
	}
	return report.Metrics
}

func TestMetrics(t *testing.T) {
	outputs := []string{"AH0 B AW1 T", "K AE1 T", "", "D  AO1 G"}
	refs := [][]string{{"AH0 B AW1 T", "AH0 B AW2 T"}, {"K AE0 T"}, {"X"}, {"D AO0 G", "D AO1 G"}}
	tests := map[string]struct {
		want      float64
		signature string
	}{
		"wer":                    {50, "nrefs:var|match:any|version:t5ctl-1"},
		"per":                    {100 * 2.0 / 11, "nrefs:var|unit:word|ref:nearest|version:t5ctl-1"},
		"exact_match":            {25, "nrefs:var|strip:no|version:t5ctl-1"},
		"empty_outputs":          {25, "nrefs:var|version:t5ctl-1"},
		"output_words":           {10.0 / 4, "nrefs:var|version:t5ctl-1"},
		"bleu:tokenize=none":     {math.NaN(), "nrefs:var|case:mixed|eff:no|tok:none|smooth:exp|version:2.6.0"},
		"chrf++":                 {math.NaN(), "nrefs:var|case:mixed|eff:yes|nc:6|nw:2|space:no|version:2.6.0"},
		"rougeL:stem=true":       {math.NaN(), "nrefs:var|stem:yes|part:f|agg:mean|version:rouge-score-0.1.2"},
		"bleu:max_ngram_order=2": {math.NaN(), "nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|order:2|version:2.6.0"},
	}
	for spec, tt := range tests {
		t.Run(spec, func(t *testing.T) {
			r := score(t, []string{spec}, outputs, refs...)[0]
			if !math.IsNaN(tt.want) && !evaltest.Near(float64(r.Score), tt.want, 1e-15) {
				t.Errorf("score %v; want %v", r.Score, tt.want)
			}
			if r.Signature != tt.signature || r.N != 4 || r.Verdict != eval.VerdictOK || r.Spec != spec {
				t.Errorf("got %+v; want signature %s", r, tt.signature)
			}
		})
	}
}

func TestLabelMetrics(t *testing.T) {
	outputs, refs := []string{"yes", "no", "yes ", "maybe"}, [][]string{{"yes"}, {"no"}, {"no"}, {"yes"}}
	for spec, want := range map[string]float64{"accuracy": 50, "f1:labels=no|yes": 50, "squad_em": 50} {
		if r := score(t, []string{spec}, outputs, refs...)[0]; float64(r.Score) != want || r.Verdict != eval.VerdictOK {
			t.Errorf("%s: %+v; want %v", spec, r, want)
		}
	}
	numbers := score(t, []string{"pearson", "spearman"}, []string{"1", "2.0", "30"}, []string{"1"}, []string{"2"}, []string{"3"})
	if !evaltest.Near(float64(numbers[1].Score), 100, 1e-12) || numbers[0].Score >= 99 {
		t.Errorf("%+v", numbers)
	}
	if r := score(t, []string{"pearson"}, []string{"2", "2"}, []string{"1"}, []string{"2"})[0]; r.Verdict != eval.VerdictUndefined {
		t.Errorf("a constant has no correlation: %+v", r)
	}
	if r := score(t, []string{"mcc:labels=a|b"}, outputs, refs...)[0]; r.Verdict != eval.VerdictUndefined {
		t.Errorf("targets that are no labels: %+v", r)
	}
}

func TestParseMetricRefuses(t *testing.T) {
	var unknown *eval.UnknownMetricError
	if _, err := eval.ParseMetric("blue"); !errors.As(err, &unknown) || unknown.Nearest != "bleu" {
		t.Errorf("blue: %v", err)
	}
	var option *eval.UnknownOptionError
	if _, err := eval.ParseMetric("bleu:tokenise=13a"); !errors.As(err, &option) || option.Nearest != "tokenize" {
		t.Errorf("tokenise: %v", err)
	}
	var value *eval.OptionValueError
	for _, spec := range []string{"bleu:tokenize=mecab", "bleu:smooth=laplace", "chrf:beta=x", "chrf:beta=0", "rouge1:stem=maybe",
		"bleu:lowercase=1,lowercase=0", "bleu:smooth=exp,smooth_method=exp", "rouge1:part=g", "repetition:n=0", "mcc", "f1:labels=one"} {
		if _, err := eval.ParseMetric(spec); !errors.As(err, &value) {
			t.Errorf("%s: %v", spec, err)
		}
	}
	var twice *eval.DuplicateMetricError
	if _, err := eval.ParseMetrics([]string{"bleu", "bleu:tokenize=intl"}); !errors.As(err, &twice) {
		t.Errorf("two metrics of one name: %v", err)
	}
	if ms, err := eval.ParseMetrics([]string{"bleu", "bleu:as=bleu_intl,tokenize=intl"}); err != nil || ms[1].Name != "bleu_intl" || ms[1].Spec != "bleu:tokenize=intl" {
		t.Errorf("as=: %v", err)
	}
}

// echo answers with the source, and says that every third output was cut.
type echo struct{ calls int }

func (e *echo) Predict(ctx context.Context, sources []string) ([]string, error) {
	return nil, errors.New("the detailed form is there")
}

func (e *echo) PredictDetailed(_ context.Context, sources []string) ([]eval.Prediction, error) {
	e.calls++
	var out []eval.Prediction
	for i, s := range sources {
		out = append(out, eval.Prediction{Text: strings.TrimPrefix(s, "say: "), AtLimit: i%3 == 0})
	}
	return out, nil
}

func pairs(n int) iter.Seq2[eval.Pair, error] {
	return func(yield func(eval.Pair, error) bool) {
		for i := range n {
			text := strings.Repeat("word ", i%7) + fmt.Sprint("the end of row ", i)
			if !yield(eval.Pair{Input: text, Target: strings.Replace(text, "end", []string{"end", "start"}[i%2], 1)}, nil) {
				return
			}
		}
	}
}

func suite() eval.Suite {
	return eval.Suite{
		Name: "echo", Prefix: "say: ", Metrics: []string{"bleu", "chrf", "exact_match", "length_limit", "rouge2"},
		Slices:    []eval.Slice{{Name: "short", MaxWords: 7}, {Name: "long", MinWords: 8}, {Name: "nobody", Matches: "zebra"}},
		Bootstrap: &eval.Bootstrap{Samples: 100, Seed: 1, Confidence: 0.95},
	}
}

func run(t *testing.T, dir string) eval.Evidence {
	t.Helper()
	var rows, predictions bytes.Buffer
	r := eval.Runner{Suite: suite(), Rows: &rows, Predictions: &predictions, Chunk: 30}
	report, err := r.Run(context.Background(), &echo{}, pairs(100))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(predictions.Bytes(), []byte("\n")); n != 100 {
		t.Errorf("%d predictions", n)
	}
	if bytes.Contains(rows.Bytes(), []byte("the end")) {
		t.Error("the rows file holds texts")
	}
	report.Rows.Path = "rows.jsonl"
	if err := os.WriteFile(filepath.Join(dir, "rows.jsonl"), rows.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "report.json")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := report.Encode(f); err != nil {
		t.Fatal(err)
	}
	e, err := eval.ReadEvidence(path)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestRun(t *testing.T) {
	e := run(t, t.TempDir())
	one := func(metric, slice string) eval.Result {
		t.Helper()
		found := e.Report.Find(metric, slice)
		if len(found) != 1 {
			t.Fatalf("%d results %s (%s)", len(found), metric, slice)
		}
		return found[0]
	}
	if r := one("exact_match", ""); r.Score != 50 || r.N != 100 || r.CI == nil || r.CI[0] >= 50 || r.CI[1] <= 50 {
		t.Errorf("exact match: %+v", r)
	}
	if r := one("length_limit", ""); r.Score != 34 && r.Score != 40 {
		t.Errorf("length limit: %+v", r)
	}
	if s, l := one("bleu", "short"), one("bleu", "long"); s.N+l.N != 100 || s.Score >= l.Score {
		t.Errorf("slices: %+v %+v", s, l)
	}
	if r := one("bleu", "nobody"); r.Verdict != eval.VerdictUndefined || r.Score.Defined() {
		t.Errorf("an empty slice: %+v", r)
	}
	if r := one("bleu_gap", ""); r.Verdict != eval.VerdictUndefined {
		t.Errorf("the gap with an empty slice: %+v", r)
	}
	if !strings.HasPrefix(e.Report.Data.Fingerprint, "sha256:") || e.Report.Data.N != 100 {
		t.Errorf("data: %+v", e.Report.Data)
	}
}

// The report does not depend on the number of processors or on how rows come together.
func TestRunIsDeterministic(t *testing.T) {
	encode := func(procs, chunk int) string {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
		s := suite()
		s.Metrics = slices.DeleteFunc(s.Metrics, func(m string) bool { return m == "length_limit" })
		report, err := eval.Runner{Suite: s, Chunk: chunk}.Run(context.Background(), &echo{}, pairs(100))
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(report)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	want := encode(1, 100)
	for _, procs := range []int{2, 7} {
		if got := encode(procs, 13*procs); got != want {
			t.Errorf("GOMAXPROCS %d: %s\nwant %s", procs, got, want)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	ctx := context.Background()
	if _, err := eval.Run(ctx, &echo{}, pairs(3), eval.Suite{Metrics: []string{"nothing"}}); err == nil {
		t.Error("an unknown metric must be refused")
	}
	bad := func(yield func(eval.Pair, error) bool) { yield(eval.Pair{}, errors.New("row 1 is bad")) }
	if _, err := eval.Run(ctx, &echo{}, bad, suite()); err == nil {
		t.Error("a bad row must be refused")
	}
	var task *eval.UnknownTaskError
	two := suite()
	two.Tasks = []eval.Task{{Name: "a"}, {Name: "b"}}
	if _, err := eval.Run(ctx, &echo{}, pairs(3), two); !errors.As(err, &task) {
		t.Errorf("a row of no task: %v", err)
	}
}

func TestReadRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"not JSON": "{", "no schema": "{}", "another schema": `{"schema": 99}`, "unknown key": `{"schema": 1, "kind": "evaluation", "nonsense": 2}`,
		"no kind":    `{"schema": 1}`,
		"two values": `{"schema": 1, "kind": "evaluation"} {}`,
	} {
		var e *eval.ReportError
		if _, err := eval.ParseReport("r.json", []byte(text)); !errors.As(err, &e) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
