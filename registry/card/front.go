package card

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// front is the front matter in the order in which it is written.
type front struct {
	Language     []text  `yaml:"language,omitempty"`
	License      text    `yaml:"license,omitempty"`
	LicenseName  text    `yaml:"license_name,omitempty"`
	LicenseLink  text    `yaml:"license_link,omitempty"`
	Library      text    `yaml:"library_name,omitempty"`
	Pipeline     text    `yaml:"pipeline_tag,omitempty"`
	BaseModel    text    `yaml:"base_model,omitempty"`
	BaseRelation text    `yaml:"base_model_relation,omitempty"`
	Datasets     []text  `yaml:"datasets,omitempty"`
	Metrics      []text  `yaml:"metrics,omitempty"`
	Tags         []text  `yaml:"tags,omitempty"`
	Index        []entry `yaml:"model-index,omitempty"`
	Own          *own    `yaml:"t5ctl,omitempty"`
}

type entry struct {
	Name    text     `yaml:"name"`
	Results []result `yaml:"results"`
}

type result struct {
	Task struct {
		Type text `yaml:"type"`
		Name text `yaml:"name,omitempty"`
	} `yaml:"task"`
	Dataset struct {
		Type     text `yaml:"type"`
		Name     text `yaml:"name"`
		Split    text `yaml:"split,omitempty"`
		Revision text `yaml:"revision,omitempty"`
	} `yaml:"dataset"`
	Metrics []value `yaml:"metrics"`
	Source  struct {
		Name text `yaml:"name"`
		URL  text `yaml:"url"`
	} `yaml:"source"`
}

type value struct {
	Type   text   `yaml:"type"`
	Value  number `yaml:"value"`
	Name   text   `yaml:"name,omitempty"`
	Config text   `yaml:"config,omitempty"`
	Args   *args  `yaml:"args,omitempty"`
}

type args struct {
	Low   *number `yaml:"ci_low,omitempty"`
	High  *number `yaml:"ci_high,omitempty"`
	Rows  int     `yaml:"rows,omitempty"`
	Slice text    `yaml:"slice,omitempty"`
}

// own is the block that only this tool reads.
type own struct {
	Schema   int        `yaml:"schema"`
	Model    text       `yaml:"model"`
	Files    text       `yaml:"files,omitempty"` // digest of the model files
	Canaries bool       `yaml:"canaries"`
	Reports  []ownEntry `yaml:"reports"`
}

type ownEntry struct {
	Role   text `yaml:"role"`
	Name   text `yaml:"name"`
	Digest text `yaml:"digest"`
}

// ownSchema is the version of the t5ctl block.
const ownSchema = 1

// text is a string that every YAML reader takes for the same string: quoted wherever an older
// one would read a truth value, a number, or a date.
type text string

