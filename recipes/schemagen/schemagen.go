// Package schemagen writes the JSON schema of a recipe from the option structs and the comments
// in their source. It runs when the project's generated files are made; the tool itself carries
// the result only.
package schemagen

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/t5ctl/t5ctl/internal/strictyaml"
	"github.com/t5ctl/t5ctl/internal/t5"
	"github.com/t5ctl/t5ctl/recipes"
	"github.com/t5ctl/t5ctl/trainer"
)

const module = "github.com/t5ctl/t5ctl/"

// Recipe gives the schema of a recipe. Root is the folder of go.mod.
func Recipe(root string) ([]byte, error) {
	g := generator{root: root, packages: make(map[string]map[string]docs), enums: recipes.Enums(), meanings: make(map[string]string)}
	defaults := recipes.Default()
	defaults.Data = defaults.Data.WithDefaults()
	shape := t5.DefaultConfig()
	defaults.Model = &shape
	schema, err := g.object(reflect.TypeFor[recipes.Recipe](), reflect.ValueOf(defaults), "")
	if err != nil {
		return nil, err
	}
	head := object{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"title", "t5ctl recipe"},
	}
	tail := object{
		{"required", []string{"version", "name", "data", "train"}},
		{"oneOf", []object{{{"required", []string{"base"}}}, {{"required", []string{"model"}}}}},
	}
	text, err := json.MarshalIndent(append(append(head, schema...), tail...), "", "  ")
	return append(text, '\n'), err
}

// docs are the comments of one struct.
type docs struct {
	text   string
	fields map[string]string
}

type generator struct {
	root     string
	packages map[string]map[string]docs // by import path, then by type
	enums    map[string][]string        // by dotted key
	meanings map[string]string          // by last name; a key that stands twice is explained once
}

// member is one key of an object; objects keep the order of the source.
type member struct {
	key   string
	value any
}

type object []member

func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(m.key)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// object describes a struct; defaults is a value of it, or not valid.
func (g *generator) object(t reflect.Type, defaults reflect.Value, key string) (object, error) {
	own, err := g.docsOf(t)
	if err != nil {
		return nil, err
	}
	var properties object
	for _, f := range strictyaml.Fields(t) {
		holder, name := owner(t, f.Index)
		text, err := g.docsOf(holder)
		if err != nil {
			return nil, err
		}
		doc := orElse(text.fields[name], g.meanings[f.Name])
		if doc == "" {
			return nil, fmt.Errorf("%s.%s (key %s) has no comment that says what it means", holder, name, f.Name)
		}
		g.meanings[f.Name] = orElse(g.meanings[f.Name], doc)
		var value reflect.Value
		if defaults.IsValid() {
			value = defaults.FieldByIndex(f.Index)
		}
		property, err := g.value(f.Type, value, join(key, f.Name))
		if err != nil {
			return nil, err
		}
		properties = append(properties, member{f.Name, append(object{{"description", doc}}, property...)})
	}
	schema := object{{"type", "object"}, {"additionalProperties", false}, {"properties", properties}}
	if key == "" {
		schema = append(object{{"description", own.text}}, schema...)
	}
	return schema, nil
}

// owner finds the struct that declares a field, which may be an inlined one.
func owner(t reflect.Type, index []int) (reflect.Type, string) {
	for _, i := range index[:len(index)-1] {
		t = deref(t.Field(i).Type)
	}
	return t, t.Field(index[len(index)-1]).Name
}

