package recipes_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/t5ctl/t5ctl/internal/strictyaml"
	"github.com/t5ctl/t5ctl/recipes"
)

const small = `version: 1
name: small
base: ./base
data:
  train: train.jsonl
  max_target: 40
train:
  steps: 100
  optimizer:
    learning_rate: 1e-3
`

// write puts a recipe into a folder of its own.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "recipe.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	path := write(t, small)
	got, err := recipes.Load(path, []recipes.Override{
		{Key: "train.steps", Value: "200", Source: "T5CTL_TRAIN_STEPS"},
		{Key: "train.steps", Value: "300", Source: "--set train.steps"},
		{Key: "data.validation", Value: "here.jsonl", Source: "--set data.validation"},
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(path)
	if got.Train.Steps != 300 || got.Train.Optimizer.LearningRate != 1e-3 || got.Train.Batch == 0 {
		t.Errorf("train section %+v; want 300 steps, rate 1e-3, and the usual batch", got.Train)
	}
	if got.Base != filepath.Join(dir, "base") || got.Data.Train[0] != filepath.Join(dir, "train.jsonl") {
		t.Errorf("base %s, train %v; want both seen from the recipe's folder", got.Base, got.Data.Train)
	}
	if got.Data.Validation[0] != "here.jsonl" {
		t.Errorf("validation %v; want an override seen from the current folder", got.Data.Validation)
	}
	if got.Model != nil || string(got.Text) != small || got.Data.MaxInput == 0 {
		t.Errorf("model %v, text %q, max_input %d", got.Model, got.Text, got.Data.MaxInput)
	}
}

func TestLoadModel(t *testing.T) {
	scratch := strings.Replace(small, "base: ./base", "model: {d_model: 64, num_heads: 2}\ntokenizer: {mode: bytes}", 1) + "  method: full\n"
	got, err := recipes.Load(write(t, scratch), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Model == nil || got.Model.DModel != 64 || got.Model.RelativeBuckets != 32 {
		t.Errorf("model %+v; want the keys given and the usual others", got.Model)
	}
}

func TestProblems(t *testing.T) {
	tests := map[string]struct {
		text string
		want []string // FILE stands for the path
	}{
		"all at once": {
			text: "version: 2\nnmae: x\nbase: b\ndata:\n  trian: [a]\n  max_input: -3\ntrain:\n  learning_rate: 1\n  method: lorra\n  steps: soon\n",
			want: []string{
				`FILE: name: "" must be 1 to 64 small letters, digits, dots, dashes or underscores`,
				"FILE:1: version: 2 is not known; this t5ctl reads version 1",
				"FILE:2: nmae: unknown key (did you mean name?)",
				"FILE:4: data.train: is missing",
				"FILE:5: data.trian: unknown key (did you mean data.train?)",
				"FILE:6: data.max_input: -3 is not between 2 and 1048576",
				"FILE:8: train.learning_rate: unknown key (did you mean train.optimizer.learning_rate?)",
				`FILE:9: train.method: is "lorra"; it is one of full, lora, pretrain`,
				`FILE:10: train.steps: must be a whole number, not "soon"`,
			},
		},
		"neither base nor model": {
			text: strings.Replace(small, "base: ./base\n", "", 1),
			want: []string{"FILE: base: is missing; give base (a model to start from) or model (a shape to train from scratch)"},
		},
		"lora from nothing": {
			text: strings.Replace(small, "base: ./base", "model: {}\ntokenizer: {mode: byts}", 1),
			want: []string{
				`FILE:4: tokenizer.mode: "byts" is none of hf5, json, sp, bytes (did you mean bytes?)`,
				"FILE:8: train.method: lora needs a base; fresh weights are trained with full or pretrain",
			},
		},
		"sections": {
			text: small + "generation: {beams: 4, top_p: 2}\neval:\n  limit: -1\ngates:\n  - metric: bleu\n",
			want: []string{
				"FILE:11: generation.beams: unknown key (did you mean generation.num_beams?)",
				"FILE:11: generation.top_p: is 2, must be in (0, 1]",
				"FILE:13: eval.limit: -1 is negative",
				"FILE:15: gates[0]: bleu: min, max or max_drop is missing",
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := write(t, tt.text)
			_, err := recipes.Load(path, nil)
			if _, ok := errors.AsType[*strictyaml.Error](err); !ok {
				t.Fatalf("got %v; want a *strictyaml.Error", err)
			}
			want := strings.ReplaceAll(strings.Join(tt.want, "\n"), "FILE", path)
			if err.Error() != want {
				t.Errorf("got\n%v\nwant\n%s", err, want)
			}
		})
	}
}

func TestOverrideProblems(t *testing.T) {
	_, err := recipes.Load(write(t, small), []recipes.Override{
		{Key: "train.stepz", Value: "1", Source: "--set train.stepz"},
		{Key: "data.max_input", Value: "1", Source: "--set data.max_input"},
	})
	want := "--set train.stepz: train.stepz: unknown key (did you mean train.steps?)\n" +
		"--set data.max_input: data.max_input: 1 is not between 2 and 1048576"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestUnknownMetric(t *testing.T) {
	_, err := recipes.Load(write(t, small+"eval: {metrics: [blu]}\n"), nil)
	if err == nil || !strings.Contains(err.Error(), `no metric "blu"`) || !strings.Contains(err.Error(), "(did you mean bleu?)") {
		t.Errorf("got %v; want the nearest metric named", err)
	}
}

func TestNotFound(t *testing.T) {
	path := write(t, small)
	_, err := recipes.Load(filepath.Join(filepath.Dir(path), "recpe.yaml"), nil)
	missing, ok := errors.AsType[*recipes.NotFoundError](err)
	if !ok || missing.Nearest != path || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v; want a missing file and %s named", err, path)
	}
}

func TestParseSet(t *testing.T) {
	tests := map[string]struct {
		in, key, value string
		bad            bool
	}{
		"plain":       {in: "train.steps=3", key: "train.steps", value: "3"},
		"more equals": {in: "data.prefix=a=b", key: "data.prefix", value: "a=b"},
		"empty":       {in: "data.prefix=", key: "data.prefix", value: `""`},
		"no equals":   {in: "train.steps", bad: true},
		"no key":      {in: "=3", bad: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := recipes.ParseSet(tt.in)
			if (err != nil) != tt.bad || got.Key != tt.key || got.Value != tt.value {
				t.Errorf("ParseSet(%q) = %+v, %v", tt.in, got, err)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	got, err := recipes.Environment([]string{"T5CTL_TRAIN_SAVE_EVERY=7", "T5CTL_JSON=1", "T5CTL_VECTORS=x", "PATH=/bin", "T5CTL_DATA_PREFIX="})
	if err != nil || len(got) != 1 || got[0].Key != "train.save_every" || got[0].Value != "7" {
		t.Errorf("Environment = %+v, %v; want train.save_every alone", got, err)
	}
	_, err = recipes.Environment([]string{"T5CTL_TRAIN_STPES=7"})
	if err == nil || !strings.Contains(err.Error(), "T5CTL_TRAIN_STPES: is no key of a recipe (did you mean T5CTL_TRAIN_STEPS?)") {
		t.Errorf("got %v; want the nearest variable named", err)
	}
}

// TestPresets holds each preset to the rules and to the schema that is handed out.
func TestPresets(t *testing.T) {
	schema := compileSchema(t)
	presets, err := recipes.Presets()
	if err != nil || len(presets) < 4 {
		t.Fatalf("Presets() = %v, %v", presets, err)
	}
	for _, p := range presets {
		t.Run(p.Name, func(t *testing.T) {
			r, err := recipes.Load(filepath.Join("presets", p.Name+".yaml"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if r.Name != p.Name || r.Description == "" {
				t.Errorf("name %q, description %q", r.Name, r.Description)
			}
			files, err := append(append(r.Data.Train, r.Data.Validation...), r.Data.Test...).Files()
			if err != nil {
				t.Error(err)
			}
			for _, f := range files {
				if _, err := os.Stat(f); err != nil {
					t.Error(err)
				}
			}
			conforms(t, schema, p.Text)
			resolved, err := r.YAML()
			if err != nil {
				t.Fatal(err)
			}
			conforms(t, schema, resolved)
		})
	}
}

// TestResolved says that the record of a run is a recipe that says the same again.
func TestResolved(t *testing.T) {
	first, err := recipes.Load(write(t, small), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := first.YAML()
	if err != nil {
		t.Fatal(err)
	}
	second, err := recipes.Load(write(t, string(text)), nil)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	again, err := second.YAML()
	if err != nil || !bytes.Equal(text, again) {
		t.Errorf("%v; read back it says\n%s\nnot\n%s", err, again, text)
	}
}

func TestCopy(t *testing.T) {
	p, err := recipes.FindPreset("cmudict-stress")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "new", "mine.yaml")
	written, err := p.Copy(path)
	if err != nil || len(written) != 4 {
		t.Fatalf("Copy wrote %v, %v; want the recipe and three files", written, err)
	}
	r, err := recipes.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.Data.Train[0]); err != nil {
		t.Error(err)
	}
	if _, err := p.Copy(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second copy: %v; want that the file exists", err)
	}
	if _, err := recipes.FindPreset("cmudict-stres"); err == nil || err.(*recipes.UnknownPresetError).Nearest != "cmudict-stress" { //nolint:errorlint // the very type
		t.Errorf("got %v; want the nearest preset named", err)
	}
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(recipes.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("recipe.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("recipe.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func conforms(t *testing.T, schema *jsonschema.Schema, text []byte) {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(asJSON, &value); err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(value); err != nil {
		t.Errorf("%v in\n%s", err, text)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(small)
	presets, err := recipes.Presets()
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range presets {
		f.Add(string(p.Text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "r.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Skip(err)
		}
		_, _ = recipes.Load(path, nil) // it must return
	})
}
