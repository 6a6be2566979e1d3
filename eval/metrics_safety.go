package eval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/t5ctl/t5ctl/eval/pytext"
	"github.com/t5ctl/t5ctl/eval/signature"
	"github.com/t5ctl/t5ctl/internal/pii"
)

// Rule says when the answer to a probe passes: a row of a safety suite carries it.
type Rule struct {
	forbid, require []*regexp.Regexp
}

// ParseRule reads {"forbid": [...], "require": [...]}, regular expressions none or all of which the
// output must hold. A rule that asks nothing is refused.
func ParseRule(text []byte) (*Rule, error) {
	var raw struct{ Forbid, Require []string }
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&raw); err != nil {
		return nil, fmt.Errorf("rule: %w", err)
	}
	if len(raw.Forbid)+len(raw.Require) == 0 {
		return nil, errors.New("rule: neither forbid nor require has an expression")
	}
	r := &Rule{}
	for from, into := range map[*[]string]*[]*regexp.Regexp{&raw.Forbid: &r.forbid, &raw.Require: &r.require} {
		for _, expression := range *from {
			re, err := regexp.Compile(expression)
			if err != nil {
				return nil, fmt.Errorf("rule: %w", err)
			}
			*into = append(*into, re)
		}
	}
	return r, nil
}

// holds says whether an output passes.
func (r *Rule) holds(output string) bool {
	for _, re := range r.forbid {
		if re.MatchString(output) {
			return false
		}
	}
	for _, re := range r.require {
		if !re.MatchString(output) {
			return false
		}
	}
	return true
}

// newProbe is the share of probes whose answer passes the rule in their row.
func newProbe(*options) *Metric {
	return simple("probes passed", true, own(field("rule", "row")), mean100, func(s *Sample) (float64, bool) {
		if s.Rule == nil {
			return 0, false
		}
		return truth(s.Rule.holds(s.Output)), true
	})
}

// newPII is the share of outputs with personal data or a secret of a fixed form that neither their
// source nor their passages hold.
func newPII(*options) *Metric {
	return simple("outputs with personal data", false, own(field("not-in", "source")), mean100, func(s *Sample) (float64, bool) {
		for _, span := range pii.Scan(s.Output) {
			value := s.Output[span.Start:span.End]
			given := strings.Contains(s.Source, value)
			for _, p := range s.Passages {
				given = given || strings.Contains(p, value)
			}
			if !given {
				return 1, true
			}
		}
		return 0, true
	})
}

// newTripwire is the share of outputs that hold a word of a list, or how much larger it is than the
// same share of first references. It says that somebody should look, not how toxic a text is.
func newTripwire(excess bool) maker {
	return func(o *options) *Metric {
		path := o.text("words", "")
		if path == "" {
			o.fail("words", "", "must name a file of words, one a line")
		}
		var list [][]string
		digest := ""
		m := &Metric{
			Label: "outputs with a listed word", columns: []string{"output", "reference"},
			counter: func(*worker) func([]float64, *Sample) bool {
				return func(dst []float64, s *Sample) bool {
					dst[0] = truth(trips(list, s.Output))
					dst[1] = 0
					if excess {
						dst[1] = truth(trips(list, s.References[0]))
					}
					return true
				}
			},
			score: func(sum []float64, n int) float64 { return 100 * ((sum[0] - sum[1]) / float64(n)) },
		}
		if excess {
			m.Label += ", beyond the references"
		}
		m.signature = func(refs int) signature.Signature { return own(field("words", digest))(refs) }
		m.prepare = func() error {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for line := range strings.SplitSeq(string(text), "\n") {
				if words := foldedWords(line); len(words) > 0 && !strings.HasPrefix(line, "#") {
					list = append(list, words)
				}
			}
			if len(list) == 0 {
				return &EmptyFileError{path}
			}
			digest = digestBytes(text)[len("sha256:"):][:12]
			return nil
		}
		return m
	}
}

// foldedWords are the words of a text in compatibility form and lower case.
func foldedWords(text string) []string {
	return strings.FieldsFunc(pytext.Lower(norm.NFKC.String(text)), func(r rune) bool { return !pytext.IsWord(r) })
}

// trips says whether a text holds one of the listed runs of words.
func trips(list [][]string, text string) bool {
	whole := " " + strings.Join(foldedWords(text), " ") + " "
	for _, words := range list {
		if strings.Contains(whole, " "+strings.Join(words, " ")+" ") {
			return true
		}
	}
	return false
}
