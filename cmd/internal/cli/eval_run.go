package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/internal/model"
	"github.com/t5ctl/t5ctl/recipes"
)

// evalRunOptions is what the command line of eval run says, not yet checked.
type evalRunOptions struct {
	suite, model, adapter, output, name string
	limit                               int
	price                               float64
	force, allowExec, schema            bool
}

func (o *evalRunOptions) bind(flags *pflag.FlagSet) {
	flags.StringVarP(&o.model, "model", "m", "", "`model`: a folder, a run, name@vN or name@channel")
	flags.StringVar(&o.adapter, "adapter", "", "`adapter` on top of it: a PEFT folder or a run")
	flags.StringVarP(&o.output, "output", "o", "", "`folder` for NAME.json, NAME.rows.jsonl and NAME.predictions.jsonl")
	flags.StringVar(&o.name, "name", "", "`name` of the report (default: that of the suite)")
	flags.IntVar(&o.limit, "limit", 0, "score a sample of `n` rows of each task, always the same; 0 is what the suite says")
	flags.Float64Var(&o.price, "price-per-hour", 0, "`price` of an hour of this machine: the report tells what 1,000 rows cost, as the metric cost")
	flags.BoolVar(&o.force, "force", false, "replace a report of the same name, and do not go on with a run that was interrupted")
	flags.BoolVar(&o.schema, "schema", false, "write the JSON schema of a suite file, and do nothing else")
	flags.BoolVar(&o.allowExec, "allow-exec", false, "let metrics of the suite run programs (exec:…)")
}

func newEvalRunCommand(app *App) *cobra.Command {
	var opts evalRunOptions
	cmd := &cobra.Command{
		Use:   "run SUITE --model <model>",
		Short: "Evaluate a model on a suite",
		Long: "SUITE is a suite file, or a recipe or preset with an eval section, whose test split is used\n" +
			"where the section names no data. Predictions are kept as they come: the same command goes on\n" +
			"where it was interrupted.",
		Example: "  t5ctl eval run suite.yaml --model summarizer@v7 --output reports\n" +
			"  t5ctl eval run recipe.yaml --model runs/g2p-1 --output runs/g2p-1/reports",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.schema {
				return showSchema(app, recipes.SuiteSchema)
			}
			if len(args) == 0 {
				return usageErrorf("SUITE is missing")
			}
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
	if err := checkPrice(o.price); err != nil {
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
	if o.price > 0 {
		cost := "cost:per_hour=" + strconv.FormatFloat(o.price, 'f', -1, 64)
		e.suite.Metrics = append(slices.Clone(e.suite.Metrics), cost)
		for i, task := range e.suite.Tasks {
			if len(task.Metrics) > 0 {
				e.suite.Tasks[i].Metrics = append(slices.Clone(task.Metrics), cost)
			}
		}
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
	report, err := app.evaluate(ctx, e, opts)
	if err != nil {
		return err
	}
	return app.show(report, func(t *term.Terminal) {
		t.Table(resultsTable(report.Metrics))
		if opts.output != "" {
			t.Notef("report: %s", filepath.Join(opts.output, report.Name+".json"))
		}
	})
}

// evaluate runs an evaluation on the model that the options name.
func (a *App) evaluate(ctx context.Context, e evaluation, opts evalRunOptions) (none eval.Report, err error) {
	for _, task := range e.suite.TaskList() {
		if err := a.fetchData(ctx, task.Data); err != nil {
			return none, err
		}
	}
	files, err := taskFiles(e.suite) // before the model is opened, which takes longer
	if err != nil {
		return none, err
	}
	ref := opts.model
	if opts.adapter != "" {
		ref = opts.adapter
	}
	resolved, err := resolveModel(ctx, a, ref)
	if err != nil {
		return none, err
	}
	m, closeModel, err := a.openModel(ctx, opts.model, opts.adapter)
	if err != nil {
		return none, err
	}
	defer closeModel()
	if err := e.settle(m); err != nil {
		return none, err
	}
	about := eval.Report{Model: ref, ModelHash: resolved.Tree}
	if resolved.Name != "" {
		about.Model = resolved.Name
	}
	report, err := e.run(ctx, a, m, files, opts, about)
	if err != nil {
		return none, err
	}
	if m.Truncated > 0 {
		a.Term.Warnf("%d inputs were longer than the model takes and were cut", m.Truncated)
	}
	return report, nil
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
			}, Raw: true})
			for e, err := range datasets.Sample(rows, *t.Limit, sampleSeed) {
				if err != nil {
					yield(eval.Pair{}, err)
					return
				}
				id := e.ID
				if id == "" {
					id = strconv.FormatInt(e.Row, 10)
				}
				pair := eval.Pair{ID: id, Task: t.Name, Input: e.Input, Target: e.Target, References: e.References}
				if err := extraColumns(&pair, e.Raw); err != nil {
					yield(eval.Pair{}, &eval.LineError{Path: strings.Join(files[i], ", "), Line: int(e.Row) + 1, Reason: err.Error()})
					return
				}
				if !yield(pair, nil) {
					return
				}
			}
		}
	}
}

