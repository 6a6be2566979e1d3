package vocab

import (
	"math"
	"strings"
	"unicode/utf8"
)

// sumResetAt is where SentencePiece shifts the sums of a long line back to zero, so that float32
// keeps its precision.
const sumResetAt = 100000

// spTokenizer is SentencePiece: the whole line is normalised and segmented at once.
type spTokenizer struct {
	model *spModel
	trie  *trie // of what may be matched: no control, unknown, unused or byte piece
	// scores are those that segmenting uses: a user-defined piece has a bonus in place of its own.
	scores    []float32
	unk       int32
	unkScore  float32
	bytes     *[256]int32
	byteValue map[int32]byte
	user      *trie // user-defined pieces, which the normaliser leaves alone; nil without any
	rules     *charsmap
	// plain are the ASCII characters with which no rule and no user-defined piece begins that goes on
	// in ASCII, white space left out; with those in closed none begins at all.
	plain     [128]bool
	closed    runeSet
	extra     []string // sentinels that come after the pieces, in the order of their ids
	scratches scratchPool
}

// newSP makes a SentencePiece tokenizer whose vocabulary goes on with extra.
func newSP(m *spModel, extra []string) (*spTokenizer, error) {
	rules, err := newCharsmap(m.charsmap)
	if err != nil {
		return nil, err
	}
	t := &spTokenizer{model: m, rules: rules, extra: extra, byteValue: map[int32]byte{}}
	var keys, user []trieKey
	lowest := float32(math.MaxFloat32)
	t.scores = make([]float32, len(m.pieces))
	var bytes [256]int32
	for i, p := range m.pieces {
		id := int32(i)
		t.scores[i] = p.score
		switch p.kind {
		case pieceUnknown:
			t.unk = id
		case pieceUserDefined:
			// SentencePiece computes the bonus in double precision and rounds it.
			t.scores[i] = float32(0.1 * float64(len(p.text)-1))
			user = append(user, trieKey{p.text, id})
			keys = append(keys, trieKey{p.text, id})
		case pieceByte:
			if c, ok := byteOf(p.text); ok {
				t.byteValue[id], bytes[c] = c, id
			}
		case pieceNormal:
			lowest = min(lowest, p.score)
			keys = append(keys, trieKey{p.text, id})
		case pieceControl, pieceUnused:
		}
	}
	t.trie = newTrie(keys)
	t.unkScore = lowest - unkPenalty
	if m.byteFallback {
		t.bytes = &bytes
	}
	if len(user) > 0 {
		t.user = newTrie(user)
	}
	t.findPlain(user)
	return t, nil
}

// byteOf returns the byte that a byte piece spells.
func byteOf(text string) (byte, bool) {
	for c := range 256 {
		if bytePiece(byte(c)) == text {
			return byte(c), true
		}
	}
	return 0, false
}

func (t *spTokenizer) findPlain(user []trieKey) {
	for c := range t.plain {
		t.plain[c] = c > ' ' && (t.rules == nil || t.rules.ascii[c] == 0)
	}
	for r := rune(1); r < 1<<16; r++ {
		if utf8.ValidRune(r) && r != utf8.RuneError && (t.rules == nil || !t.rules.begins(r)) {
			t.closed.add(r)
		}
	}
	for _, k := range user {
		r, _ := utf8.DecodeRuneInString(k.key)
		t.closed.remove(r)
		if r < utf8.RuneSelf {
			t.plain[r] = false
		}
	}
}

func (t *spTokenizer) encode(ids []int32, text string) []int32 {
	s := t.scratches.take()
	defer t.scratches.giveBack(s)
	s.text = t.normalize(s.text[:0], text)
	return t.segment(s, ids, s.text)
}

// normalize appends the normalised text: rules applied, spaces collapsed and marked.
func (t *spTokenizer) normalize(out []byte, text string) []byte {
	remove := t.model.removeSpaces
	for remove && text != "" {
		part, n := t.prefix(text)
		if part != " " {
			break
		}
		text = text[n:]
	}
	if text == "" {
		return out
	}
	start := len(out)
	if t.model.dummyPrefix {
		out = append(out, spaceMark...)
	}
	afterSpace := remove
	for text != "" {
		if run := t.plainRun(text); run > 0 {
			out = append(out, text[:run]...)
			text, afterSpace = text[run:], false
			continue
		}
		part, n := " ", 1
		if text[0] != ' ' || !t.closed.has(' ') {
			part, n = t.prefix(text)
		}
		text = text[n:]
		for afterSpace && part != "" && part[0] == ' ' {
			part = part[1:]
		}
		if part == "" {
			continue
		}
		for i := range len(part) {
			if part[i] == ' ' {
				out = append(out, spaceMark...)
			} else {
				out = append(out, part[i])
			}
		}
		afterSpace = remove && part[len(part)-1] == ' '
	}
	for remove && len(out)-start >= len(spaceMark) && string(out[len(out)-len(spaceMark):]) == spaceMark {
		out = out[:len(out)-len(spaceMark)]
	}
	return out
}

// plainRun is the length of the run that text begins with and that stays as it is.
func (t *spTokenizer) plainRun(text string) int {
	n := 0
	for n < len(text) {
		if c := text[n]; c < utf8.RuneSelf {
			if !t.plain[c] || n+1 < len(text) && text[n+1] >= utf8.RuneSelf && !t.closed.has(rune(c)) {
				break
			}
			n++
			continue
		}
		r, size := utf8.DecodeRuneInString(text[n:])
		if !t.closed.has(r) {
			break
		}
		n += size
	}
	return n
}

