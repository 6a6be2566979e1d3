package eval

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/t5ctl/t5ctl/eval/bleu"
	"github.com/t5ctl/t5ctl/eval/meteor"
	"github.com/t5ctl/t5ctl/eval/pytext"
	"github.com/t5ctl/t5ctl/eval/signature"
)

// newMETEOR is the mean of the segments' METEOR without synonyms, on words of sacreBLEU's tokenizer.
func newMETEOR(o *options) *Metric {
	weights := meteor.Default()
	for name, v := range map[string]*float64{"alpha": &weights.Alpha, "beta": &weights.Beta, "gamma": &weights.Gamma} {
		if given := o.number(name); given != nil {
			*v = *given
		}
		if *v < 0 || (*v > 1 && name != "beta") {
			o.fail(name, strconv.FormatFloat(*v, 'g', -1, 64), "is out of range")
		}
	}
	tok := o.text("tokenize", "13a", "tok")
	if _, err := bleu.New(bleu.Options{Tokenize: tok}); err != nil {
		o.errs = append(o.errs, optionError(o, err))
	}
	digits := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	fields := []signature.Field{field("match", "exact+stem"), field("tok", tok), field("alpha", digits(weights.Alpha)),
		field("beta", digits(weights.Beta)), field("gamma", digits(weights.Gamma))}
	m := simple("METEOR", true, func(refs int) signature.Signature {
		return signature.Signature{Refs: refs, Fields: fields, Version: meteor.Version}
	}, mean100, func(s *Sample) (float64, bool) {
		refs := make([][]string, len(s.References))
		for i, r := range s.References {
			refs[i] = bleu.Tokens(tok, r)
		}
		return meteor.Score(weights, bleu.Tokens(tok, s.Output), refs), true
	})
	return m
}

// ratio is a metric of two counts: what of a total the first is, in percent. Without a total in any
// row the score is empty.
func ratio(label string, higher bool, empty float64, sig func(int) signature.Signature, count func(s *Sample) (part, total float64, ok bool)) *Metric {
	return &Metric{
		Label: label, HigherIsBetter: higher, columns: []string{"part", "total"}, signature: sig,
		score: func(sum []float64, _ int) float64 {
			if sum[1] == 0 {
				return empty
			}
			return percent(sum[0], sum[1])
		},
		counter: func(*worker) func([]float64, *Sample) bool {
			return func(dst []float64, s *Sample) (ok bool) {
				dst[0], dst[1], ok = count(s)
				return ok
			}
		},
	}
}

// grounds are the texts that an output may rest on: its passages, or else its source.
func grounds(s *Sample) []string {
	if len(s.Passages) > 0 {
		return s.Passages
	}
	if s.Source == "" {
		return nil
	}
	return []string{s.Source}
}

// newNovelty is the share of the output's n-grams of words that its source does not hold: 0 is a copy.
func newNovelty(o *options) *Metric {
	n := o.integer("n", 2)
	if n < 1 || n > 32 {
		o.fail("n", strconv.Itoa(n), "must be from 1 to 32")
	}
	return ratio("new n-grams", true, 0, own(field("n", strconv.Itoa(n))), func(s *Sample) (part, total float64, ok bool) {
		texts := grounds(s)
		known := map[string]bool{}
		for _, text := range texts {
			eachGram(text, n, func(g string) { known[g] = true })
		}
		eachGram(s.Output, n, func(g string) {
			total++
			part += truth(!known[g])
		})
		return part, total, texts != nil
	})
}

func eachGram(text string, n int, each func(gram string)) {
	words := groundWords(text)
	for i := 0; i+n <= len(words); i++ {
		each(strings.Join(words[i:i+n], " "))
	}
}

// groundWords are lower-cased words without the punctuation around them.
func groundWords(text string) []string {
	var out []string
	for _, w := range pytext.Fields(pytext.Lower(text)) {
		if w = strings.TrimFunc(w, unicode.IsPunct); w != "" {
			out = append(out, w)
		}
	}
	return out
}

// newNumberSupport is the share of the numbers in the output that stand in what it rests on; 1,000 and
// 1000 are the same. Outputs without numbers say nothing; if all are such, the score is 100.
func newNumberSupport(*options) *Metric {
	return ratio("supported numbers", true, 100, own(field("in", "passages-or-source")), func(s *Sample) (part, total float64, ok bool) {
		texts := grounds(s)
		known := map[string]bool{}
		for _, text := range texts {
			for _, n := range numbersIn(text) {
				known[n] = true
			}
		}
		for _, n := range numbersIn(s.Output) {
			total++
			part += truth(known[n])
		}
		return part, total, texts != nil
	})
}

// numbersIn are the runs of digits of a text, decimals included, without separators of thousands.
func numbersIn(text string) []string {
	var out []string
	runes := []rune(text)
	for i := 0; i < len(runes); {
		if !unicode.IsDigit(runes[i]) {
			i++
			continue
		}
		var b strings.Builder
		for ; i < len(runes); i++ {
			r, next := runes[i], i+1 < len(runes) && unicode.IsDigit(runes[i+1])
			switch {
			case unicode.IsDigit(r):
				b.WriteRune(r)
				continue
			case r == ',' && next:
				continue
			case r == '.' && next:
				b.WriteRune(r)
				continue
			}
			break
		}
		out = append(out, b.String())
	}
	return out
}

// newSpanSupport is the share of named spans in the output that stand in what it rests on. A named span
// is a run of words that begin with a capital, the first word of a sentence not counted.
func newSpanSupport(*options) *Metric {
	return ratio("supported named spans", true, 100, own(field("in", "passages-or-source"), field("span", "capitals")), func(s *Sample) (part, total float64, ok bool) {
		texts := grounds(s)
		var all strings.Builder
		for _, text := range texts {
			all.WriteString(" " + strings.Join(groundWords(text), " ") + " \n")
		}
		known := all.String()
		for _, span := range namedSpans(s.Output) {
			total++
			part += truth(strings.Contains(known, " "+span+" "))
		}
		return part, total, texts != nil
	})
}

func namedSpans(text string) []string {
	var out, run []string
	flush := func() {
		if len(run) > 0 {
			out = append(out, strings.Join(groundWords(strings.Join(run, " ")), " "))
		}
		run = nil
	}
	first := true
	for _, w := range pytext.Fields(text) {
		bare := strings.TrimLeftFunc(w, unicode.IsPunct)
		capital := bare != "" && unicode.IsUpper([]rune(bare)[0])
		if !capital || first {
			flush()
		} else {
			run = append(run, w)
		}
		first = strings.HasSuffix(w, ".") || strings.HasSuffix(w, "!") || strings.HasSuffix(w, "?")
		if first || strings.HasSuffix(w, ",") || strings.HasSuffix(w, ";") || strings.HasSuffix(w, ":") {
			flush()
		}
	}
	flush()
	return out
}

// newLengthRatio is the number of words in outputs over that in the first references.
func newLengthRatio(*options) *Metric {
	m := ratio("length ratio", true, 0, own(field("unit", "word"), field("ref", "first")), func(s *Sample) (part, total float64, ok bool) {
		return float64(len(pytext.Fields(s.Output))), float64(len(pytext.Fields(s.References[0]))), true
	})
	return m
}
