package ter

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/t5ctl/t5ctl/eval/mteval"
	"github.com/t5ctl/t5ctl/eval/pytext"
)

// tokenizer is Tercom's, as sacreBLEU has it.
type tokenizer struct {
	opts  Options
	rules []rewrite
}

// rewrite is one substitution by a regular expression.
type rewrite struct {
	re *regexp.Regexp
	by string
}

func newTokenizer(o Options) *tokenizer {
	t := &tokenizer{opts: o}
	if o.Normalized && o.AsianSupport {
		for _, class := range []string{
			`[\x{4e00}-\x{9fff}\x{3400}-\x{4dbf}]`, `[\x{31c0}-\x{31ef}\x{2e80}-\x{2eff}]`,
			`[\x{3300}-\x{33ff}\x{f900}-\x{faff}\x{fe30}-\x{fe4f}]`,
			`[\x{3200}-\x{3f22}]`, // sacreBLEU has 3f22 for 32ff
		} {
			t.rules = append(t.rules, rewrite{regexp.MustCompile("(" + class + ")"), " $1 "})
		}
		// The reference has three rules for kana, which can fire at the start of the text only, where a
		// space always stands.
		t.rules = append(t.rules, rewrite{regexp.MustCompile("(" + asianPunct + ")"), " $1 "}, rewrite{regexp.MustCompile("(" + fullWidthPunct + ")"), " $1 "})
	}
	if o.NoPunct {
		t.rules = append(t.rules, rewrite{regexp.MustCompile(`[.,?:;!"()]`), ""})
		if o.AsianSupport {
			t.rules = append(t.rules, rewrite{regexp.MustCompile(asianPunct), ""}, rewrite{regexp.MustCompile(fullWidthPunct), ""})
		}
	}
	return t
}

const (
	asianPunct     = `[\x{3001}\x{3002}\x{3008}-\x{3011}\x{3014}-\x{301f}\x{ff61}-\x{ff65}\x{30fb}]`
	fullWidthPunct = `[\x{ff0e}\x{ff0c}\x{ff1f}\x{ff1a}\x{ff1b}\x{ff01}\x{ff02}\x{ff08}\x{ff09}]`
)

// tokenize is the tokenized line as one string, with white space between tokens.
func (t *tokenizer) tokenize(line string) string {
	line = pytext.TrimRight(line)
	if line == "" {
		return ""
	}
	if !t.opts.CaseSensitive {
		line = pytext.Lower(line)
	}
	if t.opts.Normalized {
		line = western(line)
	}
	for _, r := range t.rules {
		line = r.re.ReplaceAllString(line, r.by)
	}
	return line
}

// twice is a reference as the reference tool tokenizes it: once, and then again.
func (t *tokenizer) twice(line string) string {
	line = t.tokenize(line)
	if t.opts.Normalized || len(t.rules) > 0 { // all else changes nothing the second time
		line = t.tokenize(pytext.Join(line))
	}
	return line
}

// western is Tercom's language-independent and western normalization.
func western(s string) string {
	s = strings.ReplaceAll(s, "\n-", "")
	s = strings.ReplaceAll(s, "\n", " ")
	s = strings.ReplaceAll(s, "&quot;", `"`)
	s = strings.ReplaceAll(s, "&amp;", "&")
	s = strings.ReplaceAll(s, "&lt;", "<")
	s = strings.ReplaceAll(s, "&gt;", ">")
	b := mteval.SplitPunctuation(nil, []byte(" "+s+" "))
	// The reference's rule for 's at the end never fires, since a space stands there.
	b = bytes.ReplaceAll(b, []byte("'s "), []byte(" 's "))
	b = mteval.SplitStopAfterOther(nil, b)
	b = mteval.SplitStopBeforeOther(nil, b)
	return string(mteval.SplitDashAfterDigit(nil, b))
}
