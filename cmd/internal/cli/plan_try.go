package cli

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/machine"
	"github.com/t5ctl/t5ctl/internal/runfolder"
	"github.com/t5ctl/t5ctl/internal/t5"
	"github.com/t5ctl/t5ctl/trainer"
)

// planner finds out what runs would take, with one backend for all of them.
type planner struct {
	app     *App
	opts    planOptions
	scratch string
	backend *device.Backend // nil: none is open yet
	runtime int64           // bytes of the process without tensors
	asked   bool            // runtime is this process's own
}

func (p *planner) close() {
	if p.backend != nil {
		p.backend.Finalize()
	}
}

// open opens the backend, and lets it settle what the recipe leaves to it.
func (p *planner) open(t *training) (err error) {
	if p.backend == nil {
		if p.backend, err = p.app.openBackendAs(t.recipe.Train.Open()); err != nil {
			return err
		}
	}
	return t.settleOn(p.backend)
}

// compiles says whether there is a compiler to ask.
func (p *planner) compiles() bool { return p.backend != nil && p.backend.Kind != device.Go }

// load reads the recipe, with more settings laid over those of the command line.
func (p *planner) load(ctx context.Context, more []string) (*training, planResult, error) {
	loaded, err := p.app.loadRecipe(p.opts.recipe, slices.Concat(p.opts.sets, more))
	if err != nil {
		return nil, planResult{}, err
	}
	t := &training{app: p.app, opts: trainOptions{base: loaded.Base != ""}, recipe: loaded, dir: runfolder.Dir(p.scratch), silent: len(more) > 0}
	if err := t.load(ctx); err != nil {
		t.close()
		return nil, planResult{}, err
	}
	result, err := t.plan(ctx)
	if err != nil {
		t.close()
		return nil, planResult{}, err
	}
	if p.opts.limit > 0 {
		result.Memory.Machine = p.opts.limit
	}
	return t, result, nil
}

// foresee adds the peak of memory to a plan. Nothing is compiled for what cannot fit anyway.
func (p *planner) foresee(t *training, r *planResult) (trainer.Footprint, error) {
	m := &r.Memory
	if state := m.Weights + m.Optimizer; !p.opts.quick && (m.Machine == 0 || state < m.Machine) {
		if err := p.open(t); err != nil {
			return trainer.Footprint{}, err
		}
	}
	footprint, err := p.of(t, t.recipe.Train, t.shapes(r.Shapes))
	if err != nil {
		return footprint, err
	}
	r.Devices = t.recipe.Train.Devices.Count()
	m.Activations, m.Snapshot, m.Runtime, m.Compiled = footprint.Temporary, footprint.Snapshot, p.runtime, p.compiles()
	m.Peak = p.peak(footprint, t.recipe.Train)
	return footprint, nil
}

