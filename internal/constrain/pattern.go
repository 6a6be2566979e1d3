package constrain

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
)

// pattern gives the expression of the JSON spellings, quotes left out, of the strings in which an expression of
// JSON Schema finds something: anywhere, unless ^ and $ hold it. Of a character's spellings, one is enough: as it is, or
// behind a backslash where it must be.
func pattern(expression string) (string, error) {
	tree, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return "", fmt.Errorf("pattern %q: %w", expression, err)
	}
	parts := []*syntax.Regexp{tree}
	if tree.Op == syntax.OpConcat {
		parts = tree.Sub
	}
	before, behind := jsonChar+"*", jsonChar+"*"
	if len(parts) > 0 && parts[0].Op == syntax.OpBeginText {
		before, parts = "", parts[1:]
	}
	if n := len(parts) - 1; n >= 0 && parts[n].Op == syntax.OpEndText {
		behind, parts = "", parts[:n]
	}
	var out strings.Builder
	out.WriteString(before)
	for _, p := range parts {
		text, err := spelled(p)
		if err != nil {
			return "", fmt.Errorf("pattern %q: %w", expression, err)
		}
		out.WriteString(text)
	}
	return "(?:" + out.String() + behind + ")", nil
}

// spelled is the expression of what a part matches, as JSON writes it.
func spelled(p *syntax.Regexp) (string, error) {
	all := func(between string) (string, error) {
		parts := make([]string, len(p.Sub))
		for i, sub := range p.Sub {
			var err error
			if parts[i], err = spelled(sub); err != nil {
				return "", err
			}
		}
		return "(?:" + strings.Join(parts, between) + ")", nil
	}
	switch p.Op {
	case syntax.OpEmptyMatch:
		return "", nil
	case syntax.OpLiteral:
		var out strings.Builder
		for _, r := range p.Rune {
			class := []rune{r, r}
			if p.Flags&syntax.FoldCase != 0 {
				class = folded(r)
			}
			text, err := oneOf(class)
			if err != nil {
				return "", err
			}
			out.WriteString(text)
		}
		return "(?:" + out.String() + ")", nil
	case syntax.OpCharClass:
		return oneOf(p.Rune)
	case syntax.OpAnyCharNotNL: // no end of a line, of those that JavaScript knows
		return oneOf([]rune{0x20, 0x2027, 0x202a, 0x10ffff})
	case syntax.OpAnyChar:
		return oneOf([]rune{0, 0x10ffff})
	case syntax.OpCapture, syntax.OpConcat:
		return all("")
	case syntax.OpAlternate:
		return all("|")
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest:
		text, err := all("")
		return text + map[syntax.Op]string{syntax.OpStar: "*", syntax.OpPlus: "+", syntax.OpQuest: "?"}[p.Op], err
	case syntax.OpRepeat:
		text, err := all("")
		if p.Max < 0 {
			return fmt.Sprintf("%s{%d,}", text, p.Min), err
		}
		return fmt.Sprintf("%s{%d,%d}", text, p.Min, p.Max), err
	default:
		return "", fmt.Errorf("%s is not supported here; ^ and $ may stand at the very beginning and end", p)
	}
}

// folded lists a character and its other cases as spans.
func folded(r rune) []rune {
	spans := []rune{r, r}
	for _, other := range []string{strings.ToLower(string(r)), strings.ToUpper(string(r))} {
		if o := []rune(other); len(o) == 1 && o[0] != r {
			spans = append(spans, o[0], o[0])
		}
	}
	return spans
}

// oneOf is the expression of one character out of spans: those that JSON writes as they are, and behind a backslash
// those that have a short spelling there.
func oneOf(spans []rune) (string, error) {
	var class strings.Builder
	var ways []string
	put := func(low, high rune) {
		if low <= high {
			fmt.Fprintf(&class, `\x{%x}-\x{%x}`, low, high)
		}
	}
	for i := 0; i+1 < len(spans); i += 2 {
		low, high := max(spans[i], 0x20), spans[i+1]
		for _, special := range []rune{'"', '\\'} {
			if low <= special && special <= high {
				put(low, special-1)
				low = special + 1
			}
		}
		put(low, high)
		for _, r := range "\"\\\b\f\n\r\t" {
			if spans[i] <= r && r <= spans[i+1] {
				letter := map[rune]string{'"': `"`, '\\': `\\`, '\b': "b", '\f': "f", '\n': "n", '\r': "r", '\t': "t"}[r]
				if way := `\\` + letter; !slices.Contains(ways, way) {
					ways = append(ways, way)
				}
			}
		}
	}
	if class.Len() > 0 {
		ways = append([]string{"[" + class.String() + "]"}, ways...)
	}
	if len(ways) == 0 {
		return "", fmt.Errorf("no character of %q can be written", spans)
	}
	return "(?:" + strings.Join(ways, "|") + ")", nil
}
