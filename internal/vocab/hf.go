package vocab

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// prependScheme says which stretches of text get a ▁ in front.
type prependScheme int

const (
	prependAlways prependScheme = iota
	prependFirst                // only the one that begins the text
	prependNever
)

// hfModel is a pipeline of the tokenizers library: added tokens are cut out of the raw text, what
// lies between is normalised and cut into words, and each word is segmented by itself.
type hfModel struct {
	words    *wideModel
	added    *addedTokens
	rules    *charsmap
	clusters *clusterer
	shape    shape
	eos      int32 // appended to every text; -1: nothing is
	pieces   []string
	surface  []string // pieces with spaces for ▁
	special  []bool
	// dropFirst says that decoding drops the ▁ of the first piece.
	dropFirst bool
	scratches scratchPool
}

// shape is the part of a pipeline between the charsmap and the words.
type shape struct {
	splitSpaces bool // words end at white space
	stripLeft   bool
	stripRight  bool
	// squeeze is what two or more spaces in a row become; empty: they stay.
	squeeze string
	prepend prependScheme
}

func (m *hfModel) encode(ids []int32, text string) []int32 {
	text = validUTF8(text)
	s := m.scratches.take()
	defer m.scratches.giveBack(s)
	m.added.split(text, func(start, end int, id int32) {
		if id >= 0 {
			ids = append(ids, id)
			return
		}
		if m.shape.splitSpaces {
			ids = m.encodeWords(s, ids, text[start:end])
		} else {
			ids = m.encodeWhole(s, ids, text[start:end], start == 0)
		}
	})
	if m.eos >= 0 {
		ids = append(ids, m.eos)
	}
	return ids
}

// wordWriter gathers normalised text into words that begin with ▁, and segments each as it ends.
type wordWriter struct {
	model *wideModel
	s     *scratch
	word  []byte // begins with ▁ always; nothing has come yet if it is no longer
	open  bool   // something has come since the last space
	ids   []int32
}

func (w *wordWriter) end() {
	if w.open {
		w.ids = w.model.segment(w.s, w.ids, w.word)
		w.word, w.open = w.word[:len(spaceMark)], false
	}
}

// write adds text in which there is neither white space nor ▁.
func (w *wordWriter) write(text string) {
	w.word = append(w.word, text...)
	w.open = true
}

// writeRune adds any character.
func (w *wordWriter) writeRune(r rune) {
	switch {
	case r == '▁': // it begins a word, and makes up for the ▁ that the word would have got
		w.end()
		w.open = true
	case unicode.IsSpace(r):
		w.end()
	default:
		w.word = utf8.AppendRune(w.word, r)
		w.open = true
	}
}

// encodeWords appends the ids of a stretch that is cut at white space, each word getting a ▁.
func (m *hfModel) encodeWords(s *scratch, ids []int32, text string) []int32 {
	w := wordWriter{model: m.words, s: s, word: append(s.words[:0], spaceMark...), ids: ids}
	for i := 0; i < len(text); {
		if run := m.clusters.plainRun(text[i:]); run > 0 {
			w.write(text[i : i+run])
			i += run
			continue
		}
		if m.clusters.loneSpace(text[i:]) {
			w.end()
			i++
			continue
		}
		cluster := m.clusters.next(text[i:])
		m.normalize(cluster, func(part string) {
			for _, r := range part {
				w.writeRune(r)
			}
		})
		i += len(cluster)
	}
	w.end()
	s.words = w.word
	return w.ids
}

// normalize gives what the charsmap makes of one cluster to emit, part by part. A short cluster is
// replaced as a whole if a rule fits its beginning.
func (m *hfModel) normalize(cluster string, emit func(part string)) {
	const short = 6
	if m.rules == nil {
		emit(cluster)
		return
	}
	if len(cluster) < short {
		if replacement, ok := m.rules.shortest(cluster); ok {
			emit(replacement)
			return
		}
	}
	for len(cluster) > 0 {
		n := runeLength(cluster[0])
		if replacement, ok := m.rules.shortest(cluster[:n]); ok {
			emit(replacement)
		} else {
			emit(cluster[:n])
		}
		cluster = cluster[n:]
	}
}

// encodeWhole appends the ids of a stretch that is cut only where a ▁ comes to stand.
func (m *hfModel) encodeWhole(s *scratch, ids []int32, text string, first bool) []int32 {
	out := s.text[:0]
	for i := 0; i < len(text); {
		if run := m.clusters.plainRun(text[i:]); run > 0 {
			out = append(out, text[i:i+run]...)
			i += run
			continue
		}
		if m.clusters.loneSpace(text[i:]) {
			out = append(out, ' ')
			i++
			continue
		}
		cluster := m.clusters.next(text[i:])
		m.normalize(cluster, func(part string) { out = append(out, part...) })
		i += len(cluster)
	}
	s.text = out
	words := m.shape.mark(s.words[:0], out, first)
	s.words = words
	for len(words) > 0 {
		n := nextMark(words)
		ids = m.words.segment(s, ids, words[:n])
		words = words[n:]
	}
	return ids
}

