package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"runtime"
	"time"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/model"
	"github.com/t5ctl/t5ctl/internal/plugin"
	"github.com/t5ctl/t5ctl/internal/runfolder"
	"github.com/t5ctl/t5ctl/internal/safetensors"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
	"github.com/t5ctl/t5ctl/internal/t5"
	"github.com/t5ctl/t5ctl/internal/vocab"
	"github.com/t5ctl/t5ctl/recipes"
	"github.com/t5ctl/t5ctl/trainer"
)

// training is one train or finetune under way.
type training struct {
	app       *App
	opts      trainOptions
	recipe    recipes.Loaded
	config    t5.Config
	base      *t5.Checkpoint // nil: fresh weights
	baseDir   string
	baseTree  string         // digest of the base's files
	under     string         // folder of the adapter that the trained one lies on; empty: none
	teacher   *t5.Checkpoint // nil: none
	taught    string         // digest of the teacher's files
	identity  identity       // what a resumed run must share
	tokenizer *vocab.Tokenizer
	dir       runfolder.Dir
	lock      *runfolder.Lock // of dir; nil for a folder that nobody else knows
	record    record
	splits    []*datasets.Data
	examples  *datasets.Stream // that the run learns from
	lineage   datasets.Manifest
	closers   []io.Closer
	gpu       bool   // it computes on NVIDIA devices
	resolved  []byte // the recipe with all that was laid over it
	events    *os.File
	trackers  *trackers                    // nil before the first step
	watch     func(trainer.Event)          // is shown every event too; nil: nobody
	admit     func(runfolder.Record) error // may refuse the run before its first step; nil: nobody
	silent    bool                         // nothing is said of what is cut or left out: it was said before
	view      *term.Training
	started   time.Time
}

// record is the run's own account, as it stands in run.json.
type record struct{ runfolder.Record }

func (t *training) close() {
	if t.view != nil {
		t.view.Done()
	}
	for _, c := range []*t5.Checkpoint{t.base, t.teacher} {
		if c != nil {
			_ = c.Close() // opened for reading
		}
	}
	for _, c := range t.closers {
		_ = c.Close() // opened for reading
	}
	if t.events != nil {
		_ = t.events.Close() // every line was written at once
	}
	if t.lock != nil {
		t.lock.Release()
	}
}

// openTeacher opens the model that train.distill names.
func (t *training) openTeacher(ctx context.Context) error {
	ref := t.recipe.Train.Distill.Teacher
	if ref == "" {
		return nil
	}
	resolved, err := resolveModel(ctx, t.app, ref)
	if err != nil {
		return fmt.Errorf("teacher of recipe %s: %w", t.recipe.Name, err)
	}
	if resolved.Adapter != "" {
		return usageError{fmt.Errorf("teacher %s is an adapter; merge it with t5ctl model merge first", ref)}
	}
	t.taught = resolved.Tree
	if t.teacher, err = t5.Open(resolved.Dir); err != nil {
		return fmt.Errorf("teacher of recipe %s: %w", t.recipe.Name, err)
	}
	return nil
}

// openFolder makes the run folder, or opens the one that is to go on.
func (t *training) openFolder() error {
	path := t.opts.output
	if path == "" && t.opts.resume {
		return usageError{errors.New("--resume needs --output, the folder of the run to go on with")}
	}
	dir, old, lock, err := t.createFolder(path)
	if err != nil {
		return err
	}
	if old != nil && !t.opts.resume {
		lock.Release()
		return &existingRunError{dir: path, outcome: old.Outcome}
	}
	t.dir, t.lock = dir, lock
	if old != nil {
		t.record.Record = *old
	}
	return nil
}

// createFolder makes the folder at path, or the first free one where there is none.
func (t *training) createFolder(path string) (runfolder.Dir, *runfolder.Record, *runfolder.Lock, error) {
	if path != "" {
		return runfolder.Create(path)
	}
	for {
		dir, old, lock, err := runfolder.Create(runfolder.Next(runsRoot, t.recipe.Name))
		if _, taken := errors.AsType[*runfolder.LockedError](err); !taken { // by a run that began at the same moment
			return dir, old, lock, err
		}
	}
}

