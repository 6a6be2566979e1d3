package vocab

import (
	"cmp"
	"slices"
)

// trie maps byte strings to ids. It is a double array in which the child of a node by byte c sits
// at base XOR c, so that one step is one load and one comparison.
type trie struct {
	units []trieUnit
}

// trieUnit packs a node: the byte that leads to it (9 bits, 256 when the slot is free or the node
// is the root), its id plus one (24 bits, 0 when no key ends here), and the base of its children
// (31 bits).
type trieUnit uint64

const (
	unitLabelBits = 9
	unitValueBits = 24
	unitNoLabel   = 256
	maxTrieValue  = 1<<unitValueBits - 2

	trieBlock  = 256 // children of one node stay within one block
	openBlocks = 16  // blocks at the end that are still searched for room
	slotTaken  = -2
)

func (u trieUnit) label() uint64 { return uint64(u) & (1<<unitLabelBits - 1) }

// value is the id of the key that ends at the node, or -1.
func (u trieUnit) value() int32 {
	return int32(uint64(u)>>unitLabelBits&(1<<unitValueBits-1)) - 1
}

func (u trieUnit) base() uint32 { return uint32(uint64(u) >> (unitLabelBits + unitValueBits)) }

// step returns the node that c leads to from node, and whether there is one.
func (t *trie) step(node uint32, c byte) (uint32, bool) {
	next := t.units[node].base() ^ uint32(c)
	return next, t.units[next].label() == uint64(c)
}

// find returns the id of key, or -1.
func (t *trie) find(key string) int32 {
	var node uint32
	var ok bool
	for i := range len(key) {
		if node, ok = t.step(node, key[i]); !ok {
			return -1
		}
	}
	return t.units[node].value()
}

// longest returns the id and the length of the longest key that text begins with, or -1.
func (t *trie) longest(text string) (id int32, length int) {
	id = -1
	var node uint32
	var ok bool
	for i := range len(text) {
		if node, ok = t.step(node, text[i]); !ok {
			break
		}
		if v := t.units[node].value(); v >= 0 {
			id, length = v, i+1
		}
	}
	return id, length
}

// trieKey is an entry to be put into a trie.
type trieKey struct {
	key string
	id  int32
}

// newTrie builds the trie of keys. Of equal keys the highest id wins; empty ones are left out.
func newTrie(keys []trieKey) *trie {
	sorted := slices.Clone(keys)
	slices.SortFunc(sorted, func(a, b trieKey) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.id, b.id))
	})
	unique := sorted[:0]
	for _, k := range sorted {
		if n := len(unique); n > 0 && unique[n-1].key == k.key {
			unique[n-1] = k
		} else if k.key != "" {
			unique = append(unique, k)
		}
	}
	b := trieBuilder{}
	b.grow()
	b.take(0)
	b.based[0] = true // base 0 belongs to the leaves: no slot can hold a child of it
	b.place(0, unique, 0)
	return &trie{units: b.units}
}

// trieBuilder places nodes one after the other. The free slots form a list, lowest first.
type trieBuilder struct {
	units []trieUnit
	based []bool // the slot number is the base of some node, so no other may have it
	next  []int32
	prev  []int32
	first int32 // lowest free slot that is still looked at, or -1
	last  int32 // highest free slot, or -1
}

// grow adds a block of free slots, and gives up on what is free in the oldest open one.
func (b *trieBuilder) grow() {
	start := int32(len(b.units))
	if start == 0 {
		b.first, b.last = -1, -1
	}
	for slot := start; slot < start+trieBlock; slot++ {
		b.units = append(b.units, unitNoLabel)
		b.based = append(b.based, false)
		b.prev = append(b.prev, b.last)
		b.next = append(b.next, -1)
		if b.last >= 0 {
			b.next[b.last] = slot
		} else {
			b.first = slot
		}
		b.last = slot
	}
	for b.first >= 0 && b.first < start-(openBlocks-1)*trieBlock {
		b.take(uint32(b.first))
	}
}

// take removes slot from the free ones.
func (b *trieBuilder) take(slot uint32) {
	prev, next := b.prev[slot], b.next[slot]
	if prev >= 0 {
		b.next[prev] = next
	} else {
		b.first = next
	}
	if next >= 0 {
		b.prev[next] = prev
	} else {
		b.last = prev
	}
	b.prev[slot] = slotTaken
}

// place gives node its children: keys share their first depth bytes, which lead to node.
func (b *trieBuilder) place(node uint32, keys []trieKey, depth int) {
	if len(keys) > 0 && len(keys[0].key) == depth {
		b.units[node] |= trieUnit(keys[0].id+1) << unitLabelBits
		keys = keys[1:]
	}
	if len(keys) == 0 {
		return
	}
	labels := make([]byte, 0, 8)
	for _, k := range keys {
		if c := k.key[depth]; len(labels) == 0 || labels[len(labels)-1] != c {
			labels = append(labels, c)
		}
	}
	base := b.room(labels)
	b.based[base] = true
	b.units[node] |= trieUnit(base) << (unitLabelBits + unitValueBits)
	for _, c := range labels {
		child := base ^ uint32(c)
		b.take(child)
		b.units[child] = trieUnit(c)
	}
	for _, c := range labels {
		n := 0
		for n < len(keys) && keys[n].key[depth] == c {
			n++
		}
		b.place(base^uint32(c), keys[:n], depth+1)
		keys = keys[n:]
	}
}

// room returns an unused base whose slots for labels are all free.
func (b *trieBuilder) room(labels []byte) uint32 {
	for slot := b.first; slot >= 0; slot = b.next[slot] {
		if base := uint32(slot) ^ uint32(labels[0]); !b.based[base] && b.fits(base, labels) {
			return base
		}
	}
	b.grow()
	return uint32(len(b.units) - trieBlock)
}

func (b *trieBuilder) fits(base uint32, labels []byte) bool {
	for _, c := range labels {
		if b.prev[base^uint32(c)] == slotTaken {
			return false
		}
	}
	return true
}
