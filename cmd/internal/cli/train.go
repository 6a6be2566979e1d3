package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/lora"
	"github.com/t5ctl/t5ctl/internal/model"
	"github.com/t5ctl/t5ctl/internal/runfolder"
	"github.com/t5ctl/t5ctl/internal/safetensors"
	"github.com/t5ctl/t5ctl/internal/t5"
	"github.com/t5ctl/t5ctl/internal/vocab"
	"github.com/t5ctl/t5ctl/registry"
	"github.com/t5ctl/t5ctl/trainer"
)

// trainOptions is what the command line of train and finetune says, not yet checked.
type trainOptions struct {
	recipe      string
	sets        []string
	output      string
	resume      bool
	evaluate    bool
	trace       bool
	tensorboard bool
	mlflow      string
	sweep       string
	shard       string
	base        bool // a base model is needed: finetune
	price       float64
	warmFrom    string
	chain       []runfolder.Ancestor // of the version that --warm-from names, and itself
}

func (o *trainOptions) bind(flags *pflag.FlagSet) {
	bindSet(flags, &o.sets)
	flags.StringVarP(&o.output, "output", "o", "", "run `folder` (default runs/<name>-<n>)")
	flags.BoolVar(&o.trace, "trace-nan", false, "should the loss not be finite, name the first layer that was not")
	flags.BoolVar(&o.resume, "resume", false, "go on with the run in --output from its last whole checkpoint")
	flags.BoolVar(&o.evaluate, "evaluate", false, "then evaluate the model as the recipe's eval section says; the report is RUN/reports/test.json")
	flags.BoolVar(&o.tensorboard, "tensorboard", false, "write event files for TensorBoard into the run folder (tracking.tensorboard)")
	flags.StringVar(&o.sweep, "sweep", "", "run the recipe with every setting that this `file` names, and rank them")
	flags.StringVar(&o.shard, "shard", "", "only the `i/n`-th part of a sweep's settings, i from 1 to n; --resume without it then ranks all")
	flags.Float64Var(&o.price, "price-per-hour", 0, "`price` of an hour of this machine: run.json and the card tell what the run cost")
	flags.StringVar(&o.mlflow, "mlflow", "", "tell the MLflow tracking server at `uri` of the run (tracking.mlflow.uri)")
}

// overrides are the values that the flags lay over the recipe, --set last.
func (o *trainOptions) overrides() []string {
	var sets []string
	if o.tensorboard {
		sets = append(sets, "tracking.tensorboard=true")
	}
	if o.mlflow != "" {
		sets = append(sets, "tracking.mlflow.uri="+o.mlflow)
	}
	if n := len(o.chain); n > 0 {
		sets = append(sets, "base="+o.chain[n-1].Name)
	}
	return append(sets, o.sets...)
}

