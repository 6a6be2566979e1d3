package vocab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// charsmap holds the replacement rules of a normaliser, as SentencePiece precompiles them: a
// Darts-clone double array of what is replaced, and the replacements, each ending in a NUL. A nil
// charsmap has no rules.
type charsmap struct {
	units []uint32
	pool  string
	ascii [128]asciiRule
}

// asciiRule says what an ASCII character needs, so that most text never sees the trie.
type asciiRule uint8

const (
	ruleAlone asciiRule = 1 << iota // there is a rule for the character by itself
	ruleASCII                       // there is a rule for it and an ASCII character after it
)

// newCharsmap reads a precompiled charsmap; an empty one gives nil.
func newCharsmap(blob []byte) (*charsmap, error) {
	if len(blob) == 0 {
		return nil, nil
	}
	if len(blob) < 4 {
		return nil, errors.New("its charsmap is cut off")
	}
	size := binary.LittleEndian.Uint32(blob)
	blob = blob[4:]
	if uint64(size) > uint64(len(blob)) || size%4 != 0 || size == 0 {
		return nil, fmt.Errorf("its charsmap has a trie of %d bytes in %d", size, len(blob))
	}
	m := &charsmap{units: make([]uint32, size/4), pool: string(blob[size:])}
	if !utf8.ValidString(m.pool) {
		return nil, errors.New("its charsmap has replacements that are not UTF-8")
	}
	for i := range m.units {
		m.units[i] = binary.LittleEndian.Uint32(blob[4*i:])
	}
	for c := range m.ascii {
		m.ascii[c] = m.asciiRule(byte(c))
	}
	return m, nil
}

// dartsOffset is the field of a Darts-clone unit that leads to its children.
func dartsOffset(unit uint32) uint32 { return unit >> 10 << (unit & (1 << 9) >> 6) }

// dartsLabel is the byte that leads to the unit; a unit that holds a value never matches.
func dartsLabel(unit uint32) uint32 { return unit & (1<<31 | 0xff) }

// step goes from the node whose children lie at pos to its child by c. It returns where that
// one's children lie and the place of its replacement, or -1 if no rule ends there.
func (m *charsmap) step(pos uint32, c byte) (next uint32, value int, ok bool) {
	pos ^= uint32(c)
	if pos >= uint32(len(m.units)) {
		return 0, -1, false
	}
	unit := m.units[pos]
	if dartsLabel(unit) != uint32(c) {
		return 0, -1, false
	}
	next = pos ^ dartsOffset(unit)
	value = -1
	if unit>>8&1 == 1 && next < uint32(len(m.units)) {
		if v := m.units[next] & (1<<31 - 1); uint64(v) < uint64(len(m.pool)) && utf8.RuneStart(m.pool[v]) {
			value = int(v)
		}
	}
	return next, value, true
}

func (m *charsmap) root() uint32 { return dartsOffset(m.units[0]) }

func (m *charsmap) asciiRule(c byte) (rule asciiRule) {
	next, value, ok := m.step(m.root(), c)
	if !ok || c == 0 {
		return 0
	}
	if value >= 0 {
		rule |= ruleAlone
	}
	for second := range byte(128) {
		if _, _, ok := m.step(next, second); ok && second != 0 {
			rule |= ruleASCII
		}
	}
	return rule
}

// begins says whether any rule begins with the character r.
func (m *charsmap) begins(r rune) bool {
	var spelling [utf8.UTFMax]byte
	pos := m.root()
	for _, c := range spelling[:utf8.EncodeRune(spelling[:], r)] {
		next, value, ok := m.step(pos, c)
		if !ok {
			return false
		}
		if value >= 0 {
			return true
		}
		pos = next
	}
	return m.goesOn(pos)
}

// goesOn says whether any rule goes on from the node whose children lie at pos.
func (m *charsmap) goesOn(pos uint32) bool {
	for c := range 256 {
		if _, _, ok := m.step(pos, byte(c)); ok && c != 0 {
			return true
		}
	}
	return false
}

// shortest returns the replacement of the shortest rule that text begins with. A NUL ends text.
func (m *charsmap) shortest(text string) (replacement string, ok bool) {
	pos := m.root()
	for i := range len(text) {
		next, value, ok := m.step(pos, text[i])
		if !ok || text[i] == 0 {
			break
		}
		if value >= 0 {
			return m.replacement(value), true
		}
		pos = next
	}
	return "", false
}

// longest returns the replacement of the longest rule that text begins with, and the length of
// what it replaces; 0 if no rule fits.
func (m *charsmap) longest(text string) (replacement string, length int) {
	pos, best := m.root(), -1
	for i := range len(text) {
		next, value, ok := m.step(pos, text[i])
		if !ok {
			break
		}
		if value >= 0 {
			best, length = value, i+1
		}
		pos = next
	}
	if best < 0 {
		return "", 0
	}
	return m.replacement(best), length
}

func (m *charsmap) replacement(at int) string {
	end := at
	for end < len(m.pool) && m.pool[end] != 0 {
		end++
	}
	return m.pool[at:end]
}
