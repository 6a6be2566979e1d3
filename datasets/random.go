package datasets

import (
	"math/bits"
	"math/rand/v2"
)

// random is the source of all chance in this package: the numbers depend on what it is keyed by
// and on nothing else, so that any batch can be made again without those before it.
type random struct{ pcg rand.PCG }

// What a source of chance is for; the same seed gives unrelated numbers for each.
const (
	forRows    = iota + 1 // the order of the rows of a bucket
	forBatches            // the order of batches
	forMixture            // which objective comes next
	forNoise              // what is masked, dropped and moved
	forPacking            // which examples may share a row
	forLots               // which examples a lot has
	forSample             // which rows are taken of a file
)

// newRandom keys a source by what it is for and by any numbers.
func newRandom(purpose uint64, keys ...uint64) *random {
	high, low := mix(purpose), mix(^purpose)
	for _, key := range keys {
		high, low = mix(high^key), mix(low+key+0x9e3779b97f4a7c15)
	}
	r := &random{}
	r.pcg.Seed(high, low)
	return r
}

// mix spreads every bit of x over the whole word (the finalizer of SplitMix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// below is a number in [0, n), all equally likely. n must be positive.
func (r *random) below(n uint64) uint64 {
	for {
		high, low := bits.Mul64(r.pcg.Uint64(), n)
		if low >= n || low >= -n%n { // Lemire: the few values that would tip the scales are drawn anew
			return high
		}
	}
}

// float is a number in [0, 1).
func (r *random) float() float64 { return float64(r.pcg.Uint64()>>11) * (1.0 / (1 << 53)) }

// order is a random permutation of [0, n). Up to smallOrder elements it is a shuffled list, all
// equally likely; beyond, it is computed element by element and takes no memory.
type order struct {
	n    uint64
	list []uint32
	half uint // bits of a half of the Feistel network's word
	keys [orderRounds]uint64
}

const (
	smallOrder  = 1 << 16
	orderRounds = 8
)

func newOrder(n uint64, r *random) *order {
	o := &order{n: n}
	if n <= smallOrder {
		o.list = make([]uint32, n)
		for i := range o.list {
			o.list[i] = uint32(i)
		}
		for i := len(o.list) - 1; i > 0; i-- {
			j := r.below(uint64(i) + 1)
			o.list[i], o.list[j] = o.list[j], o.list[i]
		}
		return o
	}
	o.half = uint(bits.Len64(n-1)+1) / 2
	for i := range o.keys {
		o.keys[i] = r.pcg.Uint64()
	}
	return o
}

// at is the element at place i.
func (o *order) at(i uint64) uint64 {
	if o.list != nil {
		return uint64(o.list[i])
	}
	mask := uint64(1)<<o.half - 1
	for { // at most four times on average: the network permutes a power of four that holds n
		left, right := i>>o.half, i&mask
		for _, key := range o.keys {
			left, right = right, left^mix(right+key)&mask
		}
		if i = left<<o.half | right; i < o.n {
			return i
		}
	}
}
