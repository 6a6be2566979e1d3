package rouge_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/eval/evaltest"
	"github.com/t5ctl/t5ctl/eval/rouge"
)

type rougeLine struct {
	Kind, ID, Target, Prediction string
	Targets                      []string
	Plain, Stem                  map[string][3]float64
	TokensTarget                 []string `json:"tokens_target"`
	StemsTarget                  []string `json:"stems_target"`
	Seed                         uint32
	Samples                      int `json:"n_samples"`
	Confidence                   float64
	Types                        []string
	UseStemmer                   bool `json:"use_stemmer"`
	T5Newlines                   bool `json:"t5_newlines"`
	Pairs                        [][2]string
	Result                       map[string]struct{ Low, Mid, High [3]float64 }
	T5Rouge                      map[string]float64 `json:"t5_rouge"`
	T5RougeMean                  map[string]float64 `json:"t5_rouge_mean"`
}

func array(t rouge.Triple) [3]float64 { return [3]float64{t.Precision, t.Recall, t.F} }

func typeOf(t *testing.T, name string) rouge.Type {
	t.Helper()
	typ, err := rouge.ParseType(name)
	if err != nil {
		t.Fatal(err)
	}
	return typ
}

// The scores are rouge-score 0.1.2's with nltk 3.10.4, bit for bit.
func TestVectorsROUGE(t *testing.T) {
	n := evaltest.Count{File: "rouge.jsonl"}
	counters := map[bool]*rouge.Counter{false: rouge.NewCounter(false), true: rouge.NewCounter(true)}
	evaltest.JSON(t, "metrics", "rouge.jsonl", func(l rougeLine) {
		if l.Kind == "aggregate" {
			aggregate(t, &n, counters[l.UseStemmer], l)
			return
		}
		targets := l.Targets
		if l.Kind == "pair" {
			targets = []string{l.Target}
			for stem, want := range map[bool][]string{false: l.TokensTarget, true: l.StemsTarget} {
				got := rouge.Tokens(l.Target, stem)
				n.Check(t, slices.Equal(got[:min(60, len(got))], want), "Tokens(%q, %v) = %q; want %q", l.Target, stem, got, want)
			}
		}
		for stem, scores := range map[bool]map[string][3]float64{false: l.Plain, true: l.Stem} {
			for name, want := range scores {
				got := array(counters[stem].Score(typeOf(t, name), l.Prediction, targets))
				n.Check(t, got == want, "%s, stem %v, %q against %q: %v; want %v", name, stem, l.Prediction, targets, got, want)
			}
		}
	})
	n.Done(t)
}

func aggregate(t *testing.T, n *evaltest.Count, c *rouge.Counter, l rougeLine) {
	t.Helper()
	all := make([][]rouge.Triple, len(l.Types))
	for _, p := range l.Pairs {
		target, pred := p[0], p[1]
		if l.T5Newlines {
			target, pred = strings.ReplaceAll(target, " . ", " .\n"), strings.ReplaceAll(pred, " . ", " .\n")
		}
		for i, name := range l.Types {
			all[i] = append(all[i], c.Score(typeOf(t, name), pred, []string{target}))
		}
	}
	for i, got := range rouge.Aggregate(all, l.Samples, l.Confidence, l.Seed) {
		name := l.Types[i]
		want := l.Result[name]
		n.Check(t, array(got.Low) == want.Low && array(got.Mid) == want.Mid && array(got.High) == want.High, "%s %s: %v; want %v", l.ID, name, got, want)
		n.Check(t, got.Mid.F*100 == l.T5Rouge[name], "%s %s: mid %v; want %v", l.ID, name, got.Mid.F*100, l.T5Rouge[name])
		sum := 0.0
		for _, s := range all[i] {
			sum += s.F
		}
		mean := sum / float64(len(all[i])) * 100
		n.Check(t, mean == l.T5RougeMean[name], "%s %s: mean %v; want %v", l.ID, name, mean, l.T5RougeMean[name])
	}
}

func TestVectorsPorter(t *testing.T) {
	n := evaltest.Count{File: "porter.tsv"}
	evaltest.Lines(t, "metrics", "porter.tsv", func(line []byte) {
		word, want, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), "\t")
		n.Check(t, rouge.Stem(word) == want, "Stem(%q) = %q; want %q", word, rouge.Stem(word), want)
	})
	n.Done(t)
}

// T5's own test of 1,000 pairs, with the figures that its repository publishes for the resampled
// median and those of rouge-score for the plain mean.
func TestVectorsT5(t *testing.T) {
	n := evaltest.Count{File: "t5_rouge_large.json"}
	var all strings.Builder
	evaltest.Lines(t, "metrics", "t5_rouge_large.json", func(line []byte) { all.Write(line) })
	var v struct {
		Targets, Predictions []string
		Mean                 map[string]float64 `json:"t5_rouge_mean"`
		Bootstrap            map[string]float64 `json:"expected_bootstrap"`
	}
	if err := json.Unmarshal([]byte(all.String()), &v); err != nil {
		t.Fatal(err)
	}
	c := rouge.NewCounter(false)
	for name, want := range v.Mean {
		sum := 0.0
		for i := range v.Targets {
			pred := strings.ReplaceAll(v.Predictions[i], " . ", " .\n")
			sum += c.Score(typeOf(t, name), pred, []string{strings.ReplaceAll(v.Targets[i], " . ", " .\n")}).F
		}
		got := sum / float64(len(v.Targets)) * 100
		n.Check(t, got == want, "%s: %v; want %v", name, got, want)
		if b := v.Bootstrap[name]; got-b > 0.2 || b-got > 0.2 {
			t.Errorf("%s: mean %v is far from the published median %v", name, got, b)
		}
	}
	n.Done(t)
}

func TestParseTypeRefuses(t *testing.T) {
	for _, name := range []string{"rouge0", "rouge", "rouge10", "rougel", "ROUGE1"} {
		if _, err := rouge.ParseType(name); err == nil {
			t.Errorf("ParseType(%q) must refuse", name)
		}
	}
}

func FuzzScore(f *testing.F) {
	f.Add("the cat sat", "the cat\nsat down")
	f.Fuzz(func(t *testing.T, pred, target string) {
		c := rouge.NewCounter(true)
		for _, typ := range []rouge.Type{1, 2, 9, rouge.L, rouge.Lsum} {
			s := c.Score(typ, pred, []string{target, ""})
			if s.F < 0 || s.F > 1 || s.Precision > 1 || s.Recall > 1 {
				t.Errorf("%d: %v", typ, s)
			}
		}
	})
}
