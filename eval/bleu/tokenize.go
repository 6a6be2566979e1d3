package bleu

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/t5ctl/t5ctl/eval/mteval"
	"github.com/t5ctl/t5ctl/eval/pytext"
)

// Tokenizers are the names that Options.Tokenize takes, "spm" aside.
func Tokenizers() []string { return []string{"13a", "intl", "char", "zh", "none"} }

// Tokens are the words that the tokenizer of that name finds in a line. The name is one of Tokenizers.
func Tokens(name, line string) []string {
	return slices.Clone((&tokenizer{}).fields(name, pytext.TrimRight(line)))
}

// tokenizer holds the buffers that the passes over a line write to in turn.
type tokenizer struct {
	a, b   []byte
	tokens []string
}

// fields are the tokens of a line; they are valid until the next call.
func (t *tokenizer) fields(name, line string) []string {
	t.tokens = t.tokens[:0]
	switch name {
	case "13a":
		t.a = append(append(append(t.a[:0], ' '), unescape(line)...), ' ')
		t.western()
	case "zh":
		t.spaceChinese(pytext.Trim(line))
		t.western()
	case "intl":
		t.international(line)
	case "char":
		return t.characters(line)
	default:
		t.tokens = pytext.AppendFields(t.tokens, line)
		return t.tokens
	}
	t.tokens = pytext.AppendFields(t.tokens, string(t.a))
	return t.tokens
}

// unescape is mteval-v13a's language-independent part; &amp; comes before &lt;, so that &amp;lt;
// becomes <.
func unescape(line string) string {
	line = strings.ReplaceAll(line, "<skipped>", "")
	if strings.Contains(line, "\n") {
		line = strings.ReplaceAll(line, "-\n", "")
		line = strings.ReplaceAll(line, "\n", " ")
	}
	if strings.Contains(line, "&") {
		line = strings.ReplaceAll(line, "&quot;", `"`)
		line = strings.ReplaceAll(line, "&amp;", "&")
		line = strings.ReplaceAll(line, "&lt;", "<")
		line = strings.ReplaceAll(line, "&gt;", ">")
	}
	return line
}

// pass rewrites the line in t.a.
func (t *tokenizer) pass(rewrite func(out, in []byte) []byte) {
	t.a, t.b = rewrite(t.b[:0], t.a), t.a
}

// western applies the four substitutions of 13a, one after the other.
func (t *tokenizer) western() {
	t.pass(mteval.SplitPunctuation)
	t.pass(mteval.SplitStopAfterOther)
	t.pass(mteval.SplitStopBeforeOther)
	t.pass(mteval.SplitDashAfterDigit)
}

// international splits at punctuation not beside a number, and at every symbol (mteval-v14).
func (t *tokenizer) international(line string) {
	t.a = append(t.a[:0], line...)
	t.pass(splitPunctAfterOther)
	t.pass(splitPunctBeforeOther)
	t.pass(splitSymbols)
}

// splitPunctAfterOther is (\P{N})(\p{P}) → "\1 \2 ".
func splitPunctAfterOther(out, in []byte) []byte {
	for i := 0; i < len(in); {
		r, size := utf8.DecodeRune(in[i:])
		out = append(out, in[i:i+size]...)
		i += size
		if i < len(in) && !number(r) {
			if p, n := utf8.DecodeRune(in[i:]); unicode.IsPunct(p) {
				out = append(append(append(out, ' '), in[i:i+n]...), ' ')
				i += n
			}
		}
	}
	return out
}

// splitPunctBeforeOther is (\p{P})(\P{N}) → " \1 \2".
func splitPunctBeforeOther(out, in []byte) []byte {
	for i := 0; i < len(in); {
		r, size := utf8.DecodeRune(in[i:])
		j := i + size
		if j < len(in) && unicode.IsPunct(r) {
			if q, n := utf8.DecodeRune(in[j:]); !number(q) {
				out = append(append(append(append(out, ' '), in[i:j]...), ' '), in[j:j+n]...)
				i = j + n
				continue
			}
		}
		out = append(out, in[i:j]...)
		i = j
	}
	return out
}

// splitSymbols is (\p{S}) → " \1 ".
func splitSymbols(out, in []byte) []byte {
	for i := 0; i < len(in); {
		r, size := utf8.DecodeRune(in[i:])
		if unicode.IsSymbol(r) {
			out = append(append(append(out, ' '), in[i:i+size]...), ' ')
		} else {
			out = append(out, in[i:i+size]...)
		}
		i += size
	}
	return out
}

func number(r rune) bool {
	if r < utf8.RuneSelf {
		return '0' <= r && r <= '9'
	}
	return unicode.Is(unicode.N, r)
}

// characters are the code points that are not white space.
func (t *tokenizer) characters(line string) []string {
	for i := 0; i < len(line); {
		r, size := utf8.DecodeRuneInString(line[i:])
		if !pytext.IsSpace(r) {
			t.tokens = append(t.tokens, line[i:i+size])
		}
		i += size
	}
	return t.tokens
}

func (t *tokenizer) spaceChinese(line string) {
	out := t.a[:0]
	for i := 0; i < len(line); {
		r, size := utf8.DecodeRuneInString(line[i:])
		if chinese(r) {
			out = append(append(append(out, ' '), line[i:i+size]...), ' ')
		} else {
			out = append(out, line[i:i+size]...)
		}
		i += size
	}
	t.a = out
}

// chinese is sacreBLEU's idea of a Chinese character. Two of its ranges are written with five digits
// after \u, which Python reads as a character and a digit; compared as strings they cover U+2001 to
// U+2A6D and U+2F81 to U+2FA1, and nothing beyond the basic plane. Scores depend on it, so it stays.
func chinese(r rune) bool {
	switch {
	case r < 0x2001:
		return false
	case r <= 0x2a6d:
		return true
	case r >= 0x3400 && r <= 0x4db5, r >= 0x4e00 && r <= 0x9fbb, r >= 0xf900 && r <= 0xfa2d,
		r >= 0xfa30 && r <= 0xfa6a, r >= 0xfa70 && r <= 0xfad9, r >= 0xff00 && r <= 0xffef,
		r >= 0x2e80 && r <= 0x2eff, r >= 0x3000 && r <= 0x303f, r >= 0x31c0 && r <= 0x31ef,
		r >= 0x2f00 && r <= 0x2fdf, r >= 0x2ff0 && r <= 0x2fff, r >= 0x3100 && r <= 0x312f,
		r >= 0x31a0 && r <= 0x31bf, r >= 0xfe10 && r <= 0xfe1f, r >= 0xfe30 && r <= 0xfe4f,
		r >= 0x3200 && r <= 0x33ff:
		return true
	}
	return false
}
