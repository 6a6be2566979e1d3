package card

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"strings"
)

// Sections whose figures come from reports stand between these marks, so that Compare can make
// them again.
const (
	beginFigures = "<!-- t5ctl: figures of the reports, checked when the model is pushed -->"
	endFigures   = "<!-- t5ctl: end of figures -->"
)

// Markdown renders the card. It fails only on a report that cannot be read.
func Markdown(f Facts) ([]byte, error) {
	list, err := reports(f.Reports, f.Subject)
	if err != nil {
		return nil, err
	}
	head, err := frontOf(f, list).encode()
	if err != nil {
		return nil, err
	}
	var b builder
	b.line("# %s", cmp.Or(f.Title, f.Name))
	b.text(cmp.Or(f.Summary, defaultSummary(f)))
	b.details(f)
	b.uses(f)
	b.data(f)
	b.section("Training procedure")
	b.facts(f.Training, "Nothing is recorded.")
	b.text(beginFigures)
	b.evaluation(list)
	b.pictures(f, SectionEvaluation)
	b.privacy(list)
	b.pictures(f, SectionPrivacy)
	b.text(endFigures)
	b.canaries(f)
	b.section("Limitations")
	b.text(cmp.Or(f.Limitations, defaultLimits))
	b.section("Provenance")
	b.facts(f.Provenance, "Nothing is recorded.")
	b.verify(f)
	b.changes(f)
	b.text(f.Notes)
	return append(head, []byte("\n"+tidy(b.String())+"\n")...), nil
}

// tidy leaves one empty line where several follow each other, and none at the ends.
func tidy(s string) string {
	for strings.Contains(s, "\n\n\n") {
		s = strings.ReplaceAll(s, "\n\n\n", "\n\n")
	}
	return strings.Trim(s, "\n")
}

const (
	defaultIntended = "Texts like those of the training data, in the form of the examples there."
	defaultOutside  = "Decisions about people without review; texts of another kind or language than the training data."
	defaultLimits   = "The figures above hold for the test data named there and for texts like it; nothing is known about others. " +
		"The model can be wrong without saying so."
)

func defaultSummary(f Facts) string {
	switch {
	case f.Kind == "adapter" && f.Base != "":
		return fmt.Sprintf("A LoRA adapter for the T5 model %s.", f.Base)
	case f.Base != "":
		return fmt.Sprintf("A T5 model, fine-tuned from %s.", f.Base)
	}
	return "A T5 model."
}

// builder writes Markdown.
type builder struct{ strings.Builder }

func (b *builder) line(format string, a ...any) { fmt.Fprintf(b, format+"\n", a...) }

func (b *builder) text(s string) {
	if s = strings.TrimSpace(s); s != "" {
		b.line("\n%s\n", s)
	}
}

func (b *builder) section(name string) { b.line("\n## %s\n", name) }

// table writes rows under a heading; numbers from column right on are aligned to the right.
func (b *builder) table(header []string, right int, rows [][]string) {
	rule := make([]string, len(header))
	for i := range rule {
		rule[i] = "---"
		if i >= right {
			rule[i] = "---:"
		}
	}
	for _, row := range append([][]string{header, rule}, rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = cleanCell(cell)
		}
		b.line("| %s |", strings.Join(cells, " | "))
	}
}

func cleanCell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "\r", " ").Replace(s)
}

func (b *builder) facts(facts []Fact, none string) {
	var rows [][]string
	for _, fact := range facts {
		if fact.Value != "" {
			rows = append(rows, []string{fact.Name, fact.Value})
		}
	}
	if len(rows) == 0 {
		b.line("%s", none)
		return
	}
	b.table([]string{"", ""}, 2, rows)
}

func (b *builder) details(f Facts) {
	b.section("Model details")
	kind := "model"
	if f.Kind == "adapter" {
		kind = "LoRA adapter (PEFT), to be used with its base"
	}
	license := f.License
	if f.LicenseName != "" {
		license = f.LicenseName
	}
	base := f.Base
	if f.BaseDigest != "" {
		base = strings.TrimSpace(base + " (files " + f.BaseDigest + ")")
	}
	b.facts([]Fact{
		{"Name", f.Name}, {"Kind", kind}, {"Base", base}, {"Languages", strings.Join(f.Languages, ", ")},
		{"Licence", license}, {"Files", f.Subject},
	}, "")
}

func (b *builder) uses(f Facts) {
	b.section("Intended use")
	b.line("%s", cmp.Or(strings.TrimSpace(f.Intended), defaultIntended))
	b.section("Out-of-scope use")
	b.line("%s", cmp.Or(strings.TrimSpace(f.OutOfScope), defaultOutside))
}

func (b *builder) data(f Facts) {
	b.section("Training data")
	if len(f.Data) == 0 {
		b.line("Nothing is recorded.")
		return
	}
	var rows [][]string
	for _, d := range f.Data {
		n := ""
		if d.Rows > 0 {
			n = fmt.Sprint(d.Rows)
		}
		rows = append(rows, []string{d.Name, d.Split, n, d.Fingerprint, d.License})
	}
	b.table([]string{"Data", "Split", "Rows", "Fingerprint", "Licence"}, 5, rows)
}

