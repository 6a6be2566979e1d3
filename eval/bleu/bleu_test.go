package bleu_test

import (
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/eval/bleu"
	"github.com/t5ctl/t5ctl/eval/evaltest"
	"github.com/t5ctl/t5ctl/eval/signature"
)

func scorer(t *testing.T, o evaltest.Options) *bleu.BLEU {
	t.Helper()
	b, err := bleu.New(bleu.Options{
		Tokenize: o.Tokenize, Lowercase: o.Lowercase, Smooth: o.SmoothMethod, SmoothValue: o.SmoothValue,
		MaxOrder: o.MaxNgramOrder, EffectiveOrder: o.EffectiveOrder,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func corpusSum(b *bleu.BLEU, c evaltest.Corpus) []float64 {
	count, row, sum := b.NewCounter(), make([]float64, len(b.Columns())), make([]float64, len(b.Columns()))
	for i, h := range c.Hyps {
		count.Count(row, h, c.Segment(i))
		for k, v := range row {
			sum[k] += v
		}
	}
	return sum
}

// The scores are sacreBLEU 2.6.0's.
func TestVectorsCorpora(t *testing.T) {
	n := evaltest.Count{File: "corpora.jsonl (bleu)"}
	bits := 0
	evaltest.JSON(t, "metrics", "corpora.jsonl", func(c evaltest.Corpus) {
		for _, want := range c.Cases {
			if want.Metric != "bleu" || want.Error != "" {
				continue
			}
			b := scorer(t, want.Opts)
			got := b.Score(corpusSum(b, c))
			sig := b.Signature(c.RefCount())
			ok := evaltest.Near(got.Score, want.Score, 1e-12) && evaltest.Near(got.BP, want.BP, 1e-12) &&
				slices.Equal(got.Precisions, want.Precisions) && slices.Equal(got.Counts, want.Counts) &&
				slices.Equal(got.Totals, want.Totals) && got.SysLen == want.SysLen && got.RefLen == want.RefLen &&
				sig.String() == want.Signature && sig.Short() == want.Short &&
				signature.Format("BLEU", sig.String(), 2, got.Score, got.Verbose()) == want.Text
			n.Check(t, ok, "%s %+v: got %+v %s\nwant %+v", c.ID, want.Opts, got, sig, want)
			if got.Score != want.Score {
				bits++
			}
		}
		for _, want := range c.Sentence {
			if want.Metric != "bleu" || want.Score == nil {
				continue
			}
			b := scorer(t, want.Opts)
			row := make([]float64, len(b.Columns()))
			b.NewCounter().Count(row, c.Hyps[want.I], c.Segment(want.I))
			n.Check(t, evaltest.Near(b.Score(row).Score, *want.Score, 1e-12), "%s sentence %d: %v; want %v", c.ID, want.I, b.Score(row).Score, *want.Score)
		}
	})
	n.Done(t)
	t.Logf("corpus scores that differ in a bit: %d", bits)
}

func TestVectorsTokenize(t *testing.T) {
	n := evaltest.Count{File: "tokenize.jsonl (bleu)"}
	evaltest.JSON(t, "metrics", "tokenize.jsonl", func(l evaltest.TokenLine) {
		for name, want := range map[string]string{"13a": l.T13a, "intl": l.Intl, "char": l.Char, "zh": l.Zh, "none": l.None} {
			got := bleu.Tokenize(name, l.RStrip)
			n.Check(t, got == want, "%s(%q) = %q; want %q", name, l.Line, got, want)
		}
	})
	n.Done(t)
}

func TestNewRefuses(t *testing.T) {
	bad := -1.0
	for name, o := range map[string]bleu.Options{
		"tokenizer": {Tokenize: "ja-mecab"}, "spm without a model": {Tokenize: "spm"},
		"smoothing": {Smooth: "laplace"}, "order": {MaxOrder: 99}, "value": {Smooth: "floor", SmoothValue: &bad},
	} {
		if _, err := bleu.New(o); err == nil {
			t.Errorf("%s: New(%+v) must refuse", name, o)
		}
	}
}

func TestInvalidUTF8DoesNotPanic(t *testing.T) {
	for _, tok := range bleu.Tokenizers() {
		bleu.Tokenize(tok, "a\xff.\xc3")
		b := scorer(t, evaltest.Options{Tokenize: tok})
		b.NewCounter().Count(make([]float64, len(b.Columns())), "a\xff.\xc3 \xe4", []string{"\xff"})
	}
}
