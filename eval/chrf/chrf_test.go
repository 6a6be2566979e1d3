package chrf_test

import (
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/eval/chrf"
	"github.com/t5ctl/t5ctl/eval/evaltest"
	"github.com/t5ctl/t5ctl/eval/signature"
)

func scorer(t *testing.T, o evaltest.Options) *chrf.CHRF {
	t.Helper()
	opts := chrf.Default()
	opts.WordOrder, opts.Lowercase, opts.Whitespace, opts.EpsSmoothing = o.WordOrder, o.Lowercase, o.Whitespace, o.EpsSmoothing
	if o.CharOrder > 0 {
		opts.CharOrder = o.CharOrder
	}
	if o.Beta > 0 {
		opts.Beta = o.Beta
	}
	c, err := chrf.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The scores are sacreBLEU 2.6.0's, bit for bit.
func TestVectorsCorpora(t *testing.T) {
	n := evaltest.Count{File: "corpora.jsonl (chrf)"}
	evaltest.JSON(t, "metrics", "corpora.jsonl", func(c evaltest.Corpus) {
		for _, want := range c.Cases {
			if want.Metric != "chrf" || want.Error != "" {
				continue
			}
			s := scorer(t, want.Opts)
			count, row, sum := s.NewCounter(), make([]float64, s.Width()), make([]float64, s.Width())
			for i, h := range c.Hyps {
				count.Count(row, h, c.Segment(i))
				for k, v := range row {
					sum[k] += v
				}
			}
			got, sig := s.Score(sum), s.Signature(c.RefCount())
			ok := got == want.Score && s.Label() == want.Name && sig.String() == want.Signature && sig.Short() == want.Short &&
				signature.Format(s.Label(), sig.String(), 2, got, "") == want.Text
			n.Check(t, ok, "%s %+v: got %v %s %s; want %+v", c.ID, want.Opts, got, s.Label(), sig, want)
		}
		for _, want := range c.Sentence {
			if want.Metric != "chrf" || want.Score == nil {
				continue
			}
			s := scorer(t, want.Opts)
			row := make([]float64, s.Width())
			s.NewCounter().Count(row, c.Hyps[want.I], c.Segment(want.I))
			n.Check(t, s.Score(row) == *want.Score, "%s sentence %d: %v; want %v", c.ID, want.I, s.Score(row), *want.Score)
		}
	})
	n.Done(t)
}

func TestVectorsTokenize(t *testing.T) {
	n := evaltest.Count{File: "tokenize.jsonl (chrf)"}
	evaltest.JSON(t, "metrics", "tokenize.jsonl", func(l evaltest.TokenLine) {
		n.Check(t, slices.Equal(chrf.Words(l.Line), l.CHRFWords), "Words(%q) = %q; want %q", l.Line, chrf.Words(l.Line), l.CHRFWords)
	})
	n.Done(t)
}

func TestNewRefuses(t *testing.T) {
	for _, o := range []chrf.Options{{}, {CharOrder: 6, Beta: 2, WordOrder: -1}, {CharOrder: 99, Beta: 2}} {
		if _, err := chrf.New(o); err == nil {
			t.Errorf("New(%+v) must refuse", o)
		}
	}
}
