package datasets

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonlRows reads JSON lines. The standard library judges what is JSON; finding the few keys
// that are wanted in a line that is known to be sound is done here, because encoding/json would
// match keys of another case, keep the last of two equal keys, and mend broken text in silence.
type jsonlRows struct {
	lines lines
	path  string
	plan  plan
	raw   bool
	seen  [roles]bool
	first []string // the keys of the first row
}

func newJSONL(in *bufio.Reader, path string, o ReadOptions) *jsonlRows {
	return &jsonlRows{lines: lines{in: in, max: o.MaxRowBytes}, path: path, plan: o.plan(), raw: o.Raw}
}

func (r *jsonlRows) next(e *Example) error {
	for {
		line, err := r.lines.next()
		e.Line = r.lines.line
		if errors.Is(err, errLongLine) {
			return r.bad("is longer than %d bytes", r.lines.max)
		}
		if err != nil {
			return err
		}
		if line = bytes.Trim(line, " \t\r"); len(line) > 0 {
			return r.row(e, line)
		}
	}
}

func (r *jsonlRows) bad(format string, args ...any) *badRow {
	return bad(r.path, r.lines.line, fmt.Sprintf(format, args...))
}

// row fills in the example from a line.
func (r *jsonlRows) row(e *Example, line []byte) error {
	if !utf8.Valid(line) {
		return r.bad("is not UTF-8")
	}
	if !json.Valid(line) {
		return r.bad("is not JSON: %v", json.Unmarshal(line, new(json.RawMessage)))
	}
	if line[0] != '{' {
		return r.bad("is %s, not a JSON object", jsonKind(line))
	}
	var found [roles]bool
	var problem *badRow
	members(line, func(key, value []byte) bool {
		for i, name := range r.plan.name {
			if name == "" || string(key) != name {
				continue
			}
			if found[i] {
				problem = r.bad("has the key %q twice", name)
				return false
			}
			found[i] = true
			if reason := cmp.Or(e.take(role(i), value), r.plan.lacking(e, role(i))); reason != "" {
				problem = r.bad("%s %s", name, reason)
				return false
			}
			break
		}
		return true
	})
	if problem != nil {
		return problem
	}
	return r.finish(e, line, found)
}

// finish checks that nothing is missing.
func (r *jsonlRows) finish(e *Example, line []byte, found [roles]bool) error {
	if r.first == nil {
		r.first = keys(line)
	}
	for i, required := range r.plan.required {
		r.seen[i] = r.seen[i] || found[i]
		if required && !found[i] {
			problem := r.bad("has no %q", r.plan.name[i])
			problem.column = r.plan.missing(r.path, role(i), keys(line))
			return problem
		}
	}
	if r.raw {
		e.Raw = bytes.Clone(line)
	}
	return nil
}

// unseen is the error for a column that the user named and no row has.
func (r *jsonlRows) unseen() *ColumnError {
	for i, named := range r.plan.named {
		if named && r.plan.name[i] != "" && !r.seen[i] {
			return r.plan.missing(r.path, role(i), r.first)
		}
	}
	return nil
}

// take puts a JSON value into the example, or says why it cannot.
func (e *Example) take(r role, value []byte) (problem string) {
	if r == roleReferences {
		return e.takeReferences(value)
	}
	switch value[0] {
	case '"':
		text, problem := unquote(value)
		if problem == "" {
			e.set(r, text)
		}
		return problem
	case 'n':
		if r == roleID || r == roleTask {
			return "" // as if it were not there
		}
		return "is null"
	}
	if r == roleID && value[0] != '{' && value[0] != '[' { // rows are often numbered
		e.ID = string(value)
		return ""
	}
	return "is " + jsonKind(value) + ", not a string"
}

// takeReferences takes a list of strings, or null for none.
func (e *Example) takeReferences(value []byte) (problem string) {
	e.References = nil
	if value[0] == 'n' {
		return ""
	}
	if value[0] != '[' {
		return "is " + jsonKind(value) + ", not a list of strings"
	}
	elements(value, func(element []byte) bool {
		if element[0] != '"' {
			problem = "holds " + jsonKind(element) + ", not only strings"
			return false
		}
		var text string
		if text, problem = unquote(element); problem != "" {
			return false
		}
		e.References = append(e.References, text)
		return true
	})
	if problem == "" && len(e.References) == 0 {
		return "is an empty list"
	}
	return problem
}

