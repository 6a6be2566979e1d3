package datasets_test

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/datasets"
	"pgregory.net/rapid"
)

// runs counts the runs of true.
func runs(mask []bool) (n int) {
	for i, m := range mask {
		if m && (i == 0 || !mask[i-1]) {
			n++
		}
	}
	return n
}

func masked(mask []bool) (n int) {
	for _, m := range mask {
		if m {
			n++
		}
	}
	return n
}

// The numbers come from T5's own code (testdata/make_spans.py).
func TestSpanCorruptionAgainstT5(t *testing.T) {
	data, err := os.ReadFile("testdata/spans.json")
	if err != nil {
		t.Fatal(err)
	}
	var reference struct {
		Helper, Counts [][5]float64
		Examples       []struct {
			Mask                  []int
			Tokens, Input, Target []int32
		}
	}
	if err := json.Unmarshal(data, &reference); err != nil {
		t.Fatal(err)
	}
	for _, h := range reference.Helper {
		tokens, target := datasets.SpanLengths(int(h[2]), h[0], h[1])
		if tokens != int(h[3]) || target != int(h[4]) {
			t.Errorf("SpanLengths(%v, %v, %v) = %d, %d; want %v", h[2], h[0], h[1], tokens, target, h[3:])
		}
	}
	for i, c := range reference.Counts {
		mask := datasets.SpanMask(int(c[2]), c[0], c[1], uint64(i))
		if len(mask) != int(c[2]) || masked(mask) != int(c[3]) || runs(mask) != int(c[4]) {
			t.Errorf("SpanMask(%v, %v, %v): %d of %d masked in %d spans; want %v", c[2], c[0], c[1], masked(mask), len(mask), runs(mask), c[3:])
		}
	}
	sentinels := make([]int32, 100)
	for i := range sentinels {
		sentinels[i] = 32099 - int32(i)
	}
	for _, e := range reference.Examples {
		mask := make([]bool, len(e.Mask))
		for i, m := range e.Mask {
			mask[i] = m == 1
		}
		input, target := datasets.SpanCorrupt(e.Tokens, mask, sentinels)
		if !slices.Equal(input, e.Input) || !slices.Equal(target, e.Target) {
			t.Errorf("mask %v: got %v and %v, want %v and %v", e.Mask, input, target, e.Input, e.Target)
		}
	}
	t.Logf("spans.json: %d cases", len(reference.Helper)+len(reference.Counts)+len(reference.Examples))
}

// However a text is masked, input and target together tell it: each sentinel of one stands for
// what the other has between the same sentinel and the next.
func TestSpanCorruptIsReversible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 400).Draw(t, "n")
		density := rapid.Float64Range(0.05, 0.9).Draw(t, "density")
		span := rapid.Float64Range(1, 20).Draw(t, "span")
		mask := datasets.SpanMask(n, density, span, rapid.Uint64().Draw(t, "seed"))
		tokens, sentinels := make([]int32, n), make([]int32, n)
		for i := range tokens {
			tokens[i], sentinels[i] = int32(i), int32(-1-i)
		}
		input, target := datasets.SpanCorrupt(tokens, mask, sentinels)
		if mask[0] || !mask[n-1] {
			t.Fatalf("text comes first and noise last, but the mask is %v", mask)
		}
		if want := n + 2*runs(mask); len(input)+len(target) != want {
			t.Fatalf("%d tokens in all, want %d", len(input)+len(target), want)
		}
		var back []int32
		for len(input) > 0 {
			if input[0] >= 0 {
				back, input = append(back, input[0]), input[1:]
				continue
			}
			at := slices.Index(target, input[0]) + 1
			for ; at < len(target) && target[at] >= 0; at++ {
				back = append(back, target[at])
			}
			input = input[1:]
		}
		if !slices.Equal(back, tokens) {
			t.Fatalf("put together again: %v", back)
		}
	})
}

// All ways to place the spans are equally likely: 6 masked tokens in 2 spans among 10 can be
// placed in 5·3 = 15 ways.
func TestSpanMaskIsUniform(t *testing.T) {
	const draws = 15000
	counts := map[string]int{}
	for seed := range uint64(draws) {
		mask := datasets.SpanMask(10, 0.6, 3, seed)
		key := make([]byte, len(mask))
		for i, m := range mask {
			key[i] = "-x"[map[bool]int{true: 1}[m]]
		}
		counts[string(key)]++
	}
	if len(counts) != 15 {
		t.Fatalf("%d masks, want 15: %v", len(counts), counts)
	}
	chi := 0.0
	for _, n := range counts {
		d := float64(n) - draws/15
		chi += d * d / (draws / 15)
	}
	if chi > 36.1 { // 0.999 quantile of χ² with 14 degrees of freedom
		t.Errorf("χ² = %g: %v", chi, counts)
	}
}
