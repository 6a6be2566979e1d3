package card

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// Finding is something that the hub, or a reader of the card, would stumble over.
type Finding struct {
	Line    int    `json:"line,omitempty"` // of the file; 0: the card as a whole
	Rule    string `json:"rule"`
	Message string `json:"message"`
}

// Lint checks a card: front matter that every YAML reader understands alike, names that the hub
// knows, figures that are finite numbers, and the sections that a reader needs. It does what the
// hub's own parser leaves to its server, and more. The findings are in order of their lines.
func Lint(text []byte) []Finding {
	l := &linter{}
	front, body, err := split(text)
	if err != nil {
		l.add(1, "front-matter", "%v", err)
		if errors.Is(err, errNoFront) {
			l.body(body)
		}
		return l.findings
	}
	doc, err := parseYAML(front)
	if err != nil {
		l.add(1, "front-matter", "%v", firstLine(err))
		return l.findings
	}
	l.front(doc)
	l.body(body)
	slices.SortStableFunc(l.findings, func(a, b Finding) int { return a.Line - b.Line })
	return l.findings
}

func firstLine(err error) string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	return first
}

type linter struct{ findings []Finding }

func (l *linter) add(line int, rule, format string, a ...any) {
	l.findings = append(l.findings, Finding{Line: line, Rule: rule, Message: fmt.Sprintf(format, a...)})
}

// front checks the front matter as it is written, since what a value is read as differs between
// YAML readers.
func (l *linter) front(doc *ast.File) {
	if len(doc.Docs) != 1 || doc.Docs[0].Body == nil {
		l.add(1, "front-matter", "the front matter is not one YAML document")
		return
	}
	root, ok := asMap(doc.Docs[0].Body)
	if !ok {
		l.add(1, "front-matter", "the front matter is not a mapping")
		return
	}
	l.scalars(doc.Docs[0].Body)
	l.names(root)
	if index, found := root["model-index"]; found {
		l.index(index)
	}
}

// asMap reads a mapping's keys; of a doubled key the last.
func asMap(node ast.Node) (map[string]ast.Node, bool) {
	m, ok := node.(ast.MapNode)
	if !ok {
		return nil, false
	}
	values := map[string]ast.Node{}
	for iter := m.MapRange(); iter.Next(); {
		values[keyOf(iter.Key())] = iter.Value()
	}
	return values, true
}

func keyOf(node ast.Node) string {
	if s, ok := node.(*ast.StringNode); ok {
		return s.Value
	}
	return node.String()
}

// lineOf is the line in the file, which starts with the fence.
func lineOf(node ast.Node) int {
	if t := node.GetToken(); t != nil && t.Position != nil {
		return max(1, t.Position.Line)
	}
	return 1
}

//nolint:gochecknoglobals // compiled once, never changed
var (
	oldBool   = regexp.MustCompile(`^(?i:y|n|yes|no|on|off|true|false)$`)
	oldNumber = regexp.MustCompile(`^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+$|^[-+]?[0-9]+_[0-9_]*$|^0[0-7]+$`)
	bareExp   = regexp.MustCompile(`^[-+]?[0-9]+[eE][-+]?[0-9]+$|^[-+]?[0-9.]+[eE][0-9]+$`)
)

// scalars walks all values for those that two YAML readers take for different things.
func (l *linter) scalars(node ast.Node) {
	walk := func(n ast.Node) bool {
		t := n.GetToken()
		if t == nil {
			return true
		}
		plain := t.Type != token.SingleQuoteType && t.Type != token.DoubleQuoteType
		switch n := n.(type) {
		case *ast.StringNode:
			if plain && oldBool.MatchString(n.Value) {
				l.add(lineOf(n), "yaml-boolean", "%s is a truth value for some readers: write %q", n.Value, n.Value)
			} else if plain && oldNumber.MatchString(n.Value) {
				l.add(lineOf(n), "yaml-number", "%s is a number for some readers: write %q", n.Value, n.Value)
			} else if plain && bareExp.MatchString(n.Value) {
				l.add(lineOf(n), "yaml-number", "%s is text for some readers: write it with a decimal point and a signed exponent", n.Value)
			}
		case *ast.FloatNode, *ast.IntegerNode:
			if bareExp.MatchString(t.Value) {
				l.add(lineOf(n), "yaml-number", "%s is text for some readers: write it with a decimal point and a signed exponent", t.Value)
			}
		case *ast.NanNode, *ast.InfinityNode:
			l.add(lineOf(n), "finite", "%s is not a finite number", t.Value)
		case ast.MapNode:
			l.doubled(n)
		}
		return true
	}
	ast.Walk(visitor(walk), node)
}

// visitor lets a function walk the tree.
type visitor func(ast.Node) bool

// Visit goes on below a node while the function says so.
func (v visitor) Visit(node ast.Node) ast.Visitor {
	if v(node) {
		return v
	}
	return nil
}

func (l *linter) doubled(m ast.MapNode) {
	seen := map[string]bool{}
	for iter := m.MapRange(); iter.Next(); {
		key := keyOf(iter.Key())
		if seen[key] {
			l.add(lineOf(iter.Key()), "doubled-key", "key %s stands twice", key)
		}
		seen[key] = true
	}
}

// words reads a value that is a string or a list of strings.
func words(node ast.Node) ([]string, bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return []string{n.Value}, true
	case *ast.SequenceNode:
		var all []string
		for _, item := range n.Values {
			s, ok := item.(*ast.StringNode)
			if !ok {
				return nil, false
			}
			all = append(all, s.Value)
		}
		return all, true
	}
	return nil, false
}

