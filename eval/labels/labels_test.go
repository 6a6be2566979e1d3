package labels_test

import (
	"encoding/json"
	"math"
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/eval/evaltest"
	"github.com/t5ctl/t5ctl/eval/labels"
)

type row struct {
	ID, Kind          string
	Targets           json.RawMessage
	Predictions       json.RawMessage
	Accuracy, MCC     float64
	Labels            []int
	Precision         []float64
	Recall, F1        json.RawMessage
	Support           []int
	Micro             [3]float64
	Macro             [3]float64
	Weighted          [3]float64
	Confusion         [][]int
	Balanced          float64  `json:"balanced_accuracy"`
	Classes           int      `json:"num_classes"`
	Mean3             float64  `json:"mean_3class_f1"`
	Mean4             float64  `json:"mean_4class_f1"`
	Mean5             float64  `json:"mean_5class_f1"`
	BinaryF1          *float64 `json:"f1_with_invalid"`
	Pearson, Spearman evaltest.Number
	Values            []evaltest.Number
}

func decode[T any](t *testing.T, raw json.RawMessage) (v T) {
	t.Helper()
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// The figures are scikit-learn 1.9.1's and SciPy 1.17.1's.
func TestVectorsLabels(t *testing.T) {
	n := evaltest.Count{File: "labels.jsonl"}
	evaltest.JSON(t, "metrics", "labels.jsonl", func(l row) {
		switch l.Kind {
		case "class":
			classes(t, &n, l)
		case "corr":
			x, y := decode[[]float64](t, l.Targets), decode[[]float64](t, l.Predictions)
			n.Check(t, evaltest.Near(100*labels.Pearson(x, y), float64(l.Pearson), 1e-12), "%s: Pearson %v; want %v", l.ID, 100*labels.Pearson(x, y), l.Pearson)
			n.Check(t, evaltest.Near(100*labels.Spearman(x, y), float64(l.Spearman), 1e-12), "%s: Spearman %v; want %v", l.ID, 100*labels.Spearman(x, y), l.Spearman)
		case "to_float":
			for i, text := range decode[[]string](t, l.Predictions) {
				got, ok := labels.ParseFloat(text)
				if !ok {
					got = -1
				}
				n.Check(t, evaltest.Near(got, float64(l.Values[i]), 0), "ParseFloat(%q) = %v; want %v", text, got, l.Values[i])
			}
		}
	})
	n.Done(t)
}

func three(s labels.Scores) [3]float64 { return [3]float64{s.Precision, s.Recall, s.F1} }

func near(got, want [3]float64) bool {
	for i := range got {
		if !evaltest.Near(got[i], want[i], 1e-15) {
			return false
		}
	}
	return true
}

func classes(t *testing.T, n *evaltest.Count, l row) {
	t.Helper()
	x, y := decode[[]int](t, l.Targets), decode[[]int](t, l.Predictions)
	present := labels.Present(x, y)
	n.Check(t, slices.Equal(present, l.Labels), "%s: labels %v", l.ID, present)
	n.Check(t, 100*labels.Accuracy(x, y) == l.Accuracy, "%s: accuracy %v", l.ID, labels.Accuracy(x, y))
	n.Check(t, evaltest.Near(100*labels.MCC(x, y), l.MCC, 1e-15), "%s: MCC %v; want %v", l.ID, 100*labels.MCC(x, y), l.MCC)
	recall, f1 := decode[[]float64](t, l.Recall), decode[[]float64](t, l.F1)
	for i, s := range labels.PerLabel(x, y, present) {
		n.Check(t, near(three(s), [3]float64{l.Precision[i], recall[i], f1[i]}) && s.Support == l.Support[i], "%s: label %d: %+v", l.ID, present[i], s)
	}
	n.Check(t, near(three(labels.Micro(x, y, present)), l.Micro), "%s: micro %v; want %v", l.ID, labels.Micro(x, y, present), l.Micro)
	n.Check(t, near(three(labels.Macro(x, y, present)), l.Macro), "%s: macro %v; want %v", l.ID, labels.Macro(x, y, present), l.Macro)
	n.Check(t, near(three(labels.Weighted(x, y, present)), l.Weighted), "%s: weighted %v; want %v", l.ID, labels.Weighted(x, y, present), l.Weighted)
	n.Check(t, evaltest.Near(labels.BalancedAccuracy(x, y), l.Balanced, 1e-15), "%s: balanced %v; want %v", l.ID, labels.BalancedAccuracy(x, y), l.Balanced)
	for i, r := range labels.Confusion(x, y, present) {
		n.Check(t, slices.Equal(r, l.Confusion[i]), "%s: confusion %v", l.ID, r)
	}
	if l.BinaryF1 != nil {
		n.Check(t, evaltest.Near(100*labels.BinaryF1(x, y), *l.BinaryF1, 1e-15), "%s: F1 %v; want %v", l.ID, 100*labels.BinaryF1(x, y), *l.BinaryF1)
	}
	if l.Classes > 0 {
		all := make([]int, l.Classes)
		for i := range all {
			all[i] = i
		}
		want := map[int]float64{3: l.Mean3, 4: l.Mean4, 5: l.Mean5}[l.Classes]
		got := 100 * labels.Macro(x, y, all).F1
		n.Check(t, math.Abs(got-want) < 1e-12, "%s: mean F1 over %d classes %v; want %v", l.ID, l.Classes, got, want)
	}
}