// of is what a run with these options would hold.
func (p *planner) of(t *training, o trainer.Options, shapes []trainer.Shape) (trainer.Footprint, error) {
	var teacher *t5.Config
	if t.teacher != nil {
		teacher = &t.teacher.Config
	}
	if p.compiles() {
		footprint, err := trainer.Foresee(p.backend, t.config, teacher, o, shapes)
		if !p.asked {
			p.runtime, p.asked = machine.Resident(), true // of a process that is as the run will be, without its tensors
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

func (p *planner) peak(footprint trainer.Footprint, o trainer.Options) int64 {
	return p.runtime + int64((1+heapHoles)*float64(footprint.Peak(o)))
}

// unfit is an *unfitError where the run needs more memory than there is. It looks for settings that fit
// and train the same: activations computed twice, then fewer rows at a time whose gradients are added up.
func (p *planner) unfit(t *training, r *planResult, footprint trainer.Footprint) (unfit, err error) {
	o, shapes, m := t.recipe.Train, t.shapes(r.Shapes), r.Memory
	if m.Machine == 0 || m.Peak <= m.Machine {
		return nil, nil
	}
	e := &unfitError{need: m.Peak, have: m.Machine}
	if m.Weights+m.Optimizer+footprint.Gradients+p.runtime > m.Machine {
		return e, nil
	}
	key, value := batchKey(&o)
	var sets []string
	if p.compiles() && !o.GradientCheckpointing {
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
			footprint, err := p.of(t, o, shapes)
			if err != nil {
				return nil, err
			}
			if peak := p.peak(footprint, o); peak <= m.Machine {
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

// batchKey is the setting that says how large a batch is, and its place in the options.
func batchKey(o *trainer.Options) (key string, value *int) {
	if o.TokensPerBatch > 0 {
		return "train.tokens_per_batch", &o.TokensPerBatch
	}
	return "train.batch", &o.Batch
}

// measure trains one step to warm up and then a few, and tells what the whole run will take: a step's time by
// the elements of its batch, times those of all batches. Nothing of it is kept.
func (p *planner) measure(ctx context.Context, of *training, r planResult) (*planMeasured, error) {
	if err := p.open(of); err != nil {
		return nil, err
	}
	t := *of
	t.silent, t.closers, t.splits = true, nil, nil
	defer func() {
		for _, c := range t.closers {
			_ = c.Close() // opened for reading
		}
	}()
	t.recipe.Train.Steps, t.recipe.Train.Epochs, t.recipe.Train.LogEvery = p.opts.measure+1, 0, 1
	t.recipe.Train.EvaluateEvery, t.recipe.Train.SaveEvery, t.recipe.Train.Metric, t.recipe.Data.Validation = 0, 0, "loss", nil
	t.recipe.Data.Tasks = slices.Clone(t.recipe.Data.Tasks)
	for i := range t.recipe.Data.Tasks {
		t.recipe.Data.Tasks[i].Validation = nil
	}
	job, err := t.job(ctx, p.backend)
	if err != nil {
		return nil, err
	}
	m := &planMeasured{Steps: p.opts.measure}
	var took time.Duration
	var tokens, elements float64
	step := func(int) {}
	if !of.silent { // no bar within that of the alternatives
		show := p.app.Term.Progress("measuring", int64(p.opts.measure)+1, "steps")
		defer show.Done()
		step = func(n int) { show.Set(int64(n)) }
	}
	job.Trial = true
	job.Sink = func(e trainer.Event) {
		switch e := e.(type) {
		case trainer.Compiled:
			m.CompileSeconds += e.Took.Seconds()
		case trainer.Stepped:
			step(e.Step)
			m.Memory = max(m.Memory, e.Memory)
			if e.Step > 1 {
				took, elements = took+e.Took, elements+float64(e.Elements)
				tokens += e.TokensPerSecond * e.Took.Seconds()
			}
		case trainer.Started, trainer.Evaluated, trainer.Saved, trainer.Damaged, trainer.Stopped: // say nothing of time
		}
	}
	if _, err = trainer.Run(ctx, job); err != nil {
		return nil, err
	}
	m.SecondsPerStep = took.Seconds() / elements * r.elementsPerStep(t.recipe.Train.Accumulate)
	m.TokensPerSecond = tokens / took.Seconds()
	m.TotalSeconds = m.CompileSeconds + m.SecondsPerStep*float64(r.Steps)
	m.Cost = m.TotalSeconds / 3600 * p.opts.price
	return m, nil
}

// elementsPerStep are those of the batches of a step, padding included, on average over a pass.
func (r planResult) elementsPerStep(accumulate int) float64 {
	batches, elements := int64(0), int64(0)
	for _, s := range r.Shapes {
		batches += s.Batches
		elements += s.Batches * int64(s.Rows) * int64(s.Input+s.Target)
	}
	return float64(max(1, accumulate)) * float64(elements) / float64(max(1, batches))
}

// planAlternative is the run with some settings changed.
type planAlternative struct {
	Set       []string      `json:"set"`
	Memory    int64         `json:"memory"`
	Fits      bool          `json:"fits"`
	Steps     int           `json:"steps"`
	Truncated int64         `json:"truncated"` // inputs and targets that are cut, beyond those that are anyway
	Measured  *planMeasured `json:"measured,omitempty"`
}

// alternatives plans the run with one thing changed at a time. What the recipe's rules forbid is left out.
func (p *planner) alternatives(ctx context.Context, t *training, r planResult) (all []planAlternative, err error) {
	choices := t.choices(r)
	show := p.app.Term.Progress("alternatives", int64(len(choices)), "settings")
	defer show.Done()
	for i, sets := range choices {
		if _, err := p.app.loadRecipe(p.opts.recipe, slices.Concat(p.opts.sets, sets)); err == nil {
			a, err := p.alternative(ctx, sets, r)
			if err != nil {
				return nil, fmt.Errorf("with %s: %w", strings.Join(sets, " "), err)
			}
			all = append(all, a)
		}
		show.Set(int64(i + 1))
	}
	return all, nil
}

func (p *planner) alternative(ctx context.Context, sets []string, than planResult) (planAlternative, error) {
	t, r, err := p.load(ctx, sets)
	if err != nil {
		return planAlternative{}, err
	}
	defer t.close()
	if _, err := p.foresee(t, &r); err != nil {
		return planAlternative{}, err
	}
	m := r.Memory
	a := planAlternative{Set: sets, Memory: m.Peak, Fits: m.Machine == 0 || m.Peak <= m.Machine, Steps: r.Steps}
	a.Truncated = r.Data.TruncatedInputs + r.Data.TruncatedTargets - than.Data.TruncatedInputs - than.Data.TruncatedTargets
	if p.opts.measure > 0 && a.Fits {
		a.Measured, err = p.measure(ctx, t, r)
	}
	return a, err
}

// choices are the settings that change one thing each, for the same number of rows.
func (t *training) choices(r planResult) (all [][]string) {
	o := t.recipe.Train
	key, batch := batchKey(&o)
	for _, other := range []int{*batch / 2, *batch * 2} {
		if other < 1 {
			continue
		}
		sets := []string{fmt.Sprintf("%s=%d", key, other)}
		if o.Epochs == 0 {
			steps := int(math.Ceil(float64(o.Steps) * float64(*batch) / float64(other)))
			sets = append(sets, fmt.Sprintf("train.steps=%d", steps))
		}
		all = append(all, sets)
	}
	input, target := r.shorter()
	all = append(all, []string{fmt.Sprintf("data.max_input=%d", input), fmt.Sprintf("data.max_target=%d", target)})
	switch {
	case o.Method == trainer.LoRA:
		for _, rank := range []int{o.LoRA.Rank / 2, o.LoRA.Rank * 2} {
			if rank > 0 {
				all = append(all, []string{fmt.Sprintf("train.lora.rank=%d", rank)})
			}
		}
		all = append(all, []string{"train.method=full"})
	case t.base != nil:
		all = append(all, []string{"train.method=lora"})
	}
	precision := "bf16"
	if o.Precision == precision {
		precision = "fp32"
	}
	return append(all, []string{"train.precision=" + precision}, []string{fmt.Sprintf("train.gradient_checkpointing=%t", !o.GradientCheckpointing)})
}

// shorter are the lengths of the second largest shape of batch; of a single shape, half of it.
func (r planResult) shorter() (input, target int) {
	shapes := slices.Clone(r.Shapes)
	slices.SortFunc(shapes, func(a, b datasets.Shape) int { return (b.Input + b.Target) - (a.Input + a.Target) })
	if len(shapes) > 1 {
		return shapes[1].Input, shapes[1].Target
	}
	return max(2, shapes[0].Input/2), max(2, shapes[0].Target/2)
}

func (r planResult) printAlternatives(t *term.Terminal) {
	if len(r.Alternatives) == 0 {
		return
	}
	t.Println()
	tab := term.Table{Header: []string{"SETTING", "MEMORY", "STEP", "TIME", "COST", "CUT"}, Right: []int{1, 2, 3, 4, 5}}
	add := func(name string, memory int64, fits bool, m *planMeasured, cut int64) {
		row := []string{name, term.Size(memory), "", "", "", ""}
		if m != nil {
			row[2], row[3] = stepTime(m.SecondsPerStep), span(m.TotalSeconds)
			if m.Cost > 0 {
				row[4] = strconv.FormatFloat(m.Cost, 'f', 2, 64)
			}
		}
		if !fits {
			row[2] = t.Bad("too much")
		}
		if cut > 0 {
			row[5] = "+" + term.Count(int(cut))
		}
		tab.Add(row...)
	}
	add("as the recipe says", r.Memory.Peak, r.Memory.Machine == 0 || r.Memory.Peak <= r.Memory.Machine, r.Measured, 0)
	for _, a := range r.Alternatives {
		add(strings.Join(a.Set, " "), a.Memory, a.Fits, a.Measured, a.Truncated)
	}
	t.Table(tab)
}

// stepTime shows the seconds of a step.
func stepTime(seconds float64) string {
	if seconds < 0.1 {
		return fmt.Sprintf("%.1f ms", 1000*seconds)
	}
	return fmt.Sprintf("%.2f s", seconds)
}