func newTrainCommand(app *App) *cobra.Command {
	opts := trainOptions{}
	cmd := &cobra.Command{
		Use:   "train <recipe>",
		Short: "Train a model from scratch, or pretrain one",
		Long: "Train a model from fresh weights (the recipe has a model section) or go on training a\n" +
			"base on running text. The run folder keeps all that is to be known of it.",
		Example:           "  t5ctl train g2p-base\n  t5ctl train recipe.yaml --set train.steps=2000 --output runs/mine",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeRecipe,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.recipe = args[0]
			return runTrain(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

func newFinetuneCommand(app *App) *cobra.Command {
	opts := trainOptions{base: true}
	cmd := &cobra.Command{
		Use:   "finetune <recipe>",
		Short: "Fine-tune a base model, in full or by LoRA",
		Long: "Fine-tune the recipe's base on its data. With LoRA the base stays as it is and the\n" +
			"result is a PEFT adapter; in full it is a Hugging Face model folder.\n\n" +
			"With --sweep the recipe runs once for each setting that a file names:\n\n" +
			"  version: 1\n" +
			"  method: grid                    # or random, with trials: N and seed: N\n" +
			"  parameters:\n" +
			"    - {key: train.optimizer.learning_rate, values: [1e-4, 3e-4, 1e-3]}\n" +
			"    - {key: train.lora.rank, values: [4, 16]} # or from, to, scale, integer\n" +
			"  seeds: [1, 2]                   # each setting runs once with each\n" +
			"  metric: loss                    # of the validation data; or training_loss\n" +
			"  halving: {factor: 2, first: 100} # half goes on after 100 steps, 200, …\n\n" +
			"Every run has its folder in the sweep's (default runs/<name>-sweep-<n>), beside sweep.json, sweep.png and\n" +
			"sweep.html. --resume goes on with a sweep that was stopped. Several processes share a sweep, on any\n" +
			"hosts that see one folder: each runs --shard i/n, and one more --resume without it ranks all runs.\n\n" +
			"--warm-from begins with what serves; run.json and the card name the chain of versions.",
		Example:           "  t5ctl finetune cmudict-stress\n  t5ctl finetune recipe.yaml --output runs/mine --resume\n  t5ctl finetune recipe.yaml --sweep sweep.yaml",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeRecipe,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.recipe = args[0]
			return runTrain(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	cmd.Flags().StringVar(&opts.warmFrom, "warm-from", "", "begin with this `version` of the registry in place of the recipe's base: name@production")
	return cmd
}

// trainRules maps the failures of training and of models to exit codes.
func trainRules() []rule {
	return []rule{
		as(exitFailed, func(e *trainer.NonFiniteError) string {
			if e.Checkpoint == "" {
				return "lower train.optimizer.learning_rate, or clip with train.clip_norm"
			}
			return "the weights before it are in " + e.Checkpoint + "; lower train.optimizer.learning_rate, then go on with --resume"
		}),
		as(exitFailed, func(e *trainer.StepError) string {
			if full, ok := errors.AsType[*device.MemoryError](e.Err); ok {
				_, hint := explain(full)
				return hint
			}
			if e.Checkpoint == "" {
				return "t5ctl backend info says whether the device answers; there is no checkpoint to go on from"
			}
			return "the weights before it are in " + e.Checkpoint + "; once t5ctl backend info finds the device again, --resume goes on"
		}),
		as(exitConflict, saying[*trainer.OtherRunError]("choose another --output, or give the recipe and data of that run")),
		as(exitConflict, saying[*runfolder.OccupiedError]("choose another --output")),
		as(exitConflict, saying[*runfolder.LockedError]("wait for it to end, or choose another --output")),
		as(exitConflict, saying[*existingRunError]("--resume goes on with it; another --output starts a new one")),
		sweepStopped,
		as(exitConflict, saying[*sweepConflictError]("--resume goes on with a sweep of the same file and recipe; another --output starts a new one")),
		as[*trainer.DeltaError](exitUsage, nil),
		as[*lora.StackError](exitUsage, nil),
		as(exitUsage, func(e *lora.NoTargetError) string { return "" }),
		as[*trainer.UnknownMetricError](exitUsage, nil),
		as(exitUsage, saying[*trainer.VocabularyError]("teacher and student must share one tokenizer")),
		as[*lora.UnsupportedError](exitUsage, nil),
		as(exitDevice, saying[*device.DevicesError]("t5ctl backend info says how many devices a backend has; train.devices all takes them")),
		as(exitCorrupt, saying[*model.TokenizerError]("use the tokenizer that is in the model's folder")),
		as(exitCorrupt, saying[*t5.WeightsError]("config.json and weights must come from the same model")),
		as(exitCorrupt, saying[*safetensors.CorruptError]("get the file again; its digest stands where it came from")),
	}
}

// existingRunError says that the output folder holds a run and nothing said to go on with it.
type existingRunError struct{ dir, outcome string }

func (e *existingRunError) Error() string {
	return fmt.Sprintf("output folder %s holds a run (%s)", e.dir, e.outcome)
}

// trainResult is what train and finetune show.
type trainResult struct {
	Run     string             `json:"run"`
	Model   string             `json:"model"`
	Adapter bool               `json:"adapter"`
	Steps   int                `json:"steps"`
	Loss    float64            `json:"loss"`
	Metrics map[string]float64 `json:"metrics,omitempty"`
	Seconds float64            `json:"seconds"`
	Cost    *runfolder.Cost    `json:"cost,omitempty"`
	Report  string             `json:"report,omitempty"` // of the evaluation
	Scores  []eval.Result      `json:"scores,omitempty"`
}

func runTrain(ctx context.Context, app *App, opts trainOptions) (err error) {
	if err := checkPrice(opts.price); err != nil {
		return err
	}
	if opts.warmFrom != "" {
		if opts.chain, err = app.chainOf(ctx, opts.warmFrom); err != nil {
			return fmt.Errorf("--warm-from: %w", err)
		}
	}
	if opts.sweep != "" {
		return runSweep(ctx, app, opts)
	}
	if opts.shard != "" {
		return usageErrorf("--shard is of a sweep's settings, and there is no --sweep")
	}
	t := &training{app: app, opts: opts}
	if t.recipe, err = app.loadRecipe(opts.recipe, opts.overrides()); err != nil {
		return err
	}
	result, err := t.execute(ctx)
	if err != nil {
		return err
	}
	if opts.evaluate {
		if err := t.evaluate(ctx, &result); err != nil {
			return fmt.Errorf("the run %s is done; evaluating it: %w", result.Run, err)
		}
	}
	return app.show(result, func(s *term.Terminal) {
		what := "model"
		if result.Adapter {
			what = "adapter"
		}
		s.Printf("%s %s\nrun %s: %d steps in %s\n", what, result.Model, result.Run, result.Steps, term.Duration(time.Duration(result.Seconds*float64(time.Second))))
		if result.Report != "" {
			s.Table(resultsTable(result.Scores))
			s.Printf("report %s\n", result.Report)
		}
	})
}

// evaluate scores the finished run as eval run would with the same recipe.
func (t *training) evaluate(ctx context.Context, result *trainResult) error {
	opts := evalRunOptions{suite: t.opts.recipe, model: result.Run, output: filepath.Join(result.Run, "reports"), name: "test", force: true}
	e, err := recipeEvaluation(t.recipe)
	if err != nil {
		return err
	}
	e.suite.Name = opts.name
	report, err := t.app.evaluate(ctx, e, opts)
	result.Report, result.Scores = filepath.Join(opts.output, opts.name+".json"), report.Metrics
	return err
}

// execute runs the recipe in its folder, from the first check to the record of how it ended.
func (t *training) execute(ctx context.Context) (trainResult, error) {
	if err := t.load(ctx); err != nil {
		return trainResult{}, err
	}
	defer t.close()
	if err := t.openFolder(); err != nil {
		return trainResult{}, err
	}
	result, err := t.run(ctx)
	t.trackers.close(err)
	if err != nil {
		return trainResult{}, errors.Join(err, t.failed(err))
	}
	return result, nil
}

// checkPrice refuses what is no price of an hour.
func checkPrice(price float64) error {
	if !(price >= 0) || math.IsInf(price, 0) {
		return usageErrorf("--price-per-hour %g is no price", price)
	}
	return nil
}

// chainOf names a version of the registry, by its number, after all those that it was trained on
// from, the oldest first.
func (a *App) chainOf(ctx context.Context, text string) ([]runfolder.Ancestor, error) {
	ref, err := registry.ParseRef(text)
	if err != nil {
		return nil, err
	}
	r, err := a.registry()
	if err != nil {
		return nil, err
	}
	version, err := r.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	files, err := r.Evidence(ctx, version.Ref)
	if err != nil {
		return nil, err
	}
	var before runfolder.Record
	for _, f := range files {
		if f.Name != "run.json" {
			continue
		}
		if err := json.Unmarshal(f.Data, &before); err != nil {
			return nil, fmt.Errorf("run.json of %s: %w", version.Name, err)
		}
	}
	return append(before.Chain, runfolder.Ancestor{Name: version.Name, Digest: version.Digest}), nil
}

// openBackend opens the compute backend that the settings name and says when it is not the one
// that was hoped for.
func (a *App) openBackend() (*device.Backend, error) {
	return a.openBackendAs(device.DefaultSettings())
}

func (a *App) openBackendAs(s device.Settings) (*device.Backend, error) {
	b, err := device.OpenAs(a.Settings.Backend, s)
	if err != nil {
		return nil, err
	}
	a.warnOfFallback(b)
	return b, nil
}

// decodingBackend is the backend for what decodes, which opens it only where it needs one.
func (a *App) decodingBackend() (device.Opening, error) {
	return device.OpenLater(a.Settings.Backend, device.DefaultSettings(), a.warnOfFallback)
}

func (a *App) warnOfFallback(b *device.Backend) {
	switch {
	case b.Fallback != "" && b.Kind == device.CPU:
		a.Term.Warnf("there is a GPU, but %s: computing on the CPU; t5ctl backend info cuda says what to do", b.Fallback)
	case b.Fallback != "":
		a.Term.Warnf("%s: computing in pure Go, which is 2 to 10 times slower; t5ctl backend install cpu installs XLA", b.Fallback)
	}
}

// load reads what the recipe names, cheap things first, so that a mistake is told at once.
func (t *training) load(ctx context.Context) (err error) {
	if err := t.app.fetchData(ctx, t.recipe.Data.Paths(datasets.Train), t.recipe.Data.Paths(datasets.Validation), t.recipe.Data.Test); err != nil {
		return err
	}
	if err := t.recipe.CheckFiles(); err != nil {
		return err
	}
	switch {
	case t.opts.base && t.recipe.Base == "":
		return hintedUsageError{usageError{fmt.Errorf("recipe %s has no base to fine-tune", t.recipe.Name)}, "t5ctl train trains from fresh weights"}
	case !t.opts.base && t.recipe.Train.Method == trainer.LoRA:
		return hintedUsageError{usageError{fmt.Errorf("recipe %s trains an adapter (train.method lora)", t.recipe.Name)}, "t5ctl finetune does that"}
	}
	if err := t.openBase(ctx); err != nil {
		return err
	}
	if err := t.openTeacher(ctx); err != nil {
		return err
	}
	return t.openTokenizer()
}

// openBase opens the base's weights, or takes the recipe's shape for fresh ones.
func (t *training) openBase(ctx context.Context) error {
	if t.recipe.Base == "" {
		t.config = *t.recipe.Model
		if t.config.NumDecoderLayers == 0 {
			t.config.NumDecoderLayers = t.config.NumLayers
		}
		return nil
	}
	resolved, err := resolveModel(ctx, t.app, t.recipe.Base)
	if err != nil {
		return fmt.Errorf("base of recipe %s: %w", t.recipe.Name, err)
	}
	if resolved.Adapter != "" && t.recipe.Train.Method != trainer.LoRA {
		return usageError{fmt.Errorf("base %s is an adapter, on which only another adapter can be trained; merge it with t5ctl model merge first", t.recipe.Base)}
	}
	t.baseDir, t.baseTree = resolved.Dir, resolved.Tree
	if t.base, err = t5.Open(resolved.Dir); err != nil {
		return fmt.Errorf("base of recipe %s: %w", t.recipe.Name, err)
	}
	t.config = t.base.Config
	if resolved.Adapter == "" {
		return nil
	}
	t.under = resolved.Adapter
	if err := t.recipe.Train.LoRA.Stackable("of recipe " + t.recipe.Name); err != nil {
		return err
	}
	tree, err := registry.Tree(resolved.Dir)
	if err != nil {
		return err
	}
	t.baseTree = tree + " " + resolved.Tree
	return model.PutUnder(t.base, t.under)
}

// openTokenizer opens the recipe's tokenizer, or the base's own.
func (t *training) openTokenizer() (err error) {
	path, mode := t.recipe.Tokenizer.Path, vocab.Mode(t.recipe.Tokenizer.Mode)
	if t.base != nil {
		t.tokenizer, err = model.OpenTokenizer(t.baseDir, path, mode, t.base.Metadata)
		return err
	}
	if mode == vocab.ModeBytes {
		t.tokenizer = vocab.Bytes()
	} else if t.tokenizer, err = vocab.Load(path, mode); err != nil {
		return err
	}
	if size := t.tokenizer.Size(); size > t.config.VocabSize {
		return usageError{fmt.Errorf("model.vocab_size is %d, but the tokenizer has %d entries", t.config.VocabSize, size)}
	}
	return nil
}

// run trains and writes the finished model.
func (t *training) run(ctx context.Context) (trainResult, error) {
	backend, err := t.openBackend()
	if err != nil {
		return trainResult{}, err
	}
	defer backend.Finalize()
	job, err := t.job(ctx, backend)
	if err != nil {
		return trainResult{}, err
	}
	if err := t.begin(job); err != nil {
		return trainResult{}, err
	}
	outcome, err := trainer.Run(ctx, job)
	if err != nil {
		return trainResult{}, err
	}
	path, adapter, err := t.finish(outcome)
	if err != nil {
		return trainResult{}, err
	}
	return trainResult{
		Run: string(t.dir), Model: path, Adapter: adapter, Steps: outcome.Step, Loss: outcome.Loss,
		Metrics: outcome.Metrics, Seconds: t.record.Seconds, Cost: t.record.Cost,
	}, nil
}

// openBackend opens what the run computes on.
func (t *training) openBackend() (*device.Backend, error) {
	backend, err := t.app.openBackendAs(t.recipe.Train.Open())
	if err != nil {
		return nil, err
	}
	if err := t.settleOn(backend); err != nil {
		backend.Finalize()
		return nil, err
	}
	return backend, nil
}

// settleOn writes into the recipe what the backend decides.
func (t *training) settleOn(b *device.Backend) (err error) {
	t.gpu = b.Kind == device.CUDA
	t.recipe.Train, err = t.recipe.Train.On(b)
	return err
}

// job puts the data, the weights and the options together.
func (t *training) job(ctx context.Context, backend *device.Backend) (trainer.Job, error) {
	train, err := t.stream(ctx, datasets.Train)
	if err != nil {
		return trainer.Job{}, err
	}
	t.examples = train
	job := trainer.Job{
		Options: t.recipe.Train, Config: t.config, Base: t.base, BaseName: t.baseName(), Teacher: t.teacher, Train: train, Backend: backend,
		Dir: string(t.dir), Metadata: model.Metadata(t.tokenizer, t.recipe.Data.Prefix), Resume: t.opts.resume, TraceNaN: t.opts.trace, Sink: t.sink,
	}
	if len(t.recipe.Data.Paths(datasets.Validation)) > 0 {
		if job.Validation, err = t.stream(ctx, datasets.Validation); err != nil {
			return trainer.Job{}, err
		}
	}
	if metric := t.recipe.Train.Metric; metric != "loss" && metric != "token_accuracy" && metric != "preference_accuracy" {
		job.Evaluator = &evaluator{training: t, backend: backend}
	}
	t.lineage = datasets.NewManifest(t.splits...)
	job.Fingerprint, err = t.settle()
	return job, err
}

// baseName is how an adapter's config names its base: by its path where it is a folder.
func (t *training) baseName() string {
	if t.baseDir == "" {
		return ""
	}
	if t.recipe.Base == t.baseDir || t.under != "" {
		if absolute, err := filepath.Abs(t.baseDir); err == nil {
			return absolute
		}
	}
	return t.recipe.Base
}
