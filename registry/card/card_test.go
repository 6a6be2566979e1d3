package card_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/t5ctl/t5ctl/registry/card"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const subject = "sha256:1111111111111111111111111111111111111111111111111111111111111111"

// exampleReports are an evaluation of the model, one of its base, an exposure test, and gates.
func exampleReports(t testing.TB) []card.Named {
	t.Helper()
	var files []card.Named
	for _, name := range []string{"base.json", "exposure.json", "gate.json", "test.json"} {
		data, err := os.ReadFile(filepath.Join("testdata", "reports", name))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, card.Named{Name: name, Data: data})
	}
	return files
}

func exampleFacts(t testing.TB) card.Facts {
	return card.Facts{
		Name: "g2p-stress", Title: "Spelling to sound, with stress", Summary: "Writes the phonemes of an English word with lexical stress.",
		Languages: []string{"en", "no"}, License: "BSD-3-Clause", Library: "peft", Task: "text2text-generation",
		Tags: []string{"g2p", "on"}, Kind: "adapter", Base: "g2p-base@v1", BaseDigest: "sha256:22", Relation: "adapter",
		Data: []card.Dataset{
			{Name: "cmudict-stress/train.jsonl", Split: "train", Rows: 10000, Fingerprint: "sha256:33"},
			{Name: "cmudict-stress/test.jsonl", Split: "test", Rows: 600, Fingerprint: "sha256:44"},
		},
		Training: []card.Fact{{Name: "method", Value: "lora"}, {Name: "lora.rank", Value: "16"}, {Name: "note", Value: "a | b"}},
		Canaries: &card.Canaries{Manifest: "sha256:55", Why: "The demo measures what is remembered."},
		Reports:  exampleReports(t), Subject: subject,
		Provenance: []card.Fact{{Name: "Seed", Value: "1"}, {Name: "Backend", Value: "cpu (plugin 0.11.2)"}, {Name: "Empty"}},
		Pictures: []card.Picture{
			{Section: card.SectionEvaluation, Path: "plots/evaluation.png", Text: "Scores with their intervals"},
			{Section: card.SectionPrivacy, Path: "plots/exposure.png", Text: "Exposure"},
		},
		Verify:  []string{"t5ctl verify g2p-stress@v1"},
		Changes: []card.Change{{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), What: "promote production", Version: "v1", Reason: "it passes"}},
		Notes:   "## Thanks\n\nTo the makers of the dictionary.",
	}
}

func render(t testing.TB, facts card.Facts) []byte {
	t.Helper()
	text, err := card.Markdown(facts)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestMarkdown(t *testing.T) {
	got := render(t, exampleFacts(t))
	path := filepath.Join("testdata", "g2p-stress.md")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the card is not %s; go test -update rewrites it:\n%s", path, got)
	}
	if findings := card.Lint(got); len(findings) > 0 {
		t.Errorf("a generated card has findings: %v", findings)
	}
	if bare := render(t, card.Facts{Name: "m"}); len(card.Lint(bare)) != 4 { // language, license, pipeline_tag, library_name
		t.Errorf("findings of a card without facts: %v", card.Lint(bare))
	}
}

func TestCompare(t *testing.T) {
	text := string(render(t, exampleFacts(t)))
	all := exampleReports(t)
	tests := map[string]struct {
		text    string
		reports []card.Named
		subject string
		want    string // in the differences; "": none
	}{
		"the same":                {text, all, subject, ""},
		"plain Markdown":          {"# A model\n\nBLEU 99\n", all, subject, ""},
		"a figure in front":       {strings.Replace(text, "value: 65.23847", "value: 65.24", 1), all, subject, "BLEU is 65.24 on the card, 65.23847"},
		"a figure as text":        {strings.Replace(text, "value: 65.23847", `value: "65.23847"`, 1), all, subject, "BLEU"},
		"a figure in the text":    {strings.Replace(text, "| BLEU | 65.24 |", "| BLEU | 66.24 |", 1), all, subject, "66.24"},
		"a verdict in the text":   {strings.Replace(text, "Gates: passed", "Gates: well passed", 1), all, subject, "well passed"},
		"the exposure":            {strings.Replace(text, "| 1.93 |", "| 0.93 |", 1), all, subject, "0.93"},
		"an invented metric":      {strings.Replace(text, "- type: bleu", "- type: meteor", 1), all, subject, "not in report"},
		"the baseline as its own": {text, all, "sha256:22", "it is \"baseline\""},
		"no pictures":             {strings.Replace(text, "![Exposure](plots/exposure.png)\n\n", "", 1), all, subject, ""},
		"a figure beside one":     {strings.Replace(text, "![Exposure](plots/exposure.png)", "![Exposure](plots/exposure.png) 0.93", 1), all, subject, "0.93"},
		"a report is missing":     {text, all[:3], subject, "which is not here"},
		"a report left out": {text, append(all[:4:4], card.Named{Name: "worse.json", Data: []byte(
			`{"kind":"evaluation","metrics":[{"name":"bleu","score":1,"verdict":"ok"}]}`)}), subject, "says nothing of report worse.json"},
		"no marks":                 {strings.Replace(text, "<!-- t5ctl: end of figures -->", "", 1), all, subject, "lost their marks"},
		"another tool's card":      {foreign("65.24"), all, subject, ""},
		"another tool's invention": {foreign("66"), all, subject, "BLEU is 66 on the card"},
		"of other data":            {strings.Replace(foreign("66"), "sha256:44", "main", 1), all, subject, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			differences, err := card.Compare([]byte(tt.text), tt.reports, tt.subject)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(differences, "\n"); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("differences %q, want %q", got, tt.want)
			}
		})
	}
}

