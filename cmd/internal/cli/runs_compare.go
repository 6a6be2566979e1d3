package cli

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/curves"
	"github.com/t5ctl/t5ctl/internal/runfolder"
	"github.com/t5ctl/t5ctl/internal/strictyaml"
)

func newRunsCompareCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "compare <run> <run> [run...]",
		Short: "Show in what runs differ: settings, data, results, speed",
		Long: "Show runs beside each other: every setting, data set, base, backend and version in which they differ,\n" +
			"then what came out and how fast. t5ctl runs plot draws their curves over each other.",
		Example:           "  t5ctl runs compare cmudict-stress-1 cmudict-stress-2",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: completeRuns,
		RunE:              func(_ *cobra.Command, args []string) error { return runRunsCompare(app, args) },
	}
}

// runsComparison is what runs compare shows: each row has a value for every run, empty where a run
// has none.
type runsComparison struct {
	Runs        []string        `json:"runs"`
	Differences []comparisonRow `json:"differences"`
	Results     []comparisonRow `json:"results"`
}

type comparisonRow struct {
	Name   string   `json:"name"`
	Values []string `json:"values"`
}

func runRunsCompare(app *App, names []string) error {
	c := runsComparison{Differences: []comparisonRow{}, Results: []comparisonRow{}}
	var made, came []map[string]string
	for _, name := range names {
		dir, record, err := openRun(name)
		if err != nil {
			return err
		}
		settings, err := settingsOf(dir, record)
		if err != nil {
			return err
		}
		log, err := readLog(dir)
		if err != nil {
			return err
		}
		c.Runs = append(c.Runs, filepath.Clean(name))
		made, came = append(made, settings), append(came, resultsOf(record, log))
	}
	for _, row := range besides(made) {
		if slices.ContainsFunc(row.Values, func(v string) bool { return v != row.Values[0] }) {
			for i := range row.Values {
				if strings.HasPrefix(row.Name, "train.lora.") && made[i]["train.method"] != "lora" {
					row.Values[i] = "" // it had no adapter, so this decided nothing
				}
			}
			c.Differences = append(c.Differences, row)
		}
	}
	c.Results = append(c.Results, besides(came)...)
	return app.show(c, c.print)
}

// settingsOf is all that decides a run, by name.
func settingsOf(dir runfolder.Dir, r runfolder.Record) (map[string]string, error) {
	text, err := os.ReadFile(dir.Path(runfolder.SettledFile))
	if err != nil {
		return nil, err
	}
	all, err := strictyaml.Flatten(dir.Path(runfolder.SettledFile), text)
	if err != nil {
		return nil, err
	}
	for split, print := range r.Data {
		all["fingerprint of "+split] = short(print)
	}
	all["tokenizer"] = r.Tokenizer.Mode + " " + short(r.Tokenizer.SHA256)
	all["backend"] = fmt.Sprintf("%s %s, %d CPUs", r.Backend.Kind, r.Backend.Plugin, r.Backend.CPUs)
	all["t5ctl"] = r.Tool.Version + " " + r.Tool.Commit
	return all, nil
}

// resultsOf is what came out of a run, by name.
func resultsOf(r runfolder.Record, log curves.Log) map[string]string {
	all := map[string]string{
		"outcome": r.Outcome, "steps": count(r.Steps), "training loss": decimal(r.Loss), "took": "",
		"learning weights": strconv.Itoa(r.Learning),
	}
	if r.Seconds > 0 {
		all["took"] = span(r.Seconds)
	}
	for name, v := range r.Metrics {
		all["validation "+name] = decimal(v)
	}
	tokens, seconds, memory := 0.0, 0.0, int64(0)
	for _, s := range log.Steps {
		memory = max(memory, s.Memory)
		if s.TokensPerSecond > 0 { // each interval weighs by its labels
			tokens += float64(s.Tokens)
			seconds += float64(s.Tokens) / s.TokensPerSecond
		}
	}
	if seconds > 0 {
		all["tokens per second"] = strconv.FormatFloat(tokens/seconds, 'f', 0, 64)
	}
	if memory > 0 {
		all["memory"] = term.Size(memory)
	}
	return all
}

// besides turns the runs' values into rows, by name.
func besides(runs []map[string]string) []comparisonRow {
	names := map[string]bool{}
	for _, r := range runs {
		for name := range r {
			names[name] = true
		}
	}
	var rows []comparisonRow
	for _, name := range slices.Sorted(maps.Keys(names)) {
		row := comparisonRow{Name: name}
		for _, r := range runs {
			row.Values = append(row.Values, r[name])
		}
		rows = append(rows, row)
	}
	return rows
}

func (c runsComparison) print(t *term.Terminal) {
	if len(c.Differences) == 0 {
		t.Println("the runs had the same settings, data, backend and version")
	} else {
		t.Table(c.table(t, "DIFFERENCE", c.Differences))
	}
	t.Println()
	t.Table(c.table(t, "RESULT", c.Results))
}

// table has a column for each run. Where the terminal is too narrow for that, it has a line for each
// value instead, and names the runs that share it.
func (c runsComparison) table(t *term.Terminal, title string, rows []comparisonRow) term.Table {
	tab := term.Table{Header: append([]string{title}, c.Runs...)}
	for _, row := range rows {
		tab.Add(append([]string{row.Name}, row.Values...)...)
	}
	if t.Fits(tab) {
		return tab
	}
	tab = term.Table{Header: []string{title, ""}}
	for _, row := range rows {
		tab.Add(row.Name)
		for _, line := range row.shared(c.Runs) {
			tab.Add("  "+line[0], line[1])
		}
	}
	return tab
}

// shared gives each value once, after the runs that have it.
func (r comparisonRow) shared(runs []string) [][2]string {
	var lines [][2]string
	for i, v := range r.Values {
		if slices.Index(r.Values, v) < i {
			continue
		}
		var having []string
		for j, run := range runs {
			if r.Values[j] == v {
				having = append(having, run)
			}
		}
		lines = append(lines, [2]string{strings.Join(having, ", "), orElse(v, "–")})
	}
	return lines
}
