package strictyaml

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/t5ctl/t5ctl/internal/nearest"
)

// decoder walks a tree of YAML beside a Go value and collects what does not fit.
type decoder struct {
	path     string
	root     reflect.Type // where a key that is unknown here may be known
	lines    map[string]int
	anchors  map[string]ast.Node
	nodes    int
	problems []Problem
}

func (d *decoder) fail(n ast.Node, key, format string, args ...any) {
	d.problems = append(d.problems, Problem{Path: d.path, Line: line(n), Key: key, Reason: fmt.Sprintf(format, args...)})
}

// value decodes n into v, which can be set.
func (d *decoder) value(n ast.Node, v reflect.Value, key string, depth int) {
	if d.nodes++; d.nodes > maxNodes || depth > maxDepth {
		if d.nodes != maxNodes+2 { // told once
			d.nodes = maxNodes + 1
			d.fail(n, key, "is nested too deep or too long")
		}
		return
	}
	n, ok := d.plain(n, key)
	if !ok {
		return
	}
	if _, null := n.(*ast.NullNode); null {
		v.SetZero()
		return
	}
	if d.custom(n, v, key) {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.value(n, v.Elem(), key, depth+1)
	case reflect.Struct:
		d.structure(n, v, key, depth)
	case reflect.Map:
		d.mapping(n, v, key, depth)
	case reflect.Slice:
		d.sequence(n, v, key, depth)
	case reflect.Interface:
		d.anything(n, v, key)
	default:
		d.scalar(n, v, key)
	}
}

// plain takes tags, anchors and aliases away.
func (d *decoder) plain(n ast.Node, key string) (ast.Node, bool) {
	for range maxDepth {
		switch node := n.(type) {
		case *ast.AnchorNode:
			d.anchors[node.Name.GetToken().Value] = node.Value
			n = node.Value
		case *ast.AliasNode:
			target, ok := d.anchors[node.Value.GetToken().Value]
			if !ok {
				d.fail(n, key, "no anchor &%s stands before", node.Value.GetToken().Value)
				return nil, false
			}
			n = target
		case *ast.TagNode:
			n = node.Value
		case *ast.MappingKeyNode:
			n = node.Value
		case nil:
			return &ast.NullNode{}, true
		default:
			return n, true
		}
	}
	d.fail(n, key, "is an anchor of itself")
	return nil, false
}

// custom decodes types that read themselves: from YAML, or from text.
func (d *decoder) custom(n ast.Node, v reflect.Value, key string) bool {
	if !v.CanAddr() {
		return false
	}
	switch target := v.Addr().Interface().(type) {
	case yaml.BytesUnmarshaler, yaml.InterfaceUnmarshaler, yaml.NodeUnmarshaler:
		if err := yaml.NodeToValue(n, target); err != nil {
			d.fail(n, key, "%s", plainReason(err))
		}
		return true
	case encoding.TextUnmarshaler:
		text, ok := scalarText(n)
		if !ok {
			d.fail(n, key, "must be a text, not %s", kindOf(n))
		} else if err := target.UnmarshalText([]byte(text)); err != nil {
			d.fail(n, key, "%s", plainReason(err))
		}
		return true
	}
	return false
}

// plainReason is the error without the YAML library's drawing of the source around it.
func plainReason(err error) string {
	if e, ok := err.(yaml.Error); ok { //nolint:errorlint // the library returns it bare
		return e.GetMessage()
	}
	return err.Error()
}

func (d *decoder) structure(n ast.Node, v reflect.Value, key string, depth int) {
	entries, ok := mappingEntries(n)
	if !ok {
		d.fail(n, key, "must be a mapping with the keys %s, not %s", strings.Join(keysOf(v.Type()), ", "), kindOf(n))
		return
	}
	seen := make(map[string]bool)
	for _, entry := range entries {
		name := keyText(entry.Key)
		full := join(key, name)
		field, known := fieldByKey(v, name)
		switch {
		case !known:
			d.unknown(entry.Key, v.Type(), key, name)
			continue
		case seen[name]:
			d.fail(entry.Key, full, "is given twice")
			continue
		}
		seen[name] = true
		d.lines[full] = line(entry.Key)
		d.value(entry.Value, field, full, depth+1)
	}
}

// unknown reports a key that the struct does not have: a near one in the same section, else the
// same or a near name elsewhere.
func (d *decoder) unknown(at ast.Node, section reflect.Type, key, name string) {
	near := ""
	if n := nearest.Of(name, keysOf(section)); n != "" {
		near = join(key, n)
	} else {
		near = d.elsewhere(name)
	}
	d.problems = append(d.problems, Problem{
		Path: d.path, Line: line(at), Key: join(key, name), Reason: "unknown key", Nearest: near,
	})
}

// elsewhere finds a key of that last name anywhere in the file's type.
func (d *decoder) elsewhere(name string) string {
	var leaves, full []string
	for _, k := range Keys(d.root) {
		leaves, full = append(leaves, k.Key[strings.LastIndexByte(k.Key, '.')+1:]), append(full, k.Key)
	}
	near := nearest.Of(name, leaves)
	for i, leaf := range leaves {
		if near != "" && leaf == near {
			return full[i]
		}
	}
	return ""
}