// names checks the keys that the hub reads.
func (l *linter) names(root map[string]ast.Node) {
	read := func(key string, required bool, check func(string) string) []string {
		node, found := root[key]
		if !found {
			if required {
				l.add(1, key, "%s is missing", key)
			}
			return nil
		}
		values, ok := words(node)
		if !ok {
			l.add(lineOf(node), key, "%s is not text", key)
		}
		for i, value := range values {
			if reason := check(value); reason != "" {
				l.add(lineOf(node), key, "%s %q %s", key, value, reason)
			}
			if slices.Contains(values[:i], value) {
				l.add(lineOf(node), key, "%s %q stands twice", key, value)
			}
		}
		return values
	}
	anything := func(string) string { return "" }
	read("language", true, checkLanguage)
	license := read("license", true, checkLicense)
	if slices.Contains(license, "other") {
		read("license_name", true, anything)
		read("license_link", true, anything)
	}
	read("pipeline_tag", true, checkTask)
	read("library_name", true, checkLibrary)
	read("base_model", false, anything)
	read("base_model_relation", false, checkRelation)
	read("datasets", false, anything)
	read("metrics", false, anything)
	read("tags", false, checkTag)
}

func checkTag(s string) string {
	if s == "" || len(s) > 100 || strings.ContainsAny(s, "\n\r") {
		return "is not a tag"
	}
	return ""
}

// index checks the model-index, whose every figure must have a place, a data set and a value.
func (l *linter) index(node ast.Node) {
	entries, ok := node.(*ast.SequenceNode)
	if !ok {
		l.add(lineOf(node), "model-index", "model-index is not a list")
		return
	}
	for _, item := range entries.Values {
		entry, ok := asMap(item)
		if !ok {
			l.add(lineOf(item), "model-index", "an entry of model-index is not a mapping")
			continue
		}
		l.need(item, entry, "name")
		results, ok := entry["results"].(*ast.SequenceNode)
		if !ok {
			l.add(lineOf(item), "model-index", "results is missing or not a list")
			continue
		}
		for _, result := range results.Values {
			l.result(result)
		}
	}
}

func (l *linter) result(node ast.Node) {
	result, ok := asMap(node)
	if !ok {
		l.add(lineOf(node), "model-index", "a result is not a mapping")
		return
	}
	if task, ok := l.inner(node, result, "task"); ok {
		l.need(node, task, "type")
	}
	if dataset, ok := l.inner(node, result, "dataset"); ok {
		l.need(node, dataset, "type")
		l.need(node, dataset, "name")
	}
	if _, given := result["source"]; given {
		if source, ok := l.inner(node, result, "source"); ok {
			l.need(node, source, "url")
		}
	}
	metrics, ok := result["metrics"].(*ast.SequenceNode)
	if !ok {
		l.add(lineOf(node), "model-index", "metrics is missing or not a list")
		return
	}
	for _, item := range metrics.Values {
		metric, ok := asMap(item)
		if !ok {
			l.add(lineOf(item), "model-index", "a metric is not a mapping")
			continue
		}
		l.need(item, metric, "type")
		l.value(item, metric["value"])
	}
}

func (l *linter) inner(at ast.Node, m map[string]ast.Node, key string) (map[string]ast.Node, bool) {
	inner, ok := asMap(m[key])
	if !ok {
		l.add(lineOf(at), "model-index", "%s is missing or not a mapping", key)
	}
	return inner, ok
}

func (l *linter) need(at ast.Node, m map[string]ast.Node, key string) {
	if s, ok := m[key].(*ast.StringNode); !ok || s.Value == "" {
		l.add(lineOf(at), "model-index", "%s is missing or not text", key)
	}
}

// value checks the figure of a metric.
func (l *linter) value(at, node ast.Node) {
	switch n := node.(type) {
	case nil:
		l.add(lineOf(at), "model-index", "value is missing")
	case *ast.IntegerNode, *ast.FloatNode, *ast.NanNode, *ast.InfinityNode: // the last two are told already
	case *ast.StringNode:
		if _, err := strconv.ParseFloat(n.Value, 64); err == nil {
			l.add(lineOf(n), "model-index", "value %q is text: leave the quotes off", n.Value)
			return
		}
		l.add(lineOf(n), "model-index", "value %q is not a number", n.Value)
	default:
		l.add(lineOf(node), "model-index", "value is not a number")
	}
}

// body checks the text: the sections that must say something, and places left open.
func (l *linter) body(body []byte) {
	sections := map[string]string{}
	name := ""
	for line := range bytes.Lines(body) {
		text := strings.TrimSpace(string(line))
		if heading := strings.TrimLeft(text, "#"); len(heading) < len(text) && strings.HasPrefix(heading, " ") {
			name = strings.ToLower(strings.TrimSpace(heading))
			sections[name] += ""
			continue
		}
		sections[name] += text
	}
	l.sectionOf(sections, "limitations", "limitation", "bias, risks")
	l.sectionOf(sections, "privacy", "privacy", "memorization")
	l.sectionOf(sections, "intended use", "intended use", "uses")
	for _, open := range []string{"[More Information Needed]", "[optional]", "TODO", "{{"} {
		if bytes.Contains(body, []byte(open)) {
			l.add(0, "unfinished", "%q stands in the text", open)
		}
	}
}

// sectionOf wants a heading that holds one of the words, with something below.
func (l *linter) sectionOf(sections map[string]string, name string, wanted ...string) {
	found := false
	for heading, text := range sections {
		for _, w := range wanted {
			if strings.Contains(heading, w) {
				found = true
				if strings.Trim(text, " -*_.") != "" {
					return
				}
			}
		}
	}
	if found {
		l.add(0, strings.ReplaceAll(name, " ", "-"), "the section on %s is empty", name)
		return
	}
	l.add(0, strings.ReplaceAll(name, " ", "-"), "there is no section on %s", name)
}
