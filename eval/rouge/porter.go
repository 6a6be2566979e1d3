package rouge

import "strings"

// Stem is NLTK's extended Porter stemmer for a lower-case word of ASCII letters and digits.
//
// Neither Porter's own algorithm nor Porter2 will do: NLTK adds a pool of irregular forms, other
// rules for ies, ied and y, and some suffixes, and ROUGE figures depend on them.
func Stem(word string) string {
	if s, ok := irregular(word); ok {
		return s
	}
	if len(word) <= 2 {
		return word
	}
	s := step1c(step1b(step1a(word)))
	return step5(step4(step3(step2(s))))
}

func irregular(word string) (string, bool) {
	switch word {
	case "sky", "skies":
		return "sky", true
	case "dying":
		return "die", true
	case "lying":
		return "lie", true
	case "tying":
		return "tie", true
	case "innings", "inning":
		return "inning", true
	case "outings", "outing":
		return "outing", true
	case "cannings", "canning":
		return "canning", true
	case "news", "howe", "proceed", "exceed", "succeed":
		return word, true
	}
	return "", false
}

func isVowelLetter(c byte) bool {
	return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u'
}

// consonant reports whether word[i] is one: y is when the letter before it is none.
func consonant(word string, i int) bool {
	if word[i] != 'y' {
		return !isVowelLetter(word[i])
	}
	run := 0
	for i > 0 && word[i] == 'y' {
		run++
		i--
	}
	if word[i] == 'y' { // the whole start is a run of y: the first is a consonant
		return run%2 == 0
	}
	return !isVowelLetter(word[i]) != (run%2 == 1)
}

// measure is Porter's m: how often a vowel is followed by a consonant.
func measure(stem string) int {
	m, before := 0, true
	for i := range len(stem) {
		cons := !isVowelLetter(stem[i])
		if stem[i] == 'y' {
			cons = i == 0 || !before
		}
		if i > 0 && !before && cons {
			m++
		}
		before = cons
	}
	return m
}

func hasVowel(stem string) bool {
	before := false
	for i := range len(stem) {
		cons := !isVowelLetter(stem[i])
		if stem[i] == 'y' {
			cons = i == 0 || !before
		}
		if !cons {
			return true
		}
		before = cons
	}
	return false
}

// endsCVC is condition *o, and NLTK's addition for words of two letters.
func endsCVC(w string) bool {
	n := len(w)
	if n == 2 {
		return !consonant(w, 0) && consonant(w, 1)
	}
	return n >= 3 && consonant(w, n-3) && !consonant(w, n-2) && consonant(w, n-1) &&
		w[n-1] != 'w' && w[n-1] != 'x' && w[n-1] != 'y'
}

func step1a(w string) string {
	switch {
	case strings.HasSuffix(w, "ies") && len(w) == 4:
		return w[:len(w)-1]
	case strings.HasSuffix(w, "sses"), strings.HasSuffix(w, "ies"):
		return w[:len(w)-2]
	case strings.HasSuffix(w, "ss"):
		return w
	}
	return strings.TrimSuffix(w, "s")
}

func step1b(w string) string {
	n := len(w)
	switch {
	case strings.HasSuffix(w, "ied") && n == 4:
		return w[:n-1]
	case strings.HasSuffix(w, "ied"):
		return w[:n-2]
	case strings.HasSuffix(w, "eed"):
		if measure(w[:n-3]) > 0 {
			return w[:n-1]
		}
		return w
	}
	stem := ""
	if s, ok := strings.CutSuffix(w, "ed"); ok && hasVowel(s) {
		stem = s
	} else if s, ok := strings.CutSuffix(w, "ing"); ok && hasVowel(s) {
		stem = s
	}
	if stem == "" {
		return w
	}
	return mend(stem)
}

// mend gives back what step 1b took too much: conflat(ed) → conflate, hopp(ing) → hop.
func mend(stem string) string {
	n := len(stem)
	switch {
	case strings.HasSuffix(stem, "at"), strings.HasSuffix(stem, "bl"), strings.HasSuffix(stem, "iz"):
		return stem + "e"
	case n >= 2 && stem[n-1] == stem[n-2] && consonant(stem, n-1):
		if c := stem[n-1]; c == 'l' || c == 's' || c == 'z' {
			return stem
		}
		return stem[:n-1]
	case measure(stem) == 1 && endsCVC(stem):
		return stem + "e"
	}
	return stem
}

func step1c(w string) string {
	if n := len(w); n > 2 && w[n-1] == 'y' && consonant(w, n-2) {
		return w[:n-1] + "i"
	}
	return w
}

// rule replaces a suffix when the measure of what stands before it is large enough.
type rule struct{ suffix, by string }

// apply uses the first rule whose suffix the word has.
func apply(w string, least int, rules []rule) string {
	for _, r := range rules {
		if stem, ok := strings.CutSuffix(w, r.suffix); ok {
			if measure(stem) >= least {
				return stem + r.by
			}
			return w
		}
	}
	return w
}

func step2(w string) string {
	if stem, ok := strings.CutSuffix(w, "alli"); ok && measure(stem) > 0 {
		return step2(stem + "al")
	}
	for _, r := range rules2 {
		if strings.HasSuffix(w, r.suffix) {
			return apply(w, 1, []rule{r})
		}
	}
	if strings.HasSuffix(w, "logi") && measure(w[:len(w)-3]) > 0 {
		return w[:len(w)-1]
	}
	return w
}

func step3(w string) string { return apply(w, 1, rules3[:]) }

func step4(w string) string {
	for _, suffix := range suffixes4 {
		stem, ok := strings.CutSuffix(w, suffix)
		if !ok {
			continue
		}
		if measure(stem) > 1 && (suffix != "ion" || stem[len(stem)-1] == 's' || stem[len(stem)-1] == 't') {
			return stem
		}
		return w
	}
	return w
}

func step5(w string) string {
	if stem, ok := strings.CutSuffix(w, "e"); ok {
		if m := measure(stem); m > 1 || (m == 1 && !endsCVC(stem)) {
			w = stem
		}
	}
	if strings.HasSuffix(w, "ll") && measure(w[:len(w)-1]) > 1 {
		return w[:len(w)-1]
	}
	return w
}

//nolint:gochecknoglobals // tables of the algorithm, never written to
var (
	rules2 = [...]rule{
		{"ational", "ate"}, {"tional", "tion"}, {"enci", "ence"}, {"anci", "ance"}, {"izer", "ize"},
		{"bli", "ble"}, {"alli", "al"}, {"entli", "ent"}, {"eli", "e"}, {"ousli", "ous"}, {"ization", "ize"},
		{"ation", "ate"}, {"ator", "ate"}, {"alism", "al"}, {"iveness", "ive"}, {"fulness", "ful"},
		{"ousness", "ous"}, {"aliti", "al"}, {"iviti", "ive"}, {"biliti", "ble"}, {"fulli", "ful"},
	}
	rules3 = [...]rule{
		{"icate", "ic"}, {"ative", ""}, {"alize", "al"}, {"iciti", "ic"}, {"ical", "ic"}, {"ful", ""}, {"ness", ""},
	}
	suffixes4 = [...]string{
		"al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism",
		"ate", "iti", "ous", "ive", "ize",
	}
)
