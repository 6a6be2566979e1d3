package constrain

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// schema is the part of JSON Schema that has a regular expression.
type schema struct {
	Type       any               `json:"type"`
	Enum       []json.RawMessage `json:"enum"`
	Const      json.RawMessage   `json:"const"`
	Properties ordered           `json:"properties"`
	Required   []string          `json:"required"`
	Additional any               `json:"additionalProperties"`
	Items      *schema           `json:"items"`
	MinItems   int               `json:"minItems"`
	MaxItems   *int              `json:"maxItems"`
	MinLength  int               `json:"minLength"`
	MaxLength  *int              `json:"maxLength"`
	Pattern    *string           `json:"pattern"`
	AnyOf      []schema          `json:"anyOf"`
	OneOf      []schema          `json:"oneOf"`
	Ref        *string           `json:"$ref"`

	Defs        map[string]schema `json:"$defs"`
	Definitions map[string]schema `json:"definitions"` // as $defs was called before 2019
}

// UnmarshalJSON refuses keywords that have no regular expression: what they ask for could not be
// promised.
func (s *schema) UnmarshalJSON(data []byte) error {
	list, err := members(data)
	if err != nil {
		return err
	}
	known := []string{
		"type", "enum", "const", "properties", "required", "additionalProperties", "items", "minItems", "maxItems", "minLength", "maxLength",
		"pattern", "anyOf", "oneOf", "$ref", "$defs", "definitions", "title", "description", "$comment", "$schema", "$id", "default", "examples",
	}
	for _, m := range list {
		if !slices.Contains(known, m.name) {
			return fmt.Errorf("the keyword %q is not supported", m.name)
		}
	}
	type plain schema
	return json.Unmarshal(data, (*plain)(s))
}

// member is one name and value of an object.
type member struct {
	name  string
	value json.RawMessage
}

// members lists an object's, in their order; no name may come twice.
func members(data []byte) ([]member, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return nil, fmt.Errorf("%.20s stands where only objects are supported", data)
	}
	var list []member
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		m := member{name: fmt.Sprint(name)}
		if err := decoder.Decode(&m.value); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(list, func(other member) bool { return other.name == m.name }) {
			return nil, fmt.Errorf("%q stands there twice", m.name)
		}
		list = append(list, m)
	}
	return list, nil
}

// ordered are properties in the order in which they stand.
type ordered []property

type property struct {
	name string
	of   schema
}

// UnmarshalJSON keeps the order.
func (o *ordered) UnmarshalJSON(data []byte) error {
	list, err := members(data)
	if err != nil {
		return err
	}
	for _, m := range list {
		p := property{name: m.name}
		if err := json.Unmarshal(m.value, &p.of); err != nil {
			return fmt.Errorf("property %s: %w", p.name, err)
		}
		*o = append(*o, p)
	}
	return nil
}

const (
	jsonPlain   = `[^"\\\x00-\x1f]`
	jsonUnicode = `\\u(?:[0-9a-cA-CefEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2})` // no halves of a pair: each is one character
	jsonChar    = `(?:` + jsonPlain + `|\\["\\/bfnrt]|` + jsonUnicode + `)`
	jsonInteger = `-?(?:0|[1-9][0-9]*)`
	jsonNumber  = jsonInteger + `(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?`
)

// deepest bounds how long an expression may grow by definitions that refer to others.
const deepest = 1 << 20

// Schema gives the regular expression of the JSON texts that a schema allows, on one line, with
// at most one space behind a colon or comma, and the properties in the order of the schema.
func Schema(data []byte) (string, error) {
	var s schema
	if err := json.Unmarshal(data, &s); err != nil {
		return "", fmt.Errorf("reading the schema: %w", err)
	}
	return (&writer{root: s, open: map[string]bool{}}).expression(s)
}

// writer turns a schema into an expression.
type writer struct {
	root schema
	open map[string]bool // definitions that are being written
}

