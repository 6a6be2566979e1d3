package cli

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/review"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

// evalReviewOptions is what the command lines of eval review say, not yet checked.
type evalReviewOptions struct {
	files, from   []string
	output, model string
	scale         string
	rows          int
	seed          uint64
	force         bool
}

func newEvalReviewCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "review",
		Short: "Have people rate and correct a sample of outputs",
	}
	cmd.AddCommand(newEvalReviewExportCommand(app), newEvalReviewImportCommand(app), newEvalReviewCorrectionsCommand(app))
	return cmd
}

func newEvalReviewExportCommand(app *App) *cobra.Command {
	var opts evalReviewOptions
	cmd := &cobra.Command{
		Use:   "export PREDICTIONS… --output FILE",
		Short: "Draw a sample of outputs to rate",
		Long: "The sample is drawn from every task and every third of the lengths of outputs, in proportion.\n" +
			"Give each rater a copy; they fill in the column rating: a number, or good or bad; and the column\n" +
			"correction, where they know what is right. Files of serve --sample-rate are taken as they are.",
		Example: "  t5ctl eval review export reports/test.predictions.jsonl --output review.csv\n" +
			"  t5ctl eval review export samples/*.jsonl --rows 100 --output review.csv",
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			opts.files = args
			return runReviewExport(app, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&opts.output, "output", "o", "", "`file` to write: .csv or .jsonl")
	flags.IntVarP(&opts.rows, "rows", "n", 200, "`rows` to draw")
	flags.Uint64Var(&opts.seed, "seed", eval.DefaultBootstrap().Seed, "`seed`: the same draws the same rows")
	flags.BoolVar(&opts.force, "force", false, "replace the file")
	return cmd
}

func newEvalReviewImportCommand(app *App) *cobra.Command {
	var opts evalReviewOptions
	cmd := &cobra.Command{
		Use:   "import FILE…",
		Short: "Make a report of what people rated, one file a rater",
		Long: "The report has review_quality, the mean rating with its interval, and with two raters or more\n" +
			"review_agreement, Krippendorff's alpha. Gates take both.",
		Example: "  t5ctl eval review import anna.csv ben.csv --model g2p@v7 --output review.json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			opts.files = args
			return runReviewImport(app, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&opts.output, "output", "o", "", "write the report to this `file`")
	flags.StringVarP(&opts.model, "model", "m", "", "`model` that was rated, for the report")
	flags.StringVar(&opts.scale, "scale", string(review.Interval), "what ratings are, for agreement: `interval` or nominal")
	return cmd
}

func runReviewExport(app *App, opts evalReviewOptions) error {
	if err := missing(map[string]bool{"output": opts.output != ""}, "output"); err != nil {
		return err
	}
	if opts.rows < 1 {
		return usageErrorf("--rows %d is not positive", opts.rows)
	}
	if err := mayWrite(opts.force, opts.output); err != nil {
		return err
	}
	var answers []eval.Answered
	for _, file := range opts.files {
		for a, err := range eval.OpenOutputs(file) {
			if err != nil {
				return err
			}
			if a.Pair.ID == "" {
				return usageError{errors.New(file + " has rows without an id, by which ratings are found again")}
			}
			answers = append(answers, a)
		}
	}
	items := review.Sample(answers, opts.rows, opts.seed)
	if err := atomicfile.Write(opts.output, func(w io.Writer) error { return review.Encode(w, opts.output, items) }); err != nil {
		return err
	}
	return app.show(map[string]any{"output": opts.output, "rows": len(items), "of": len(answers)}, func(t *term.Terminal) {
		t.Printf("%s: %d of %d rows\n", opts.output, len(items), len(answers))
	})
}

func runReviewImport(app *App, opts evalReviewOptions) error {
	if !slices.Contains(review.Scales(), opts.scale) {
		return usageErrorf("--scale %q is none of %s", opts.scale, strings.Join(review.Scales(), ", "))
	}
	var raters []map[string]float64
	for _, path := range opts.files {
		ratings, err := review.Read(path)
		if err != nil {
			return err
		}
		raters = append(raters, ratings)
	}
	report := review.Report(raters, review.Scale(opts.scale), opts.model, eval.DefaultBootstrap())
	if opts.output != "" {
		if err := atomicfile.Write(opts.output, report.Encode); err != nil {
			return err
		}
	}
	return app.show(report, func(t *term.Terminal) { t.Table(resultsTable(report.Metrics)) })
}

func newEvalReviewCorrectionsCommand(app *App) *cobra.Command {
	var opts evalReviewOptions
	cmd := &cobra.Command{
		Use:   "corrections FILE… --output FILE",
		Short: "Make a data set of what raters corrected, one file a rater",
		Long: "Every row with a correction becomes an example with that as its target. Rows on which two\n" +
			"raters differ are left out. The data's lineage names the files and what they were made from.",
		Example: "  t5ctl eval review corrections anna.csv ben.csv --output corrected.jsonl",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			opts.files = args
			return runReviewCorrections(app, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&opts.output, "output", "o", "", "`file` to write, .jsonl")
	flags.StringArrayVar(&opts.from, "from", nil, "`file` that the rows were drawn from, for the lineage (repeatable)")
	flags.BoolVar(&opts.force, "force", false, "replace the file")
	return cmd
}

func runReviewCorrections(app *App, opts evalReviewOptions) error {
	if err := missing(map[string]bool{"output": opts.output != ""}, "output"); err != nil {
		return err
	}
	if err := mayWrite(opts.force, opts.output); err != nil {
		return err
	}
	rows, differ, err := review.Corrections(opts.files)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return usageErrorf("no row of these files has a correction that raters agree on")
	}
	if err := atomicfile.Write(opts.output, func(w io.Writer) error { return encodeLines(w, rows) }); err != nil {
		return err
	}
	lineage := datasets.Lineage{Command: "eval review corrections", Tool: versionOf().Version, Options: map[string]any{"rows": len(rows), "left_out": differ}}
	if err := datasets.WriteLineage(opts.output, lineage, append(opts.files, opts.from...)); err != nil {
		return err
	}
	result := map[string]any{"output": opts.output, "rows": len(rows), "left_out": differ}
	return app.show(result, func(t *term.Terminal) {
		t.Printf("%s: %d corrected rows; %d were left out, since raters differ\n", opts.output, len(rows), differ)
	})
}

// encodeLines writes rows as JSON lines.
func encodeLines[T any](w io.Writer, rows []T) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, row := range rows {
		if err := enc.Encode(row); err != nil {
			return err
		}
	}
	return nil
}

// reviewRules maps the failures of reviews to exit codes.
func reviewRules() []rule { return []rule{as[*review.FileError](exitUsage, nil)} }