func (g *generator) value(t reflect.Type, v reflect.Value, key string) (object, error) {
	optional := t.Kind() == reflect.Pointer
	if optional {
		t = t.Elem()
		if v.IsValid() {
			v = v.Elem() // not valid where the pointer is nil
		}
	}
	switch t.Kind() {
	case reflect.Struct:
		return g.object(t, v, key)
	case reflect.Slice:
		items, err := g.value(t.Elem(), reflect.Value{}, key+"[]")
		if t.Elem().Kind() == reflect.String {
			return object{{"type", []string{"array", "string"}}, {"items", items}}, err
		}
		return object{{"type", "array"}, {"items", items}}, err
	case reflect.Map:
		items, err := g.value(t.Elem(), reflect.Value{}, key+"[]")
		return object{{"type", "object"}, {"additionalProperties", items}}, err
	case reflect.Interface:
		return object{}, nil
	default:
		schema, err := g.scalar(t, v, key)
		if optional && err == nil {
			schema[0].value = []any{schema[0].value, "null"}
		}
		return schema, err
	}
}

func (g *generator) scalar(t reflect.Type, v reflect.Value, key string) (object, error) {
	var schema object
	switch t.Kind() {
	case reflect.String:
		schema = object{{"type", "string"}}
		if t == reflect.TypeFor[trainer.Devices]() {
			schema[0].value = []string{"string", "integer"}
		}
	case reflect.Bool:
		schema = object{{"type", "boolean"}}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		schema = object{{"type", "integer"}}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		schema = object{{"type", "integer"}, {"minimum", 0}}
	case reflect.Float32, reflect.Float64:
		schema = object{{"type", "number"}}
	default:
		return nil, fmt.Errorf("key %s has the type %s, which has no schema", key, t)
	}
	if enum := g.enums[key]; enum != nil {
		schema = append(schema, member{"enum", enum})
	}
	if v.IsValid() && !v.IsZero() {
		schema = append(schema, member{"default", v.Interface()})
	}
	return schema, nil
}

// docsOf reads the comments of the struct's source.
func (g *generator) docsOf(t reflect.Type) (docs, error) {
	path, ok := strings.CutPrefix(t.PkgPath(), module)
	if !ok {
		return docs{}, fmt.Errorf("type %s is not of this module", t)
	}
	if g.packages[path] == nil {
		parsed, err := parseDocs(filepath.Join(g.root, filepath.FromSlash(path)))
		if err != nil {
			return docs{}, err
		}
		g.packages[path] = parsed
	}
	return g.packages[path][t.Name()], nil
}

func parseDocs(dir string) (map[string]docs, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	all := make(map[string]docs)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		for _, decl := range parsed.Decls {
			if d, ok := decl.(*ast.GenDecl); ok {
				typeDocs(d, all)
			}
		}
	}
	return all, nil
}

func typeDocs(d *ast.GenDecl, all map[string]docs) {
	for _, spec := range d.Specs {
		ts, ok := spec.(*ast.TypeSpec)
		if !ok {
			continue
		}
		st, ok := ts.Type.(*ast.StructType)
		if !ok {
			continue
		}
		text := ts.Doc.Text()
		if text == "" {
			text = d.Doc.Text()
		}
		own := docs{text: plain(text), fields: make(map[string]string)}
		for _, f := range st.Fields.List {
			for _, name := range f.Names {
				own.fields[name.Name] = sentence(name.Name, plain(f.Doc.Text()))
				if own.fields[name.Name] == "" {
					own.fields[name.Name] = plain(f.Comment.Text())
				}
			}
		}
		all[ts.Name.Name] = own
	}
}

// plain folds a comment into one line.
func plain(comment string) string { return strings.Join(strings.Fields(comment), " ") }

// sentence takes the Go name away that a comment starts with: "Train is the file" → "The file".
func sentence(name, comment string) string {
	for _, verb := range []string{" is ", " are ", " says ", " means "} {
		if rest, ok := strings.CutPrefix(comment, name+verb); ok {
			if verb == " says " || verb == " means " {
				rest = strings.TrimSpace(verb) + " " + rest
			}
			comment = rest
			break
		}
	}
	if comment == "" {
		return ""
	}
	first := []rune(comment)
	return strings.ToUpper(string(first[:1])) + string(first[1:])
}

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

func deref(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}
