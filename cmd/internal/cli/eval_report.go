package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/page"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

// worstShown is how many of the worst rows a page shows unless --worst says otherwise.
const worstShown = 20

// evalReportOptions is what the command line of eval report says, not yet checked.
type evalReportOptions struct {
	report, baseline, output string
	worst                    int
}

func newEvalReportCommand(app *App) *cobra.Command {
	var opts evalReportOptions
	cmd := &cobra.Command{
		Use:   "report REPORT --output FILE",
		Short: "Show an evaluation or an exposure test as one HTML file, as Markdown or JSON",
		Long: "The HTML file needs nothing else: metrics with intervals, slices, distributions, and the worst\n" +
			"rows with what they lack, where NAME.rows.jsonl and NAME.predictions.jsonl lie beside the report.\n" +
			"Of an exposure test it draws exposure against repetitions, or the ROC curves; as PNG, these alone.",
		Example: "  t5ctl eval report runs/g2p-1/reports/test.json --baseline base/test.json --output test.html",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.report = args[0]
			return runEvalReport(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&opts.output, "output", "o", "", "`file` to write: .html, .md, .json, or .png of an exposure test")
	flags.StringVar(&opts.baseline, "baseline", "", "`report` to show beside it")
	flags.IntVar(&opts.worst, "worst", worstShown, "show the `n` worst rows")
	return cmd
}

func (o *evalReportOptions) request() error {
	if err := missing(map[string]bool{"output": o.output != ""}, "output"); err != nil {
		return err
	}
	if !slices.Contains([]string{".html", ".md", ".json", ".png"}, filepath.Ext(o.output)) {
		return usageErrorf("--output %s must end in .html, .md, .json or .png", o.output)
	}
	if o.worst < 0 {
		return usageErrorf("--worst %d is negative", o.worst)
	}
	return nil
}

func runEvalReport(ctx context.Context, app *App, opts evalReportOptions) error {
	if err := opts.request(); err != nil {
		return err
	}
	e, err := oneReport(opts.report)
	if err != nil {
		return err
	}
	if filepath.Ext(opts.output) == ".png" {
		return opts.picture(app, e.Report)
	}
	facts, err := opts.gather(ctx, e)
	if err != nil {
		return err
	}
	err = atomicfile.Write(opts.output, func(w io.Writer) error {
		switch filepath.Ext(opts.output) {
		case ".html":
			return page.HTML(w, facts)
		case ".md":
			_, err := io.WriteString(w, page.Markdown(facts))
			return err
		}
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(facts)
	})
	if err != nil {
		return err
	}
	return app.show(map[string]any{"output": opts.output}, func(t *term.Terminal) { t.Println(opts.output) })
}

// picture writes what an exposure report draws.
func (o *evalReportOptions) picture(app *App, r eval.Report) error {
	chart, err := exposureChart(r)
	if err != nil {
		return err
	}
	if chart == nil {
		return usageErrorf("report %s has no exposures and no membership to draw; --output FILE.html shows the rest", o.report)
	}
	if err := atomicfile.Write(o.output, chart.PNG); err != nil {
		return err
	}
	return app.show(map[string]any{"output": o.output}, func(t *term.Terminal) { t.Println(o.output) })
}

func (o *evalReportOptions) gather(ctx context.Context, e eval.Evidence) (page.Facts, error) {
	show := page.Options{Worst: o.worst}
	chart, err := exposureChart(e.Report)
	if err != nil {
		return page.Facts{}, err
	}
	if chart != nil {
		svg, err := chart.SVG()
		if err != nil {
			return page.Facts{}, err
		}
		show.Pictures = []page.Picture{{Title: chart.Title, Text: chart.Text, SVG: svg}}
	}
	if o.baseline != "" {
		before, err := oneReport(o.baseline)
		if err != nil {
			return page.Facts{}, err
		}
		show.Baseline = &before
		if before.Report.Rows != nil && e.Report.Rows != nil {
			c, err := eval.Compare(ctx, before, e, eval.CompareOptions{Trials: 1})
			if err != nil {
				return page.Facts{}, err
			}
			show.Comparison = &c
		}
	}
	path := strings.TrimSuffix(e.Path, filepath.Ext(e.Path)) + ".predictions.jsonl"
	for a, err := range eval.OpenAnswers(path, nil) {
		if errors.Is(err, fs.ErrNotExist) {
			break // a scored file keeps none
		}
		if err != nil {
			return page.Facts{}, err
		}
		show.Predictions = append(show.Predictions, a)
	}
	return page.Gather(e, show)
}
