package datasets_test

import (
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/datasets"
)

func numbered(n int) iter.Seq2[datasets.Example, error] {
	return func(yield func(datasets.Example, error) bool) {
		for i := range n {
			if !yield(datasets.Example{ID: fmt.Sprint(i), Row: int64(i)}, nil) {
				return
			}
		}
	}
}

func rowsOf(t *testing.T, rows iter.Seq2[datasets.Example, error]) []int64 {
	t.Helper()
	var got []int64
	for e, err := range rows {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Row)
	}
	return got
}

func TestSample(t *testing.T) {
	counts := make([]int, 50)
	for seed := range uint64(2000) {
		got := rowsOf(t, datasets.Sample(numbered(50), 10, seed))
		if len(got) != 10 || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != 10 {
			t.Fatalf("seed %d draws %v", seed, got)
		}
		if again := rowsOf(t, datasets.Sample(numbered(50), 10, seed)); !slices.Equal(got, again) {
			t.Fatalf("seed %d draws %v, then %v", seed, got, again)
		}
		for _, row := range got {
			counts[row]++
		}
	}
	for row, n := range counts { // 400 expected, deviation 18
		if n < 310 || n > 490 {
			t.Errorf("row %d was drawn %d times of 2000, want about 400", row, n)
		}
	}
	for _, n := range []int{0, 50, 70} {
		if got := rowsOf(t, datasets.Sample(numbered(50), n, 1)); len(got) != 50 {
			t.Errorf("a sample of %d of 50 rows has %d", n, len(got))
		}
	}
}
