package seq2seq_test

import (
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/internal/seq2seq"
)

func TestBatch(t *testing.T) {
	b := seq2seq.New(2, 3, 2)
	b.Append(seq2seq.Example{ID: "a", Input: []int32{5, 6}, Target: []int32{7, 1, 9}}) // the target is one too long
	if want := []int32{5, 6, 0, 0, 0, 0}; !slices.Equal(b.Inputs, want) {
		t.Errorf("inputs %v, want %v", b.Inputs, want)
	}
	if want := []int32{7, 1, -100, -100}; !slices.Equal(b.Labels, want) {
		t.Errorf("labels %v, want %v", b.Labels, want)
	}
	if in, out := b.Tokens(); in != 2 || out != 2 {
		t.Errorf("tokens %d, %d", in, out)
	}
	b.Append(seq2seq.Example{ID: "b"})
	defer func() {
		if recover() == nil {
			t.Error("a third row was taken")
		}
	}()
	b.Append(seq2seq.Example{ID: "c"})
}

func TestPackedBatch(t *testing.T) {
	b := seq2seq.NewPacked(2, 5, 4)
	b.Append(
		seq2seq.Example{ID: "a", Input: []int32{5, 6, 1}, Target: []int32{7, 1}},
		seq2seq.Example{ID: "b", Input: []int32{8, 1}, Target: []int32{1}},
	)
	for name, pair := range map[string][2][]int32{
		"inputs":         {b.Inputs[:5], {5, 6, 1, 8, 1}},
		"labels":         {b.Labels[:4], {7, 1, 1, -100}},
		"input segments": {b.InputSegments, {1, 1, 1, 2, 2, 0, 0, 0, 0, 0}},
		"label segments": {b.LabelSegments, {1, 1, 2, 0, 0, 0, 0, 0}},
	} {
		if !slices.Equal(pair[0], pair[1]) {
			t.Errorf("%s %v, want %v", name, pair[0], pair[1])
		}
	}
	if want := []string{"a", "b"}; !slices.Equal(b.IDs, want) {
		t.Errorf("ids %v, want %v", b.IDs, want)
	}
}

func TestPaddedRowsCountForNothing(t *testing.T) {
	b := seq2seq.NewPacked(3, 2, 2)
	for range 3 {
		b.Append(seq2seq.Example{ID: "a", Input: []int32{5, 1}, Target: []int32{7, 1}})
	}
	inputs, labels := b.Tokens()
	p := b.Padded(4)
	if in, out := p.Tokens(); p.Rows != 4 || len(p.Inputs) != 8 || len(p.LabelSegments) != 8 || in != inputs || out != labels {
		t.Errorf("%d rows, %d and %d tokens; want 4 rows, %d and %d", p.Rows, in, out, inputs, labels)
	}
	if !slices.Equal(p.Inputs[:6], b.Inputs) || b.Rows != 3 || len(b.Inputs) != 6 {
		t.Error("the rows are not those of the batch, or the batch has changed")
	}
	if same := b.Padded(3); same.Rows != 3 {
		t.Errorf("%d rows where 3 were enough", same.Rows)
	}
}