//nolint:gochecknoglobals // compiled once, never changed
var plainText = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./+-]*( [A-Za-z0-9(][A-Za-z0-9_./+()-]*)*$`)

// MarshalYAML quotes as JSON does, which is YAML too.
func (t text) MarshalYAML() ([]byte, error) {
	if plainText.MatchString(string(t)) && !reserved(string(t)) {
		return []byte(t), nil
	}
	return json.Marshal(string(t))
}

// reserved says whether some YAML reader takes a plain word for something else than text.
func reserved(s string) bool {
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf":
		return true
	}
	return false
}

// number is a finite float64, written so that every YAML reader takes it for one: PyYAML takes
// 1e-07 for text and needs 1.0e-07.
type number float64

// MarshalYAML writes the shortest digits that read back to the same bits, with a decimal point.
func (n number) MarshalYAML() ([]byte, error) {
	s := strconv.FormatFloat(float64(n), 'g', -1, 64)
	mantissa, exponent, scientific := strings.Cut(s, "e")
	if strings.Trim(mantissa, "-0123456789.") != "" {
		return nil, fmt.Errorf("%v is not a finite number", float64(n))
	}
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	if scientific {
		mantissa += "e" + exponent
	}
	return []byte(mantissa), nil
}

// frontOf makes the front matter.
func frontOf(f Facts, list []report) front {
	m := front{
		Language: texts(f.Languages), License: text(strings.ToLower(f.License)),
		LicenseName: text(f.LicenseName), LicenseLink: text(f.LicenseLink),
		Library: text(f.Library), Pipeline: text(f.Task), BaseModel: text(f.Base), BaseRelation: text(f.Relation),
		Own: &own{Schema: ownSchema, Model: text(f.Name), Files: text(f.Subject), Canaries: f.Canaries != nil, Reports: []ownEntry{}},
	}
	for _, d := range f.Data {
		if !slices.Contains(m.Datasets, text(d.Name)) && d.Name != "" {
			m.Datasets = append(m.Datasets, text(d.Name))
		}
	}
	tags := append([]string{"t5", "t5ctl"}, f.Tags...)
	if f.Kind == "adapter" {
		tags = append(tags, "lora")
	}
	if f.Canaries != nil {
		tags = append(tags, "canaries")
	}
	for _, tag := range tags {
		if !slices.Contains(m.Tags, text(tag)) {
			m.Tags = append(m.Tags, text(tag))
		}
	}
	for _, r := range list {
		m.Own.Reports = append(m.Own.Reports, ownEntry{Role: text(r.role), Name: text(r.file), Digest: text(r.digest)})
	}
	if results := resultsOf(f, list); len(results) > 0 {
		m.Index = []entry{{Name: text(cmp.Or(f.Title, f.Name)), Results: results}}
		m.Metrics = metricIDs(list)
	}
	return m
}

func texts(list []string) []text {
	var all []text
	for _, s := range list {
		all = append(all, text(s))
	}
	return all
}

// resultsOf is the model-index: one entry an evaluation of the model itself.
func resultsOf(f Facts, list []report) []result {
	var results []result
	for _, r := range withRole(list, kindEvaluation) {
		values := valuesOf(r)
		if len(values) == 0 {
			continue
		}
		var one result
		one.Task.Type = text(cmp.Or(f.Task, defaultTask))
		one.Task.Name = text(taskName(cmp.Or(f.Task, defaultTask)))
		one.Dataset.Name = text(cmp.Or(r.Title, f.testSet(r.Data.Fingerprint), r.file))
		one.Dataset.Type = text(slug(string(one.Dataset.Name)))
		one.Dataset.Revision = text(r.Data.Fingerprint)
		one.Metrics = values
		one.Source.Name = "t5ctl evaluation report"
		one.Source.URL = text("t5ctl:" + f.Name + "#" + r.digest)
		results = append(results, one)
	}
	return results
}

// testSet is the name of the data with that fingerprint.
func (f Facts) testSet(fingerprint string) string {
	for _, d := range f.Data {
		if d.Fingerprint == fingerprint && fingerprint != "" {
			return d.Name
		}
	}
	return ""
}

func valuesOf(r report) []value {
	var values []value
	for _, m := range r.Metrics {
		if !m.defined() {
			continue
		}
		v := value{Type: text(m.Name), Value: number(*m.Score), Name: text(m.title()), Config: text(m.Signature), Args: &args{Rows: m.N, Slice: text(m.Slice)}}
		if m.CI != nil {
			low, high := number(m.CI[0]), number(m.CI[1])
			v.Args.Low, v.Args.High = &low, &high
		}
		values = append(values, v)
	}
	return values
}

// metricIDs are the hub's names of the metrics.
func metricIDs(list []report) []text {
	var ids []text
	for _, r := range withRole(list, kindEvaluation) {
		for _, m := range r.Metrics {
			id := text(m.Name)
			if strings.HasPrefix(m.Name, "rouge") {
				id = "rouge"
			}
			if m.defined() && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// slug is a name as the hub writes identifiers.
func slug(s string) string {
	keep := func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_', r == '.', r == '/':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}
	return strings.Trim(strings.Map(keep, s), "-./")
}

const defaultTask = "text2text-generation"

func taskName(task string) string {
	words := strings.Split(task, "-")
	for i, w := range words {
		if w != "" {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, " ")
}

// encode writes the front matter with its fences.
func (m front) encode() ([]byte, error) {
	data, err := yaml.MarshalWithOptions(m, yaml.IndentSequence(false))
	if err != nil {
		return nil, err
	}
	return []byte("---\n" + string(data) + "---\n"), nil
}