// jsonKind names what a value is.
func jsonKind(value []byte) string {
	switch value[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "a list"
	case 't', 'f':
		return "a truth value"
	case 'n':
		return "null"
	}
	return "a number"
}

// keys lists the first keys of a sound object, for messages.
func keys(object []byte) (names []string) {
	members(object, func(key, _ []byte) bool {
		names = append(names, string(key))
		return len(names) < 100
	})
	return slices.Compact(names)
}

// members visits the keys and values of a sound object until visit has enough.
func members(object []byte, visit func(key, value []byte) bool) {
	for rest := skipSpace(object[1:]); rest[0] != '}'; {
		end := valueEnd(rest)
		key := rest[1 : end-1]
		if bytes.IndexByte(key, '\\') >= 0 {
			text, _ := unquote(rest[:end])
			key = []byte(text)
		}
		rest = skipSpace(rest[end:])
		rest = skipSpace(rest[1:]) // the colon
		end = valueEnd(rest)
		if !visit(key, rest[:end]) {
			return
		}
		if rest = skipSpace(rest[end:]); rest[0] == ',' {
			rest = skipSpace(rest[1:])
		}
	}
}

// elements visits the values of a sound list until visit has enough.
func elements(list []byte, visit func(value []byte) bool) {
	for rest := skipSpace(list[1:]); rest[0] != ']'; {
		end := valueEnd(rest)
		if !visit(rest[:end]) {
			return
		}
		if rest = skipSpace(rest[end:]); rest[0] == ',' {
			rest = skipSpace(rest[1:])
		}
	}
}

func skipSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\n' || b[0] == '\r') {
		b = b[1:]
	}
	return b
}

// valueEnd is the length of the value that b, part of sound JSON, starts with.
func valueEnd(b []byte) int {
	switch b[0] {
	case '"':
		return stringEnd(b)
	case '{', '[':
		depth := 0
		for i := 0; ; i++ {
			switch b[i] {
			case '"':
				i += stringEnd(b[i:]) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	end := bytes.IndexAny(b, ",]} \t\r\n")
	if end < 0 {
		return len(b)
	}
	return end
}

// stringEnd is the length of the string that b starts with, quotes included.
func stringEnd(b []byte) int {
	for i := 1; ; {
		i += bytes.IndexByte(b[i:], '"') + 1
		escapes := 0
		for b[i-2-escapes] == '\\' { // the opening quote ends this at the latest
			escapes++
		}
		if escapes%2 == 0 {
			return i
		}
	}
}

// unquote gives the text of a sound JSON string. Half a surrogate pair is no text, and NUL is
// never meant.
func unquote(quoted []byte) (text, problem string) {
	b := quoted[1 : len(quoted)-1]
	at := bytes.IndexByte(b, '\\')
	if at < 0 {
		return string(b), ""
	}
	out := make([]byte, 0, len(b))
	for at >= 0 {
		out = append(out, b[:at]...)
		b = b[at:]
		var r rune
		if b[1] != 'u' {
			r, b = escaped(b[1]), b[2:]
		} else {
			r, b = hex4(b[2:]), b[6:]
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if len(b) >= 6 && b[0] == '\\' && b[1] == 'u' {
					low = hex4(b[2:])
				}
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
					return "", "holds half a surrogate pair"
				}
				b = b[6:]
			}
		}
		if r == 0 {
			return "", "holds a NUL byte"
		}
		out = utf8.AppendRune(out, r)
		at = bytes.IndexByte(b, '\\')
	}
	return string(append(out, b...)), ""
}

// escaped is the character behind a backslash, u apart.
func escaped(c byte) rune {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return rune(c)
}

// hex4 is the number that four hexadecimal digits spell.
func hex4(b []byte) rune {
	n, _ := strconv.ParseUint(string(b[:4]), 16, 32) // sound JSON
	return rune(n)
}