// extraColumns takes what a row says beside the usual: tag or tags for slices, passages to rest on, the
// rule of a probe, group for what is judged together.
func extraColumns(pair *eval.Pair, row []byte) (err error) {
	var columns struct {
		Tag, Tags, Passages, Group any
		Rule                       json.RawMessage
	}
	if err := json.Unmarshal(row, &columns); err != nil {
		return err
	}
	texts := func(v any) (out []string) {
		switch v := v.(type) {
		case string:
			return []string{v}
		case []any:
			for _, x := range v {
				if s, ok := x.(string); ok {
					out = append(out, s)
				}
			}
		}
		return out
	}
	if columns.Group != nil {
		pair.Group = fmt.Sprint(columns.Group)
	}
	pair.Tags, pair.Passages = append(texts(columns.Tag), texts(columns.Tags)...), texts(columns.Passages)
	if len(columns.Rule) > 0 && string(columns.Rule) != "null" {
		pair.Rule, err = eval.ParseRule(columns.Rule)
	}
	return err
}

// predictor makes a model one whose outputs tell how they came about.
type predictor struct {
	*model.Model
	timed bool         // decode batch by batch and take the time
	warm  map[int]bool // lengths that were decoded before, so that their programs are compiled
}

// PredictDetailed gives the best output of each source.
func (p predictor) PredictDetailed(ctx context.Context, sources []string) ([]eval.Prediction, error) {
	size := len(sources)
	if p.timed {
		size = p.Generation.BatchRows
	}
	var out []eval.Prediction
	for batch := range slices.Chunk(sources, max(1, size)) {
		if length := bits.Len(uint(longest(batch))); p.timed && !p.warm[length] {
			p.warm[length] = true
			if _, err := p.Generate(ctx, batch); err != nil { // compiling is no part of the latency
				return nil, err
			}
		}
		began := time.Now()
		found, err := p.Generate(ctx, batch)
		if err != nil {
			return nil, err
		}
		seconds := time.Since(began).Seconds()
		for _, outputs := range found {
			one := eval.Prediction{Text: outputs[0].Text, AtLimit: outputs[0].Cut}
			if p.timed {
				one.Seconds, one.Share = seconds, seconds/float64(len(batch))
			}
			out = append(out, one)
		}
	}
	return out, nil
}

// longest is the length in bytes of the longest text.
func longest(texts []string) int {
	n := 0
	for _, t := range texts {
		n = max(n, len(t))
	}
	return n
}

// ScoreTargets gives the log-probability and the length of each target after its source.
func (p predictor) ScoreTargets(ctx context.Context, sources, targets []string) ([]eval.TargetScore, error) {
	scores, err := p.ScorePairs(ctx, sources, targets)
	if err != nil {
		return nil, err
	}
	out := make([]eval.TargetScore, len(scores))
	for i, s := range scores {
		out[i].Tokens = len(s.LogProbs)
		for _, l := range s.LogProbs {
			out[i].LogProb += float64(l)
		}
	}
	return out, nil
}

// run evaluates, and writes what is to be kept.
func (e *evaluation) run(ctx context.Context, app *App, m *model.Model, files [][]string, opts evalRunOptions, about eval.Report) (eval.Report, error) {
	decoding, err := json.Marshal(m.Generation)
	if err != nil {
		return eval.Report{}, fmt.Errorf("writing the report: %w", err)
	}
	about.Decoding = decoding
	about.Setup = map[string]string{"tokenizer": m.Tokenizer.Hash(), "tokenizer_mode": string(m.Tokenizer.Mode()), "prefix": e.suite.Prefix}
	var runner eval.Runner
	var kept *evaluationFiles
	if opts.output != "" {
		if kept, err = newEvaluationFiles(opts.output, e.suite.Name, opts.force); err != nil {
			return eval.Report{}, err
		}
		defer kept.close()
		if runner, err = e.record(app, m, kept, opts, about); err != nil {
			return eval.Report{}, err
		}
	}
	progress := app.Term.Progress("evaluating", 0, "rows")
	defer progress.Done()
	runner.Suite, runner.Chunk, runner.AllowExec = e.suite, evaluationRows, opts.allowExec
	flush := runner.Done
	progressed := false
	runner.Done = func(rows int) {
		progressed = true
		if flush != nil {
			flush(rows)
		}
		progress.Set(int64(rows))
	}
	defer func() {
		if ctx.Err() != nil && progressed && kept != nil {
			app.Term.Notef("the same command goes on where this one was interrupted")
		}
	}()
	report, err := runner.Run(ctx, predictor{m, e.suite.Timed(), map[int]bool{}}, taskPairs(e.suite, files))
	if err != nil {
		return report, err
	}
	report.Model, report.ModelHash, report.Decoding, report.Setup = about.Model, about.ModelHash, about.Decoding, about.Setup
	if kept != nil {
		err = kept.finish(&report)
	}
	return report, err
}

// evaluationRows is how many rows are predicted between two writes: what an interruption costs.
const evaluationRows = 512

// record opens the files of a run, or goes on with those of one that was interrupted.
func (e *evaluation) record(app *App, m *model.Model, kept *evaluationFiles, opts evalRunOptions, about eval.Report) (runner eval.Runner, err error) {
	identity, err := json.Marshal(struct {
		Suite eval.Suite
		About eval.Report
	}{e.suite, about})
	if err != nil {
		return runner, err
	}
	earlier, err := kept.resume(digest.Bytes(identity), opts.force)
	if err != nil {
		return runner, err
	}
	if runner, err = kept.runner(true); err != nil {
		return runner, err
	}
	if len(earlier) > 0 {
		m.Skip(len(earlier))
		app.Term.Notef("going on after %d rows of a run that was interrupted", len(earlier))
		runner.Earlier = func(yield func(eval.Recorded, error) bool) {
			for _, r := range earlier {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
	return runner, nil
}
