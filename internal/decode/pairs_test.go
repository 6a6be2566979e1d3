package decode_test

import (
	"context"
	"math"
	"testing"

	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
	"github.com/t5ctl/t5ctl/internal/t5"
)

// Scoring every token of the vocabulary spells out the distribution: it sums to one, and its mean and
// variance are those that each score brings.
func TestScorePairsMoments(t *testing.T) {
	b := devicetest.Go(t)
	eachVariant(t, b, func(t *testing.T, e *decode.Engine, f fixture) {
		if name := nameOf(t); name != "byt5" && name != "t5-1.0" {
			t.Skip("two vocabularies are enough")
		}
		source := f.sources()[0].Tokens
		vocabulary := vocabularyOf(t)
		var sources, targets [][]int32
		for id := range vocabulary {
			sources, targets = append(sources, source), append(targets, []int32{int32(id)})
		}
		sources, targets = append(sources, f.sources()[1].Tokens), append(targets, []int32{3, 4, 5, 1})
		scores, err := e.ScorePairs(context.Background(), sources, targets)
		if err != nil {
			t.Fatal(err)
		}
		var mass, mean, second float64
		for _, s := range scores[:vocabulary] {
			l := float64(s.LogProbs[0])
			mass += math.Exp(l)
			mean += math.Exp(l) * l
			second += math.Exp(l) * l * l
		}
		got := scores[vocabulary/2]
		if math.Abs(mass-1) > 1e-4 || math.Abs(float64(got.Mean[0])-mean) > 1e-3 || math.Abs(float64(got.Variance[0])-(second-mean*mean)) > 1e-2 {
			t.Errorf("mass %v, mean %v, variance %v; scored mean %v, variance %v", mass, mean, second-mean*mean, got.Mean[0], got.Variance[0])
		}
		alone, err := e.Score(context.Background(), f.sources()[1].Tokens, targets[vocabulary:])
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range alone[0] {
			if math.Abs(float64(p-scores[vocabulary].LogProbs[i])) > 1e-4 {
				t.Errorf("token %d: %v among pairs, %v alone", i, scores[vocabulary].LogProbs[i], p)
			}
		}
	})
}

// vocabularyOf is how many tokens the variant under test has.
func vocabularyOf(t *testing.T) int {
	t.Helper()
	checkpoint, err := t5.Open("../t5/testdata/" + nameOf(t))
	if err != nil {
		t.Fatal(err)
	}
	defer checkpoint.Close()
	return checkpoint.Config.VocabSize
}

// nameOf is the innermost subtest's.
func nameOf(t *testing.T) string {
	name := t.Name()
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '/' {
			return name[i+1:]
		}
	}
	return name
}
