// Package qa scores short answers as T5's evaluation of SQuAD and TriviaQA does: exact match and F1 of
// tokens after normalization, the best over several answers.
package qa

import (
	"strings"

	"github.com/t5ctl/t5ctl/eval/numpy"
	"github.com/t5ctl/t5ctl/eval/pytext"
)

const asciiPunctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"

// Squad lowers the text, drops ASCII punctuation and articles, and joins what is left by single spaces.
func Squad(text string) string {
	text = strings.Map(func(r rune) rune {
		if strings.ContainsRune(asciiPunctuation, r) {
			return -1
		}
		return r
	}, pytext.Lower(text))
	return pytext.Join(withoutArticles(text))
}

// TriviaQA is like Squad, but puts a space for each punctuation mark, curly quotes included.
func TriviaQA(text string) string {
	text = strings.Map(func(r rune) rune {
		if strings.ContainsRune(asciiPunctuation+"‘’´", r) {
			return ' '
		}
		return r
	}, pytext.Lower(text))
	return pytext.Join(withoutArticles(text))
}

// withoutArticles puts a space for a, an and the where they are whole words in Python's sense, which
// ends a word before a combining mark.
func withoutArticles(text string) string {
	var b strings.Builder
	start := -1
	flush := func(end int) {
		if start < 0 {
			return
		}
		switch word := text[start:end]; word {
		case "a", "an", "the":
			b.WriteByte(' ')
		default:
			b.WriteString(word)
		}
		start = -1
	}
	for i, r := range text {
		if pytext.IsWord(r) {
			if start < 0 {
				start = i
			}
			continue
		}
		flush(i)
		b.WriteRune(r)
	}
	flush(len(text))
	return b.String()
}

// F1 is the harmonic mean of precision and recall of tokens. Two empty answers share no token and
// get 0, as in version 1 of SQuAD.
func F1(target, prediction string) float64 {
	t, p := pytext.Fields(target), pytext.Fields(prediction)
	left := map[string]int{}
	for _, w := range t {
		left[w]++
	}
	same := 0
	for _, w := range p {
		if left[w] > 0 {
			left[w]--
			same++
		}
	}
	if same == 0 {
		return 0
	}
	precision, recall := float64(same)/float64(len(p)), float64(same)/float64(len(t))
	return 2 * precision * recall / (precision + recall)
}

// F1V2 is F1 as version 2 of SQuAD has it: where either answer has no token, 1 if neither has one.
func F1V2(target, prediction string) float64 {
	t, p := pytext.Fields(target), pytext.Fields(prediction)
	if len(t) > 0 && len(p) > 0 {
		return F1(target, prediction)
	}
	if len(t) == len(p) {
		return 1
	}
	return 0
}

// BestV2 is Best for version 2 of SQuAD, where an empty target says that there is no answer.
func BestV2(prediction string, targets []string) (exact bool, f1 float64) {
	p := Squad(prediction)
	for _, target := range targets {
		t := Squad(target)
		exact = exact || t == p
		f1 = max(f1, F1V2(t, p))
	}
	return exact, f1
}

// Best is exact match and F1 of a prediction against its best targets, all normalized.
func Best(normalize func(string) string, prediction string, targets []string) (exact bool, f1 float64) {
	p := normalize(prediction)
	for _, target := range targets {
		t := normalize(target)
		exact = exact || t == p
		f1 = max(f1, F1(t, p))
	}
	return exact, f1
}

// Mean is the score of a corpus in percent, added up as NumPy does in T5's evaluation.
func Mean(each []float64) float64 { return numpy.Mean(each) * 100 }
