package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/model"
	"github.com/t5ctl/t5ctl/recipes"
)

// evalRunOptions is what the command line of eval run says, not yet checked.
type evalRunOptions struct {
	suite, model, adapter, output, name string
	limit                               int
	force                               bool
}

func (o *evalRunOptions) bind(flags *pflag.FlagSet) {
	flags.StringVarP(&o.model, "model", "m", "", "`model`: a folder, a run, name@vN or name@channel")
	flags.StringVar(&o.adapter, "adapter", "", "`adapter` on top of it: a PEFT folder or a run")
	flags.StringVarP(&o.output, "output", "o", "", "`folder` for NAME.json, NAME.rows.jsonl and NAME.predictions.jsonl")
	flags.StringVar(&o.name, "name", "", "`name` of the report (default: that of the suite)")
	flags.IntVar(&o.limit, "limit", 0, "score a sample of `n` rows of each task, always the same; 0 is what the suite says")
	flags.BoolVar(&o.force, "force", false, "replace a report of the same name")
}

func newEvalRunCommand(app *App) *cobra.Command {
	var opts evalRunOptions
	cmd := &cobra.Command{
		Use:   "run SUITE --model <model>",
		Short: "Evaluate a model on a suite",
		Long: "SUITE is a suite file, or a recipe or preset with an eval section, whose test split is used\n" +
			"where the section names no data.",
		Example: "  t5ctl eval run suite.yaml --model summarizer@v7 --output reports\n" +
			"  t5ctl eval run recipe.yaml --model runs/g2p-1 --output runs/g2p-1/reports",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.suite = args[0]
			return runEvalRun(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

// evaluation is a suite with what else decides how a model is asked.
type evaluation struct {
	suite      eval.Suite
	generation *decode.Options // of the recipe; nil: the model's own
	prefix     bool            // the suite says what is put before inputs; else the model does
}

func (o *evalRunOptions) request(app *App) (evaluation, error) {
	if err := missing(map[string]bool{"model": o.model != ""}, "model"); err != nil {
		return evaluation{}, err
	}
	if o.limit < 0 {
		return evaluation{}, usageErrorf("--limit %d is negative", o.limit)
	}
	e, err := app.loadEvaluation(o.suite)
	if err != nil {
		return e, err
	}
	if o.limit > 0 {
		e.suite.Limit = o.limit
		for i := range e.suite.Tasks {
			e.suite.Tasks[i].Limit = nil
		}
	}
	if o.name != "" {
		e.suite.Name = o.name
	}
	return e, nil
}

// loadEvaluation reads a suite file, or the eval section of a recipe.
func (a *App) loadEvaluation(path string) (evaluation, error) {
	data, err := os.ReadFile(path)
	if err == nil && !isRecipe(data) {
		s, err := eval.ParseSuite(path, data)
		if err != nil {
			return evaluation{}, err
		}
		if s.Name == "" {
			s.Name = strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
		}
		return evaluation{suite: s.At(filepath.Dir(path)), prefix: s.Prefix != ""}, nil
	}
	loaded, err := a.loadRecipe(path, nil)
	if err != nil {
		return evaluation{}, err
	}
	return recipeEvaluation(loaded)
}

// isRecipe tells a recipe from a suite: it says how to train.
func isRecipe(data []byte) bool {
	var top map[string]any
	if yaml.Unmarshal(data, &top) != nil {
		return false
	}
	_, trains := top["train"]
	_, section := top["eval"]
	return trains || section
}

// recipeEvaluation fills in the eval section of a recipe from its other sections.
func recipeEvaluation(r recipes.Loaded) (evaluation, error) {
	s := r.Eval
	if len(s.Metrics) == 0 && len(s.Tasks) == 0 {
		return evaluation{}, usageErrorf("recipe %s has no metrics in its eval section", r.Path)
	}
	if s.Name == "" {
		s.Name = r.Name
	}
	if len(s.Data) == 0 {
		s.Data = r.Data.Test
	}
	if s.Prefix == "" {
		s.Prefix = r.Data.Prefix
	}
	if s.Columns == (eval.Columns{}) {
		c := r.Data.Columns
		s.Columns = eval.Columns{Input: c.Input, Target: c.Target, References: c.References, ID: c.ID, Task: c.Task}
	}
	return evaluation{suite: s, generation: &r.Generation, prefix: true}, nil
}

func runEvalRun(ctx context.Context, app *App, opts evalRunOptions) error {
	e, err := opts.request(app)
	if err != nil {
		return err
	}
	files, err := taskFiles(e.suite) // before the model is opened, which takes longer
	if err != nil {
		return err
	}
	ref := opts.model
	if opts.adapter != "" {
		ref = opts.adapter
	}
	resolved, err := resolveModel(ctx, app, ref)
	if err != nil {
		return err
	}
	m, closeModel, err := app.openModel(ctx, opts.model, opts.adapter)
	if err != nil {
		return err
	}
	defer closeModel()
	if err := e.settle(m); err != nil {
		return err
	}
	report, err := e.run(ctx, app, m, files, opts, func(r *eval.Report) {
		r.Model, r.ModelHash = ref, resolved.Tree
		if resolved.Name != "" {
			r.Model = resolved.Name
		}
	})
	if err != nil {
		return err
	}
	if m.Truncated > 0 {
		app.Term.Warnf("%d inputs were longer than the model takes and were cut", m.Truncated)
	}
	return app.show(report, func(t *term.Terminal) {
		t.Table(resultsTable(report.Metrics))
		if opts.output != "" {
			t.Notef("report: %s", filepath.Join(opts.output, report.Name+".json"))
		}
	})
}

// settle gives the model the decoding settings: its own, under the recipe's, under the suite's.
func (e *evaluation) settle(m *model.Model) error {
	g := m.Generation
	if e.generation != nil {
		g = *e.generation
	}
	d := e.suite.Decoding
	over := func(set bool, put func()) {
		if set {
			put()
		}
	}
	over(d.MaxNewTokens > 0, func() { g.MaxNewTokens = d.MaxNewTokens })
	over(d.Beams > 0, func() { g.Beams, g.NumReturnSequences = d.Beams, 1 })
	over(d.LengthPenalty != nil, func() { g.LengthPenalty = *d.LengthPenalty })
	over(d.EarlyStopping != "", func() { g.EarlyStopping = d.EarlyStopping })
	over(d.Sample, func() { g.Sample, g.Beams = true, 1 })
	over(d.Temperature > 0, func() { g.Temperature = d.Temperature })
	over(d.TopK != nil, func() { g.TopK = *d.TopK })
	over(d.TopP > 0, func() { g.TopP = d.TopP })
	over(d.Seed > 0, func() { g.Seed = d.Seed })
	over(d.BatchSize > 0, func() { g.BatchRows = d.BatchSize })
	g.NumReturnSequences = 1
	if err := g.Validate(); err != nil {
		return usageError{err}
	}
	m.Generation = g
	if !e.prefix {
		e.suite.Prefix = m.Prefix
	}
	return nil
}

// taskFiles finds the data of every task.
func taskFiles(s eval.Suite) ([][]string, error) {
	var out [][]string
	for _, t := range s.TaskList() {
		if len(t.Data) == 0 {
			return nil, usageError{errors.New(strings.TrimSpace("suite " + s.Name + " names no data " + t.Name))}
		}
		files, err := datasets.Paths(t.Data).Files()
		if err != nil {
			return nil, err
		}
		out = append(out, files)
	}
	return out, nil
}

// sampleSeed draws the rows of a limited evaluation: always the same, so that two models are
// scored on the same rows.
const sampleSeed = 12345

// taskPairs reads the rows of every task, one task after the other.
func taskPairs(s eval.Suite, files [][]string) iter.Seq2[eval.Pair, error] {
	return func(yield func(eval.Pair, error) bool) {
		for i, t := range s.TaskList() {
			c := t.Columns
			rows := datasets.ReadFiles(files[i], datasets.ReadOptions{Columns: datasets.Columns{
				Input: c.Input, Target: c.Target, References: c.References, ID: c.ID, Task: c.Task,
			}})
			for e, err := range datasets.Sample(rows, *t.Limit, sampleSeed) {
				if err != nil {
					yield(eval.Pair{}, err)
					return
				}
				id := e.ID
				if id == "" {
					id = strconv.FormatInt(e.Row, 10)
				}
				if !yield(eval.Pair{ID: id, Task: t.Name, Input: e.Input, Target: e.Target, References: e.References}, nil) {
					return
				}
			}
		}
	}
}

// predictor makes a model one whose outputs tell how they ended.
type predictor struct{ *model.Model }

// PredictDetailed gives the best output of each source.
func (p predictor) PredictDetailed(ctx context.Context, sources []string) ([]eval.Prediction, error) {
	found, err := p.Generate(ctx, sources)
	if err != nil {
		return nil, err
	}
	out := make([]eval.Prediction, len(found))
	for i, outputs := range found {
		out[i] = eval.Prediction{Text: outputs[0].Text, AtLimit: outputs[0].Cut}
	}
	return out, nil
}

// run evaluates, and writes what is to be kept.
func (e *evaluation) run(ctx context.Context, app *App, m *model.Model, files [][]string, opts evalRunOptions, complete func(*eval.Report)) (eval.Report, error) {
	var runner eval.Runner
	var kept *evaluationFiles
	if opts.output != "" {
		var err error
		if kept, err = newEvaluationFiles(opts.output, e.suite.Name, opts.force); err != nil {
			return eval.Report{}, err
		}
		defer kept.close()
		if runner, err = kept.runner(true); err != nil {
			return eval.Report{}, err
		}
	}
	progress := app.Term.Progress("evaluating", 0, "rows")
	defer progress.Done()
	runner.Suite, runner.Chunk = e.suite, windowRows
	runner.Done = func(rows int) { progress.Set(int64(rows)) }
	report, err := runner.Run(ctx, predictor{m}, taskPairs(e.suite, files))
	if err != nil {
		return report, err
	}
	if report.Decoding, err = json.Marshal(m.Generation); err != nil {
		return report, fmt.Errorf("writing the report: %w", err)
	}
	complete(&report)
	if kept != nil {
		err = kept.finish(&report)
	}
	return report, err
}
