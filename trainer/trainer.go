package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/lora"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
	"github.com/t5ctl/t5ctl/internal/t5"
)

// Batches is the data as the trainer sees it: passes follow one another without end, and any
// place in them can be gone back to.
type Batches interface {
	Next(ctx context.Context) (seq2seq.Batch, error)
	Position() seq2seq.Position // of the batch that Next gives next
	Seek(seq2seq.Position) error
	PerEpoch() int64 // batches in one pass
}

// Evaluator judges the weights of the moment by what they generate.
type Evaluator interface {
	Evaluate(ctx context.Context, w decode.Weights) (map[string]float64, error)
	// HigherIsBetter says which way a metric is good; false for one it does not know.
	HigherIsBetter(metric string) bool
}

// Job is one run: everything that decides its outcome.
type Job struct {
	Options     Options
	Config      t5.Config
	Base        *t5.Checkpoint // nil: fresh weights from the seed
	BaseName    string         // written into an adapter's config
	Adapter     [][]float32    // values that an adapter starts from, in the order of its Specs; nil: fresh ones
	Teacher     *t5.Checkpoint // the model to learn from, where train.distill names one
	Train       Batches
	Validation  Batches   // nil: no evaluation
	Evaluator   Evaluator // nil: loss and token accuracy only
	Backend     *device.Backend
	Dir         string            // run folder; checkpoints go to Dir/checkpoints
	Metadata    map[string]string // kept in every weights file
	Fingerprint string            // of the recipe and the data; a run resumes under the same one only
	Resume      bool
	Trial       bool // to measure: no weights are kept at the end
	TraceNaN    bool // name the first sub-layer that is not finite, should the loss not be
	Sink        Sink // nil: nobody listens
}

// Result says where a run ended.
type Result struct {
	Step       int
	Checkpoint string             // the best by train.metric, the last where nothing was evaluated
	Metrics    map[string]float64 // of that checkpoint
	Loss       float64            // training loss of the last interval
	Position   seq2seq.Position   // of the first batch that no step has taken
	Privacy    *Spent             // what the steps cost; nil where the run is not private
}

// NonFiniteError says that the loss or a gradient was NaN or infinite. The weights before the
// step are in the last checkpoint.
type NonFiniteError struct {
	Step       int
	Rows       []string // ids of the rows in the step
	Checkpoint string   // last good one, empty if there is none
	First      string   // the first sub-layer, or the gradient, that was not finite; empty where nobody asked
}

func (e *NonFiniteError) Error() string {
	rows := e.Rows
	more := ""
	if len(rows) > 8 {
		rows, more = rows[:8], fmt.Sprintf(" and %d more", len(e.Rows)-8)
	}
	first := ""
	if e.First != "" {
		first = ", first in " + e.First
	}
	return fmt.Sprintf("the loss or its gradient is not finite at step %d%s, rows %v%s", e.Step, first, rows, more)
}

// StepError says that a step failed on its devices. The weights that were on them are lost; those of
// the last checkpoint are not.
type StepError struct {
	Step       int
	Checkpoint string // last good one, empty if there is none
	Err        error  // a *device.RunError or a *device.MemoryError
}

func (e *StepError) Error() string { return fmt.Sprintf("step %d: %v", e.Step, e.Err) }

// Unwrap returns the cause.
func (e *StepError) Unwrap() error { return e.Err }

// VocabularyError says that a teacher's vocabulary is not the student's.
type VocabularyError struct{ Teacher, Student int }

func (e *VocabularyError) Error() string {
	return fmt.Sprintf("the teacher's vocabulary has %d entries, the student's %d; both must be the same", e.Teacher, e.Student)
}

// InterruptedError says that the run was asked to stop and has saved its state.
type InterruptedError struct {
	Step       int
	Checkpoint string
}

func (e *InterruptedError) Error() string {
	return fmt.Sprintf("interrupted at step %d, saved in %s", e.Step, e.Checkpoint)
}

// Unwrap makes the error a context.Canceled.
func (e *InterruptedError) Unwrap() error { return context.Canceled }

// run is a Job under way.
type run struct {
	Job
	net      *network
	mesh     *device.Mesh // what it runs on
	total    int
	rate     float64 // with which an example is in a step, where the run is private
	step     int
	position seq2seq.Position // of the first batch that no step has taken
	learn    []*device.Array
	moments  []*device.Array
	frozen   []*device.Array

	gradientsOf  map[batchShape]*device.Program
	evaluationOf map[batchShape]*device.Program
	add, norm    *device.Program
	groups       []group
	apply        []*device.Program // of each group

	best    *evaluation // so far
	since   int         // evaluations since the best
	last    string      // newest checkpoint that is whole
	pending *pending    // the one that is being written
	meter   meter
}

