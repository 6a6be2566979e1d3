package strictyaml_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/t5ctl/t5ctl/internal/strictyaml"
)

type optimizer struct {
	Name         string  `yaml:"name"`
	LearningRate float64 `yaml:"learning_rate"`
}

type color int

func (c *color) UnmarshalText(text []byte) error {
	if string(text) != "red" {
		return errors.New("no such color")
	}
	*c = 7
	return nil
}

type common struct {
	Seed uint64 `yaml:"seed"`
}

type file struct {
	common    `yaml:",inline"`
	Version   int                `yaml:"version"`
	Name      string             `yaml:"name"`
	Steps     int64              `yaml:"steps"`
	On        bool               `yaml:"on"`
	Wait      time.Duration      `yaml:"-"`
	Files     []string           `yaml:"files"`
	Optimizer optimizer          `yaml:"optimizer"`
	Lora      *optimizer         `yaml:"lora"`
	Rates     map[string]float64 `yaml:"rates"`
	Stages    []optimizer        `yaml:"stages"`
	Color     color              `yaml:"color"`
	Note      string             `yaml:"note"`
}

const good = `# a comment
version: 1
seed: 18446744073709551615
name: 2024
steps: 1e4
on: true
files: [a.jsonl, b.jsonl]
optimizer: &opt
  name: adamw
  learning_rate: 1e-3
lora: {learning_rate: 2}
rates: {a: 0.5, b: 1}
stages:
  - name: x
  - *opt
color: red
note: |
  two
  lines
`