// stream turns one split into batches.
func (t *training) stream(ctx context.Context, split datasets.Split) (*datasets.Stream, error) {
	data, err := t.recipe.Data.Open(ctx, split, datasets.OpenOptions{Tokenizer: t.tokenizer, CacheDir: t.dir.Path(runfolder.CacheDir)})
	if err != nil {
		return nil, err
	}
	t.splits = append(t.splits, data)
	t.closers = append(t.closers, data)
	r := data.Record
	if t.silent {
		r.TruncatedInputs, r.TruncatedTargets, r.Skipped = 0, 0, 0
	}
	if n := r.TruncatedInputs + r.TruncatedTargets; n > 0 {
		t.app.Term.Warnf("%s: %d inputs and %d targets of %d rows were cut at data.max_input and data.max_target", split, r.TruncatedInputs, r.TruncatedTargets, r.Rows)
	}
	if r.Skipped > 0 {
		t.app.Term.Warnf("%s: %d bad rows were left out", split, r.Skipped)
	}
	o := t.recipe.Train
	b := datasets.BatchOptions{Rows: o.Batch, Seed: o.Seed, Shuffle: split == datasets.Train}
	if o.TokensPerBatch > 0 {
		b.Rows, b.Tokens = 0, o.TokensPerBatch
	}
	if o.DP.On() && split == datasets.Train {
		b.Rows, b.Lot = o.DP.Rows, o.Batch
	}
	stream, err := data.Batches(b)
	if err != nil {
		return nil, err
	}
	t.closers = append(t.closers, stream)
	return stream, nil
}

// begin writes the record before the first step.
func (t *training) begin(job trainer.Job) error {
	var err error
	if t.resolved, err = t.recipe.YAML(); err != nil {
		return err
	}
	t.started = time.Now()
	record := t.newRecord(job)
	if t.admit != nil {
		if err := t.admit(record); err != nil {
			return err
		}
	}
	t.record.Record = record
	if err := t.lineage.Write(t.dir.Path(runfolder.DataFile)); err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		runfolder.RecipeFile: t.recipe.Text, runfolder.SettledFile: t.resolved,
	} {
		if err := t.dir.WriteFile(name, data); err != nil {
			return err
		}
	}
	if t.events, err = t.dir.Events(); err != nil {
		return err
	}
	t.view = t.app.Term.Training()
	return t.dir.Write(t.record.Record)
}

// newRecord is what is known of the run before its first step.
func (t *training) newRecord(job trainer.Job) runfolder.Record {
	version := versionOf()
	first := t.record.Started
	if first.IsZero() {
		first = t.started
	}
	record := runfolder.Record{
		Name: t.recipe.Name, Method: t.recipe.Train.Method, Outcome: runfolder.Running, Base: t.baseName(),
		Fingerprint: job.Fingerprint, Identity: t.identity, Seed: t.recipe.Train.Seed, Seconds: t.record.Seconds, Started: first.UTC(),
		Tool:      runfolder.Tool{Version: version.Version, Commit: version.Commit, Go: version.Go},
		Backend:   t.backendRecord(job.Backend),
		Tokenizer: runfolder.Tokenizer{Mode: string(t.tokenizer.Mode()), SHA256: t.tokenizer.Hash()},
		Data:      map[string]string{}, Chain: t.opts.chain,
	}
	for _, s := range t.lineage.Splits {
		record.Data[string(s.Split)] = s.Fingerprint
	}
	return record
}

func (t *training) backendRecord(b *device.Backend) runfolder.Backend {
	r := runfolder.Backend{Kind: b.Kind, CPUs: runtime.NumCPU(), Devices: t.recipe.Train.Devices.Count()}
	if g := t.recipe.Train.GPU; t.gpu {
		r.GPU = &runfolder.GPU{TF32: g.TF32, Preallocate: g.Preallocate, MemoryFraction: g.MemoryFraction, Allocator: g.Allocator}
	}
	if p, err := plugin.Find(b.Kind); err == nil {
		r.Plugin, r.SHA256 = p.Version, p.SHA256
	}
	return r
}

