package numpy_test

import (
	"slices"
	"strconv"
	"testing"

	"github.com/t5ctl/t5ctl/eval/evaltest"
	"github.com/t5ctl/t5ctl/eval/numpy"
)

type rngLine struct {
	Kind         string
	Seed         uint64
	Raw64        []string  `json:"raw_uint64"`
	Choice7      [][]int32 `json:"choice_7_size_3x7"`
	Choice1000   []int32   `json:"choice_1000_size_20"`
	Bools        []string  `json:"bool_integers_3x37"`
	AfterBool    []int32   `json:"choice_37_after_bool"`
	Double       []float64 `json:"random_double"`
	Raw32        []uint32  `json:"raw_uint32"`
	Arange37     []int32   `json:"choice_arange_37_size_20"`
	Arange1000   []int32   `json:"choice_arange_1000_size_20"`
	RandomSample []float64 `json:"random_sample"`
	Permutation  []int     `json:"permutation_12"`
}

// The streams are NumPy 2.4.6's.
func TestVectorsRNG(t *testing.T) {
	n := evaltest.Count{File: "rng.jsonl"}
	evaltest.JSON(t, "metrics", "rng.jsonl", func(l rngLine) {
		if l.Kind == "pcg64" {
			n.Check(t, pcgMatches(l), "pcg64, seed %d", l.Seed)
			return
		}
		n.Check(t, mtMatches(l), "mt19937, seed %d", l.Seed)
	})
	n.Done(t)
}

func drawn(choice func([]int32, int), n, size int) []int32 {
	out := make([]int32, size)
	choice(out, n)
	return out
}

func pcgMatches(l rngLine) bool {
	fresh := func() *numpy.PCG64 { return numpy.NewPCG64(l.Seed) }
	g, ok := fresh(), true
	for _, want := range l.Raw64 {
		ok = ok && strconv.FormatUint(g.Uint64(), 10) == want
	}
	ok = ok && slices.Equal(drawn(fresh().Choice, 7, 21), slices.Concat(l.Choice7...))
	ok = ok && slices.Equal(drawn(fresh().Choice, 1000, 20), l.Choice1000)
	g = fresh()
	bools := make([]bool, 3*37)
	whole := g.Bools()
	whole.Read(bools[:5]) // in parts, as one call
	whole.Read(bools[5:])
	i := 0
	for _, row := range l.Bools {
		for _, c := range row {
			ok = ok && bools[i] == (c == '1')
			i++
		}
	}
	ok = ok && slices.Equal(drawn(g.Choice, 37, 10), l.AfterBool)
	g = fresh()
	for _, want := range l.Double {
		ok = ok && g.Float64() == want
	}
	return ok
}

func mtMatches(l rngLine) bool {
	fresh := func() *numpy.MT19937 { return numpy.NewMT19937(uint32(l.Seed)) }
	m, ok := fresh(), true
	for _, want := range l.Raw32 {
		ok = ok && m.Uint32() == want
	}
	ok = ok && slices.Equal(drawn(fresh().Choice, 37, 20), l.Arange37)
	ok = ok && slices.Equal(drawn(fresh().Choice, 1000, 20), l.Arange1000)
	m = fresh()
	for _, want := range l.RandomSample {
		ok = ok && m.Float64() == want
	}
	return ok && slices.Equal(fresh().Permutation(12), l.Permutation)
}