// prefix returns what the beginning of text is normalised to, and how much of it that is.
func (t *spTokenizer) prefix(text string) (string, int) {
	if t.user != nil {
		if id, n := t.user.longest(text); id >= 0 {
			return text[:n], n
		}
	}
	if t.rules != nil {
		if replacement, n := t.rules.longest(text); n > 0 {
			return replacement, n
		}
	}
	r, n := utf8.DecodeRuneInString(text)
	if r == utf8.RuneError && n == 1 {
		return "\uFFFD", 1
	}
	return text[:n], n
}

// segment appends the ids of the best way through text.
func (t *spTokenizer) segment(s *scratch, ids []int32, text []byte) []int32 {
	if len(text) == 0 {
		return ids
	}
	cells := s.narrowCells(len(text) + 1)
	cells[0].score = 0
	units, scores := t.trie.units, t.scores
	frontier := 0
	for at := 0; at < len(text); {
		till := cells[at].score
		if till < -sumResetAt || till > sumResetAt {
			shift(cells[at:frontier+1], till)
			till = 0
		}
		length := min(spRuneLength(text[at]), len(text)-at)
		single := false
		base := units[0].base()
		for end := at; end < len(text); {
			unit := units[base^uint32(text[end])]
			if unit.label() != uint64(text[end]) {
				break
			}
			end++
			base = unit.base()
			id := unit.value()
			if id < 0 {
				continue
			}
			frontier = max(frontier, end)
			score := scores[id] + till
			if cell := &cells[end]; cell.start < 0 || score > cell.score {
				*cell = narrowCell{score: score, start: int32(at), id: id}
			}
			single = single || end-at == length
		}
		if !single {
			frontier = max(frontier, at+length)
			score := t.unkScore + till
			if cell := &cells[at+length]; cell.start < 0 || score > cell.score {
				*cell = narrowCell{score: score, start: int32(at), id: t.unk}
			}
		}
		at += length
	}
	return t.backtrack(ids, text, cells)
}

// shift lowers the sums of the cells that have been reached by the first one's.
func shift(cells []narrowCell, by float32) {
	for i := range cells {
		if i == 0 || cells[i].start >= 0 {
			cells[i].score -= by
		}
	}
}

// spRuneLength is the length of a character by its first byte, as SentencePiece sees it.
func spRuneLength(lead byte) int {
	switch {
	case lead < 0xc0:
		return 1
	case lead < 0xe0:
		return 2
	case lead < 0xf0:
		return 3
	}
	return 4
}

func (t *spTokenizer) backtrack(ids []int32, text []byte, cells []narrowCell) []int32 {
	first := len(ids)
	for end := len(text); end > 0; {
		cell := cells[end]
		start := int(cell.start)
		switch {
		case cell.id != t.unk:
			ids = append(ids, cell.id)
		case t.bytes != nil:
			for i := end - 1; i >= start; i-- {
				ids = append(ids, t.bytes[text[i]])
			}
		default:
			for start > 0 && cells[start].id == t.unk {
				start = int(cells[start].start)
			}
			ids = append(ids, t.unk)
		}
		end = start
	}
	for i, j := first, len(ids)-1; i < j; i, j = i+1, j-1 {
		ids[i], ids[j] = ids[j], ids[i]
	}
	return ids
}

// decode is SentencePiece's, which knows nothing of sentinels: they are spelled out, or left out
// with skipSpecial. Control pieces are invisible either way, and an unknown one is " ⁇ ".
func (t *spTokenizer) decode(ids []int32, skipSpecial bool) string {
	var out strings.Builder
	out.Grow(4 * len(ids))
	var bytes []byte
	// While atStart, pieces lose a ▁ in front: the one that normalising put there, or, in models
	// that remove spaces, as many as come before the first text.
	atStart := t.model.dummyPrefix || t.model.removeSpaces
	for _, id := range ids {
		if c, ok := t.byteValue[id]; ok {
			bytes = append(bytes, c)
			continue
		}
		bytes = flushBytes(&out, bytes)
		if id < 0 || int(id) >= len(t.model.pieces) {
			if name, ok := t.piece(id); ok && !skipSpecial {
				out.WriteString(name)
			}
			continue
		}
		p := &t.model.pieces[id]
		switch p.kind {
		case pieceControl:
		case pieceUnknown:
			out.WriteString(t.model.unkSurface)
		case pieceNormal, pieceUserDefined, pieceUnused, pieceByte:
			text := p.text
			if atStart && out.Len() == 0 {
				text = strings.TrimPrefix(text, spaceMark)
				atStart = t.model.removeSpaces || len(text) == len(p.text)
			}
			out.WriteString(strings.ReplaceAll(text, spaceMark, " "))
		}
	}
	flushBytes(&out, bytes)
	return out.String()
}

// flushBytes writes gathered byte pieces as text, U+FFFD for each byte that is none.
func flushBytes(out *strings.Builder, bytes []byte) []byte {
	for len(bytes) > 0 {
		r, n := utf8.DecodeRune(bytes)
		out.WriteRune(r)
		bytes = bytes[n:]
	}
	return bytes[:0]
}

func (t *spTokenizer) piece(id int32) (string, bool) {
	if n := len(t.model.pieces); id < 0 || int(id) >= n+len(t.extra) {
		return "", false
	} else if int(id) >= n {
		return t.extra[int(id)-n], true
	}
	return t.model.pieces[id].text, true
}