// evaluation writes the scores, beside those of the baselines on the same data.
func (b *builder) evaluation(list []report) {
	b.section("Evaluation")
	mine, base := withRole(list, kindEvaluation), withRole(list, roleBaseline)
	if len(mine) == 0 {
		b.line("The model has not been evaluated.\n")
	}
	for _, r := range mine {
		b.line("%s: %d rows, fingerprint `%s`, report `%s`.\n", cmp.Or(r.Title, r.file), r.Data.N, cmp.Or(r.Data.Fingerprint, "none"), r.digest)
		header := []string{"Metric", "Score", "Interval"}
		if len(base) > 0 {
			header = append(header, "Baseline", "Change")
		}
		var rows [][]string
		var signatures []string
		for _, m := range r.Metrics {
			row := []string{m.title(), figure(m), interval(m)}
			if len(base) > 0 {
				row = append(row, compared(base, r, m)...)
			}
			rows = append(rows, row)
			if m.Signature != "" && m.Slice == "" {
				signatures = append(signatures, fmt.Sprintf("- %s: `%s`", m.title(), m.Signature))
			}
		}
		b.table(header, 1, rows)
		b.line("%s", "")
		if len(signatures) > 0 {
			b.line("Signatures:\n\n%s\n", strings.Join(signatures, "\n"))
		}
	}
	b.baselines(base)
	b.gates(withRole(list, kindGate))
}

func (b *builder) baselines(base []report) {
	for _, r := range base {
		b.line("Baseline: %s, report `%s`.\n", r.Model, r.digest)
	}
}

// compared is a baseline's score and the distance to it.
func compared(base []report, r report, m metric) []string {
	other, found := find(base, r, m)
	if !found || !other.defined() || !m.defined() {
		return []string{"", ""}
	}
	change := *m.Score - *other.Score
	if math.Abs(change) < 0.005 {
		return []string{figure(other), "0.00"}
	}
	return []string{figure(other), fmt.Sprintf("%+.2f", change)}
}

// gateFile is what a card reads of a gate result.
type gateFile struct {
	Passed bool `json:"passed"`
	Checks []struct {
		Metric  string   `json:"metric"`
		Slice   string   `json:"slice"`
		Value   *float64 `json:"value"`
		Bound   string   `json:"bound"`
		Verdict string   `json:"verdict"`
	} `json:"checks"`
}

func (b *builder) gates(list []report) {
	for _, r := range list {
		verdict := "not passed"
		if r.gate.Passed {
			verdict = "passed"
		}
		b.line("Gates: %s, result `%s`.\n", verdict, r.digest)
		var rows [][]string
		for _, g := range r.gate.Checks {
			name := g.Metric
			if g.Slice != "" {
				name += " (" + g.Slice + ")"
			}
			rows = append(rows, []string{name, g.Verdict, figure(metric{Score: g.Value}), g.Bound})
		}
		if len(rows) > 0 {
			b.table([]string{"Gate", "Verdict", "Score", "Bound"}, 2, rows)
			b.line("%s", "")
		}
	}
}

// privacy writes what the exposure tests found.
func (b *builder) privacy(list []report) {
	b.section("Privacy")
	tests := withRole(list, kindExposure)
	if len(tests) == 0 {
		b.line("It has not been tested what the model remembers of its training data.\n")
	}
	for _, r := range tests {
		b.line("Exposure of %d planted secrets, report `%s`.\n", r.Data.N, r.digest)
		var rows [][]string
		for _, m := range r.Metrics {
			rows = append(rows, []string{m.title(), cmp.Or(m.Verdict, "ok"), figure(m), interval(m)})
		}
		b.table([]string{"Measure", "Verdict", "Score", "Interval"}, 2, rows)
		b.line("%s", "")
	}
}

// pictures shows those of a section. Each stands in a line of its own, which Compare leaves out.
func (b *builder) pictures(f Facts, section string) {
	for _, p := range f.Pictures {
		if p.Section == section {
			b.text(fmt.Sprintf("![%s](%s)", p.Text, p.Path))
		}
	}
}

func (b *builder) canaries(f Facts) {
	if f.Canaries == nil {
		return
	}
	count := "Canaries"
	if f.Canaries.Count > 0 {
		count = fmt.Sprintf("%d canaries", f.Canaries.Count)
	}
	b.line("%s (made-up secrets) were planted into the training data to measure what the model remembers. "+
		"It can reproduce them; use it with that in mind.", count)
	if f.Canaries.Why != "" {
		b.line("%s", f.Canaries.Why)
	}
	if f.Canaries.Manifest != "" {
		b.line("Their list has digest `%s`.", f.Canaries.Manifest)
	}
}

func (b *builder) verify(f Facts) {
	b.section("How to verify")
	if len(f.Verify) == 0 {
		b.line("Every file is named by its SHA-256 in the manifest of the version; `t5ctl verify` hashes them again.")
		return
	}
	b.line("```sh\n%s\n```", strings.Join(f.Verify, "\n"))
}

func (b *builder) changes(f Facts) {
	if len(f.Changes) == 0 {
		return
	}
	b.section("Change log")
	var rows [][]string
	for _, c := range f.Changes {
		rows = append(rows, []string{c.Time.UTC().Format("2006-01-02 15:04:05Z"), c.Version, c.What, c.Reason})
	}
	b.table([]string{"Time", "Version", "What", "Reason"}, 4, rows)
}

// readGate reads the part of a gate result that the card shows.
func readGate(data []byte) (gateFile, error) {
	var g gateFile
	err := json.Unmarshal(data, &g)
	return g, err
}

// WithChanges puts the change log at the end of a card that is finished otherwise.
func WithChanges(text []byte, changes []Change) []byte {
	var b builder
	b.changes(Facts{Changes: changes})
	if b.Len() == 0 {
		return text
	}
	return append(append(bytes.TrimRight(text, "\n"), '\n'), []byte(b.String())...)
}
