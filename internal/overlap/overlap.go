// Package overlap finds which parts of some sequences also stand in others, exactly.
//
// The sequences asked about are indexed, and the others, of which there may be any number, are
// read past once: memory depends on what is asked about alone, time is linear in both.
package overlap

import (
	"cmp"
	"slices"
)

// Index is a suffix automaton over the sequences that are asked about.
type Index struct {
	states []state
	arcs   []arc
	find   map[step]int32 // number of an arc
	ends   [][]int32      // by sequence, the state of each prefix
	spread bool           // whoever has a suffix that was seen knows it
}

type state struct {
	length, link int32
	arcs         int32 // the newest arc from here, -1 for none
	best         int32 // longest of the state's strings that was seen, 0 for none
}

type step struct{ from, token int32 }

// arc leads from a state over a token; arcs of one state are chained.
type arc struct{ token, to, next int32 }

// New makes an empty index.
func New() *Index {
	return &Index{states: []state{{link: -1, arcs: -1}}, find: map[step]int32{}}
}

// Add takes a sequence and gives its number. All are added before the first Feed.
func (x *Index) Add(tokens []int32) int {
	last := int32(0)
	ends := make([]int32, len(tokens))
	for i, t := range tokens {
		last = x.extend(last, t)
		ends[i] = last
	}
	x.ends = append(x.ends, ends)
	return len(x.ends) - 1
}

// follow takes a token's way; -1 says that there is none.
func (x *Index) follow(from, token int32) int32 {
	if a, ok := x.find[step{from, token}]; ok {
		return x.arcs[a].to
	}
	return -1
}

func (x *Index) connect(from, token, to int32) {
	if a, ok := x.find[step{from, token}]; ok {
		x.arcs[a].to = to
		return
	}
	x.find[step{from, token}] = int32(len(x.arcs))
	x.arcs = append(x.arcs, arc{token, to, x.states[from].arcs})
	x.states[from].arcs = int32(len(x.arcs) - 1)
}

// extend grows the automaton by one token behind a prefix (Blumer and others 1985; with several
// sequences the way may be there already).
func (x *Index) extend(last, t int32) int32 {
	if q := x.follow(last, t); q >= 0 {
		if x.states[q].length == x.states[last].length+1 {
			return q
		}
		return x.split(last, t, q)
	}
	made := x.state(state{length: x.states[last].length + 1, arcs: -1})
	p := last
	for ; p >= 0 && x.follow(p, t) < 0; p = x.states[p].link {
		x.connect(p, t, made)
	}
	if p < 0 {
		return made // linked to the root, state 0
	}
	q := x.follow(p, t)
	if x.states[q].length != x.states[p].length+1 {
		q = x.split(p, t, q)
	}
	x.states[made].link = q
	return made
}

func (x *Index) state(s state) int32 {
	x.states = append(x.states, s)
	return int32(len(x.states) - 1)
}

// split parts the strings of q that are no longer than p's with t behind them from the others.
func (x *Index) split(p, t, q int32) int32 {
	clone := x.state(state{length: x.states[p].length + 1, link: x.states[q].link, arcs: -1})
	x.states[q].link = clone
	for a := x.states[q].arcs; a >= 0; a = x.arcs[a].next {
		x.connect(clone, x.arcs[a].token, x.arcs[a].to)
	}
	for ; p >= 0 && x.follow(p, t) == q; p = x.states[p].link {
		x.connect(p, t, clone)
	}
	return clone
}

// Feed reads past one of the other sequences and remembers what of it is found.
func (x *Index) Feed(tokens []int32) {
	x.spread = false
	at, length := int32(0), int32(0)
	for _, t := range tokens {
		to := x.follow(at, t)
		for to < 0 && at > 0 {
			at = x.states[at].link
			length = x.states[at].length
			to = x.follow(at, t)
		}
		if to < 0 {
			continue
		}
		at = to
		length++
		x.states[at].best = max(x.states[at].best, length)
	}
}

// Found gives, for each place of a sequence that was added, the length of the longest run ending
// there that the others hold too. It is asked after the last Feed.
func (x *Index) Found(sequence int) []int {
	if !x.spread {
		x.settle()
	}
	out := make([]int, len(x.ends[sequence]))
	for i, s := range x.ends[sequence] {
		for ; s > 0; s = x.states[s].link {
			if best := int(x.states[s].best); best > 0 {
				out[i] = best // states further up hold shorter strings
				break
			}
		}
	}
	return out
}

// settle marks all suffixes of what was seen as seen.
func (x *Index) settle() {
	order := make([]int32, len(x.states))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Compare(x.states[b].length, x.states[a].length) })
	for _, s := range order {
		if link := x.states[s].link; link > 0 && x.states[s].best > 0 {
			x.states[link].best = x.states[link].length
		}
	}
	x.spread = true
}
