package meteor_test

import (
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/eval/evaltest"
	"github.com/t5ctl/t5ctl/eval/meteor"
)

// The scores are nltk 3.10.4's with an empty WordNet; testdata/gen.py made them.
func TestVectorsMETEOR(t *testing.T) {
	n := evaltest.Count{File: "meteor.jsonl"}
	type line struct {
		Hyp                string
		Refs               []string
		Alpha, Beta, Gamma float64
		Score              float64
	}
	evaltest.JSON(t, "metrics", "meteor.jsonl", func(l line) {
		var refs [][]string
		for _, r := range l.Refs {
			refs = append(refs, strings.Fields(r))
		}
		got := meteor.Score(meteor.Options{Alpha: l.Alpha, Beta: l.Beta, Gamma: l.Gamma}, strings.Fields(l.Hyp), refs)
		n.Check(t, evaltest.Near(got, l.Score, 1e-12), "%q against %q: %v; want %v", l.Hyp, l.Refs, got, l.Score)
	})
	n.Done(t)
}
