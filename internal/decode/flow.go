package decode

import (
	"context"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/matvec"
)

// Job is a source that is decoded while others are under way.
type Job struct {
	Source  Source
	Options Options               // its class must be that of the flow
	Wrote   func(tokens []int32)  // told of each token of a lone output, all so far; may be nil
	Done    func(outs []Sequence) // told once, unless it is gone
	Gone    func() bool           // true: nobody waits any more, its slot is free; may be nil
}

// Class is what sources must have in common to be decoded together.
type Class struct {
	share  int
	kind   scoreKind
	length int // of the longest source; on a GPU a program is compiled for it
}

// Flow says what a flow of jobs is decoded in.
type Flow struct {
	Rows  int // decoder rows at a time: sources, or beams of sources
	Steps int // the most new tokens of a job
	Input int // the most tokens of a source
}

// Class gives the class of a source of that many tokens.
func (e *Engine) Class(o Options, tokens int, f Flow) Class {
	c := Class{share: o.share(), kind: o.kind(newAdjuster(o, e.weights.Config) != nil), length: Bucket(f.Input)}
	if !e.onHost() {
		c.length = Bucket(tokens)
	}
	return c
}

// onHost says whether the decoder's steps run in kernels of our own.
func (e *Engine) onHost() bool {
	return !e.OnDevice && e.backend.Kind != device.CUDA && matvec.Fast()
}

// Flow decodes jobs of one class that next gives, until it gives none while none is under way.
// Before each step next is asked for as many as there are slots free, and must not wait. A job's
// outputs do not depend on what is decoded beside it.
func (e *Engine) Flow(ctx context.Context, f Flow, class Class, next func(free int) []Job) error {
	sh := shape{slots: max(1, f.Rows/class.share), length: class.length, steps: f.Steps, share: class.share, kind: class.kind}
	st, err := e.keep(sh)
	if err != nil {
		return err
	}
	fl := flow{next: next, jobs: make([]Job, sh.slots)}
	fl.batch = batch{engine: e, stepper: st, shape: sh, slots: make([]slot, sh.slots)}
	fl.deliver = func(at int, outputs []Sequence) {
		done := fl.jobs[at].Done
		fl.jobs[at] = Job{}
		done(outputs)
	}
	if err := fl.run(ctx); err != nil {
		e.drop(sh) // what it holds may be half written
		return err
	}
	return nil
}

// kept is a stepper that waits for the next flow of its shape.
type kept struct {
	shape   shape
	stepper stepper
}

// keepSteppers is how many steppers stay open; each has caches of its own.
const keepSteppers = 2

// keep gives the stepper of a shape, an open one if there is one.
func (e *Engine) keep(sh shape) (stepper, error) {
	for i, k := range e.kept {
		if k.shape == sh {
			e.kept = append(append(e.kept[:i:i], e.kept[i+1:]...), k)
			return k.stepper, nil
		}
	}
	if len(e.kept) == keepSteppers {
		e.kept[0].stepper.close()
		e.kept = e.kept[1:]
	}
	st, err := e.open(sh)
	if err == nil {
		e.kept = append(e.kept, kept{sh, st})
	}
	return st, err
}

// drop closes the stepper of a shape.
func (e *Engine) drop(sh shape) {
	for i, k := range e.kept {
		if k.shape == sh {
			k.stepper.close()
			e.kept = append(e.kept[:i:i], e.kept[i+1:]...)
			return
		}
	}
}

// flow is a batch whose sources come as it runs: slot i decodes jobs[i].
type flow struct {
	batch
	next func(free int) []Job
	jobs []Job
}

func (f *flow) run(ctx context.Context) error {
	rows := f.shape.rows()
	tokens, order, positions := make([]int32, rows), make([]int32, rows), make([]int32, f.shape.slots)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		f.leave()
		if err := f.refill(); err != nil {
			return err
		}
		if !f.lay(tokens, order, positions) {
			return nil
		}
		best, scores, err := f.stepper.step(tokens, order, positions)
		if err != nil {
			return err
		}
		f.take(best, scores)
		f.tell()
	}
}

// leave frees the slots of jobs that nobody waits for.
func (f *flow) leave() {
	for i, job := range f.jobs {
		if f.slots[i].search != nil && job.Gone != nil && job.Gone() {
			f.slots[i], f.jobs[i] = slot{}, Job{}
		}
	}
}

// refill asks for jobs and gives them free slots.
func (f *flow) refill() error {
	var free []int
	for i, s := range f.slots {
		if s.search == nil {
			free = append(free, i)
		}
	}
	if len(free) == 0 || len(free) < f.stepper.worth() && len(free) < len(f.slots) {
		return nil
	}
	jobs := f.next(len(free))
	if len(jobs) == 0 {
		return nil
	}
	sources := make([]Source, len(jobs))
	config := f.engine.weights.Config
	for i, job := range jobs {
		at := free[i]
		sources[i], f.jobs[at] = job.Source, job
		f.slots[at] = slot{search: newSearcher(job.Options, config, newAdjuster(job.Options, config), job.Source.Stream), source: at}
	}
	return f.stepper.admit(free[:len(jobs)], sources)
}

// tell gives lone outputs under way to those who want to see them grow.
func (f *flow) tell() {
	for i, job := range f.jobs {
		if w, lone := f.slots[i].search.(*writer); lone && job.Wrote != nil && len(w.rows) == 1 {
			job.Wrote(w.rows[0].tokens[1:])
		}
	}
}