func (d *decoder) mapping(n ast.Node, v reflect.Value, key string, depth int) {
	entries, ok := mappingEntries(n)
	if !ok {
		d.fail(n, key, "must be a mapping, not %s", kindOf(n))
		return
	}
	result := reflect.MakeMapWithSize(v.Type(), len(entries))
	for _, entry := range entries {
		name := reflect.New(v.Type().Key()).Elem()
		d.scalar(entry.Key, name, key)
		full := join(key, keyText(entry.Key))
		if result.MapIndex(name).IsValid() {
			d.fail(entry.Key, full, "is given twice")
			continue
		}
		d.lines[full] = line(entry.Key)
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(entry.Value, item, full, depth+1)
		result.SetMapIndex(name, item)
	}
	v.Set(result)
}

func (d *decoder) sequence(n ast.Node, v reflect.Value, key string, depth int) {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		if _, scalar := scalarText(n); !scalar || v.Type().Elem().Kind() != reflect.String {
			d.fail(n, key, "must be a list, not %s", kindOf(n))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1)) // one text stands for a list of one
		d.value(n, v.Index(0), key, depth+1)
		return
	}
	result := reflect.MakeSlice(v.Type(), len(list.Values), len(list.Values))
	for i, item := range list.Values {
		full := join(key, strconv.Itoa(i))
		d.lines[full] = line(item)
		d.value(item, result.Index(i), full, depth+1)
	}
	v.Set(result)
}

func (d *decoder) anything(n ast.Node, v reflect.Value, key string) {
	var value any
	if err := yaml.NodeToValue(n, &value); err != nil {
		d.fail(n, key, "%s", plainReason(err))
		return
	}
	if value != nil {
		v.Set(reflect.ValueOf(value))
	}
}

func (d *decoder) scalar(n ast.Node, v reflect.Value, key string) {
	switch v.Kind() {
	case reflect.String:
		text, ok := scalarText(n)
		if !ok {
			d.fail(n, key, "must be a text, not %s", kindOf(n))
			return
		}
		v.SetString(text)
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.fail(n, key, "must be true or false, not %s", kindOf(n))
			return
		}
		v.SetBool(b.Value)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		whole, ok := wholeNumber(n)
		if !ok || v.OverflowInt(whole) {
			d.fail(n, key, "must be a whole number, not %s", kindOf(n))
			return
		}
		v.SetInt(whole)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		whole, ok := unsignedNumber(n)
		if !ok || v.OverflowUint(whole) {
			d.fail(n, key, "must be a whole number from 0, not %s", kindOf(n))
			return
		}
		v.SetUint(whole)
	case reflect.Float32, reflect.Float64:
		number, ok := realNumber(n)
		if !ok || v.OverflowFloat(number) {
			d.fail(n, key, "must be a number, not %s", kindOf(n))
			return
		}
		v.SetFloat(number)
	default:
		d.fail(n, key, "cannot be given in a file (%s)", v.Type())
	}
}

func mappingEntries(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}, true
	}
	return nil, false
}

func keyText(k ast.MapKeyNode) string {
	if text, ok := scalarText(k); ok {
		return text
	}
	return k.String()
}

func scalarText(n ast.Node) (string, bool) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, true
	case *ast.LiteralNode:
		return s.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	case *ast.MergeKeyNode:
		return "<<", true
	}
	return "", false
}

func wholeNumber(n ast.Node) (int64, bool) {
	switch s := n.(type) {
	case *ast.IntegerNode:
		switch i := s.Value.(type) {
		case int64:
			return i, true
		case uint64:
			return int64(i), i <= math.MaxInt64
		}
	case *ast.FloatNode, *ast.StringNode: // 1e4 is a whole number, 1.5 is not
		number, ok := realNumber(s)
		return int64(number), ok && number == math.Trunc(number) && math.Abs(number) < 1<<53
	}
	return 0, false
}

func unsignedNumber(n ast.Node) (uint64, bool) {
	if s, ok := n.(*ast.IntegerNode); ok {
		if u, ok := s.Value.(uint64); ok {
			return u, true
		}
	}
	i, ok := wholeNumber(n)
	return uint64(max(i, 0)), ok && i >= 0
}

// realNumber takes what YAML takes, and forms like 1e-4 that YAML 1.1 reads as text.
func realNumber(n ast.Node) (float64, bool) {
	switch s := n.(type) {
	case *ast.FloatNode:
		return s.Value, !math.IsNaN(s.Value) && !math.IsInf(s.Value, 0)
	case *ast.IntegerNode:
		switch i := s.Value.(type) {
		case int64:
			return float64(i), true
		case uint64:
			return float64(i), true
		}
	case *ast.StringNode:
		if s.Token == nil || s.Token.Type != token.StringType {
			return 0, false // quoted: the writer means a text
		}
		number, err := strconv.ParseFloat(s.Value, 64)
		return number, err == nil && !math.IsNaN(number) && !math.IsInf(number, 0)
	}
	return 0, false
}

// kindOf names what stands in the file, for people.
func kindOf(n ast.Node) string {
	switch s := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	default:
		text, ok := scalarText(s)
		if !ok {
			return "this"
		}
		if runes := []rune(text); len(runes) > 40 {
			text = string(runes[:40]) + "…"
		}
		return strconv.Quote(text)
	}
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}
