package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/curves"
	"github.com/t5ctl/t5ctl/internal/runfolder"
)

// runsPlotOptions is what the command line of runs plot says, not yet checked.
type runsPlotOptions struct {
	runs, curves []string
	png, html    string
}

func newRunsPlotCommand(app *App) *cobra.Command {
	var opts runsPlotOptions
	cmd := &cobra.Command{
		Use:   "plot <run> [run...]",
		Short: "Draw loss, learning rate and throughput of runs",
		Long: "Draw what the runs logged over their steps: in the terminal, or as a picture or a page that needs no\n" +
			"other file and no network. Without --curve these are the training loss, the validation loss where there\n" +
			"is one, the learning rate, and the tokens per second. What a resumed run did twice is drawn once.",
		Example: "  t5ctl runs plot cmudict-stress-1\n" +
			"  t5ctl runs plot first-1 second-1 --curve validation/loss --png loss.png --html curves.html",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeRuns,
		RunE: func(_ *cobra.Command, args []string) error {
			opts.runs = args
			return runRunsPlot(app, opts)
		},
	}
	cmd.Flags().StringSliceVar(&opts.curves, "curve", nil, "`curve` to draw: loss, learning_rate, throughput, gradient_norm, padded_share, memory, validation/METRIC; repeatable")
	cmd.Flags().StringVar(&opts.png, "png", "", "write a picture to this `file`")
	cmd.Flags().StringVar(&opts.html, "html", "", "write a page to this `file`")
	return cmd
}

// completeRuns offers the runs in runs/ beside folders, for commands that take several.
func completeRuns(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	names := slices.DeleteFunc(runNames(), func(name string) bool { return slices.Contains(args, name) })
	return names, cobra.ShellCompDirectiveFilterDirs
}

// runsPlot is what runs plot shows under --json.
type runsPlot struct {
	Curves []curves.Panel `json:"curves"`
	Files  []string       `json:"files"`
}

func runRunsPlot(app *App, opts runsPlotOptions) error {
	runs, err := openLogs(opts.runs)
	if err != nil {
		return err
	}
	panels, err := curves.Panels(runs, curvesOf(runs, opts.curves)...)
	if err != nil {
		return usageError{err}
	}
	result := runsPlot{Curves: panels, Files: []string{}}
	if opts.png != "" {
		if err := atomicfile.Write(opts.png, func(w io.Writer) error { return curves.PNG(w, panels) }); err != nil {
			return fmt.Errorf("writing %s: %w", opts.png, err)
		}
		result.Files = append(result.Files, opts.png)
	}
	if opts.html != "" {
		title := "t5ctl: " + strings.Join(opts.runs, ", ")
		if err := atomicfile.Write(opts.html, func(w io.Writer) error { return curves.HTML(w, title, panels) }); err != nil {
			return fmt.Errorf("writing %s: %w", opts.html, err)
		}
		result.Files = append(result.Files, opts.html)
	}
	return app.show(result, func(t *term.Terminal) {
		if len(result.Files) == 0 {
			printPanels(t, runs, panels)
		}
		for _, path := range result.Files {
			t.Println(path)
		}
	})
}

// openLogs reads the events of runs, each named by a folder or by its name in runs/.
func openLogs(names []string) ([]curves.Run, error) {
	var runs []curves.Run
	for _, name := range names {
		dir, _, err := openRun(name)
		if err != nil {
			return nil, err
		}
		log, err := readLog(dir)
		if err != nil {
			return nil, err
		}
		runs = append(runs, curves.Run{Name: filepath.Clean(name), Log: log})
	}
	return runs, nil
}

// readLog reads the events of one run; a run that has not logged yet has none.
func readLog(dir runfolder.Dir) (curves.Log, error) {
	log, err := curves.ReadFile(dir.Path(runfolder.EventsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return curves.Log{}, nil
	}
	return log, err
}

// curvesOf are the curves that were asked for, or those that tell most.
func curvesOf(runs []curves.Run, asked []string) []string {
	if len(asked) > 0 {
		return asked
	}
	names := []string{curves.Loss}
	if slices.Contains(curves.Names(runs), "validation/loss") {
		names = append(names, "validation/loss")
	}
	return append(names, curves.LearningRate, curves.Throughput)
}

// printPanels draws the panels one below the other.
func printPanels(t *term.Terminal, runs []curves.Run, panels []curves.Panel) {
	const height = 12
	t.Printf("%s", curves.Legend(runs))
	for _, p := range panels {
		t.Println()
		t.Printf("%s", curves.Text(p, t.Width(), height))
	}
}
