package recipes_test

import (
	"bytes"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/t5ctl/t5ctl/recipes"
)

func TestSectionSchemas(t *testing.T) {
	for name, tt := range map[string]struct {
		schema    func() ([]byte, error)
		good, bad string
	}{
		"gates": {recipes.GatesSchema, "version: 1\ngates: [{metric: bleu, max_drop: 0.5, confidence: 0.95}]", "version: 1\ngates: [{metric: bleu, mn: 1}]"},
		"suite": {recipes.SuiteSchema, "version: 1\ndata: [a.jsonl]\nmetrics: [bleu]\nslices: [{name: a, tag: b}]", "version: 1\nmetric: [bleu]"},
	} {
		text, err := tt.schema()
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		c := jsonschema.NewCompiler()
		if err := c.AddResource("s.json", doc); err != nil {
			t.Fatal(err)
		}
		schema, err := c.Compile("s.json")
		if err != nil {
			t.Fatal(err)
		}
		for source, ok := range map[string]bool{tt.good: true, tt.bad: false, "version: 2": false} {
			var v any
			if err := yaml.Unmarshal([]byte(source), &v); err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(v); (err == nil) != ok {
				t.Errorf("%s: %q: %v", name, source, err)
			}
		}
	}
}
