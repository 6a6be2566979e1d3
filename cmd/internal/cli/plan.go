package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/internal/lora"
	"github.com/t5ctl/t5ctl/internal/machine"
	"github.com/t5ctl/t5ctl/internal/t5"
	"github.com/t5ctl/t5ctl/trainer"
)

// planOptions is what the command line of plan says, not yet checked.
type planOptions struct {
	recipe       string
	sets         []string
	measure      int
	alternatives bool
	price        float64
	memory       string
	quick        bool
	limit        int64 // bytes of memory; 0: the machine's
}

func (o *planOptions) bind(flags *pflag.FlagSet) {
	bindSet(flags, &o.sets)
	flags.IntVar(&o.measure, "measure", 3, "train `n` steps after a first one, to tell the time; 0: none")
	flags.BoolVar(&o.alternatives, "alternatives", false, "set other batches, lengths, LoRA ranks, precision and gradient checkpointing beside the recipe's: memory and time of each")
	flags.StringVar(&o.memory, "memory", "", "`size` of the memory that the run may take, as in 16G (default: this machine's)")
	flags.BoolVar(&o.quick, "quick", false, "compile and train nothing: estimate what the training step takes")
	flags.Float64Var(&o.price, "price-per-hour", 0, "`price` of an hour of this machine, to tell the cost")
}

func newPlanCommand(app *App) *cobra.Command {
	var opts planOptions
	cmd := &cobra.Command{
		Use:   "plan <recipe>",
		Short: "Say what a training run will take, before step 1",
		Long: "Say what a run will take: weights, optimizer state, steps, shapes of batches, padding, truncation, and its\n" +
			"peak of memory. The training step is compiled for every shape of batch and the compiler asked what it takes;\n" +
			"the run then reuses what was compiled. In pure Go, and with --quick, that part is estimated.\n" +
			"Then a few steps are trained in a temporary folder, which tells the time of the whole run.\n\n" +
			"--alternatives does the same with other settings, one at a time, for the same number of rows.\n\n" +
			"Exit code 3 means that the run cannot fit; the hint names the nearest settings that do.",
		Example:           "  t5ctl plan recipe.yaml\n  t5ctl plan recipe.yaml --alternatives --price-per-hour 0.40 --set train.batch=16",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeRecipe,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.recipe = args[0]
			if opts.quick && !cmd.Flags().Changed("measure") {
				opts.measure = 0
			}
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
	TotalSeconds    float64 `json:"total_seconds"` // of the whole run, without evaluations
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

	Alternatives []planAlternative `json:"alternatives,omitempty"`
}

func (o *planOptions) check() error {
	switch {
	case o.measure < 0:
		return usageErrorf("--measure %d is negative", o.measure)
	case o.price < 0 || math.IsNaN(o.price):
		return usageErrorf("--price-per-hour %g is no price", o.price)
	case o.price > 0 && o.measure == 0:
		return usageErrorf("--price-per-hour needs a measurement: --measure 3, and no --quick")
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
	scratch, err := os.MkdirTemp("", "t5ctl-plan-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	p := planner{app: app, opts: opts, scratch: scratch, runtime: runtimeBytes}
	defer p.close()
	t, result, err := p.load(ctx, nil)
	if err != nil {
		return err
	}
	defer t.close()
	footprint, err := p.foresee(t, &result)
	if err != nil {
		return err
	}
	unfit, err := p.unfit(t, &result, footprint)
	if err != nil {
		return err
	}
	if opts.measure > 0 && unfit == nil {
		if result.Measured, err = p.measure(ctx, t, result); err != nil {
			return err
		}
	}
	if opts.alternatives {
		if result.Alternatives, err = p.alternatives(ctx, t, result); err != nil {
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

// shapes are the shapes of the training batches as the trainer sees them.
func (t *training) shapes(of []datasets.Shape) []trainer.Shape {
	var all []trainer.Shape
	for _, s := range of {
		all = append(all, trainer.Shape{Rows: s.Rows, Input: s.Input, Target: s.Target, Packed: t.recipe.Data.Packing})
	}
	return all
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
		tab.Add("step", fmt.Sprintf("%s, %s tok/s, mean of %d", stepTime(m.SecondsPerStep), term.Count(int(m.TokensPerSecond)), m.Steps))
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
	r.printAlternatives(t)
}

// span shows seconds as people say them.
func span(seconds float64) string {
	return term.Duration(time.Duration(seconds * float64(time.Second)))
}
