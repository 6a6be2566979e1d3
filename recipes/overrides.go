package recipes

import (
	"reflect"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/internal/nearest"
	"github.com/t5ctl/t5ctl/internal/strictyaml"
)

// Override is a key that is given outside the file.
type Override struct {
	Key    string // dotted
	Value  string // YAML
	Source string // who gave it, as "--set train.steps" or "T5CTL_TRAIN_STEPS"
}

// ParseSet reads KEY=VALUE as --set takes it. The value is YAML: a list is [a, b].
func ParseSet(text string) (Override, error) {
	key, value, ok := strings.Cut(text, "=")
	key = strings.TrimSpace(key)
	if !ok || key == "" {
		return Override{}, problem("--set "+text, "", "must be KEY=VALUE, as train.steps=200", "")
	}
	if strings.TrimSpace(value) == "" {
		value = `""` // an empty value empties a text
	}
	return Override{Key: key, Value: value, Source: "--set " + key}, nil
}

// Environment finds the overrides among variables of the form NAME=VALUE: T5CTL_TRAIN_STEPS is
// train.steps. A variable that begins like a section of the recipe and fits no key is an error,
// as it would be passed over in silence otherwise.
func Environment(environ []string) ([]Override, error) {
	names := make(map[string]string)
	var sections, known []string
	for _, k := range strictyaml.Keys(reflect.TypeFor[Recipe]()) {
		section, _, nested := strings.Cut(k.Key, ".")
		if k.Key == "version" {
			continue // the format of a file is not for others to say
		}
		name := variable(k.Key)
		names[name] = k.Key
		known = append(known, name)
		if prefix := variable(section) + "_"; nested && !slices.Contains(sections, prefix) {
			sections = append(sections, prefix)
		}
	}
	var overrides []Override
	var problems []strictyaml.Problem
	for _, entry := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(entry, "=")
		key, ok := names[name]
		switch {
		case value == "":
		case ok:
			overrides = append(overrides, Override{Key: key, Value: value, Source: name})
		case slices.ContainsFunc(sections, func(s string) bool { return strings.HasPrefix(name, s) }):
			problems = append(problems, strictyaml.Problem{
				Path: name, Reason: "is no key of a recipe", Nearest: nearest.Of(name, known),
			})
		}
	}
	if len(problems) > 0 {
		return nil, &strictyaml.Error{Problems: problems}
	}
	return overrides, nil
}

// variable is the environment's name of a key.
func variable(key string) string {
	return "T5CTL_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

func problem(path, key, reason, near string) error {
	return &strictyaml.Error{Problems: []strictyaml.Problem{{Path: path, Key: key, Reason: reason, Nearest: near}}}
}

// Keys lists every key of a recipe that takes a single value or a list, dotted.
func Keys() []string {
	var keys []string
	for _, k := range strictyaml.Keys(reflect.TypeFor[Recipe]()) {
		keys = append(keys, k.Key)
	}
	return keys
}
