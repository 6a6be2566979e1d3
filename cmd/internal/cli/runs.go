package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/nearest"
	"github.com/t5ctl/t5ctl/internal/runfolder"
)

// runsRoot is where runs are kept unless --output says otherwise.
const runsRoot = "runs"

func newRunsCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List, show, compare, draw, watch and repeat recorded runs",
		Long: "Every training run keeps a folder: what ran, on what data, from which base, with which settings, what " +
			"happened, and how it ended.",
	}
	cmd.AddCommand(newRunsListCommand(app), newRunsShowCommand(app), newRunsCompareCommand(app), newRunsPlotCommand(app),
		newRunsViewCommand(app), newRunsReproCommand(app))
	return cmd
}

// unknownRunError says that there is no run of that name.
type unknownRunError struct{ name, nearest string }

func (e *unknownRunError) Error() string { return fmt.Sprintf("no run %s", e.name) }

// Is makes it a missing file.
func (e *unknownRunError) Is(target error) bool { return target == fs.ErrNotExist }

// runsRules maps the failures of runs to exit codes.
func runsRules() []rule {
	return []rule{
		as(exitNotFound, func(e *unknownRunError) string {
			return orElse(didYouMean(e.nearest), "t5ctl runs list shows those there are")
		}),
		as(exitGate, func(e *reproError) string {
			return "t5ctl runs plot " + e.result.Run + " " + e.result.Again + " draws both"
		}),
		as(exitConflict, saying[*reproInputsError]("data that has moved is named by --set data.train=FILE; it must be the same data")),
	}
}

// runEntry is one run of the list.
type runEntry struct {
	Path string `json:"path"`
	runfolder.Record
}

func newRunsListCommand(app *App) *cobra.Command {
	root := runsRoot
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the runs in a folder, the newest first",
		Example: "  t5ctl runs list",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return runRunsList(app, root) },
	}
	cmd.Flags().StringVar(&root, "dir", root, "`folder` that holds the runs")
	return cmd
}

func runRunsList(app *App, root string) error {
	dirs, records, err := runfolder.List(root)
	if err != nil {
		return err
	}
	entries := []runEntry{}
	for i, dir := range dirs {
		e := runEntry{string(dir), records[i]}
		if e.Outcome == runfolder.Running { // its record does not say how far it is
			log, err := readLog(dir)
			if err != nil {
				return err
			}
			if n := len(log.Steps); n > 0 && !math.IsNaN(log.Steps[n-1].Loss) {
				e.Steps, e.Loss = log.Steps[n-1].To, log.Steps[n-1].Loss
			}
		}
		entries = append(entries, e)
	}
	return app.show(entries, func(t *term.Terminal) {
		tab := term.Table{Header: []string{"RUN", "METHOD", "OUTCOME", "STEPS", "LOSS", "STARTED"}, Right: []int{3, 4}}
		for _, e := range entries {
			tab.Add(e.Path, e.Method, e.Outcome, count(e.Steps), decimal(e.Loss), when(e.Started))
		}
		t.Table(tab)
		if len(entries) == 0 {
			t.Notef("no runs in %s", root)
		}
	})
}

func newRunsShowCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:               "show <run>",
		Short:             "Show what is known of a run: its folder, or its name in runs/",
		Example:           "  t5ctl runs show cmudict-stress-1",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeRun,
		RunE:              func(_ *cobra.Command, args []string) error { return runRunsShow(app, args[0]) },
	}
}

// completeRun offers the runs in runs/ beside folders.
func completeRun(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return runNames(), cobra.ShellCompDirectiveFilterDirs
}

func runNames() []string {
	dirs, _, err := runfolder.List(runsRoot)
	if err != nil {
		return nil
	}
	var names []string
	for _, d := range dirs {
		names = append(names, filepath.Base(string(d)))
	}
	return names
}

// openRun opens a run by its folder, or by its name in runs/.
func openRun(name string) (runfolder.Dir, runfolder.Record, error) {
	path := name
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && filepath.Base(name) == name {
		path = filepath.Join(runsRoot, name)
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", runfolder.Record{}, &unknownRunError{name, nearest.Of(name, runNames())}
	}
	return runfolder.Open(path)
}

// runDetails is what runs show tells.
type runDetails struct {
	Path string `json:"path"`
	runfolder.Record
	Evaluations []map[string]any `json:"evaluations"`
	LastStep    map[string]any   `json:"last_step,omitempty"`
	Reports     []string         `json:"reports"`
	Weights     string           `json:"weights,omitempty"`
}

