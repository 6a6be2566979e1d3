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
		likeliest, greedy := 0, 0
		for i, s := range scores[:vocabulary] {
			if s.LogProbs[0] > scores[likeliest].LogProbs[0] {
				likeliest = i
			}
			if s.Best[0] {
				greedy = i
			}
		}
		if likeliest != greedy {
			t.Errorf("token %d is called the best; %d is likelier", greedy, likeliest)
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

// What may follow the beginning of an output is what scoring the longer output says.
func TestNextAgreesWithScores(t *testing.T) {
	b := devicetest.Go(t)
	eachVariant(t, b, func(t *testing.T, e *decode.Engine, f fixture) {
		if nameOf(t) != "t5-1.1" {
			t.Skip("one variant is enough: the decoder is that of the scores")
		}
		source, target := f.sources()[0].Tokens, []int32{7, 9, 4, 1}
		scores, err := e.Score(context.Background(), source, [][]int32{target})
		if err != nil {
			t.Fatal(err)
		}
		c := e.Continuer()
		defer c.Close()
		next, err := c.Next(context.Background(), source, [][]int32{target[:2], nil, target[:3]})
		if err != nil {
			t.Fatal(err)
		}
		for i, at := range []int{2, 0, 3} {
			if got, want := next[i][target[at]], scores[0][at]; math.Abs(float64(got-want)) > 1e-4 {
				t.Errorf("token %d: %v follows; %v scored", at, got, want)
			}
		}
	})
}