// sink shows an event and keeps it.
func (t *training) sink(e trainer.Event) {
	t.view.Sink(e)
	if started, ok := e.(trainer.Started); ok {
		t.record.Parameters, t.record.Learning = started.Parameters, started.Learning
		t.track(started.Step, t.resolved)
	}
	now := time.Now()
	if t.trackers != nil {
		t.trackers.sink(e, now)
	}
	if t.watch != nil {
		t.watch(e)
	}
	line := term.TrainingEvent(e)
	line["time"] = now.UTC().Format("2006-01-02T15:04:05.000Z07:00")
	data, err := json.Marshal(line)
	if err == nil {
		_, err = t.events.Write(append(data, '\n'))
	}
	if err != nil {
		t.app.Term.Warnf("writing %s: %v", t.dir.Path(runfolder.EventsFile), err)
	}
}

// failed keeps in the record how the run ended. A run that never began leaves no folder behind, so
// that the same command can be given again.
func (t *training) failed(cause error) error {
	r := &t.record
	if r.Fingerprint == "" {
		return os.RemoveAll(string(t.dir))
	}
	if t.started.IsZero() {
		return nil // another run's folder
	}
	r.Outcome, r.Problem = runfolder.Failed, cause.Error()
	if errors.Is(cause, context.Canceled) {
		r.Outcome, r.Problem = runfolder.Interrupted, ""
	}
	t.end()
	return t.dir.Write(r.Record)
}

// end tells when the run ended and, where an hour has a price, what all its processes cost.
func (t *training) end() {
	r := &t.record
	now := time.Now().UTC()
	r.Finished = &now
	r.Seconds += time.Since(t.started).Seconds()
	if price := t.opts.price; price > 0 {
		r.Cost = &runfolder.Cost{PricePerHour: price, Total: r.Seconds / 3600 * price}
	}
}

// finish writes the finished model beside the checkpoints, then the record that names it.
func (t *training) finish(outcome trainer.Result) (path string, adapter bool, err error) {
	t.view.Done()
	adapter = t.recipe.Train.Method == trainer.LoRA
	f := model.Finished{
		Weights: outcome.Checkpoint, Generation: t.recipe.Generation, Tokenizer: t.tokenizer,
		Metadata: model.Metadata(t.tokenizer, t.recipe.Data.Prefix), DType: "F32", Under: t.under,
	}
	if t.recipe.Train.SaveDType == "bf16" {
		f.DType = safetensors.DType("BF16")
	}
	name := runfolder.AdapterDir
	if !adapter {
		name = runfolder.ModelDir
		if f.ConfigJSON, err = t.configJSON(); err != nil {
			return "", false, err
		}
	}
	path = t.dir.Path(name)
	if err := os.RemoveAll(path); err != nil { // of a run that went on after it had ended
		return "", false, err
	}
	if err := model.Write(path, f); err != nil {
		return "", false, fmt.Errorf("writing %s: %w", path, err)
	}
	r := &t.record
	r.Outcome, r.Problem, r.Steps, r.Loss, r.Metrics = runfolder.Done, "", outcome.Step, outcome.Loss, maps.Clone(outcome.Metrics)
	r.Tasks = t.taskCounts(outcome.Position)
	r.Privacy = privacyRecord(outcome.Privacy)
	r.PeakMemory = int64(peakRSS() * (1 << 20))
	r.Checkpoint = "checkpoints/" + fmt.Sprintf("%08d", stepOf(outcome))
	t.end()
	return path, adapter, t.dir.Write(r.Record)
}

// taskCounts are the examples of each task that the run has learned from.
func (t *training) taskCounts(end seq2seq.Position) (all []runfolder.Task) {
	taken := t.examples.Taken(end)
	if split, ok := t.lineage.Split(datasets.Train); ok {
		for _, task := range split.Tasks {
			all = append(all, runfolder.Task{Name: task.Name, Rows: task.Rows, Share: task.Share, Examples: taken[task.Name]})
		}
	}
	return all
}

