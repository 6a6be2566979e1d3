package overlap_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/internal/overlap"
)

// On small alphabets, where everything repeats, the lengths are those that trying all runs gives.
func TestFoundIsExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	draw := func(n, letters int) []int32 {
		s := make([]int32, n)
		for i := range s {
			s[i] = int32(rng.IntN(letters))
		}
		return s
	}
	for range 300 {
		letters := 1 + rng.IntN(4)
		x := overlap.New()
		var asked, others [][]int32
		for range 1 + rng.IntN(4) {
			asked = append(asked, draw(rng.IntN(20), letters))
			if n := x.Add(asked[len(asked)-1]); n != len(asked)-1 {
				t.Fatalf("number %d", n)
			}
		}
		for range rng.IntN(4) {
			others = append(others, draw(rng.IntN(25), letters+1))
			x.Feed(others[len(others)-1])
		}
		for k, s := range asked {
			if got, want := x.Found(k), brute(s, others); !slices.Equal(got, want) {
				t.Fatalf("%v in %v: %v; want %v", s, others, got, want)
			}
		}
	}
}

func brute(s []int32, others [][]int32) []int {
	out := make([]int, len(s))
	for i := range s {
		for from := 0; from <= i && out[i] == 0; from++ {
			run := s[from : i+1]
			for _, o := range others {
				for at := 0; at+len(run) <= len(o); at++ {
					if slices.Equal(o[at:at+len(run)], run) {
						out[i] = len(run)
					}
				}
			}
		}
	}
	return out
}