// evaluation is what one evaluation found.
type evaluation struct {
	Step    int                `json:"step"`
	Metrics map[string]float64 `json:"metrics"`
}

// Run trains until the steps are done, patience ends, the context is cancelled or something
// breaks. The last good checkpoint stays on disk in every case.
func Run(ctx context.Context, job Job) (Result, error) {
	if job.Sink == nil {
		job.Sink = func(Event) {}
	}
	r := &run{Job: job, gradientsOf: map[batchShape]*device.Program{}, evaluationOf: map[batchShape]*device.Program{}}
	if err := r.prepare(); err != nil {
		return Result{}, err
	}
	defer r.close()
	result, err := r.train(ctx)
	if r.pending != nil { // an error ended the run while a checkpoint was being written
		err = errors.Join(err, r.settle())
	}
	_, failed := errors.AsType[*device.RunError](err)
	if _, full := errors.AsType[*device.MemoryError](err); failed || full {
		err = &StepError{Step: r.step + 1, Checkpoint: r.last, Err: err}
	}
	return result, err
}

func (r *run) prepare() (err error) {
	if r.Options, err = r.Options.On(r.Backend); err != nil {
		return err
	}
	if r.mesh, err = r.Backend.Mesh(r.Options.Devices.Count()); err != nil {
		return err
	}
	var adapter *lora.Adapter
	if r.Options.Method == LoRA {
		if r.Base == nil {
			return errors.New("an adapter needs a base model")
		}
		if adapter, err = lora.New(r.Options.LoRA, r.Config); err != nil {
			return err
		}
	}
	var teacher *t5.Config
	if r.Teacher != nil {
		if teacher = &r.Teacher.Config; teacher.VocabSize != r.Config.VocabSize {
			return &VocabularyError{Teacher: teacher.VocabSize, Student: r.Config.VocabSize}
		}
	}
	r.net = newNetwork(r.Config, adapter, teacher, r.Options, r.mesh)
	r.total = r.Options.Steps
	if r.Options.Epochs > 0 {
		r.total = int(math.Ceil(r.Options.Epochs * float64(r.Train.PerEpoch()) / float64(r.Options.Accumulate)))
	}
	if err := r.checkPrivacy(); err != nil {
		return err
	}
	if err := os.MkdirAll(r.checkpoints(), 0o755); err != nil {
		return err
	}
	if err := r.sweep(); err != nil {
		return err
	}
	if err := r.place(adapter); err != nil {
		return err
	}
	if r.Resume {
		return r.restore()
	}
	return nil
}

// place puts the starting weights and an empty optimizer state on the device.
func (r *run) place(adapter *lora.Adapter) (err error) {
	base, err := r.baseTensors()
	if err != nil {
		return err
	}
	if adapter == nil {
		r.learn = base
	} else {
		r.frozen = base
		for i, spec := range adapter.Specs() {
			var values []float32
			if r.Adapter != nil {
				values = r.Adapter[i]
			} else if values, err = spec.Init(r.Options.Seed, r.Base.Float32s); err != nil {
				return err
			}
			t, err := r.mesh.Float32(values, false, spec.Shape...)
			if err != nil {
				return err
			}
			r.learn = append(r.learn, t)
		}
	}
	if r.Teacher != nil {
		placed, err := r.Teacher.Place(r.Backend.Float32)
		if err != nil {
			return err
		}
		teacher, err := r.mesh.Spread(placed)
		if err != nil {
			return err
		}
		r.frozen = append(r.frozen, teacher...)
	}
	var zeros []byte
	for _, m := range r.net.moments() {
		size := m.Shape.Size() * m.Shape.DType.Size()
		if size > len(zeros) {
			zeros = make([]byte, size)
		}
		t, err := r.mesh.Raw(m.Shape.DType, zeros[:size], m.Split, m.Shape.Dimensions...)
		if err != nil {
			return err
		}
		r.moments = append(r.moments, t)
	}
	device.ReleaseMemory() // the copies that weights were placed from
	return nil
}

func (r *run) baseTensors() ([]*device.Array, error) {
	if r.Base != nil {
		placed, err := r.Base.Place(r.Backend.Float32)
		if err != nil {
			return nil, err
		}
		return r.mesh.Spread(placed)
	}
	var placed []*device.Array
	for _, spec := range r.Config.Specs() {
		t, err := r.mesh.Float32(spec.Init(r.Options.Seed), false, spec.Shape...)
		if err != nil {
			return nil, err
		}
		placed = append(placed, t)
	}
	return placed, nil
}

func (r *run) close() {
	finalize(r.learn)
	finalize(r.moments)
	finalize(r.frozen)
	for _, programs := range []map[batchShape]*device.Program{r.gradientsOf, r.evaluationOf} {
		for _, p := range programs {
			p.Close()
		}
	}
	for _, p := range append([]*device.Program{r.add, r.norm}, r.apply...) {
		if p != nil {
			p.Close()
		}
	}
}

