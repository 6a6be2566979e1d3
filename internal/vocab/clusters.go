package vocab

import (
	"unicode/utf8"

	"github.com/clipperhouse/uax29/v2/graphemes"
)

// runeSet is a set of characters of the Basic Multilingual Plane.
type runeSet [1 << 10]uint64

func (s *runeSet) add(r rune) { s[r>>6] |= 1 << (r & 63) }

func (s *runeSet) remove(r rune) {
	if r < 1<<16 {
		s[r>>6] &^= 1 << (r & 63)
	}
}

func (s *runeSet) has(r rune) bool { return r < 1<<16 && s[r>>6]>>(r&63)&1 == 1 }

// standaloneRanges lists characters that are common in text and between any two of which a grapheme
// cluster ends. The same holds between one of them and an ASCII character, on either side. It is no
// complete list: what is missing only takes the slower way.
func standaloneRanges() [][2]rune {
	return [][2]rune{
		{0x00a1, 0x00a8}, {0x00aa, 0x00ac}, {0x00af, 0x02ff}, // Latin
		{0x0370, 0x0482}, {0x048a, 0x058f}, // Greek, Cyrillic, Armenian
		{0x05d0, 0x05f4}, {0x0620, 0x064a}, {0x0660, 0x066f}, {0x0671, 0x06d5}, // Hebrew, Arabic
		{0x0904, 0x0939}, {0x0985, 0x09b9}, {0x0b85, 0x0bb9}, {0x0e01, 0x0e30}, {0x0e40, 0x0e45}, // Indic, Thai
		{0x10a0, 0x10ff}, {0x1200, 0x135a}, {0x1e00, 0x1fff}, // Georgian, Ethiopic, more Latin and Greek
		{0x2010, 0x2027}, {0x2030, 0x203b}, {0x20a0, 0x20bf},
		{0x3001, 0x3029}, {0x3041, 0x3096}, {0x309b, 0x30ff}, {0x3400, 0x4dbf}, {0x4e00, 0x9fff},
		{0xac00, 0xd7a3}, {0xff01, 0xff9d},
	}
}

// clusterer cuts text into extended grapheme clusters, and knows which characters a charsmap leaves
// alone, so that most text needs neither the one nor the other.
type clusterer struct {
	// standalone are ASCII characters and those of standaloneRanges, without CR.
	standalone runeSet
	// plain are those of them that are no white space and that no rule replaces.
	plain runeSet
	// spaceRuled says that there is a rule for the space.
	spaceRuled bool
}

func newClusterer(rules *charsmap) *clusterer {
	c := &clusterer{spaceRuled: rules != nil && rules.ascii[' ']&ruleAlone != 0}
	for r := range rune(utf8.RuneSelf) {
		if r == '\r' {
			continue
		}
		c.standalone.add(r)
		if r > ' ' && r < 0x7f && (rules == nil || rules.ascii[r]&ruleAlone == 0) {
			c.plain.add(r)
		}
	}
	for _, bounds := range standaloneRanges() {
		for r := bounds[0]; r <= bounds[1]; r++ {
			c.standalone.add(r)
			if rules != nil {
				if _, ruled := rules.shortest(string(r)); ruled {
					continue
				}
			}
			c.plain.add(r)
		}
	}
	return c
}

// plainRun is the length of the run that text begins with of plain characters that are clusters by
// themselves.
func (c *clusterer) plainRun(text string) int {
	n, last := 0, 0
	for n < len(text) {
		if b := text[n]; b < utf8.RuneSelf {
			if !c.plain.has(rune(b)) {
				return n
			}
			last = n
			n++
			continue
		}
		r, size := utf8.DecodeRuneInString(text[n:])
		if !c.plain.has(r) {
			if c.standalone.has(r) {
				return n
			}
			return last // what follows may belong to the cluster of the last one
		}
		last = n
		n += size
	}
	return n
}

// loneSpace says whether text begins with a space that is a cluster by itself and has no rule.
func (c *clusterer) loneSpace(text string) bool {
	if text[0] != ' ' || c.spaceRuled {
		return false
	}
	if len(text) == 1 || text[1] < utf8.RuneSelf {
		return true
	}
	r, _ := utf8.DecodeRuneInString(text[1:])
	return c.standalone.has(r)
}

// next returns the cluster that text begins with.
func (c *clusterer) next(text string) string {
	if r, n := utf8.DecodeRuneInString(text); c.standalone.has(r) {
		if n == len(text) {
			return text
		}
		if r, _ := utf8.DecodeRuneInString(text[n:]); r < utf8.RuneSelf || c.standalone.has(r) {
			return text[:n]
		}
	}
	iterator := graphemes.FromString(text)
	iterator.Next()
	return iterator.Value()
}
