package cli

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/eval"
)

// evalScoreOptions is what the command line of eval score says, not yet checked.
type evalScoreOptions struct {
	hypotheses string
	references []string
	metrics    []string
	bootstrap  int
	seed       uint64
	confidence float64
	output     string
	name       string
	force      bool
}

func (o *evalScoreOptions) bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.hypotheses, "hypotheses", "", "`file` of outputs: one a line, or JSON lines with \"output\"")
	flags.StringArrayVar(&o.references, "references", nil, "`file` of right answers: one a line, or JSON lines with \"references\" or \"target\" (repeatable)")
	flags.StringArrayVar(&o.metrics, "metric", nil, "`metric` as name:option=value,… (repeatable; default bleu and chrf)")
	flags.IntVar(&o.bootstrap, "bootstrap", 0, "`resamples` for confidence intervals; 0 makes none")
	flags.Uint64Var(&o.seed, "seed", eval.DefaultBootstrap().Seed, "`seed` of the resamples")
	flags.Float64Var(&o.confidence, "confidence", eval.DefaultBootstrap().Confidence, "`share` of resamples inside an interval")
	flags.StringVar(&o.output, "output", "", "`folder` for the report and its rows, to gate or compare later")
	flags.StringVar(&o.name, "name", "score", "`name` of the report in the folder")
	flags.BoolVar(&o.force, "force", false, "replace a report of the same name")
}

func (o *evalScoreOptions) request() (eval.Suite, error) {
	if err := missing(map[string]bool{"hypotheses": o.hypotheses != ""}, "hypotheses"); err != nil {
		return eval.Suite{}, err
	}
	if len(o.metrics) == 0 {
		o.metrics = []string{"bleu", "chrf"}
	}
	s := eval.Suite{Name: o.name, Metrics: o.metrics, Bootstrap: &eval.Bootstrap{Samples: o.bootstrap, Seed: o.seed, Confidence: o.confidence}}
	if _, err := eval.ParseMetrics(o.metrics); err != nil {
		return s, err
	}
	if err := s.Validate(); err != nil {
		return s, usageError{err}
	}
	return s, nil
}

func newEvalScoreCommand(app *App) *cobra.Command {
	var opts evalScoreOptions
	cmd := &cobra.Command{
		Use:   "score --hypotheses FILE --references FILE",
		Short: "Score a file of outputs against files of right answers",
		Example: "  t5ctl eval score --hypotheses out.txt --references ref.txt --metric bleu --metric chrf:word_order=2\n" +
			"  t5ctl eval score --hypotheses predictions.jsonl --metric wer --metric per --bootstrap 1000",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runEvalScore(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

func runEvalScore(ctx context.Context, app *App, opts evalScoreOptions) error {
	suite, err := opts.request()
	if err != nil {
		return err
	}
	report, err := scoreFiles(ctx, suite, opts)
	if err != nil {
		return err
	}
	return app.show(report, func(t *term.Terminal) { t.Table(resultsTable(report.Metrics)) })
}

// scoreFiles scores, and writes report and rows where that is wanted.
func scoreFiles(ctx context.Context, suite eval.Suite, opts evalScoreOptions) (eval.Report, error) {
	answers := eval.OpenAnswers(opts.hypotheses, opts.references)
	if opts.output == "" {
		report, err := eval.Runner{Suite: suite}.Score(ctx, answers)
		report.Model = opts.hypotheses
		return report, err
	}
	files, err := newEvaluationFiles(opts.output, opts.name, opts.force)
	if err != nil {
		return eval.Report{}, err
	}
	defer files.close()
	runner, err := files.runner(false)
	if err != nil {
		return eval.Report{}, err
	}
	runner.Suite = suite
	report, err := runner.Score(ctx, answers)
	if err != nil {
		return eval.Report{}, err
	}
	report.Model = opts.hypotheses
	return report, files.finish(&report)
}
