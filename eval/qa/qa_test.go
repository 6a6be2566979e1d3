package qa_test

import (
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/eval/evaltest"
	"github.com/t5ctl/t5ctl/eval/qa"
)

type expected struct {
	Predictions []string   `json:"normalized_predictions"`
	Targets     [][]string `json:"normalized_targets"`
	EM          []bool     `json:"em_each"`
	F1          []float64  `json:"f1_each"`
	T5          struct{ EM, F1 float64 }
	HF          struct {
		EM float64 `json:"exact_match"`
		F1 float64
	}
}

// The scores are those of T5's qa_utils and of the Hugging Face metric, exactly.
func TestVectorsQA(t *testing.T) {
	n := evaltest.Count{File: "qa.jsonl"}
	evaltest.JSON(t, "metrics", "qa.jsonl", func(l struct {
		ID          string
		Targets     [][]string
		Predictions []string
		Squad       expected
		Trivia      expected `json:"trivia_qa"`
	}) {
		check(t, &n, l.ID+" squad", qa.Squad, l.Targets, l.Predictions, l.Squad)
		check(t, &n, l.ID+" trivia", qa.TriviaQA, l.Targets, l.Predictions, l.Trivia)
	})
	n.Done(t)
}

func check(t *testing.T, n *evaltest.Count, id string, normalize func(string) string, targets [][]string, predictions []string, want expected) {
	t.Helper()
	var em, f1 []float64
	sumEM, sumF1 := 0.0, 0.0
	for i, p := range predictions {
		var normalized []string
		for _, x := range targets[i] {
			normalized = append(normalized, normalize(x))
		}
		exact, f := qa.Best(normalize, p, targets[i])
		v := 0.0
		if exact {
			v = 1
		}
		em, f1 = append(em, v), append(f1, f)
		sumEM += v
		sumF1 += f
		ok := normalize(p) == want.Predictions[i] && slices.Equal(normalized, want.Targets[i]) && exact == want.EM[i] && f == want.F1[i]
		n.Check(t, ok, "%s %d: %q of %q: %v %v; want %v %v", id, i, p, targets[i], exact, f, want.EM[i], want.F1[i])
	}
	count := float64(len(predictions))
	n.Check(t, qa.Mean(em) == want.T5.EM && qa.Mean(f1) == want.T5.F1, "%s: t5 %v %v; want %v", id, qa.Mean(em), qa.Mean(f1), want.T5)
	n.Check(t, 100*sumEM/count == want.HF.EM && 100*sumF1/count == want.HF.F1, "%s: hf %v %v; want %v", id, 100*sumEM/count, 100*sumF1/count, want.HF)
}
