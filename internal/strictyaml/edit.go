package strictyaml

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// Edit gives the scalar at key (dotted: a section and a name in it) another text, and leaves every other byte of
// the file as it is, comments included. A key that the file does not have is put first in its section.
func Edit(path string, data []byte, key, text string) ([]byte, error) {
	body, problem := parse(path, data)
	if problem != nil {
		return nil, asError([]Problem{*problem})
	}
	section, name, ok := strings.Cut(key, ".")
	if !ok || strings.Contains(name, ".") {
		return nil, fmt.Errorf("editing %s: %s is no key of a section", path, key)
	}
	e := editor{path: path, lines: strings.SplitAfter(string(data), "\n"), name: name, text: text}
	at := entry(body, section)
	if at == nil {
		end := string(data)
		if !strings.HasSuffix(end, "\n") {
			end += "\n"
		}
		return fmt.Appendf(nil, "%s%s:\n  %s: %s\n", end, section, name, text), nil
	}
	var err error
	if old := entry(at.Value, name); old != nil {
		err = e.replace(old.Value)
	} else {
		err = e.insert(at)
	}
	return []byte(strings.Join(e.lines, "")), err
}

func entry(n ast.Node, name string) *ast.MappingValueNode {
	all, _ := mappingEntries(n)
	if i := slices.IndexFunc(all, func(m *ast.MappingValueNode) bool { return keyText(m.Key) == name }); i >= 0 {
		return all[i]
	}
	return nil
}

// editor changes lines of a file at the places of tokens.
type editor struct {
	path, name, text string
	lines            []string
}

// at is the line of a token and the byte in it where the token begins.
func (e *editor) at(t *token.Token) (line *string, offset int, err error) {
	if t == nil || t.Position == nil || t.Position.Line < 1 || t.Position.Line > len(e.lines) {
		return nil, 0, e.cannot()
	}
	line = &e.lines[t.Position.Line-1]
	runes := []rune(*line)
	if t.Position.Column < 1 || t.Position.Column > len(runes) {
		return nil, 0, e.cannot()
	}
	return line, len(string(runes[:t.Position.Column-1])), nil
}

func (e *editor) cannot() error {
	return fmt.Errorf("%s: %s is not written as a plain value; set it by hand: %s", e.path, e.name, e.text)
}

func (e *editor) replace(old ast.Node) error {
	if _, ok := scalarText(old); !ok || old.GetToken() == nil {
		return e.cannot()
	}
	source := strings.TrimSpace(old.GetToken().Origin)
	line, offset, err := e.at(old.GetToken())
	if err != nil {
		return err
	}
	rest, ok := strings.CutPrefix((*line)[offset:], source)
	if !ok || source == "" {
		return e.cannot()
	}
	*line = (*line)[:offset] + e.text + rest
	return nil
}

func (e *editor) insert(section *ast.MappingValueNode) error {
	added := e.name + ": " + e.text
	if m, ok := section.Value.(*ast.MappingNode); ok && m.IsFlowStyle {
		line, offset, err := e.at(m.Start)
		if err != nil || (*line)[offset] != '{' {
			return e.cannot()
		}
		if len(m.Values) > 0 {
			added += ", "
		}
		*line = (*line)[:offset+1] + added + (*line)[offset+1:]
		return nil
	}
	all, ok := mappingEntries(section.Value)
	if !ok || len(all) == 0 {
		return e.cannot()
	}
	line, offset, err := e.at(all[0].Key.GetToken())
	if err != nil {
		return err
	}
	*line = (*line)[:offset] + added + "\n" + (*line)[:offset] + (*line)[offset:]
	return nil
}