// foreign is a card that another tool has written.
func foreign(bleu string) string {
	return "---\nlanguage: en\nmodel-index:\n- name: m\n  results:\n  - task:\n      type: translation\n    dataset:\n      name: cmudict\n" +
		"      type: cmudict\n      revision: sha256:44\n    metrics:\n    - type: bleu\n      value: " + bleu + "\n---\n# m\n"
}

func TestLint(t *testing.T) {
	good := string(render(t, exampleFacts(t)))
	change := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("the card does not hold %q", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	tests := map[string]struct{ text, want string }{
		"no front matter":       {"# A model\n", "front-matter"},
		"no end":                {"---\nlanguage: en\n", "front-matter"},
		"not YAML":              {"---\n\tx: [\n---\n", "front-matter"},
		"a list":                {"---\n- a\n---\n", "front-matter"},
		"bare no":               {change(`- "no"`, "- no"), "yaml-boolean"},
		"bare On":               {change(`- "on"`, "- On"), "yaml-boolean"},
		"a time":                {change(`- "on"`, "- 12:30:45"), "yaml-number"},
		"exponent without dot":  {change("value: 65.23847", "value: 1e-07"), "yaml-number"},
		"not a number":          {change("value: 65.23847", "value: .nan"), "finite"},
		"infinite":              {change("value: 65.23847", "value: .inf"), "finite"},
		"NaN as text":           {change("value: 65.23847", "value: NaN"), "model-index"},
		"a number as text":      {change("value: 65.23847", `value: "65.2"`), "model-index"},
		"no value":              {change("value: 65.23847", "other: 1.5"), "model-index"},
		"no data set":           {change("    dataset:", "    dates:"), "model-index"},
		"no address":            {change("      url:", "      urn:"), "model-index"},
		"results misspelt":      {change("  results:", "  result:"), "model-index"},
		"unknown licence":       {change("license: bsd-3-clause", "license: bsd-3-clauze"), "license"},
		"upper-case licence":    {change("license: bsd-3-clause", "license: BSD-3-Clause"), "license"},
		"other without name":    {change("license: bsd-3-clause", "license: other"), "license_name"},
		"unknown task":          {change("pipeline_tag: text2text-generation", "pipeline_tag: text3text"), "pipeline_tag"},
		"unknown library":       {change("library_name: peft", "library_name: pefd"), "library_name"},
		"unknown relation":      {change("base_model_relation: adapter", "base_model_relation: child"), "base_model_relation"},
		"language in words":     {change("- en\n", "- English\n"), "language"},
		"a tag twice":           {change("- t5ctl\n", "- t5\n"), "tags"},
		"a key twice":           {change("library_name: peft", "library_name: peft\nlibrary_name: peft"), "doubled-key"},
		"no section on limits":  {change("## Limitations", "## Limbo"), "limitations"},
		"empty section":         {change(good[strings.Index(good, "The figures above"):strings.Index(good, "## Provenance")], "\n"), "limitations"},
		"no section on privacy": {change("## Privacy", "## Secrets"), "privacy"},
		"left open":             {change("Writes the phonemes", "[More Information Needed]"), "unfinished"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			findings := card.Lint([]byte(tt.text))
			for _, f := range findings {
				if f.Rule == tt.want {
					return
				}
			}
			t.Errorf("findings %v, want one of %s", findings, tt.want)
		})
	}
	if f := card.Lint([]byte(change("license: bsd-3-clause", "license: bsd-3-clauze"))); len(f) != 1 ||
		!strings.Contains(f[0].Message, "did you mean bsd-3-clause?") || good[:strings.Index(good, "license:")] == "" || f[0].Line != 5 {
		t.Errorf("findings %+v", f)
	}
}

func TestWithChanges(t *testing.T) {
	text := []byte("# A model\n")
	if got := card.WithChanges(text, nil); !bytes.Equal(got, text) {
		t.Errorf("no changes give %q", got)
	}
	got := string(card.WithChanges(text, []card.Change{{What: "promote", Version: "v2", Reason: "x"}}))
	if !strings.HasPrefix(got, "# A model\n\n## Change log\n") || !strings.Contains(got, "| v2 | promote | x |") {
		t.Errorf("card with changes:\n%s", got)
	}
}

// FuzzLint feeds the linter and the comparison with what may stand in a file.
func FuzzLint(f *testing.F) {
	f.Add([]byte(foreign("1.5")))
	f.Add([]byte("---\nlanguage: no\n---\n# x\n"))
	f.Add([]byte("---\nmodel-index:\n- name: x\n  results: [{}]\n---\n"))
	f.Add([]byte("---\na: &a [*a]\n? - b\n: c\n---\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		card.Lint(text)
		_, _ = card.Compare(text, nil, "") // must not panic
	})
}