// privacyRecord is what the record keeps of a private run.
func privacyRecord(s *trainer.Spent) *runfolder.Privacy {
	if s == nil {
		return nil
	}
	return &runfolder.Privacy{
		Epsilon: s.Epsilon, Delta: s.Delta, Order: s.Order, Noise: s.Noise, Clip: s.Clip, Rate: s.Rate, Steps: s.Steps, Sampling: "poisson",
	}
}

// privacyText tells it in a line.
func privacyText(p *runfolder.Privacy) string {
	if p == nil {
		return ""
	}
	how := fmt.Sprintf("noise %g, clip %g, rate %.3g", p.Noise, p.Clip, p.Rate)
	if p.Epsilon == nil {
		return "none: no noise (" + how + ")"
	}
	return fmt.Sprintf("epsilon %.3f, delta %g (%s)", *p.Epsilon, p.Delta, how)
}

// stepOf is the step of the checkpoint that became the model.
func stepOf(outcome trainer.Result) int {
	var step int
	if state, err := trainer.ReadState(outcome.Checkpoint); err == nil {
		step = state.Step
	}
	return step
}

func (t *training) configJSON() ([]byte, error) {
	if t.base != nil {
		return t.base.JSON, nil
	}
	data, err := json.MarshalIndent(t.config, "", "  ")
	return append(data, '\n'), err
}

// evaluator scores what the weights of the moment generate on the validation split, by the
// metrics of the recipe's eval section.
type evaluator struct {
	training *training
	backend  *device.Backend
	better   map[string]bool
}

// Evaluate is a trainer.Evaluator's.
func (e *evaluator) Evaluate(ctx context.Context, w decode.Weights) (map[string]float64, error) {
	m := model.Over(e.backend, w, e.training.tokenizer, model.Options{MaxInput: e.training.recipe.Data.MaxInput})
	defer m.Close()
	m.Generation = e.training.recipe.Generation
	suite := e.training.recipe.Eval
	suite.Data, suite.Slices, suite.Tasks = nil, nil, nil
	report, err := eval.Run(ctx, m, e.pairs(suite.Limit), suite)
	if err != nil {
		return nil, err
	}
	e.better = map[string]bool{}
	found := map[string]float64{}
	for _, metric := range report.Metrics {
		found[metric.Name], e.better[metric.Name] = float64(metric.Score), metric.HigherIsBetter
	}
	return found, nil
}

// HigherIsBetter is a trainer.Evaluator's.
func (e *evaluator) HigherIsBetter(metric string) bool { return e.better[metric] }

// pairs reads the validation split's rows, a sample of limit of them.
func (e *evaluator) pairs(limit int) iter.Seq2[eval.Pair, error] {
	source := e.training.recipe.Data
	return func(yield func(eval.Pair, error) bool) {
		read := datasets.ReadOptions{OnBadRow: source.OnBadRow}
		if e.training.recipe.Train.DPO.On() {
			read.Need = datasets.Preferences // the target is the chosen text
		}
		for example, err := range datasets.Sample(validationRows(source, read), limit, sampleSeed) {
			pair := eval.Pair{ID: example.ID, Task: "", Input: example.Input, Target: example.Target, References: example.References}
			if !yield(pair, err) || err != nil {
				return
			}
		}
	}
}

// validationRows reads the validation files of all tasks, each input with its prefix.
func validationRows(source datasets.Source, read datasets.ReadOptions) iter.Seq2[datasets.Example, error] {
	return func(yield func(datasets.Example, error) bool) {
		for _, part := range source.Parts() {
			files, err := part.Validation.Files()
			if err != nil {
				yield(datasets.Example{}, err)
				return
			}
			read.Columns = part.Columns
			for example, err := range datasets.ReadFiles(files, read) {
				example.Input = part.Prefix + example.Input
				if !yield(example, err) || err != nil {
					return
				}
			}
		}
	}
}
