// Package numpy reproduces the random streams and the sums of NumPy 2, on which the reference tools'
// resampling rests: PCG64 as default_rng gives it, the legacy Mersenne Twister of np.random.seed,
// pairwise summation and percentiles.
//
// Go's math/rand/v2 has another generator of the PCG family, and neither of these.
package numpy

import "math/bits"

// PCG64 is numpy.random.default_rng(seed): PCG XSL-RR 128/64 with the seed spread by SeedSequence.
type PCG64 struct {
	hi, lo       uint64
	incHi, incLo uint64
	half         uint32
	hasHalf      bool
}

const (
	pcgMulHi = 0x2360ED051FC65DA4
	pcgMulLo = 0x4385DF649FCCF645
)

// NewPCG64 is default_rng(seed).
func NewPCG64(seed uint64) *PCG64 {
	s := spread(seed)
	p := &PCG64{}
	// The sequence's second pair chooses the stream: inc = 2·x + 1.
	p.incHi, p.incLo = s[2]<<1|s[3]>>63, s[3]<<1|1
	p.step()
	var carry uint64
	p.lo, carry = bits.Add64(p.lo, s[1], 0)
	p.hi, _ = bits.Add64(p.hi, s[0], carry)
	p.step()
	return p
}

func (p *PCG64) step() {
	hi, lo := bits.Mul64(p.lo, pcgMulLo)
	hi += p.hi*pcgMulLo + p.lo*pcgMulHi
	var carry uint64
	p.lo, carry = bits.Add64(lo, p.incLo, 0)
	p.hi, _ = bits.Add64(hi, p.incHi, carry)
}

// Uint64 is the next 64 bits.
func (p *PCG64) Uint64() uint64 {
	p.step()
	return bits.RotateLeft64(p.hi^p.lo, -int(p.hi>>58))
}

// Uint32 is the next 32 bits: the low half of a word, then the high half.
func (p *PCG64) Uint32() uint32 {
	if p.hasHalf {
		p.hasHalf = false
		return p.half
	}
	w := p.Uint64()
	p.half, p.hasHalf = uint32(w>>32), true
	return uint32(w)
}

// Choice fills dst as choice(n, size=len(dst)) does, by Lemire's method on 32-bit words. A population
// of one draws nothing. n is at most 2^32 - 1.
func (p *PCG64) Choice(dst []int32, n int) {
	if n <= 1 {
		clear(dst)
		return
	}
	excl := uint32(n)
	threshold := (0xFFFFFFFF - (excl - 1)) % excl
	for i := range dst {
		m := uint64(p.Uint32()) * uint64(excl)
		for uint32(m) < threshold {
			m = uint64(p.Uint32()) * uint64(excl)
		}
		dst[i] = int32(m >> 32)
	}
}

// Bools are the values of integers(2, dtype=bool): the bits of 32-bit words, low first. What is left of
// the last word is dropped where the call ends that the reads stand for.
type Bools struct {
	p    *PCG64
	word uint32
	left int
}

// Bools begins a call.
func (p *PCG64) Bools() *Bools { return &Bools{p: p} }

// Copy gives the same values from here on, whatever is read of b or of its stream.
func (b *Bools) Copy() *Bools {
	p := *b.p
	return &Bools{p: &p, word: b.word, left: b.left}
}

// Read fills dst with the next values.
func (b *Bools) Read(dst []bool) {
	for i := range dst {
		if b.left == 0 {
			b.word, b.left = b.p.Uint32(), 32
		}
		dst[i] = b.word&1 != 0
		b.word >>= 1
		b.left--
	}
}

// spread is SeedSequence(seed).generate_state(4, uint64).
func spread(seed uint64) [4]uint64 {
	const (
		initA, multA = 0x43b0d7e5, 0x931e8875
		initB, multB = 0x8b51f9dd, 0x58f38ded
		mixL, mixR   = 0xca01f9dd, 0x4973f715
	)
	hash := uint32(initA)
	hashmix := func(v uint32) uint32 {
		v ^= hash
		hash *= multA
		v *= hash
		return v ^ v>>16
	}
	mix := func(x, y uint32) uint32 {
		r := uint32(mixL)*x - uint32(mixR)*y
		return r ^ r>>16
	}
	pool := [4]uint32{uint32(seed), uint32(seed >> 32)}
	for i := range pool {
		pool[i] = hashmix(pool[i])
	}
	for src := range pool {
		for dst := range pool {
			if src != dst {
				pool[dst] = mix(pool[dst], hashmix(pool[src]))
			}
		}
	}
	hash = initB
	var words [8]uint32
	for i := range words {
		v := pool[i%4] ^ hash
		hash *= multB
		v *= hash
		words[i] = v ^ v>>16
	}
	var out [4]uint64
	for i := range out {
		out[i] = uint64(words[2*i]) | uint64(words[2*i+1])<<32
	}
	return out
}
