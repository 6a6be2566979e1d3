package seq2seq_test

import (
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/internal/seq2seq"
)

func TestBatch(t *testing.T) {
	b := seq2seq.New(2, 3, 2)
	b.Append("a", []int32{5, 6}, []int32{7, 1, 9}) // the target is one too long
	if want := []int32{5, 6, 0, 0, 0, 0}; !slices.Equal(b.Inputs, want) {
		t.Errorf("inputs %v, want %v", b.Inputs, want)
	}
	if want := []int32{7, 1, -100, -100}; !slices.Equal(b.Labels, want) {
		t.Errorf("labels %v, want %v", b.Labels, want)
	}
	if in, out := b.Tokens(); in != 2 || out != 2 {
		t.Errorf("tokens %d, %d", in, out)
	}
	b.Append("b", nil, nil)
	defer func() {
		if recover() == nil {
			t.Error("a third row was taken")
		}
	}()
	b.Append("c", nil, nil)
}