func TestUnmarshal(t *testing.T) {
	got := file{Name: "before"}
	doc, err := strictyaml.Unmarshal("recipe.yaml", []byte(good), &got)
	if err != nil {
		t.Fatal(err)
	}
	want := file{
		common: common{Seed: 1<<64 - 1}, Version: 1, Name: "2024", Steps: 10000, On: true,
		Files: []string{"a.jsonl", "b.jsonl"}, Optimizer: optimizer{"adamw", 1e-3}, Lora: &optimizer{LearningRate: 2},
		Rates: map[string]float64{"a": 0.5, "b": 1}, Stages: []optimizer{{Name: "x"}, {"adamw", 1e-3}}, Color: 7, Note: "two\nlines\n",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	for key, line := range map[string]int{"version": 2, "optimizer.learning_rate": 10, "stages.1": 15, "stages.0.lerning": 14, "nothing": 0} {
		if got := doc.Line(key); got != line {
			t.Errorf("Line(%q) = %d; want %d", key, got, line)
		}
	}
}

func TestUnmarshalDefaults(t *testing.T) {
	got := file{Name: "kept", Optimizer: optimizer{"adamw", 1}, Files: []string{"old"}}
	if _, err := strictyaml.Unmarshal("r.yaml", []byte("optimizer: {learning_rate: 2}\nfiles: one.jsonl\n"), &got); err != nil {
		t.Fatal(err)
	}
	want := file{Name: "kept", Optimizer: optimizer{"adamw", 2}, Files: []string{"one.jsonl"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestProblems(t *testing.T) {
	tests := map[string]struct {
		in   string
		want []string
	}{
		"all at once": {
			"versoin: 1\nsteps: many\noptimizer:\n  name: [x]\n  learning_rat: 1\nlearning_rate: 3\non: yes please\n",
			[]string{
				"r.yaml:1: versoin: unknown key (did you mean version?)",
				`r.yaml:2: steps: must be a whole number, not "many"`,
				"r.yaml:4: optimizer.name: must be a text, not a list",
				"r.yaml:5: optimizer.learning_rat: unknown key (did you mean optimizer.learning_rate?)",
				"r.yaml:6: learning_rate: unknown key (did you mean optimizer.learning_rate?)",
				`r.yaml:7: on: must be true or false, not "yes please"`,
			},
		},
		"twice":           {"name: a\nname: b\n", []string{"r.yaml:2: is not YAML: mapping key \"name\" already defined at [1:1]"}},
		"half a step":     {"steps: 1.5\n", []string{`r.yaml:1: steps: must be a whole number, not "1.5"`}},
		"negative":        {"seed: -1\n", []string{`r.yaml:1: seed: must be a whole number from 0, not "-1"`}},
		"text number":     {"optimizer: {learning_rate: \"1\"}\n", []string{`r.yaml:1: optimizer.learning_rate: must be a number, not "1"`}},
		"not a number":    {"optimizer: {learning_rate: .nan}\n", []string{`r.yaml:1: optimizer.learning_rate: must be a number, not ".nan"`}},
		"own type":        {"color: blue\n", []string{"r.yaml:1: color: no such color"}},
		"section is text": {"optimizer: adamw\n", []string{`r.yaml:1: optimizer: must be a mapping with the keys name, learning_rate, not "adamw"`}},
		"list of structs": {"stages: {name: x}\n", []string{"r.yaml:1: stages: must be a list, not a mapping"}},
		"a list":          {"- a\n", []string{"r.yaml:1: must be a mapping with the keys seed, version, name, steps, on, files, optimizer, lora, rates, stages, color, note, not a list"}},
		"empty":           {"# nothing\n", []string{"r.yaml: is empty"}},
		"two documents":   {"name: a\n---\nname: b\n", []string{"r.yaml:3: holds more than one document"}},
		"merge key":       {"optimizer: &o {name: x}\nlora:\n  <<: *o\n", []string{"r.yaml:3: lora.<<: unknown key"}},
		"no anchor":       {"name: *nowhere\n", []string{"r.yaml:1: name: no anchor &nowhere stands before"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := strictyaml.Unmarshal("r.yaml", []byte(tt.in), new(file))
			if err == nil || err.Error() != strings.Join(tt.want, "\n") {
				t.Errorf("got  %v\nwant %s", err, strings.Join(tt.want, "\n     "))
			}
		})
	}
}

func TestSyntax(t *testing.T) {
	_, err := strictyaml.Unmarshal("r.yaml", []byte("name: a\nfiles: [a, b\nsteps: 3\n"), new(file))
	if err == nil || !strings.HasPrefix(err.Error(), "r.yaml:") || !strings.Contains(err.Error(), "is not YAML") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v; want one line with a place", err)
	}
}

func TestSet(t *testing.T) {
	tests := map[string]struct {
		key, value string
		want       file
		fails      string
	}{
		"number":       {key: "optimizer.learning_rate", value: "0.5", want: file{Optimizer: optimizer{LearningRate: 0.5}}},
		"nil section":  {key: "lora.name", value: "x", want: file{Lora: &optimizer{Name: "x"}}},
		"list":         {key: "files", value: "[a, b]", want: file{Files: []string{"a", "b"}}},
		"section":      {key: "optimizer", value: "{name: x}", want: file{Optimizer: optimizer{Name: "x"}}},
		"typo":         {key: "optimizer.nme", value: "1", fails: "--set: optimizer.nme: unknown key (did you mean optimizer.name?)"},
		"elsewhere":    {key: "train.learning_rate", value: "1", fails: "--set: train.learning_rate: unknown key (did you mean optimizer.learning_rate?)"},
		"wrong type":   {key: "steps", value: "x", fails: `--set: steps: must be a whole number, not "x"`},
		"no item":      {key: "stages.0.name", value: "x", fails: "--set: stages.0.name: unknown key (did you mean name?)"},
		"below a text": {key: "version.minor", value: "x", fails: "--set: version.minor: unknown key"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got file
			err := strictyaml.Set(&got, "--set", tt.key, tt.value)
			if tt.fails != "" {
				if err == nil || err.Error() != tt.fails {
					t.Errorf("got %v; want %s", err, tt.fails)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestHostile(t *testing.T) {
	tests := map[string]string{
		"brackets":    strings.Repeat("[", 100000),
		"dashes":      strings.Repeat("- ", 100000) + "x",
		"questions":   strings.Repeat("? ", 100000) + "x",
		"colons":      strings.Repeat(": ", 100000) + "x",
		"tags":        strings.Repeat("!a ", 100000) + "x",
		"anchors":     strings.Repeat("&a ", 100000) + "x",
		"indented":    indented(1000),
		"wide":        "files: [" + strings.Repeat("a, ", 100000) + "a]",
		"itself":      "rates: &a {x: *a}\n",
		"laughs":      laughs(),
		"long":        strings.Repeat("# comment\n", 1<<20),
		"bad utf-8":   "name: \xff\xfe\n",
		"null key":    "~: x\n",
		"control":     "name: \x00\n",
		"only anchor": "&a",
	}
	for name, in := range tests {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := strictyaml.Unmarshal("r.yaml", []byte(in), new(file))
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
			t.Logf("%.200v after %v", err, time.Since(start))
		})
	}
}

// laughs is the billion laughs: each list holds the one before it ten times.
func laughs() string {
	var b strings.Builder
	b.WriteString("stages: &a0 [{name: lol}]\n")
	for i := range 20 {
		item := "*a" + string(rune('0'+i%10))
		b.WriteString("files: &a" + string(rune('0'+(i+1)%10)) + " [" + strings.Repeat(item+", ", 9) + item + "]\n")
	}
	return b.String()
}

// indented nests mappings by indentation.
func indented(depth int) string {
	var b strings.Builder
	for i := range depth {
		b.WriteString(strings.Repeat(" ", i) + "rates:\n")
	}
	return b.String()
}

func FuzzUnmarshal(f *testing.F) {
	f.Add(good)
	f.Add("a: [")
	f.Add("- - - x")
	f.Add("? a : b\n: c")
	f.Add("<<: *x\n&a a: &b b")
	f.Fuzz(func(_ *testing.T, in string) {
		_, _ = strictyaml.Unmarshal("r.yaml", []byte(in), new(file)) // it must return
	})
}
