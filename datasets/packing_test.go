package datasets_test

import (
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/datasets"
)

// Every example is in a pass once and whole, little is padding, and any batch can be made again
// without those before it.
func TestPacking(t *testing.T) {
	c := corpus(t, words(t, 3000))
	o := datasets.BatchOptions{Rows: 8, Seed: 7, Shuffle: true, Packing: true}
	s := stream(t, c, o)
	if p := s.Padding(); p > 0.09 {
		t.Errorf("%.1f %% of the tokens are padding", 100*p)
	}
	if n := len(s.Shapes()); n != 1 {
		t.Errorf("%d shapes, want 1", n)
	}
	want := map[string][2][]int32{}
	for i := range c.Len() {
		input, target := c.Tokens(i)
		want[c.ID(i)] = [2][]int32{slices.Clone(input), slices.Clone(target)}
	}
	for pass := range 2 {
		left := len(want)
		for _, b := range next(t, s, s.PerEpoch()) {
			got := 0
			for row := range b.Rows {
				inputs, targets := b.Inputs[row*b.InputLen:(row+1)*b.InputLen], b.Labels[row*b.TargetLen:(row+1)*b.TargetLen]
				inputOf, targetOf := b.InputSegments[row*b.InputLen:(row+1)*b.InputLen], b.LabelSegments[row*b.TargetLen:(row+1)*b.TargetLen]
				for segment := int32(1); slices.Contains(inputOf, segment); segment++ {
					id := b.IDs[got]
					got++
					if in, out := of(inputs, inputOf, segment), of(targets, targetOf, segment); !slices.Equal(in, want[id][0]) || !slices.Equal(out, want[id][1]) {
						t.Fatalf("pass %d: %s is %v → %v, want %v", pass, id, in, out, want[id])
					}
				}
			}
			if got != len(b.IDs) {
				t.Fatalf("pass %d: %d examples and %d ids", pass, got, len(b.IDs))
			}
			left -= got
		}
		if left != 0 {
			t.Errorf("pass %d: %d examples are missing", pass, left)
		}
	}
	all := next(t, stream(t, c, o), 40)
	again := stream(t, c, o)
	position := again.Position()
	position.Offset = 30
	if err := again.Seek(position); err != nil {
		t.Fatal(err)
	}
	if fingerprint(t, next(t, again, 10)) != fingerprint(t, all[30:]) {
		t.Error("batches after a seek differ")
	}
}

// of gives the tokens of one segment.
func of(tokens, segments []int32, segment int32) (out []int32) {
	for i, s := range segments {
		if s == segment {
			out = append(out, tokens[i])
		}
	}
	return out
}
