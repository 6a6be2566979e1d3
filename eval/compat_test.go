package eval_test

import (
	"context"
	"testing"

	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/evaltest"
)

// With compat, ROUGE is what rouge-score 0.1.2's BootstrapAggregator gives for the same seed, in the
// order of the metrics.
func TestVectorsCompatROUGE(t *testing.T) {
	type interval struct{ Low, Mid, High [3]float64 }
	type line struct {
		Kind       string
		Seed       uint64
		Samples    int `json:"n_samples"`
		Confidence float64
		Types      []string
		UseStemmer bool `json:"use_stemmer"`
		T5Newlines bool `json:"t5_newlines"`
		Pairs      [][2]string
		Result     map[string]interval
	}
	n := evaltest.Count{File: "rouge.jsonl (compat)"}
	evaltest.JSON(t, "metrics", "rouge.jsonl", func(l line) {
		if l.Kind != "aggregate" {
			return
		}
		s := eval.Suite{Bootstrap: &eval.Bootstrap{Samples: l.Samples, Seed: l.Seed, Confidence: l.Confidence, Compat: eval.CompatROUGE}}
		for _, name := range l.Types {
			spec := name + ":stem=" + map[bool]string{true: "yes", false: "no"}[l.UseStemmer]
			if l.T5Newlines {
				spec += ",lines=t5"
			}
			s.Metrics = append(s.Metrics, spec)
		}
		var outputs []string
		var refs [][]string
		for _, p := range l.Pairs {
			outputs, refs = append(outputs, p[1]), append(refs, []string{p[0]})
		}
		report, err := eval.Runner{Suite: s}.Score(context.Background(), answered(outputs, refs...))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range report.Metrics {
			want := l.Result[r.Name]
			ok := float64(r.Score) == want.Mid[2]*100 && float64(r.CI[0]) == want.Low[2]*100 && float64(r.CI[1]) == want.High[2]*100
			n.Check(t, ok, "%s: %v in %v; want %+v", r.Name, r.Score, *r.CI, want)
		}
	})
	n.Done(t)
}

func TestCompatRefuses(t *testing.T) {
	for name, b := range map[string]eval.Bootstrap{
		"unknown":            {Samples: 10, Confidence: 0.95, Compat: "moses"},
		"no resamples":       {Compat: eval.CompatROUGE},
		"a wide seed":        {Samples: 10, Confidence: 0.95, Compat: eval.CompatROUGE, Seed: 1 << 32},
		"another confidence": {Samples: 10, Confidence: 0.9, Compat: eval.CompatSacreBLEU},
	} {
		if b.Validate() == nil {
			t.Errorf("%s must be refused: %+v", name, b)
		}
	}
}
