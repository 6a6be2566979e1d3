package recipes

import (
	"encoding/json"
	"maps"
	"slices"
)

// GatesSchema is the JSON schema of a gates file: a recipe's section of that name, with a version.
func GatesSchema() ([]byte, error) {
	return fileSchema("t5ctl gates", func(recipe map[string]json.RawMessage) (map[string]json.RawMessage, error) {
		return map[string]json.RawMessage{"gates": recipe["gates"]}, nil
	}, "gates")
}

// SuiteSchema is the JSON schema of a suite file: the keys of a recipe's section eval, with a version.
func SuiteSchema() ([]byte, error) {
	return fileSchema("t5ctl suite", func(recipe map[string]json.RawMessage) (map[string]json.RawMessage, error) {
		var section struct{ Properties map[string]json.RawMessage }
		err := json.Unmarshal(recipe["eval"], &section)
		return section.Properties, err
	})
}

// fileSchema makes the schema of a file whose keys are part of a recipe.
func fileSchema(title string, pick func(recipe map[string]json.RawMessage) (map[string]json.RawMessage, error), required ...string) ([]byte, error) {
	var recipe struct {
		Schema     string `json:"$schema"`
		Properties map[string]json.RawMessage
	}
	if err := json.Unmarshal(Schema(), &recipe); err != nil {
		return nil, err
	}
	keys, err := pick(recipe.Properties)
	if err != nil {
		return nil, err
	}
	properties := maps.Clone(keys)
	properties["version"] = json.RawMessage(`{"const": 1, "description": "Format of this file, now 1."}`)
	return json.MarshalIndent(map[string]any{
		"$schema": recipe.Schema, "title": title, "type": "object", "additionalProperties": false,
		"properties": properties, "required": slices.Concat([]string{"version"}, required),
	}, "", "  ")
}
