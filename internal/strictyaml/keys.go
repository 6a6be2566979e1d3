package strictyaml

import (
	"encoding"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/t5ctl/t5ctl/internal/nearest"
)

// Key is a key that a struct's file may hold.
type Key struct {
	Key  string // dotted
	Type reflect.Type
}

// Keys lists every key that names a single value, sections before what follows them, in the order
// of the fields. Lists of structs and maps count as one value.
func Keys(t reflect.Type) []Key {
	var keys []Key
	collect(t, "", 0, &keys)
	return keys
}

func collect(t reflect.Type, prefix string, depth int, keys *[]Key) {
	for _, f := range Fields(t) {
		full, ft := join(prefix, f.Name), f.Type
		if section(ft) && depth < maxDepth {
			collect(deref(ft), full, depth+1, keys)
			continue
		}
		*keys = append(*keys, Key{full, ft})
	}
}

// section says whether the type is a struct whose keys stand in the file.
func section(t reflect.Type) bool {
	t = deref(t)
	return t.Kind() == reflect.Struct && !readsItself(t)
}

// readsItself says whether the type decodes its own YAML or text.
func readsItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[yaml.BytesUnmarshaler]()) ||
		p.Implements(reflect.TypeFor[yaml.InterfaceUnmarshaler]()) ||
		p.Implements(reflect.TypeFor[yaml.NodeUnmarshaler]()) ||
		p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func deref(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// Field is a struct field as the file names it.
type Field struct {
	Name  string // in the file
	Index []int  // as reflect.Value.FieldByIndex takes it
	Type  reflect.Type
}

// Fields lists the fields of a struct that a file may name; inlined structs are taken apart.
func Fields(t reflect.Type) []Field {
	t = deref(t)
	if t.Kind() != reflect.Struct {
		return nil
	}
	var all []Field
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "-" || (!f.IsExported() && !f.Anonymous) {
			continue
		}
		if strings.Contains(options, "inline") || (f.Anonymous && name == "" && section(f.Type)) {
			for _, sub := range Fields(f.Type) {
				all = append(all, Field{sub.Name, append([]int{i}, sub.Index...), sub.Type})
			}
			continue
		}
		if name == "" {
			name = strings.ToLower(f.Name)
		}
		all = append(all, Field{name, []int{i}, f.Type})
	}
	return all
}

func keysOf(t reflect.Type) []string {
	var names []string
	for _, f := range Fields(t) {
		names = append(names, f.Name)
	}
	return names
}

func fieldByKey(v reflect.Value, name string) (reflect.Value, bool) {
	for _, f := range Fields(v.Type()) {
		if f.Name == name {
			return v.FieldByIndex(f.Index), true
		}
	}
	return reflect.Value{}, false
}

// locate finds the field that a dotted key names, making what stands behind nil pointers.
func (d *decoder) locate(v reflect.Value, key string) (reflect.Value, bool) {
	at := ""
	for name := range strings.SplitSeq(key, ".") {
		for v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		next, found := step(v, name)
		if !found {
			d.unknownPath(v.Type(), at, name, key)
			return v, false
		}
		v, at = next, join(at, name)
	}
	return v, true
}

// step goes from a struct to a field, or from a list to an item that is there.
func step(v reflect.Value, name string) (reflect.Value, bool) {
	switch v.Kind() {
	case reflect.Struct:
		return fieldByKey(v, name)
	case reflect.Slice:
		i, err := strconv.Atoi(name)
		if err == nil && i >= 0 && i < v.Len() {
			return v.Index(i), true
		}
	default:
	}
	return v, false
}

func (d *decoder) unknownPath(t reflect.Type, at, name, key string) {
	p := Problem{Path: d.path, Key: key, Reason: "unknown key"}
	if near := nearest.Of(name, keysOf(t)); near != "" {
		p.Nearest = join(at, near)
	} else {
		p.Nearest = d.elsewhere(key[strings.LastIndexByte(key, '.')+1:])
	}
	d.problems = append(d.problems, p)
}
