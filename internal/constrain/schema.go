package constrain

import (
	"bytes"
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
	AnyOf      []schema          `json:"anyOf"`
	OneOf      []schema          `json:"oneOf"`

	Title, Description, Comment, Schema, ID, Default, Examples any
}

// UnmarshalJSON refuses keywords that have no regular expression: what they ask for could not be
// promised.
func (s *schema) UnmarshalJSON(data []byte) error {
	type plain struct {
		Type        any               `json:"type"`
		Enum        []json.RawMessage `json:"enum"`
		Const       json.RawMessage   `json:"const"`
		Properties  ordered           `json:"properties"`
		Required    []string          `json:"required"`
		Additional  any               `json:"additionalProperties"`
		Items       *schema           `json:"items"`
		MinItems    int               `json:"minItems"`
		MaxItems    *int              `json:"maxItems"`
		MinLength   int               `json:"minLength"`
		MaxLength   *int              `json:"maxLength"`
		AnyOf       []schema          `json:"anyOf"`
		OneOf       []schema          `json:"oneOf"`
		Title       any               `json:"title"`
		Description any               `json:"description"`
		Comment     any               `json:"$comment"`
		Schema      any               `json:"$schema"`
		ID          any               `json:"$id"`
		Default     any               `json:"default"`
		Examples    any               `json:"examples"`
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var p plain
	if err := decoder.Decode(&p); err != nil {
		return err
	}
	*s = schema(p)
	return nil
}

// ordered are properties in the order in which they stand.
type ordered []property

type property struct {
	name string
	of   schema
}

// UnmarshalJSON keeps the order.
func (o *ordered) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if _, err := decoder.Token(); err != nil {
		return err
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		p := property{name: fmt.Sprint(name)}
		if err := decoder.Decode(&p.of); err != nil {
			return fmt.Errorf("property %s: %w", p.name, err)
		}
		*o = append(*o, p)
	}
	return nil
}

const (
	jsonChar    = `(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})`
	jsonInteger = `-?(?:0|[1-9][0-9]*)`
	jsonNumber  = jsonInteger + `(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?`
)

// Schema gives the regular expression of the JSON texts that a schema allows, on one line, with
// at most one space behind a colon or comma, and the properties in the order of the schema.
func Schema(data []byte) (string, error) {
	var s schema
	if err := json.Unmarshal(data, &s); err != nil {
		return "", fmt.Errorf("reading the schema: %w", err)
	}
	return s.expression()
}

func (s schema) expression() (string, error) {
	switch {
	case s.Const != nil:
		return literal(s.Const)
	case s.Enum != nil:
		return each(s.Enum, literal)
	case s.AnyOf != nil:
		return each(s.AnyOf, schema.expression)
	case s.OneOf != nil:
		return each(s.OneOf, schema.expression)
	}
	switch of := s.Type.(type) {
	case string:
		return s.typed(of)
	case []any:
		return each(of, func(t any) (string, error) { return s.typed(fmt.Sprint(t)) })
	default:
		return "", fmt.Errorf("a schema has no type: %v", s.Type)
	}
}

// each joins alternatives.
func each[T any](list []T, expression func(T) (string, error)) (string, error) {
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

func (s schema) typed(of string) (string, error) {
	switch of {
	case "string":
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
		return s.array()
	case "object":
		return s.object()
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

func (s schema) array() (string, error) {
	if s.Items == nil {
		return "", errors.New("an array has no items")
	}
	item, err := s.Items.expression()
	if err != nil {
		return "", err
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
func (s schema) object() (string, error) {
	parts := make([]string, len(s.Properties))
	for i, p := range s.Properties {
		value, err := p.of.expression()
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
