// Package ngram numbers words and n-grams exactly, for counting them fast.
//
// An n-gram is known by the number of its first n-1 members and the last one, so that counting needs
// no strings and no hashing of long keys; equal numbers mean equal n-grams, with no chance of a
// collision. Tables are emptied in constant time and reused from segment to segment.
package ngram

import (
	"hash/maphash"
	"math/bits"
)

// Chains numbers pairs (number of the shorter n-gram, next member) in order of appearance from 0.
// The zero value is ready.
type Chains struct {
	slots []chainSlot
	gen   uint32
	n     int32
	shift uint8
}

type chainSlot struct {
	key uint64
	id  int32
	gen uint32
}

// Reset forgets all n-grams.
func (c *Chains) Reset() {
	c.n = 0
	c.gen++
	if c.slots == nil {
		c.grow(1024)
	}
	if c.gen == 0 { // wrapped: marks of four billion segments ago would read as current
		clear(c.slots)
		c.gen = 1
	}
}

// Len is how many n-grams have a number.
func (c *Chains) Len() int { return int(c.n) }

func (c *Chains) grow(size int) {
	old, oldGen := c.slots, c.gen
	c.slots = make([]chainSlot, size)
	c.shift = uint8(64 - bits.TrailingZeros(uint(size)))
	c.gen = 1
	for _, s := range old {
		if s.gen == oldGen {
			*c.slot(s.key) = chainSlot{s.key, s.id, c.gen}
		}
	}
}

// slot is where key is, or the free place where it belongs.
func (c *Chains) slot(key uint64) *chainSlot {
	mask := len(c.slots) - 1
	for i := int(key * 0x9E3779B97F4A7C15 >> c.shift); ; i = (i + 1) & mask {
		s := &c.slots[i]
		if s.gen != c.gen || s.key == key {
			return s
		}
	}
}

func pairKey(prev, next int32) uint64 { return uint64(uint32(prev))<<32 | uint64(uint32(next)) }

// ID is the number of the n-gram, a new one if it had none. prev is -1 for a single member.
func (c *Chains) ID(prev, next int32) int32 {
	s := c.slot(pairKey(prev, next))
	if s.gen == c.gen {
		return s.id
	}
	*s = chainSlot{pairKey(prev, next), c.n, c.gen}
	id := c.n
	c.n++
	if int(c.n)*2 > len(c.slots) {
		c.grow(len(c.slots) * 2)
	}
	return id
}

// Find is the number of the n-gram, or -1.
func (c *Chains) Find(prev, next int32) int32 {
	if s := c.slot(pairKey(prev, next)); s.gen == c.gen {
		return s.id
	}
	return -1
}

// Words numbers distinct strings from 0. The zero value is ready.
type Words struct {
	slots []wordSlot
	seed  maphash.Seed
	gen   uint32
	n     int32
}

type wordSlot struct {
	word string
	hash uint64
	id   int32
	gen  uint32
}

// Reset forgets all words.
func (w *Words) Reset() {
	w.n = 0
	w.gen++
	if w.slots == nil {
		w.seed = maphash.MakeSeed() // the order of slots varies with it, numbers do not
	}
	if w.slots == nil {
		w.grow(256)
	}
	if w.gen == 0 {
		clear(w.slots)
		w.gen = 1
	}
}

func (w *Words) grow(size int) {
	old, oldGen := w.slots, w.gen
	w.slots = make([]wordSlot, size)
	w.gen = 1
	for _, s := range old {
		if s.gen == oldGen {
			s.gen = w.gen
			*w.slot(s.word, s.hash) = s
		}
	}
}

func (w *Words) slot(word string, hash uint64) *wordSlot {
	mask := uint64(len(w.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := &w.slots[i]
		if s.gen != w.gen || (s.hash == hash && s.word == word) {
			return s
		}
	}
}

// ID is the number of the word, a new one if it had none. The word is kept until Reset.
func (w *Words) ID(word string) int32 {
	hash := maphash.String(w.seed, word)
	s := w.slot(word, hash)
	if s.gen == w.gen {
		return s.id
	}
	*s = wordSlot{word, hash, w.n, w.gen}
	id := w.n
	w.n++
	if int(w.n)*2 > len(w.slots) {
		w.grow(len(w.slots) * 2)
	}
	return id
}
