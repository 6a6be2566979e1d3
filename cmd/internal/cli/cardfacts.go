package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/runfolder"
	"github.com/t5ctl/t5ctl/registry"
	"github.com/t5ctl/t5ctl/registry/card"
)

// renderCard makes the card of a source and the pictures that it shows: its figures from the
// reports, the rest from the records of the run and from what people wrote.
func renderCard(source registry.Source, name string, text cardText) ([]byte, []registry.File, error) {
	files, pictures, err := cardPictures(source)
	if err != nil {
		return nil, nil, err
	}
	facts := card.Facts{
		Name: name, Title: text.Title, Summary: text.Summary, Languages: text.Language,
		License: cmp.Or(text.License, source.License), LicenseName: text.LicenseName, LicenseLink: text.LicenseLink,
		Library: "transformers", Task: cmp.Or(text.Task, "text2text-generation"), Tags: text.Tags,
		Kind: source.Kind, Base: baseName(source.Base), Subject: source.Tree,
		Pictures: pictures, Intended: text.Intended, OutOfScope: text.OutOfScope, Limitations: text.Limitations, Notes: text.Notes,
		Verify: []string{
			"t5ctl verify " + name + "@vN        # hashes every file again",
			"oras pull --oci-layout REGISTRY/" + name + ":vN   # the same files, by another tool",
		},
	}
	if source.Kind == registry.KindAdapter {
		facts.Library, facts.Relation = "peft", "adapter"
	} else if facts.Base != "" {
		facts.Relation = "finetune"
	}
	for _, report := range source.Reports {
		facts.Reports = append(facts.Reports, card.Named{Name: report.Name, Data: report.Data})
	}
	for _, record := range source.Records {
		if err := readFacts(&facts, record); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", record.Name, err)
		}
	}
	if source.Canaries != "" {
		facts.Canaries = canaryFacts(source, text.Canaries)
	}
	written, err := card.Markdown(facts)
	return written, files, err
}

