package cli

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/review"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

// evalReviewOptions is what the command lines of eval review say, not yet checked.
type evalReviewOptions struct {
	files         []string
	output, model string
	scale         string
	rows          int
	seed          uint64
	force         bool
}

func newEvalReviewCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "review",
		Short: "Have people rate a sample of outputs, and gate on their ratings",
	}
	cmd.AddCommand(newEvalReviewExportCommand(app), newEvalReviewImportCommand(app))
	return cmd
}

func newEvalReviewExportCommand(app *App) *cobra.Command {
	var opts evalReviewOptions
	cmd := &cobra.Command{
		Use:   "export PREDICTIONS --output FILE",
		Short: "Draw a sample of outputs to rate",
		Long: "The sample is drawn from every task and every third of the lengths of outputs, in proportion.\n" +
			"Give each rater a copy; they fill in the column rating: a number, or good or bad.",
		Example: "  t5ctl eval review export reports/test.predictions.jsonl --output review.csv",
		Args:    cobra.ExactArgs(1),
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
	if _, err := os.Stat(opts.output); err == nil && !opts.force {
		return &fs.PathError{Op: "exporting a review to", Path: opts.output, Err: fs.ErrExist}
	}
	var answers []eval.Answered
	for a, err := range eval.OpenAnswers(opts.files[0], nil) {
		if err != nil {
			return err
		}
		if a.Pair.ID == "" {
			return usageError{errors.New(opts.files[0] + " has rows without an id, by which ratings are found again")}
		}
		answers = append(answers, a)
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

// reviewRules maps the failures of reviews to exit codes.
func reviewRules() []rule { return []rule{as[*review.FileError](exitUsage, nil)} }
