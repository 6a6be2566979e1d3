package vocab

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	byteOffset    = 3 // ids below are <pad>, </s> and <unk>
	byteSentinels = 125
	byteHashName  = "byt5"
)

// Bytes returns the byte-level tokenizer of ByT5: id 0 <pad>, 1 </s>, 2 <unk>, then the 256 bytes,
// then 125 sentinels.
func Bytes() *Tokenizer { return newBytes(byteSentinels) }

func newBytes(extraIDs int) *Tokenizer {
	level := byteLevel{extraIDs: extraIDs}
	t := &Tokenizer{
		encoder: level, mode: ModeBytes, size: byteOffset + 256 + extraIDs,
		pad: 0, eos: 1, unk: 2, extraIDs: extraIDs,
		hash: hashOf([]byte(byteHashName), extraIDs, byteSentinels),
	}
	for k := range extraIDs {
		t.sentinels = append(t.sentinels, int32(byteOffset+256+k))
	}
	return t
}

// byteLevel is ByT5Tokenizer: special tokens are found in the text, every other byte is an id.
type byteLevel struct{ extraIDs int }

func (b byteLevel) encode(ids []int32, text string) []int32 {
	text = validUTF8(text)
	start := len(ids)
	for text != "" {
		at, length, id := b.nextSpecial(text)
		plain := text[:at]
		text = text[at+length:]
		if id >= 0 && id < byteOffset { // <pad>, </s> and <unk> swallow the white space around them
			plain = strings.TrimRightFunc(plain, isPythonSpace)
			text = strings.TrimLeftFunc(text, isPythonSpace)
		}
		for i := range len(plain) {
			ids = append(ids, int32(plain[i])+byteOffset)
		}
		if id >= 0 {
			ids = append(ids, id)
		}
	}
	if len(ids) == start || ids[len(ids)-1] != 1 {
		ids = append(ids, 1)
	}
	return ids
}

// nextSpecial returns where the next special token of text begins, its length and its id; without
// one, the end of text, 0 and -1.
func (b byteLevel) nextSpecial(text string) (at, length int, id int32) {
	for at = 0; ; at++ {
		next := strings.IndexByte(text[at:], '<')
		if next < 0 {
			return len(text), 0, -1
		}
		at += next
		if length, id = b.special(text[at:]); length > 0 {
			return at, length, id
		}
	}
}

// special returns the length and id of the special token that text begins with, or 0.
func (b byteLevel) special(text string) (length int, id int32) {
	for i, name := range []string{"<pad>", "</s>", "<unk>"} {
		if strings.HasPrefix(text, name) {
			return len(name), int32(i)
		}
	}
	const stem = "<extra_id_"
	if !strings.HasPrefix(text, stem) {
		return 0, 0
	}
	end := strings.IndexByte(text[:min(len(text), len(stem)+8)], '>')
	if end < 0 {
		return 0, 0
	}
	k, ok := sentinelIndex(text[:end+1])
	if !ok || k >= b.extraIDs || text[:end+1] != sentinelName(k) {
		return 0, 0
	}
	return end + 1, int32(byteOffset + 256 + k)
}

func (b byteLevel) decode(ids []int32, skipSpecial bool) string {
	out := make([]byte, 0, len(ids))
	for _, id := range ids {
		switch {
		case id >= byteOffset && id < byteOffset+256:
			out = append(out, byte(id-byteOffset))
		case skipSpecial:
		default:
			name, _ := b.piece(id)
			out = append(out, name...)
		}
	}
	return string(dropInvalidUTF8(out))
}

func (b byteLevel) piece(id int32) (string, bool) {
	switch {
	case id < 0 || int(id) >= byteOffset+256+b.extraIDs:
		return "", false
	case id < byteOffset:
		return [...]string{"<pad>", "</s>", "<unk>"}[id], true
	case id < byteOffset+256:
		return string(rune(id - byteOffset)), true // as transformers shows a byte: the code point of its number
	default:
		return sentinelName(int(id) - byteOffset - 256), true
	}
}

// isPythonSpace is str.isspace of Python: Unicode's White_Space and the four separators of ASCII.
func isPythonSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

// validUTF8 replaces each maximal part of text that cannot be UTF-8 by U+FFFD, as Python decodes
// with errors="replace". (strings.ToValidUTF8 replaces a run of them by one, range each byte.)
func validUTF8(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	var out strings.Builder
	out.Grow(len(text) + 16)
	for text != "" {
		r, size := utf8.DecodeRuneInString(text)
		if r == utf8.RuneError && size == 1 {
			size = invalidLength(text)
			out.WriteRune(utf8.RuneError)
		} else {
			out.WriteString(text[:size])
		}
		text = text[size:]
	}
	return out.String()
}

// dropInvalidUTF8 removes, in place, what cannot be UTF-8, as Python decodes with errors="ignore".
func dropInvalidUTF8(text []byte) []byte {
	if utf8.Valid(text) {
		return text
	}
	kept := text[:0]
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r != utf8.RuneError || size > 1 {
			kept = append(kept, text[:size]...)
		}
		text = text[size:]
	}
	return kept
}

// invalidLength is the length of the maximal invalid part that text begins with: the bytes that
// could still have begun a character, at least one.
func invalidLength(text string) int {
	lead := text[0]
	low, high, need := byte(0x80), byte(0xbf), 0
	switch {
	case lead >= 0xc2 && lead <= 0xdf:
		need = 1
	case lead >= 0xe0 && lead <= 0xef:
		need = 2
		if lead == 0xe0 {
			low = 0xa0
		} else if lead == 0xed {
			high = 0x9f
		}
	case lead >= 0xf0 && lead <= 0xf4:
		need = 3
		if lead == 0xf0 {
			low = 0x90
		} else if lead == 0xf4 {
			high = 0x8f
		}
	}
	length := 1
	for length <= need && length < len(text) && text[length] >= low && text[length] <= high {
		low, high = 0x80, 0xbf
		length++
	}
	return length
}
