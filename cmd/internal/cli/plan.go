package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/lora"
	"github.com/t5ctl/t5ctl/internal/machine"
	"github.com/t5ctl/t5ctl/internal/runfolder"
	"github.com/t5ctl/t5ctl/internal/t5"
	"github.com/t5ctl/t5ctl/trainer"
)

// planOptions is what the command line of plan says, not yet checked.
type planOptions struct {
	recipe  string
	sets    []string
	measure int
	price   float64
	memory  string
	quick   bool
	limit   int64 // bytes of memory; 0: the machine's
}

func (o *planOptions) bind(flags *pflag.FlagSet) {
	bindSet(flags, &o.sets)
	flags.IntVar(&o.measure, "measure", 0, "train `n` steps in a temporary folder, to tell time and memory")
	flags.StringVar(&o.memory, "memory", "", "`size` of the memory that the run may take, as in 16G (default: this machine's)")
	flags.BoolVar(&o.quick, "quick", false, "compile nothing: estimate what the training step takes")
	flags.Float64Var(&o.price, "price-per-hour", 0, "`price` of an hour of this machine, to tell the cost; needs --measure")
}

func newPlanCommand(app *App) *cobra.Command {
	var opts planOptions
	cmd := &cobra.Command{
		Use:   "plan <recipe>",
		Short: "Say what a training run will take, before step 1",
		Long: "Say what a run will take: weights, optimizer state, steps, shapes of batches, padding, truncation, and its\n" +
			"peak of memory. The training step is compiled for every shape of batch and the compiler asked what it takes;\n" +
			"the run then reuses what was compiled. In pure Go, and with --quick, that part is estimated.\n" +
			"With --measure a few steps are trained, and time and memory are measured.\n\n" +
			"Exit code 3 means that the run cannot fit; the hint names the nearest settings that do.",
		Example:           "  t5ctl plan recipe.yaml\n  t5ctl plan recipe.yaml --measure 8 --price-per-hour 0.40 --set train.batch=16",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeRecipe,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.recipe = args[0]
			return runPlan(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

// planRules maps the failures of plan to exit codes.
func planRules() []rule {
	return []rule{as(exitGate, func(e *unfitError) string {
		if len(e.fitting) > 0 {
			return fmt.Sprintf("this fits, in about %s: --set %s", term.Size(e.then), strings.Join(e.fitting, " --set "))
		}
		return "a smaller model, LoRA, or a machine with more memory"
	})}
}

// unfitError says that a run needs more memory than there is.
type unfitError struct {
	need, have int64
	fitting    []string // the nearest settings that would fit; none: none do
	then       int64    // what they need
}

func (e *unfitError) Error() string {
	return fmt.Sprintf("the run needs about %s of memory, there are %s", term.Size(e.need), term.Size(e.have))
}

// runtimeBytes is what the program and the compute plugin take before there is a model.
const runtimeBytes = 500 << 20

// planMemory is what a run keeps in memory, in bytes. State is exact.
type planMemory struct {
	Weights     int64 `json:"weights"`
	Gradients   int64 `json:"gradients"`
	Optimizer   int64 `json:"optimizer"`
	Activations int64 `json:"activations"` // of the largest shape of batch, beside the gradients
	Snapshot    int64 `json:"snapshot"`    // the copy that a checkpoint is written from
	Runtime     int64 `json:"runtime"`     // program, compute plugin and data
	Peak        int64 `json:"peak"`
	Compiled    bool  `json:"compiled"` // the compiler said what the step takes; else it is an estimate
	Machine     int64 `json:"machine"`  // what the run may take; 0: the system does not say
}

// planMeasured is what a few steps showed.
type planMeasured struct {
	Steps           int     `json:"steps"`
	CompileSeconds  float64 `json:"compile_seconds"`
	SecondsPerStep  float64 `json:"seconds_per_step"`
	TokensPerSecond float64 `json:"tokens_per_second"`
	Memory          int64   `json:"memory"`
	TotalSeconds    float64 `json:"total_seconds"` // of the whole run, evaluations apart
	Cost            float64 `json:"cost,omitempty"`
}

// planResult is what plan tells.
type planResult struct {
	Recipe     string                `json:"recipe"`
	Method     string                `json:"method"`
	Devices    int                   `json:"devices"` // that share each step
	Parameters int64                 `json:"parameters"`
	Learning   int64                 `json:"learning_parameters"`
	Memory     planMemory            `json:"memory"`
	Steps      int                   `json:"steps"`
	Epochs     float64               `json:"epochs"`
	Data       *datasets.SplitRecord `json:"data"`
	Shapes     []datasets.Shape      `json:"shapes"`
	Padding    float64               `json:"padded_share"`
	Measured   *planMeasured         `json:"measured,omitempty"`
}

func (o *planOptions) check() error {
	switch {
	case o.measure < 0:
		return usageErrorf("--measure %d is negative", o.measure)
	case o.price < 0 || math.IsNaN(o.price):
		return usageErrorf("--price-per-hour %g is no price", o.price)
	case o.price > 0 && o.measure == 0:
		return usageErrorf("--price-per-hour needs --measure")
	}
	if o.memory == "" {
		return nil
	}
	number, scale := strings.TrimSuffix(strings.TrimSuffix(o.memory, "B"), "i"), 1.0
	for unit, size := range map[string]float64{"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40} {
		if rest, ok := strings.CutSuffix(number, unit); ok {
			number, scale = rest, size
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !(n > 0) || math.IsInf(n, 0) {
		return usageErrorf("--memory %q is no size; give one like 16G or 512M", o.memory)
	}
	o.limit = int64(n * scale)
	return nil
}

func runPlan(ctx context.Context, app *App, opts planOptions) (err error) {
	if err := opts.check(); err != nil {
		return err
	}
	loaded, err := app.loadRecipe(opts.recipe, opts.sets)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "t5ctl-plan-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	t := &training{app: app, opts: trainOptions{base: loaded.Base != ""}, recipe: loaded, dir: runfolder.Dir(scratch)}
	if err := t.load(ctx); err != nil {
		return err
	}
	defer t.close()
	result, err := t.plan(ctx)
	if err != nil {
		return err
	}
	if opts.limit > 0 {
		result.Memory.Machine = opts.limit
	}
	unfit, err := t.foresee(&result, opts.quick)
	if err != nil {
		return err
	}
	if opts.measure > 0 {
		if result.Measured, err = t.measure(ctx, opts, result); err != nil {
			return err
		}
	}
	if err := app.show(result, result.print); err != nil {
		return err
	}
	return unfit
}

// plan says what follows from recipe and data alone.
func (t *training) plan(ctx context.Context) (planResult, error) {
	options := t.recipe.Train
	r := planResult{Recipe: t.recipe.Name, Method: options.Method}
	stream, err := t.stream(ctx, datasets.Train)
	if err != nil {
		return r, err
	}
	r.Data, r.Shapes, r.Padding = &t.splits[0].Record, stream.Shapes(), stream.Padding()
	accumulate := int64(max(1, options.Accumulate))
	perEpoch := float64(stream.PerEpoch()) / float64(accumulate)
	if r.Steps, r.Epochs = options.Steps, options.Epochs; r.Steps == 0 {
		r.Steps = int(math.Ceil(perEpoch * options.Epochs))
	} else if perEpoch > 0 {
		r.Epochs = float64(r.Steps) / perEpoch
	}
	var learned [][]int // shapes
	for _, s := range t.config.Specs() {
		r.Parameters += int64(s.Size())
		learned = append(learned, s.Shape)
	}
	if options.Method == trainer.LoRA {
		adapter, err := lora.New(options.LoRA, t.config)
		if err != nil {
			return r, err
		}
		learned = nil
		for _, s := range adapter.Specs() {
			r.Parameters += int64(elements(s.Shape))
			learned = append(learned, s.Shape)
		}
	}
	for _, shape := range learned {
		r.Learning += int64(elements(shape))
		r.Memory.Optimizer += int64(options.Optimizer.StateBytes(shape))
	}
	r.Memory.Weights, r.Memory.Gradients = 4*r.Parameters, 4*r.Learning
	if t.teacher != nil {
		for _, s := range t.teacher.Config.Specs() {
			r.Memory.Weights += 4 * int64(s.Size())
		}
	}
	r.Memory.Machine = machine.Memory()
	return r, nil
}

func elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// activationBytes estimates what a training step keeps for one shape of batch: the intermediate
// values of each block that the way back needs, and the logits three times.
func activationBytes(c t5.Config, s trainer.Shape) int64 {
	rows, in, out := float64(s.Rows), float64(s.Input), float64(s.Target)
	inner, d, ff, heads := float64(c.NumHeads*c.DKV), float64(c.DModel), float64(c.DFF), float64(c.NumHeads)
	layers := 3.0
	if c.Gated() {
		layers = 4
	}
	feed := layers * ff
	encoder := rows * in * (6*d + 5*inner + feed + 3*heads*in)
	decoder := rows * (out*(9*d+8*inner+feed+3*heads*(out+in)) + in*2*inner)
	decoders := c.NumDecoderLayers
	if decoders == 0 {
		decoders = c.NumLayers
	}
	logits := 3 * rows * out * float64(c.VocabSize)
	return int64(4 * (float64(c.NumLayers)*encoder + float64(decoders)*decoder + logits))
}

// foreseeing asks what runs would take, with one backend for all of them.
type foreseeing struct {
	training *training
	backend  *device.Backend // nil: nothing is compiled
	runtime  int64
	asked    bool // runtime is this process's own
}

// foresee adds the peak of memory to the plan. unfit is an *unfitError where the run needs more than
// there is.
func (t *training) foresee(r *planResult, quick bool) (unfit, err error) {
	f := foreseeing{training: t, runtime: runtimeBytes}
	options, shapes := t.recipe.Train, t.shapes(r.Shapes)
	m := &r.Memory
	if state := m.Weights + m.Optimizer; !quick && (m.Machine == 0 || state < m.Machine) {
		if f.backend, err = t.openBackend(); err != nil {
			return nil, err
		}
		defer f.backend.Finalize()
		options = t.recipe.Train
		if f.backend.Kind == device.Go {
			f.backend = nil
		}
	}
	footprint, err := f.of(options, shapes)
	if err != nil {
		return nil, err
	}
	r.Devices = options.Devices.Count()
	m.Activations, m.Snapshot, m.Runtime, m.Compiled = footprint.Temporary, footprint.Snapshot, f.runtime, f.backend != nil
	m.Peak = f.peak(footprint, options)
	if m.Machine == 0 || m.Peak <= m.Machine {
		return nil, nil
	}
	return f.nearest(options, shapes, m)
}

// of is what a run with these options would hold.
func (f *foreseeing) of(o trainer.Options, shapes []trainer.Shape) (trainer.Footprint, error) {
	t := f.training
	var teacher *t5.Config
	if t.teacher != nil {
		teacher = &t.teacher.Config
	}
	if f.backend != nil {
		footprint, err := trainer.Foresee(f.backend, t.config, teacher, o, shapes)
		if !f.asked {
			f.runtime, f.asked = machine.Resident(), true // of a process that is as the run will be, without its tensors
		}
		return footprint, err
	}
	footprint, err := trainer.Sizes(t.config, teacher, o)
	for _, s := range shapes {
		footprint.Temporary = max(footprint.Temporary, activationBytes(t.config, s))
	}
	return footprint, err
}

// heapHoles is the share of what tensors take that is lost between them, as it was measured on
// models of 24 to 60 million weights.
const heapHoles = 0.05

func (f *foreseeing) peak(footprint trainer.Footprint, o trainer.Options) int64 {
	return f.runtime + int64((1+heapHoles)*float64(footprint.Peak(o)))
}

// nearest looks for settings that fit and train the same: activations computed twice, then fewer
// rows at a time whose gradients are added up.
func (f *foreseeing) nearest(o trainer.Options, shapes []trainer.Shape, m *planMemory) (unfit, err error) {
	e := &unfitError{need: m.Peak, have: m.Machine}
	if m.Weights+m.Optimizer+m.Gradients+f.runtime > m.Machine {
		return e, nil
	}
	key, value := "train.batch", &o.Batch
	if o.TokensPerBatch > 0 {
		key, value = "train.tokens_per_batch", &o.TokensPerBatch
	}
	var sets []string
	if f.backend != nil && !o.GradientCheckpointing {
		o.GradientCheckpointing = true
		sets = append(sets, "train.gradient_checkpointing=true")
	}
	o.Accumulate = max(1, o.Accumulate)
	for first := *value; ; {
		found := sets
		if *value < first {
			found = append(slices.Clone(sets), fmt.Sprintf("%s=%d", key, *value), fmt.Sprintf("train.accumulate=%d", o.Accumulate))
		}
		if len(found) > 0 {
			footprint, err := f.of(o, shapes)
			if err != nil {
				return nil, err
			}
			if peak := f.peak(footprint, o); peak <= m.Machine {
				e.fitting, e.then = found, peak
				return e, nil
			}
		}
		smaller := false
		for i := range shapes {
			smaller = smaller || shapes[i].Rows > 1
			shapes[i].Rows = (shapes[i].Rows + 1) / 2
		}
		if !smaller {
			return e, nil
		}
		*value, o.Accumulate = (*value+1)/2, 2*o.Accumulate
	}
}

// shapes are the shapes of the training batches as the trainer sees them.
func (t *training) shapes(of []datasets.Shape) []trainer.Shape {
	var all []trainer.Shape
	for _, s := range of {
		all = append(all, trainer.Shape{Rows: s.Rows, Input: s.Input, Target: s.Target, Packed: t.recipe.Data.Packing})
	}
	return all
}

// measure trains a few steps and tells what they took.
func (t *training) measure(ctx context.Context, opts planOptions, r planResult) (*planMeasured, error) {
	backend, err := t.openBackend()
	if err != nil {
		return nil, err
	}
	defer backend.Finalize()
	m := &planMeasured{Steps: opts.measure}
	var steady time.Duration
	var last time.Time
	clean := 0 // steps without a compilation
	t.recipe.Train.Steps, t.recipe.Train.Epochs, t.recipe.Train.LogEvery = opts.measure, 0, 1
	t.recipe.Train.EvaluateEvery, t.recipe.Train.SaveEvery, t.recipe.Data.Validation = 0, 0, nil
	for i := range t.recipe.Data.Tasks {
		t.recipe.Data.Tasks[i].Validation = nil
	}
	job, err := t.job(ctx, backend)
	if err != nil {
		return nil, err
	}
	show := t.app.Term.Progress("measuring", int64(opts.measure), "steps")
	compiled := true
	job.Sink = func(e trainer.Event) {
		now := time.Now()
		switch e := e.(type) {
		case trainer.Compiled:
			m.CompileSeconds, compiled = m.CompileSeconds+e.Took.Seconds(), true
		case trainer.Stepped:
			show.Set(int64(e.Step))
			m.Memory = max(m.Memory, e.Memory)
			if !compiled {
				steady, clean = steady+now.Sub(last), clean+1
				m.TokensPerSecond += e.TokensPerSecond
			}
			compiled, last = false, now
		case trainer.Started, trainer.Evaluated, trainer.Saved, trainer.Damaged, trainer.Stopped: // say nothing of time
		}
	}
	_, err = trainer.Run(ctx, job)
	show.Done()
	if err != nil {
		return nil, err
	}
	if clean == 0 {
		return nil, usageErrorf("--measure %d: every step met a new shape of batch; give more than %d", opts.measure, len(r.Shapes))
	}
	m.SecondsPerStep, m.TokensPerSecond = steady.Seconds()/float64(clean), m.TokensPerSecond/float64(clean)
	m.TotalSeconds = m.CompileSeconds + m.SecondsPerStep*float64(r.Steps)
	m.Cost = m.TotalSeconds / 3600 * opts.price
	return m, nil
}

func (r planResult) print(t *term.Terminal) {
	tab := term.Table{Header: []string{"PLAN", r.Recipe + " (" + r.Method + ")"}}
	tab.Add("parameters", fmt.Sprintf("%s, %s of them learn", term.Count(int(r.Parameters)), term.Count(int(r.Learning))))
	if r.Devices > 1 {
		tab.Add("devices", fmt.Sprintf("%d share each step", r.Devices))
	}
	tab.Add("weights", term.Size(r.Memory.Weights))
	tab.Add("gradients", term.Size(r.Memory.Gradients))
	tab.Add("optimizer", term.Size(r.Memory.Optimizer))
	how := ", an estimate"
	if r.Memory.Compiled {
		how = ", as the compiler says"
	}
	tab.Add("activations", term.Size(r.Memory.Activations)+" for the largest batch"+how)
	total := "about " + term.Size(r.Memory.Peak)
	if r.Memory.Machine > 0 {
		total += " of " + term.Size(r.Memory.Machine)
	}
	tab.Add("memory", total)
	tab.Add("rows", strconv.FormatInt(r.Data.Rows, 10))
	tab.Add("cut", fmt.Sprintf("%d inputs, %d targets", r.Data.TruncatedInputs, r.Data.TruncatedTargets))
	tab.Add("steps", fmt.Sprintf("%d, %.1f epochs", r.Steps, r.Epochs))
	tab.Add("padding", fmt.Sprintf("%.1f %%", 100*r.Padding))
	if m := r.Measured; m != nil {
		tab.Add("step", fmt.Sprintf("%.3f s, %s tok/s", m.SecondsPerStep, term.Count(int(m.TokensPerSecond))))
		tab.Add("compilation", span(m.CompileSeconds))
		tab.Add("memory seen", term.Size(m.Memory))
		tab.Add("time", span(m.TotalSeconds)+" without evaluations")
		if m.Cost > 0 {
			tab.Add("cost", strconv.FormatFloat(m.Cost, 'f', 2, 64))
		}
	}
	t.Table(tab)
	t.Println()
	shapes := term.Table{Header: []string{"ROWS", "INPUT", "TARGET", "BATCHES"}, Right: []int{0, 1, 2, 3}}
	for _, s := range r.Shapes {
		shapes.Add(strconv.Itoa(s.Rows), strconv.Itoa(s.Input), strconv.Itoa(s.Target), strconv.FormatInt(s.Batches, 10))
	}
	t.Table(shapes)
}

// span shows seconds as people say them.
func span(seconds float64) string {
	return term.Duration(time.Duration(seconds * float64(time.Second)))
}
