package cli

import (
	"context"
	"slices"
	"strings"

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
	compat     string
	format     string
	decimals   int
	list       bool
	allowExec  bool
	join       bool
	texts      bool
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
	flags.StringVar(&o.compat, "compat", "", "resample as another `tool` does, for its metrics: sacrebleu (mean ± interval) or rouge-score (median of means)")
	flags.StringVar(&o.format, "format", "table", "`form` of the result: table, or lines as sacreBLEU prints them: line, short")
	flags.IntVar(&o.decimals, "width", 2, "`decimals` in lines")
	flags.BoolVar(&o.join, "join-ids", false, "join files of JSON lines by \"id\", whatever their order")
	flags.BoolVar(&o.allowExec, "allow-exec", false, "let metrics run programs (exec:…)")
	flags.BoolVar(&o.list, "list-metrics", false, "list the metrics and their options")
	flags.StringVar(&o.output, "output", "", "`folder` for the report and its rows, to gate or compare later")
	flags.BoolVar(&o.texts, "keep-texts", false, "keep outputs and references in the folder too, for eval report and eval review")
	flags.StringVar(&o.name, "name", "score", "`name` of the report in the folder")
	flags.BoolVar(&o.force, "force", false, "replace a report of the same name")
}

func (o *evalScoreOptions) request() (eval.Suite, error) {
	if err := missing(map[string]bool{"hypotheses": o.hypotheses != ""}, "hypotheses"); err != nil {
		return eval.Suite{}, err
	}
	if !slices.Contains([]string{"table", "line", "short"}, o.format) || o.decimals < 0 || o.decimals > 17 {
		return eval.Suite{}, usageErrorf("--format is table, line or short, and --width from 0 to 17")
	}
	if o.join && len(o.references) == 0 {
		return eval.Suite{}, usageErrorf("--join-ids needs --references")
	}
	if o.compat != "" && o.bootstrap == 0 {
		o.bootstrap = eval.DefaultBootstrap().Samples
	}
	if len(o.metrics) == 0 {
		o.metrics = []string{"bleu", "chrf"}
	}
	s := eval.Suite{Name: o.name, Metrics: o.metrics, Bootstrap: &eval.Bootstrap{Samples: o.bootstrap, Seed: o.seed, Confidence: o.confidence, Compat: o.compat}}
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
			"  t5ctl eval score --hypotheses predictions.jsonl --metric wer --metric per --bootstrap 1000\n" +
			"  t5ctl eval score --hypotheses out.txt --references ref.txt --metric rouge1 --metric rougeLsum --compat rouge-score",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runEvalScore(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

func runEvalScore(ctx context.Context, app *App, opts evalScoreOptions) error {
	if opts.list {
		return listMetrics(app)
	}
	suite, err := opts.request()
	if err != nil {
		return err
	}
	report, err := scoreFiles(ctx, suite, opts)
	if err != nil {
		return err
	}
	return app.show(report, func(t *term.Terminal) {
		if opts.format == "table" {
			t.Table(resultsTable(report.Metrics))
			return
		}
		for _, r := range report.Metrics {
			t.Println(r.Line(opts.decimals, opts.format == "short"))
		}
	})
}

func listMetrics(app *App) error {
	metrics := eval.DescribeMetrics()
	return app.show(metrics, func(t *term.Terminal) {
		tab := term.Table{Header: []string{"metric", "better", "what", "options"}}
		for _, m := range metrics {
			better := "lower"
			if m.HigherIsBetter {
				better = "higher"
			}
			tab.Add(m.Name, better, m.Label, strings.Join(m.Options, " "))
		}
		t.Table(tab)
	})
}

// scoreFiles scores, and writes report and rows where that is wanted.
func scoreFiles(ctx context.Context, suite eval.Suite, opts evalScoreOptions) (eval.Report, error) {
	open := eval.OpenAnswers
	if opts.join {
		open = eval.JoinAnswers
	}
	answers := open(opts.hypotheses, opts.references)
	if opts.output == "" {
		report, err := eval.Runner{Suite: suite, AllowExec: opts.allowExec}.Score(ctx, answers)
		report.Model = opts.hypotheses
		return report, err
	}
	files, err := newEvaluationFiles(opts.output, opts.name, opts.force)
	if err != nil {
		return eval.Report{}, err
	}
	defer files.close()
	files.partial = files.staging // a run that does not finish leaves nothing
	runner, err := files.runner(opts.texts)
	if err != nil {
		return eval.Report{}, err
	}
	runner.Suite, runner.AllowExec = suite, opts.allowExec
	report, err := runner.Score(ctx, answers)
	if err != nil {
		return eval.Report{}, err
	}
	report.Model = opts.hypotheses
	return report, files.finish(&report)
}