func (w *writer) expression(s schema) (string, error) {
	ways := 0
	for _, given := range []bool{s.Const != nil || s.Enum != nil, s.AnyOf != nil, s.OneOf != nil, s.Ref != nil} {
		if given {
			ways++
		}
	}
	if beside := s.beside(); ways > 1 || beside != "" && ways > 0 && (beside != "type" || s.Const == nil && s.Enum == nil) {
		return "", fmt.Errorf("a schema has %s beside const, enum, anyOf, oneOf or $ref, which is not supported", cmp.Or(beside, "one"))
	}
	var text string
	var err error
	switch {
	case s.Const != nil:
		text, err = s.values([]json.RawMessage{s.Const})
	case s.Enum != nil:
		text, err = s.values(s.Enum)
	case s.AnyOf != nil:
		text, err = each(s.AnyOf, w.expression)
	case s.OneOf != nil:
		if err := apart(s.OneOf); err != nil {
			return "", err
		}
		text, err = each(s.OneOf, w.expression)
	case s.Ref != nil:
		text, err = w.refer(*s.Ref)
	default:
		switch of := s.Type.(type) {
		case string:
			text, err = w.typed(s, of)
		case []any:
			text, err = each(of, func(t any) (string, error) { return w.typed(s, fmt.Sprint(t)) })
		default:
			return "", fmt.Errorf("a schema has no type: %v", s.Type)
		}
	}
	if len(text) > deepest {
		return "", fmt.Errorf("the schema's expression has more than %d characters", deepest)
	}
	return text, err
}

// beside names a keyword that asks for something of a value by its type.
func (s schema) beside() string {
	for _, k := range []struct {
		name  string
		given bool
	}{
		{"properties", s.Properties != nil}, {"required", s.Required != nil}, {"items", s.Items != nil}, {"minItems", s.MinItems != 0},
		{"maxItems", s.MaxItems != nil}, {"minLength", s.MinLength != 0}, {"maxLength", s.MaxLength != nil}, {"pattern", s.Pattern != nil},
		{"additionalProperties", s.Additional != nil}, {"type", s.Type != nil},
	} {
		if k.given {
			return k.name
		}
	}
	return ""
}

// refer writes what a reference points to: the definitions of this file.
func (w *writer) refer(ref string) (string, error) {
	of, name := w.root.Defs, ""
	if n, ok := strings.CutPrefix(ref, "#/definitions/"); ok {
		of, name = w.root.Definitions, n
	} else if name, ok = strings.CutPrefix(ref, "#/$defs/"); !ok {
		return "", fmt.Errorf("$ref %q: only #/$defs/NAME and #/definitions/NAME are supported", ref)
	}
	s, ok := of[name]
	if !ok {
		return "", fmt.Errorf("$ref %q: there is no such definition", ref)
	}
	if w.open[ref] {
		return "", fmt.Errorf("$ref %q refers to itself: texts nested without end have no regular expression", ref)
	}
	w.open[ref] = true
	defer delete(w.open, ref)
	return w.expression(s)
}

// apart says why no value may fit two of the alternatives: each has a type or values of its own.
func apart(list []schema) error {
	seen := map[string]bool{}
	for _, s := range list {
		keys := map[string]bool{}
		switch types, many := s.Type.([]any); {
		case s.Const != nil || s.Enum != nil:
			for _, v := range append(s.Enum, s.Const) {
				if v != nil {
					keys[kind(v)] = true
				}
			}
		case many:
			for _, t := range types {
				keys[fmt.Sprint(t)] = true
			}
		case s.Type != nil:
			keys[fmt.Sprint(s.Type)] = true
		default:
			return errors.New("oneOf is supported only between schemas of different types; anyOf may do")
		}
		for key := range keys {
			if key == "integer" {
				key = "number"
			}
			if seen[key] {
				return fmt.Errorf("oneOf has two schemas for %ss, and a value must fit one alone; anyOf may do", key)
			}
			seen[key] = true
		}
	}
	return nil
}

// kind is the type of a value; whole numbers are numbers.
func kind(raw json.RawMessage) string {
	switch bytes.TrimSpace(raw)[0] {
	case '"':
		return "string"
	case '{':
		return "object"
	case '[':
		return "array"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	default:
		return "number"
	}
}

// values matches those values that have the schema's type, where it says one.
func (s schema) values(list []json.RawMessage) (string, error) {
	if of, ok := s.Type.(string); ok {
		for _, v := range list {
			if k := kind(v); k != of && !(of == "integer" && k == "number" && !bytes.ContainsAny(v, ".eE")) {
				return "", fmt.Errorf("the value %s is not of the type %s", v, of)
			}
		}
	} else if s.Type != nil {
		return "", errors.New("several types beside const or enum are not supported")
	}
	return each(list, literal)
}