// train is the loop.
func (r *run) train(ctx context.Context) (Result, error) {
	r.announce()
	feed := startFeed(ctx, r.Train)
	defer feed.stop()
	r.meter = newMeter(r.step)
	if err := r.compileUpdate(); err != nil {
		return Result{}, err
	}
	reason := "steps"
	for r.step < r.total {
		if ctx.Err() != nil {
			return Result{}, r.interrupt()
		}
		if err := r.settleIfDone(); err != nil {
			return Result{}, err
		}
		if err := r.oneStep(feed); err != nil {
			if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return Result{}, r.interrupt()
			}
			return Result{}, err
		}
		stop, err := r.afterStep(ctx)
		if err != nil {
			if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return Result{}, r.interrupt()
			}
			return Result{}, err
		}
		if stop {
			reason = "early_stopping"
			break
		}
	}
	return r.finish(reason)
}

// compileUpdate compiles what makes a step of a gradient.
func (r *run) compileUpdate() (err error) {
	if r.norm, err = r.net.globalNorm(); err != nil {
		return err
	}
	took, memory, reused := r.norm.CompileTime, r.norm.Memory, r.norm.Reused
	r.groups = r.net.groups()
	for _, g := range r.groups {
		p, err := r.net.application(g)
		if err != nil {
			return err
		}
		took, reused = took+p.CompileTime, reused && p.Reused
		if p.Memory.Temporary+p.Memory.Outputs-p.Memory.Aliases > memory.Temporary+memory.Outputs-memory.Aliases {
			memory = p.Memory // of the group that takes most
		}
		r.apply = append(r.apply, p)
	}
	r.Sink(Compiled{Program: "t5.application", Took: took, Memory: memory, Reused: reused})
	return nil
}

func (r *run) announce() {
	count := func(arrays []*device.Array) (n int) {
		for _, a := range arrays {
			n += a.Size()
		}
		return n
	}
	learning := count(r.learn)
	r.Sink(Started{Step: r.step, Total: r.total, Parameters: learning + count(r.frozen[:r.net.base()]), Learning: learning, Backend: r.Backend.Describe()})
}

// interrupt saves what there is, so that the run can go on.
func (r *run) interrupt() error {
	if err := errors.Join(r.save(nil), r.settle()); err != nil {
		return fmt.Errorf("saving after an interrupt: %w", err)
	}
	return &InterruptedError{Step: r.step, Checkpoint: r.last}
}

// afterStep logs, evaluates and saves when it is time to; stop says that patience has ended.
func (r *run) afterStep(ctx context.Context) (stop bool, err error) {
	final := r.step == r.total
	if final || due(r.step, r.Options.LogEvery) {
		r.Sink(r.meter.report(r))
	}
	var found *evaluation
	if r.Validation != nil && (final || due(r.step, r.Options.EvaluateEvery)) {
		if found, stop, err = r.evaluate(ctx); err != nil {
			return false, err
		}
	}
	best := found != nil && r.best == found
	if r.Trial {
		return stop, nil
	}
	if final || stop || best || due(r.step, r.Options.SaveEvery) {
		if err := r.save(found); err != nil {
			return false, err
		}
	}
	return stop, nil
}

func due(step, every int) bool { return every > 0 && step%every == 0 }

func (r *run) finish(reason string) (Result, error) {
	if err := r.settle(); err != nil {
		return Result{}, err
	}
	r.Sink(Stopped{Step: r.step, Reason: reason})
	result := Result{Step: r.step, Checkpoint: r.last, Loss: r.meter.lastLoss, Position: r.position, Privacy: r.spent()}
	if r.best != nil {
		result.Checkpoint = r.checkpointPath(r.best.Step)
		result.Metrics = r.best.Metrics
	}
	return result, nil
}

func (r *run) checkpoints() string { return filepath.Join(r.Dir, "checkpoints") }

func (r *run) checkpointPath(step int) string {
	return filepath.Join(r.checkpoints(), fmt.Sprintf("%08d", step))
}

// weights are the tensors of the moment on the first device, for whoever judges them.
func (r *run) weights() decode.Weights {
	first := func(arrays []*device.Array) *decode.Store {
		ts := make([]*tensors.Tensor, len(arrays))
		for i, a := range arrays {
			ts[i] = a.First()
		}
		return decode.OnDevice(ts)
	}
	if r.net.adapter == nil {
		return decode.Weights{Config: r.Config, Base: first(r.learn)}
	}
	return decode.Weights{
		Config: r.Config, Base: first(r.frozen[:r.net.base()]), Adapter: r.net.adapter, Update: first(r.learn),
	}
}
