package audit

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode"
)

func blank(text string) bool { return strings.TrimSpace(text) == "" }

// damage says what shows that a text was decoded wrongly, or nothing.
func damage(text string) string {
	if strings.ContainsRune(text, '\uFFFD') {
		return "holds U+FFFD, the mark of lost characters"
	}
	// UTF-8 that was read as Latin-1 or Windows-1252: a lead byte and a continuation byte as letters.
	previous := rune(0)
	for _, r := range text {
		switch {
		case (previous == 'Ã' || previous == 'Â') && (r >= 0x80 && r <= 0xbf):
			return "looks like UTF-8 that was read as Latin-1"
		case previous == 'â' && (r == '€' || r == 0x80):
			return "looks like UTF-8 that was read as Windows-1252"
		case r < 0x20 && r != '\n' && r != '\t' && r != '\r', r == 0x7f, r >= 0x80 && r < 0xa0:
			return "holds control characters"
		}
		previous = r
	}
	return ""
}

// speakers gives, for frequent words in the Latin script, the languages that have them.
func speakers() map[string][]string {
	out := map[string][]string{}
	for lang, list := range map[string]string{
		"en": "the and of to in is that it was for with his he as on be at this which from have",
		"de": "der die und das nicht ist den mit ein eine auf sich des dem auch als für von wird",
		"fr": "le la les et des est une dans que pour qui sur pas avec par plus sont ce au du",
		"es": "el los las una que por con para del se como más está sus pero ser fue y",
		"it": "il che di una per non sono della con gli nel alla anche come più dei è",
		"pt": "o os uma que não para com dos como mais foi ao pela são você em também",
		"nl": "het een van is dat niet zijn voor met ook aan door maar wordt naar deze bij",
	} {
		for _, w := range strings.Fields(list) {
			out[w] = append(out[w], lang)
		}
	}
	return out
}

// language guesses: by stop words in the Latin script where at least two speak for one language more
// than for any other, else by the script alone.
func (a *auditor) language(text string) string {
	script := scriptOf(text)
	if script != "Latin" {
		return script
	}
	votes := map[string]int{}
	for _, w := range words(text) {
		for _, lang := range a.speakers[w] {
			votes[lang]++
		}
	}
	best, second := "", ""
	for _, lang := range slices.Sorted(maps.Keys(votes)) {
		switch {
		case votes[lang] > votes[best]:
			best, second = lang, best
		case votes[lang] > votes[second]:
			second = lang
		}
	}
	if votes[best] < 2 || votes[best] == votes[second] {
		return "Latin"
	}
	return best
}

// scriptOf is the script of most letters.
func scriptOf(text string) string {
	counts := map[string]int{}
	for _, r := range text {
		switch {
		case r < 0x80:
			if r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
				counts["Latin"]++
			}
		case unicode.IsLetter(r):
			for _, name := range []string{"Latin", "Cyrillic", "Greek", "Han", "Hiragana", "Katakana", "Hangul", "Arabic", "Hebrew", "Devanagari", "Thai"} {
				if unicode.Is(unicode.Scripts[name], r) {
					counts[name]++
					break
				}
			}
		}
	}
	best := ""
	for _, name := range []string{"Latin", "Cyrillic", "Greek", "Han", "Hiragana", "Katakana", "Hangul", "Arabic", "Hebrew", "Devanagari", "Thai"} {
		if counts[name] > counts[best] {
			best = name
		}
	}
	return cmp.Or(best, "none")
}

// labelCounts counts targets while there are few different ones.
type labelCounts struct{ counts map[string]int64 }

// maxLabels is how many different targets still count as labels.
const maxLabels = 100

func newLabelCounts() *labelCounts { return &labelCounts{map[string]int64{}} }

func (l *labelCounts) add(target string) {
	if l.counts == nil {
		return
	}
	l.counts[target]++
	if len(l.counts) > maxLabels {
		l.counts = nil
	}
}

// result is nil where targets are no labels: too many, or hardly any repeats.
func (l *labelCounts) result(rows int64) *Labels {
	if l.counts == nil || int64(len(l.counts))*5 > rows {
		return nil
	}
	out := &Labels{Distinct: len(l.counts), Smallest: 1}
	entropy := 0.0
	for _, n := range l.counts {
		p := float64(n) / float64(rows)
		out.Largest, out.Smallest = math.Max(out.Largest, p), math.Min(out.Smallest, p)
		entropy -= p * math.Log(p)
	}
	if out.Distinct > 1 {
		out.Entropy = entropy / math.Log(float64(out.Distinct))
	}
	return out
}
