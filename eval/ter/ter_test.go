package ter_test

import (
	"testing"

	"github.com/t5ctl/t5ctl/eval/evaltest"
	"github.com/t5ctl/t5ctl/eval/signature"
	"github.com/t5ctl/t5ctl/eval/ter"
)

func scorer(o evaltest.Options) *ter.TER {
	return ter.New(ter.Options{Normalized: o.Normalized, NoPunct: o.NoPunct, AsianSupport: o.AsianSupport, CaseSensitive: o.CaseSensitive})
}

// The scores are sacreBLEU 2.6.0's, bit for bit.
func TestVectorsCorpora(t *testing.T) {
	n := evaltest.Count{File: "corpora.jsonl (ter)"}
	evaltest.JSON(t, "metrics", "corpora.jsonl", func(c evaltest.Corpus) {
		for _, want := range c.Cases {
			if want.Metric != "ter" || want.Error != "" {
				continue
			}
			s := scorer(want.Opts)
			count, row, sum := s.NewCounter(), make([]float64, 2), make([]float64, 2)
			for i, h := range c.Hyps {
				count.Count(row, h, c.Segment(i))
				sum[0] += row[0]
				sum[1] += row[1]
			}
			got, sig := s.Score(sum), s.Signature(c.RefCount())
			ok := got == want.Score && int(sum[0]) == want.NumEdits && sum[1] == want.RefLength && sig.String() == want.Signature &&
				sig.Short() == want.Short && signature.Format("TER", sig.String(), 2, got, "") == want.Text
			n.Check(t, ok, "%s %+v: got %v %v %s; want %+v", c.ID, want.Opts, got, sum, sig, want)
		}
		for _, want := range c.Sentence {
			if want.Metric != "ter" || want.Score == nil {
				continue
			}
			s, row := scorer(want.Opts), make([]float64, 2)
			s.NewCounter().Count(row, c.Hyps[want.I], c.Segment(want.I))
			n.Check(t, s.Score(row) == *want.Score, "%s sentence %d: %v; want %v", c.ID, want.I, s.Score(row), *want.Score)
		}
	})
	n.Done(t)
}

func TestVectorsTokenize(t *testing.T) {
	n := evaltest.Count{File: "tokenize.jsonl (ter)"}
	evaltest.JSON(t, "metrics", "tokenize.jsonl", func(l evaltest.TokenLine) {
		for _, tt := range []struct {
			opts ter.Options
			want string
		}{
			{ter.Options{}, l.Ter}, {ter.Options{CaseSensitive: true}, l.TerCase}, {ter.Options{Normalized: true}, l.TerNorm},
			{ter.Options{NoPunct: true}, l.TerNopunct}, {ter.Options{Normalized: true, AsianSupport: true}, l.TerNormAsian},
			{ter.Options{Normalized: true, AsianSupport: true, NoPunct: true}, l.TerNormAsianNopunct},
			{ter.Options{NoPunct: true, AsianSupport: true}, l.TerAsianNopunct},
		} {
			got := ter.New(tt.opts).Tokenize(l.Line)
			n.Check(t, got == tt.want, "%+v %q: %q; want %q", tt.opts, l.Line, got, tt.want)
		}
	})
	n.Done(t)
}

func FuzzCount(f *testing.F) {
	f.Add("a b c d e", "e d c b a")
	f.Add("", "x")
	f.Fuzz(func(t *testing.T, hyp, ref string) {
		if len(hyp)+len(ref) > 4000 {
			return
		}
		s, row := ter.New(ter.Options{Normalized: true}), make([]float64, 2)
		s.NewCounter().Count(row, hyp, []string{ref, ""})
		if row[0] < 0 {
			t.Errorf("%v edits", row[0])
		}
	})
}
