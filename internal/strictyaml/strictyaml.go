// Package strictyaml reads a YAML file into a struct and accepts nothing that the struct does not
// name: an unknown key is a problem, not a surprise later.
//
// All problems of a file are told at once, each with its line and, for a key that is not known,
// the key that was probably meant. Numbers must fit their field; text is never guessed to be one.
// Fields are named by their yaml tags. The struct is written to only where the file says
// something, so whatever it held before serves as default.
package strictyaml

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Limits that no file written by hand meets; they keep a hostile one from eating the machine.
const (
	maxBytes = 1 << 20
	maxDepth = 64
	maxNodes = 200_000
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	Path    string // the file, or the flag or variable that said it
	Line    int    // from 1, 0 where there are no lines
	Key     string // dotted, "" for the file as a whole
	Reason  string
	Nearest string // the full name of the key that was probably meant
}

func (p Problem) Error() string {
	where := p.Path
	if p.Line > 0 {
		where = fmt.Sprintf("%s:%d", p.Path, p.Line)
	}
	text := p.Reason
	if p.Key != "" {
		text = p.Key + ": " + text
	}
	if p.Nearest != "" {
		text += fmt.Sprintf(" (did you mean %s?)", p.Nearest)
	}
	return where + ": " + text
}

// Error holds all problems of a file, in the order of its lines.
type Error struct{ Problems []Problem }

func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// asError is nil where there is no problem.
func asError(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	return &Error{Problems: problems}
}

// Document is a file that was read; it knows on which line a key stands.
type Document struct {
	Path  string
	lines map[string]int
}

// Line is where the key stands, or the nearest key around it; 0 where the file has none of them.
func (d *Document) Line(key string) int {
	for {
		if line, ok := d.lines[key]; ok {
			return line
		}
		i := strings.LastIndexByte(key, '.')
		if i < 0 {
			return 0
		}
		key = key[:i]
	}
}

// Has says whether the file itself gives the key.
func (d *Document) Has(key string) bool {
	_, ok := d.lines[key]
	return ok
}

// Unmarshal reads data, the content of the file at path, into the struct that into points to.
// Its error is an *Error. The document is returned even then, unless the YAML itself is broken.
func Unmarshal(path string, data []byte, into any) (*Document, error) {
	body, problem := parse(path, data)
	if problem != nil {
		return nil, asError([]Problem{*problem})
	}
	d := decoder{path: path, root: reflect.TypeOf(into).Elem(), lines: make(map[string]int), anchors: make(map[string]ast.Node)}
	d.value(body, reflect.ValueOf(into).Elem(), "", 0)
	return &Document{Path: path, lines: d.lines}, asError(d.problems)
}

// Set reads text, a YAML value, into the field of a struct that the dotted key names, as --set
// does. Source is what a problem is reported of. After an error the struct is of no use.
func Set(into any, source, key, text string) error {
	d := decoder{path: source, root: reflect.TypeOf(into).Elem(), lines: make(map[string]int), anchors: make(map[string]ast.Node)}
	target, ok := d.locate(reflect.ValueOf(into).Elem(), key)
	if !ok {
		return asError(d.problems)
	}
	body, problem := parse(source, []byte(text))
	if problem != nil {
		problem.Key, problem.Line = key, 0
		return asError([]Problem{*problem})
	}
	d.value(body, target, key, 0)
	for i := range d.problems {
		d.problems[i].Line = 0
	}
	return asError(d.problems)
}

// Marshal writes a struct as YAML, keys in the order of its fields.
func Marshal(v any) ([]byte, error) {
	return yaml.MarshalWithOptions(v, yaml.Indent(2), yaml.IndentSequence(true),
		yaml.UseLiteralStyleIfMultiline(true), yaml.CustomMarshaler(marshalFloat))
}

// marshalFloat writes 1.0e-06 where the library's 1e-06 is a text to older readers of YAML.
func marshalFloat(v float64) ([]byte, error) {
	text := strconv.FormatFloat(v, 'g', -1, 64)
	if mantissa, exponent, ok := strings.Cut(text, "e"); ok && !strings.Contains(mantissa, ".") {
		text = mantissa + ".0e" + exponent
	} else if !strings.ContainsAny(text, ".eIN") {
		text += ".0"
	}
	return []byte(text), nil
}

// parse gives the one value of the file.
func parse(path string, data []byte) (body ast.Node, problem *Problem) {
	if len(data) > maxBytes {
		return nil, &Problem{Path: path, Reason: fmt.Sprintf("is larger than %d bytes", maxBytes)}
	}
	if !utf8.Valid(data) {
		return nil, &Problem{Path: path, Reason: "is not UTF-8 text"}
	}
	if depth := nesting(data); depth > maxDepth {
		return nil, &Problem{Path: path, Reason: fmt.Sprintf("is nested deeper than %d", maxDepth)}
	}
	defer func() {
		if value := recover(); value != nil { // the parser is not ours: broken input must not end the run
			body, problem = nil, &Problem{Path: path, Reason: "is not YAML"}
		}
	}()
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, syntaxProblem(path, err)
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil {
			if _, comment := doc.Body.(*ast.CommentGroupNode); !comment {
				bodies = append(bodies, doc.Body)
			}
		}
	}
	switch len(bodies) {
	case 0:
		return nil, &Problem{Path: path, Reason: "is empty"}
	case 1:
		return bodies[0], nil
	default:
		return nil, &Problem{Path: path, Line: line(bodies[1]), Reason: "holds more than one document"}
	}
}

// syntaxProblem takes line and reason out of the parser's error, without its drawing of the source.
func syntaxProblem(path string, err error) *Problem {
	p := &Problem{Path: path, Reason: "is not YAML"}
	if e, ok := err.(yaml.Error); ok { //nolint:errorlint // the parser returns it bare, and As panics on its type
		p.Reason = "is not YAML: " + e.GetMessage()
		if t := e.GetToken(); t != nil && t.Position != nil {
			p.Line = t.Position.Line
		}
	}
	return p
}

// nesting is how deep brackets nest, or how many marks of a block stand before the content of one
// line, whichever is more: the parser recurses on each, and takes the square of their number.
func nesting(data []byte) int {
	depth, marks, deepest, start := 0, 0, 0, true
	for i, c := range data {
		switch c {
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(0, depth-1)
		case '-', '?', ':':
			if i+1 < len(data) && data[i+1] == ' ' {
				marks++
			}
		case '\n':
			marks, start = 0, true
			continue
		case ' ', '\t', '\r':
			continue
		default:
			start = false
		}
		if !start {
			marks = 0
		}
		deepest = max(deepest, depth, marks)
	}
	return deepest
}

func line(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}
