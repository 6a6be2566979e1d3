package strictyaml

import (
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Flatten gives every value of a YAML file by its dotted key, whatever keys those are. The items of
// a list of texts or numbers are one value, [a, b]; those of other lists are numbered from 0.
func Flatten(path string, data []byte) (map[string]string, error) {
	body, problem := parse(path, data)
	if problem != nil {
		return nil, asError([]Problem{*problem})
	}
	flat := map[string]string{}
	flatten(body, "", 0, flat)
	return flat, nil
}

func flatten(n ast.Node, key string, depth int, into map[string]string) {
	if depth > maxDepth {
		return // parse has refused deeper files already
	}
	if entries, ok := mappingEntries(n); ok {
		for _, e := range entries {
			flatten(e.Value, join(key, keyText(e.Key)), depth+1, into)
		}
		return
	}
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		into[key] = valueText(n)
		return
	}
	var items []string
	for _, item := range list.Values {
		text, plain := scalarText(item)
		if !plain {
			for i, item := range list.Values {
				flatten(item, join(key, strconv.Itoa(i)), depth+1, into)
			}
			return
		}
		items = append(items, text)
	}
	into[key] = "[" + strings.Join(items, ", ") + "]"
}

// valueText is what stands for a value that is neither a section nor a list.
func valueText(n ast.Node) string {
	if _, null := n.(*ast.NullNode); null || n == nil {
		return ""
	}
	if text, ok := scalarText(n); ok {
		return text
	}
	return strings.TrimSpace(n.String())
}