func runRunsShow(app *App, name string) error {
	dir, record, err := openRun(name)
	if err != nil {
		return err
	}
	details := runDetails{Path: string(dir), Record: record, Evaluations: []map[string]any{}, Reports: []string{}}
	if err := details.readEvents(dir); err != nil {
		return err
	}
	if reports, err := filepath.Glob(dir.Path(runfolder.ReportsDir, "*.json")); err == nil {
		details.Reports = append(details.Reports, reports...)
	}
	if weights, _, err := dir.Model(); err == nil {
		details.Weights = weights
	}
	return app.show(details, details.print)
}

// readEvents keeps the evaluations and the last step of the log; a line that cannot be read, as a
// killed run may leave one, is passed over.
func (d *runDetails) readEvents(dir runfolder.Dir) error {
	f, err := os.Open(dir.Path(runfolder.EventsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // opened for reading
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event map[string]any
		if json.Unmarshal(lines.Bytes(), &event) != nil {
			continue
		}
		switch event["event"] {
		case "evaluated":
			d.Evaluations = append(d.Evaluations, event)
		case "step":
			d.LastStep = event
		}
	}
	return lines.Err()
}

func (d *runDetails) print(t *term.Terminal) {
	tab := term.Table{Header: []string{"RUN", d.Path}}
	add := func(name, value string) {
		if value != "" {
			tab.Add(name, value)
		}
	}
	add("outcome", strings.TrimSuffix(d.Outcome+": "+d.Problem, ": "))
	add("recipe", d.Name)
	add("method", d.Method)
	add("base", d.Base)
	for _, ancestor := range d.Chain {
		add("trained on from", ancestor.Name)
	}
	add("weights", d.Weights)
	if d.Parameters > 0 {
		add("parameters", fmt.Sprintf("%s, %s of them learned", term.Count(d.Parameters), term.Count(d.Learning)))
	}
	add("steps", count(d.Steps))
	add("training loss", decimal(d.Loss))
	for _, name := range slices.Sorted(maps.Keys(d.Metrics)) {
		add("validation "+name, decimal(d.Metrics[name]))
	}
	for _, task := range d.Tasks {
		add("task "+task.Name, fmt.Sprintf("%d examples of %d rows, share %.3f", task.Examples, task.Rows, task.Share))
	}
	add("privacy of a row", privacyText(d.Privacy))
	add("checkpoint", d.Checkpoint)
	add("seed", strconv.FormatUint(d.Seed, 10))
	backend := strings.TrimSpace(d.Backend.Kind + " " + d.Backend.Plugin)
	if n := d.Backend.Devices; n > 1 {
		backend += fmt.Sprintf(", %d devices", n)
	}
	if g := d.Backend.GPU; g != nil {
		backend += fmt.Sprintf(", tf32 %t, %g of the memory by %s", g.TF32, g.MemoryFraction, g.Allocator)
	}
	add("backend", backend)
	add("tokenizer", strings.TrimSpace(d.Tokenizer.Mode+" "+short(d.Tokenizer.SHA256)))
	for _, split := range slices.Sorted(maps.Keys(d.Data)) {
		add("data "+split, short(d.Data[split]))
	}
	add("t5ctl", strings.TrimSpace(d.Tool.Version+" "+d.Tool.Commit))
	add("started", when(d.Started))
	if d.Seconds > 0 {
		add("took", span(d.Seconds))
	}
	if d.Cost != nil {
		add("cost", fmt.Sprintf("%.4g, at %g an hour", d.Cost.Total, d.Cost.PricePerHour))
	}
	for _, path := range d.Reports {
		add("report", path)
	}
	t.Table(tab)
	if len(d.Evaluations) > 0 {
		t.Println()
		t.Table(evaluationsTable(d.Evaluations))
	}
}

func evaluationsTable(evaluations []map[string]any) term.Table {
	names := map[string]bool{}
	for _, e := range evaluations {
		metrics, _ := e["metrics"].(map[string]any)
		for name := range metrics {
			names[name] = true
		}
	}
	columns := slices.Sorted(maps.Keys(names))
	tab := term.Table{Header: append([]string{"STEP"}, columns...), Right: []int{0}}
	for i := range columns {
		tab.Right = append(tab.Right, i+1)
	}
	tab.Header = append(tab.Header, "")
	for _, e := range evaluations {
		row := []string{fmt.Sprint(e["step"])}
		metrics, _ := e["metrics"].(map[string]any)
		for _, name := range columns {
			value, _ := metrics[name].(float64)
			row = append(row, decimal(value))
		}
		if best, _ := e["best"].(bool); best {
			row = append(row, "best so far")
		}
		tab.Rows = append(tab.Rows, row)
	}
	return tab
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func decimal(v float64) string {
	if v == 0 {
		return ""
	}
	return strconv.FormatFloat(v, 'f', 4, 64)
}