// mark appends text to out as the rest of the pipeline leaves it: ▁ for spaces.
func (p shape) mark(out, text []byte, first bool) []byte {
	if p.stripLeft {
		text = trimLeftSpace(text)
	}
	if p.stripRight {
		text = trimRightSpace(text)
	}
	for i := 0; i < len(text); i++ {
		if text[i] != ' ' {
			out = append(out, text[i])
			continue
		}
		run := 1
		for p.squeeze != "" && i+run < len(text) && text[i+run] == ' ' {
			run++
		}
		if i += run - 1; run == 1 || p.squeeze == " " {
			out = append(out, spaceMark...)
		} else {
			out = append(out, p.squeeze...)
		}
	}
	prepend := p.prepend == prependAlways || p.prepend == prependFirst && first
	if prepend && len(out) > 0 && !startsWithMark(out) {
		out = slices.Insert(out, 0, []byte(spaceMark)...)
	}
	return out
}

func startsWithMark(text []byte) bool {
	return len(text) >= len(spaceMark) && string(text[:len(spaceMark)]) == spaceMark
}

// nextMark is where the second word of text begins: the first ▁ after its beginning, or its end.
func nextMark(text []byte) int {
	for i := 1; i < len(text); i++ {
		if text[i] == spaceMark[0] && startsWithMark(text[i:]) {
			return i
		}
	}
	return len(text)
}

func trimLeftSpace(text []byte) []byte {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if !unicode.IsSpace(r) {
			break
		}
		text = text[size:]
	}
	return text
}

func trimRightSpace(text []byte) []byte {
	for len(text) > 0 {
		r, size := utf8.DecodeLastRune(text)
		if !unicode.IsSpace(r) {
			break
		}
		text = text[:len(text)-size]
	}
	return text
}

func (m *hfModel) decode(ids []int32, skipSpecial bool) string {
	var out strings.Builder
	out.Grow(4 * len(ids))
	first := m.dropFirst
	for _, id := range ids {
		if id < 0 || int(id) >= len(m.pieces) || skipSpecial && m.special[id] {
			continue
		}
		if first {
			out.WriteString(strings.ReplaceAll(m.pieces[id], spaceMark, ""))
			first = false
		} else {
			out.WriteString(m.surface[id])
		}
	}
	return out.String()
}

func (m *hfModel) piece(id int32) (string, bool) {
	if id < 0 || int(id) >= len(m.pieces) {
		return "", false
	}
	return m.pieces[id], true
}

// addedTokens finds added tokens in raw text.
type addedTokens struct {
	trie  *trie
	flags map[int32]addedToken
	// only is the byte that all of them begin with, if they have one in common.
	only   byte
	common bool
}

func newAddedTokens(tokens []addedToken) *addedTokens {
	a := &addedTokens{flags: map[int32]addedToken{}}
	keys := make([]trieKey, len(tokens))
	for i, token := range tokens {
		keys[i] = trieKey{token.Content, token.ID}
		a.flags[token.ID] = token
		a.common = i == 0 || a.common && token.Content[0] == a.only
		a.only = token.Content[0]
	}
	a.trie = newTrie(keys)
	return a
}

// split gives the stretches of text to visit, in order: those between added tokens with id -1, and
// each added token with its id. Of tokens that begin at one place the longest counts.
func (a *addedTokens) split(text string, visit func(start, end int, id int32)) {
	from := 0
	for at := 0; at < len(text); {
		if a.common {
			next := strings.IndexByte(text[at:], a.only)
			if next < 0 {
				break
			}
			at += next
		}
		id, length := a.trie.longest(text[at:])
		if id < 0 {
			at++
			continue
		}
		start, end := at, at+length
		at = end // the search goes on here even if the token takes the space behind it
		if a.flags[id].LStrip && start > from {
			start = from + len(strings.TrimRightFunc(text[from:start], unicode.IsSpace))
		}
		if a.flags[id].RStrip {
			end = len(text) - len(strings.TrimLeftFunc(text[end:], unicode.IsSpace))
		}
		if from < start {
			visit(from, start, -1)
		}
		visit(start, end, id)
		from = end
	}
	if from < len(text) {
		visit(from, len(text), -1)
	}
}
