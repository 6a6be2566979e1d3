package card

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFront bounds the front matter; the hub's own bound is far below.
const maxFront = 1 << 20

// errNoFront says that a card is plain Markdown.
var errNoFront = errors.New("the card has no front matter")

// split cuts a card into front matter and body.
func split(text []byte) (front, body []byte, err error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	rest, found := bytes.CutPrefix(text, []byte("---\n"))
	if !found {
		return nil, text, errNoFront
	}
	front, body, found = bytes.Cut(append([]byte("\n"), rest...), []byte("\n---\n"))
	if !found {
		if trimmed, ends := bytes.CutSuffix(rest, []byte("\n---")); ends {
			return trimmed, nil, nil
		}
		return nil, text, errors.New("the front matter has no end: a line --- is missing")
	}
	if len(front) > maxFront {
		return nil, body, fmt.Errorf("the front matter is %d bytes long, %d are allowed", len(front), maxFront)
	}
	return front, body, nil
}

// parseYAML reads YAML that may come from anywhere.
func parseYAML(data []byte) (doc *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil { // the parser is not proof against every input
			err = fmt.Errorf("the front matter cannot be read: %v", r)
		}
	}()
	return parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
}

// decode reads the front matter into a value.
func decode(data []byte, value any) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the front matter cannot be read: %v", r)
		}
	}()
	return yaml.Unmarshal(data, value)
}
