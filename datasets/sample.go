package datasets

import (
	"cmp"
	"iter"
	"math/rand/v2"
	"slices"
)

// Sample draws n rows of a stream, each with the same chance (Vitter's algorithm R), and gives
// them in the order of the stream; 0, or more than there are, gives all. The same stream and seed
// give the same rows. Files are often sorted, so their first rows would say little of the rest.
func Sample(rows iter.Seq2[Example, error], n int, seed uint64) iter.Seq2[Example, error] {
	if n <= 0 {
		return rows
	}
	return func(yield func(Example, error) bool) {
		type numbered struct {
			example Example
			at      int64
		}
		var kept []numbered
		random := rand.New(rand.NewPCG(seed, uint64(n)))
		at := int64(0)
		for example, err := range rows {
			if err != nil {
				yield(Example{}, err)
				return
			}
			if len(kept) < n {
				kept = append(kept, numbered{example, at})
			} else if i := random.Int64N(at + 1); i < int64(n) {
				kept[i] = numbered{example, at}
			}
			at++
		}
		slices.SortFunc(kept, func(a, b numbered) int { return cmp.Compare(a.at, b.at) })
		for _, k := range kept {
			if !yield(k.example, nil) {
				return
			}
		}
	}
}