// baseName leaves the folders of this machine out.
func baseName(base string) string {
	if strings.Contains(base, "@") || !strings.ContainsAny(base, `/\`) {
		return base
	}
	return filepath.Base(base)
}

func aboutOf(source registry.Source, text cardText) registry.About {
	about := registry.About{Family: "t5", Title: text.Title, Description: text.Summary}
	if license := cmp.Or(text.License, source.License); license != "" {
		about.Licenses = []string{license}
	}
	return about
}

// readFacts takes from a record of the run what the card tells of it.
func readFacts(facts *card.Facts, record registry.File) error {
	switch record.Name {
	case "resolved.yaml":
		return recipeFacts(facts, record.Data)
	case "run.json":
		return runFacts(facts, record.Data)
	case "data.json":
		return dataFacts(facts, record.Data)
	}
	return nil
}

// recipeFacts tells the procedure: every setting of the train section, in order of its key.
func recipeFacts(facts *card.Facts, data []byte) error {
	var recipe struct {
		Train map[string]any `yaml:"train"`
	}
	if err := yaml.Unmarshal(data, &recipe); err != nil {
		return err
	}
	if dp, ok := recipe.Train["dp"].(map[string]any); ok && fmt.Sprint(dp["clip"]) == "0" {
		delete(recipe.Train, "dp")
	} else if ok {
		delete(recipe.Train, "seed") // who knows it knows the noise
	}
	facts.Training = append(facts.Training, flatten("", recipe.Train)...)
	return nil
}

// flatten turns nested settings into lines.
func flatten(prefix string, settings map[string]any) []card.Fact {
	var facts []card.Fact
	keys := make([]string, 0, len(settings))
	for key := range settings {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		switch value := settings[key].(type) {
		case nil:
		case map[string]any:
			facts = append(facts, flatten(prefix+key+".", value)...)
		case []any:
			words := make([]string, len(value))
			for i, v := range value {
				words[i] = fmt.Sprint(v)
			}
			facts = append(facts, card.Fact{Name: prefix + key, Value: strings.Join(words, ", ")})
		default:
			facts = append(facts, card.Fact{Name: prefix + key, Value: fmt.Sprint(value)})
		}
	}
	return facts
}

// runFacts tells where and with what the model was made. Nothing of the machine that does not
// bear on the result goes onto the card.
func runFacts(facts *card.Facts, data []byte) error {
	var run runfolder.Record
	if err := json.Unmarshal(data, &run); err != nil {
		return err
	}
	count := func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}
	facts.Training = append(facts.Training,
		card.Fact{Name: "parameters", Value: count(run.Parameters)},
		card.Fact{Name: "parameters that learned", Value: count(run.Learning)},
		card.Fact{Name: "steps taken", Value: count(run.Steps)},
	)
	if run.Seconds > 0 {
		facts.Training = append(facts.Training, card.Fact{Name: "wall time", Value: term.Duration(time.Duration(run.Seconds * float64(time.Second)))})
	}
	seed := strconv.FormatUint(run.Seed, 10)
	if run.Privacy != nil { // who knows the seed knows the noise
		facts.Training = append(facts.Training,
			card.Fact{Name: "differential privacy", Value: privacyText(run.Privacy)},
			card.Fact{Name: "unit of privacy", Value: "one row of the training data, added or removed; Poisson sampling, Rényi accountant"})
		seed = ""
	}
	if c := run.Cost; c != nil {
		facts.Training = append(facts.Training, card.Fact{Name: "cost", Value: fmt.Sprintf("%.4g, at %g an hour", c.Total, c.PricePerHour)})
	}
	backend := run.Backend.Kind
	if run.Backend.Plugin != "" {
		backend += " (plugin " + run.Backend.Plugin + ")"
	}
	if run.Backend.CPUs > 0 {
		backend += fmt.Sprintf(", %d processors", run.Backend.CPUs)
	}
	if n := run.Backend.Devices; n > 1 {
		backend += fmt.Sprintf(", %d devices", n)
	}
	var chain []string
	for _, ancestor := range run.Chain {
		chain = append(chain, ancestor.Name+" ("+ancestor.Digest+")")
	}
	facts.Provenance = append(facts.Provenance,
		card.Fact{Name: "Run", Value: run.Name},
		card.Fact{Name: "Trained on from, the oldest first", Value: strings.Join(chain, ", ")},
		card.Fact{Name: "Recipe and data", Value: run.Fingerprint},
		card.Fact{Name: "Seed", Value: seed},
		card.Fact{Name: "Backend", Value: strings.TrimPrefix(backend, ", ")},
		card.Fact{Name: "Tokenizer", Value: strings.TrimSpace(run.Tokenizer.Mode + " " + run.Tokenizer.SHA256)},
		card.Fact{Name: "Tool", Value: strings.TrimSpace("t5ctl " + run.Tool.Version + " " + run.Tool.Go)},
		card.Fact{Name: "Code", Value: run.Tool.Commit},
	)
	return nil
}

// dataFacts tells the splits of the data manifest.
func dataFacts(facts *card.Facts, data []byte) error {
	var manifest struct {
		Splits []struct {
			Split string `json:"split"`
			Files []struct {
				Path string `json:"path"`
			} `json:"files"`
			Fingerprint string `json:"fingerprint"`
			Rows        int64  `json:"rows"`
		} `json:"splits"`
	}
	if err := json.Unmarshal(data, &manifest); err != nil {
		return err
	}
	for _, s := range manifest.Splits {
		var names []string
		for _, f := range s.Files {
			names = append(names, dataName(f.Path))
		}
		facts.Data = append(facts.Data, card.Dataset{
			Name: cmp.Or(strings.Join(names, ", "), s.Split), Split: s.Split, Rows: s.Rows, Fingerprint: s.Fingerprint,
		})
	}
	return nil
}

// dataName is a data file without the folders of this machine: the last of them tells files
// apart that are all called train.jsonl.
func dataName(path string) string {
	path = filepath.ToSlash(path)
	dir := filepath.Base(filepath.Dir(path))
	if dir == "." || dir == "/" {
		return filepath.Base(path)
	}
	return dir + "/" + filepath.Base(path)
}

// canaryFacts tells which canaries were planted, and why.
func canaryFacts(source registry.Source, why string) *card.Canaries {
	facts := &card.Canaries{Why: why}
	for _, record := range source.Records {
		var manifest struct {
			Canaries []struct {
				Digest string `json:"digest"`
			} `json:"canaries"`
		}
		if record.Name != source.Canaries || json.Unmarshal(record.Data, &manifest) != nil {
			continue
		}
		for _, c := range manifest.Canaries {
			facts.Manifest = c.Digest
		}
	}
	return facts
}
