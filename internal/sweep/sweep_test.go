package sweep_test

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/internal/sweep"
)

const grid = `version: 1
method: grid
parameters:
  - {key: train.optimizer.learning_rate, values: [1e-4, 3e-4]}
  - {key: train.lora.targets, values: ["[q, v]", "[q]"]}
seeds: [1, 2]
`

func TestGrid(t *testing.T) {
	s, err := sweep.Parse("s.yaml", []byte(grid))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, trial := range s.All() {
		got = append(got, fmt.Sprint(trial.Number, trial.Settings))
	}
	want := []string{
		"1 [{train.optimizer.learning_rate 1e-4} {train.lora.targets [q, v]}]", "2 [{train.optimizer.learning_rate 1e-4} {train.lora.targets [q]}]",
		"3 [{train.optimizer.learning_rate 3e-4} {train.lora.targets [q, v]}]", "4 [{train.optimizer.learning_rate 3e-4} {train.lora.targets [q]}]",
	}
	if !reflect.DeepEqual(got, want) || s.Metric != "loss" {
		t.Errorf("%q by %s", got, s.Metric)
	}
}

func TestRandom(t *testing.T) {
	text := `version: 1
method: random
trials: 400
seed: 7
parameters:
  - {key: a, from: 1e-5, to: 1e-1, scale: log}
  - {key: b, from: 1, to: 4, integer: true}
  - {key: c, values: [x, y]}
`
	s, err := sweep.Parse("s.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	all := s.All()
	if len(all) < 390 || !reflect.DeepEqual(all, s.All()) {
		t.Errorf("%d trials, or others the second time", len(all))
	}
	small, whole, kinds := 0, map[string]int{}, map[string]int{}
	for _, trial := range all {
		a, err := strconv.ParseFloat(trial.Settings[0].Value, 64)
		if err != nil || a < 1e-5 || a > 1e-1 {
			t.Errorf("a is %s", trial.Settings[0].Value)
		}
		if a < 1e-3 {
			small++
		}
		whole[trial.Settings[1].Value]++
		kinds[trial.Settings[2].Value]++
	}
	// Half of the draws are below the middle of the logarithms; five standard deviations are 50.
	if math.Abs(float64(small)-200) > 50 || len(whole) != 4 || len(kinds) != 2 || math.Abs(float64(kinds["x"])-200) > 50 {
		t.Errorf("%d of %d below 1e-3, %v, %v", small, len(all), whole, kinds)
	}
	s.Seed = 8
	if reflect.DeepEqual(all, s.All()) {
		t.Error("another seed draws the same")
	}
	s.Parameters, s.Trials = s.Parameters[1:], 100
	if n := len(s.All()); n != 8 {
		t.Errorf("%d trials of 8 combinations", n)
	}
}

func TestProblems(t *testing.T) {
	tests := map[string]string{
		"version: 2\nmethod: grid\nparameters: [{key: a, values: [1]}]":                             "version",
		"version: 1\nmethod: bayes\nparameters: [{key: a, values: [1]}]":                            "grid or random",
		"version: 1\nmethod: random\nparameters: [{key: a, values: [1]}]":                           "trials",
		"version: 1\nmethod: grid\nparameters: [{key: a, from: 1, to: 2}]":                          "a grid needs values",
		"version: 1\nmethod: random\ntrials: 1\nparameters: [{key: a, from: 0, to: 2, scale: log}]": "must be positive",
		"version: 1\nmethod: random\ntrials: 1\nparameters: [{key: a, from: 3, to: 2}]":             "must be less",
		"version: 1\nmethod: grid\nparameters: [{key: a, values: [1]}, {key: a, values: [2]}]":      "there twice",
		"version: 1\nmethod: grid\nparameters: [{key: train.seed, values: [1]}]":                    "given by seeds",
		"version: 1\nmethod: grid\nparameters: [{key: a, values: [1]}]\nhalving: {factor: 1}":       "factor of at least 2",
		"version: 1\nmethod: random\ntrials: 20000\nparameters: [{key: a, values: [1]}]":            "more than 10000",
		"version: 1\nmethod: grid\nparameter: []":                                                   "did you mean parameters",
	}
	for text, want := range tests {
		if _, err := sweep.Parse("s.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", text, err, want)
		}
	}
}

func TestHalving(t *testing.T) {
	h := sweep.Halving{Factor: 3, First: 50}
	if got := h.Rungs(450); !reflect.DeepEqual(got, []int{50, 150}) {
		t.Errorf("rungs %v", got)
	}
	if got := (sweep.Halving{}).Rungs(450); got != nil {
		t.Errorf("rungs %v where nothing is given up", got)
	}
	nan := math.NaN()
	tests := map[string]struct {
		scores []float64
		higher bool
		want   []int
	}{
		"lower":          {[]float64{5, 1, 4, 2, 3, 6}, false, []int{1, 3}},
		"higher":         {[]float64{5, 1, 4, 2, 3, 6}, true, []int{0, 5}},
		"rounded up":     {[]float64{5, 1, 4, 2}, false, []int{1, 3}},
		"one is left":    {[]float64{5, 1}, false, []int{1}},
		"equal":          {[]float64{1, 1, 1}, false, []int{0}},
		"failed":         {[]float64{nan, 2, nan, 1, nan, nan}, false, []int{1, 3}},
		"failed, higher": {[]float64{nan, 2, nan}, true, []int{1}},
		"all failed":     {[]float64{nan, nan, nan}, false, nil},
	}
	for name, tt := range tests {
		if got := h.Survivors(tt.scores, tt.higher); !reflect.DeepEqual(got, tt.want) && len(got)+len(tt.want) > 0 {
			t.Errorf("%s: %v; want %v", name, got, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(grid)
	f.Add("version: 1\nmethod: random\ntrials: 3\nparameters: [{key: a, from: -1e308, to: 1e308}]")
	f.Fuzz(func(_ *testing.T, in string) {
		if s, err := sweep.Parse("s.yaml", []byte(in)); err == nil {
			_ = s.All() // it must return
		}
	})
}
