package pytext_test

import (
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/eval/evaltest"
	"github.com/t5ctl/t5ctl/eval/pytext"
)

// The lines are Python 3.11's.
func TestVectorsTokenize(t *testing.T) {
	n := evaltest.Count{File: "tokenize.jsonl (lower, split, rstrip)"}
	evaltest.JSON(t, "metrics", "tokenize.jsonl", func(l evaltest.TokenLine) {
		n.Check(t, pytext.Lower(l.Line) == l.Lower, "Lower(%q) = %q; want %q", l.Line, pytext.Lower(l.Line), l.Lower)
		n.Check(t, slices.Equal(pytext.Fields(l.Line), l.Split), "Fields(%q) = %q; want %q", l.Line, pytext.Fields(l.Line), l.Split)
		n.Check(t, pytext.TrimRight(l.Line) == l.RStrip, "TrimRight(%q) = %q", l.Line, pytext.TrimRight(l.Line))
	})
	n.Done(t)
}
