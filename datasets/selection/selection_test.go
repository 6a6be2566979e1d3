package selection_test

import (
	"math"
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/datasets/selection"
)

func TestChoose(t *testing.T) {
	rows := []selection.Candidate{
		{"sure and agreed", 0.1, 0}, {"unsure", 2, 0}, {"disputed", 0.2, 1}, {"unsure", 9, 1}, {"half", 1, 0.5}, {"as half", 1, 0.5},
	}
	for by, want := range map[string][]int{
		selection.ByUncertainty:  {1, 4, 5, 2, 0},
		selection.ByDisagreement: {2, 4, 5, 1, 0},
		selection.ByBoth:         {2, 4, 5, 1, 0}, // 1.4, 1.3, 1.1, 1, 0.2
	} {
		if got := selection.Choose(rows, 10, by); !slices.Equal(got, want) {
			t.Errorf("by %s: %v, want %v", by, got, want)
		}
		if got := selection.Choose(rows, 2, by); !slices.Equal(got, want[:2]) {
			t.Errorf("two by %s: %v", by, got)
		}
	}
	if selection.Choose(nil, 3, selection.ByBoth) != nil {
		t.Error("rows chosen of none")
	}
}

func TestOutputs(t *testing.T) {
	for _, test := range []struct {
		texts []string
		want  float64
	}{{nil, 0}, {[]string{"a"}, 0}, {[]string{"a", "a"}, 0}, {[]string{"a", "b"}, 1}, {[]string{"a", "a", "b"}, 2.0 / 3}, {[]string{"a", "b", "c"}, 1}} {
		if got := selection.Outputs(test.texts); math.Abs(got-test.want) > 1e-15 {
			t.Errorf("%v: %v, want %v", test.texts, got, test.want)
		}
	}
}