// each joins alternatives.
func each[T any](list []T, expression func(T) (string, error)) (string, error) {
	if len(list) == 0 {
		return "", errors.New("a list of alternatives is empty")
	}
	parts := make([]string, len(list))
	for i, item := range list {
		var err error
		if parts[i], err = expression(item); err != nil {
			return "", err
		}
	}
	return "(?:" + strings.Join(parts, "|") + ")", nil
}

// literal matches one value, written compactly.
func literal(raw json.RawMessage) (string, error) {
	var text bytes.Buffer
	if err := json.Compact(&text, raw); err != nil {
		return "", err
	}
	return regexp.QuoteMeta(text.String()), nil
}

func (w *writer) typed(s schema, of string) (string, error) {
	switch of {
	case "string":
		if s.Pattern != nil {
			if s.MinLength != 0 || s.MaxLength != nil {
				return "", errors.New("pattern beside minLength or maxLength is not supported; a count in the pattern does the same")
			}
			inner, err := pattern(*s.Pattern)
			return `"` + inner + `"`, err
		}
		return `"` + jsonChar + counted(s.MinLength, s.MaxLength) + `"`, nil
	case "integer":
		return jsonInteger, nil
	case "number":
		return jsonNumber, nil
	case "boolean":
		return `(?:true|false)`, nil
	case "null":
		return `null`, nil
	case "array":
		return w.array(s)
	case "object":
		return w.object(s)
	default:
		return "", fmt.Errorf("a schema has the type %q", of)
	}
}

func counted(least int, most *int) string {
	switch {
	case most != nil:
		return fmt.Sprintf("{%d,%d}", least, *most)
	case least == 0:
		return "*"
	default:
		return fmt.Sprintf("{%d,}", least)
	}
}

func (w *writer) array(s schema) (string, error) {
	if s.Items == nil {
		return "", errors.New("an array has no items")
	}
	item, err := w.expression(*s.Items)
	if err != nil {
		return "", err
	}
	if s.MaxItems != nil && *s.MaxItems < s.MinItems {
		return "", fmt.Errorf("an array has at least %d and at most %d items", s.MinItems, *s.MaxItems)
	}
	if s.MaxItems != nil && *s.MaxItems == 0 {
		return `\[\]`, nil
	}
	var most *int
	if s.MaxItems != nil {
		n := *s.MaxItems - 1
		most = &n
	}
	list := `(?:` + item + `)(?:, ?(?:` + item + `))` + counted(max(0, s.MinItems-1), most)
	if s.MinItems == 0 {
		list = `(?:` + list + `)?`
	}
	return `\[` + list + `\]`, nil
}

// object writes the properties in order. Those that are not required may be left out; what stands
// before decides whether a comma does.
func (w *writer) object(s schema) (string, error) {
	for _, name := range s.Required {
		if !slices.ContainsFunc(s.Properties, func(p property) bool { return p.name == name }) {
			return "", fmt.Errorf("the property %s is required, but not among the properties", name)
		}
	}
	parts := make([]string, len(s.Properties))
	for i, p := range s.Properties {
		value, err := w.expression(p.of)
		if err != nil {
			return "", fmt.Errorf("%s: %w", p.name, err)
		}
		name, err := json.Marshal(p.name)
		if err != nil {
			return "", err
		}
		parts[i] = regexp.QuoteMeta(string(name)) + `: ?(?:` + value + `)`
	}
	rest := "" // what may follow where something stands before
	body := "" // where nothing does
	for i := len(parts) - 1; i >= 0; i-- {
		required := slices.Contains(s.Required, s.Properties[i].name)
		first := parts[i] + rest
		if required {
			body, rest = first, `, ?`+parts[i]+rest
			continue
		}
		if body == "" {
			body = `(?:` + first + `)?`
		} else {
			body = `(?:` + first + `|` + body + `)`
		}
		rest = `(?:, ?` + parts[i] + `)?` + rest
	}
	return `\{` + body + `\}`, nil
}
