package decode

import (
	"context"
	"slices"
	"time"

	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/matvec"
)

// Engine decodes with one set of weights. It compiles a pair of programs for each shape of batch
// and keeps them. It is for one goroutine at a time.
type Engine struct {
	Compiled func(program string, took time.Duration) // told of each compilation; may be nil
	OnDevice bool                                     // decode on the backend, whatever it is
	Finished func(outputs []Sequence)                 // told of each source that is done; may be nil

	opening device.Opening
	weights Weights
	devices map[shape]*devicePrograms
	host    *hostModel // nil until it is needed
	scorers map[scoreShape]*device.Program
	pairs   map[pairShape]*device.Program
}

// Source is one input and the stream of random numbers that its sampling draws from.
type Source struct {
	Tokens []int32
	Stream uint64
}

// Sequence is one output: its tokens without start and padding, the end token included where
// there is one.
type Sequence struct {
	Tokens []int32
	Score  float64 // beams: log-probability over length^length_penalty; else 0
	Cut    bool    // max_new_tokens ended it
}

// New makes an engine over weights that stay the caller's.
func New(backend device.Opening, weights Weights) *Engine {
	return &Engine{
		opening: backend, weights: weights,
		devices: map[shape]*devicePrograms{}, scorers: map[scoreShape]*device.Program{}, pairs: map[pairShape]*device.Program{},
	}
}

// ints is an input of whole numbers.
type ints struct {
	values []int32
	dims   []int
}

// call runs a program on the weights and inputs of its own.
func (e *Engine) call(p *device.Program, inputs ...ints) ([]*tensors.Tensor, error) {
	weights, err := e.weights.tensors()
	if err != nil {
		return nil, err
	}
	backend, err := e.opening.Open()
	if err != nil {
		return nil, err
	}
	args, donate := slices.Clone(weights), make([]bool, len(weights)+len(inputs))
	for _, in := range inputs {
		t, err := backend.Int32(in.values, in.dims...)
		if err != nil {
			return nil, err
		}
		donate[len(args)] = true
		args = append(args, t)
	}
	return p.Run(args, donate)
}

// compile compiles a program of the weights and inputs of its own.
func (e *Engine) compile(name string, inputs []device.Input, fn func(in []*Node) []*Node) (*device.Program, error) {
	backend, err := e.opening.Open()
	if err != nil {
		return nil, err
	}
	return backend.Compile(name, inputs, fn)
}

// Close frees the compiled programs.
func (e *Engine) Close() {
	for _, p := range e.devices {
		p.close()
	}
	for _, p := range e.scorers {
		p.Close()
	}
	for _, p := range e.pairs {
		p.Close()
	}
}

// Generate decodes the sources and gives, for each, num_return_sequences outputs, best first, in
// the order of the sources. Sources of like length are decoded together; where one has ended,
// another takes its place.
func (e *Engine) Generate(ctx context.Context, sources []Source, o Options) ([][]Sequence, error) {
	if err := o.ValidateFor(e.weights.Config); err != nil {
		return nil, err
	}
	order := make([]int, len(sources))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(sources[a].Tokens) - len(sources[b].Tokens) })
	results := make([][]Sequence, len(sources))
	adjust := newAdjuster(o, e.weights.Config)
	for _, group := range groups(sources, order, o.BatchRows) {
		sh := shape{
			slots: min(o.BatchRows, ceilPower(len(group))), length: Bucket(len(sources[group[len(group)-1]].Tokens)),
			steps: o.MaxNewTokens, share: o.share(), kind: o.kind(adjust != nil),
		}
		err := e.decode(ctx, sh, func(free int, idle bool, worth int) []job {
			if free < worth && !idle {
				return nil
			}
			var jobs []job
			for _, at := range group[:min(free, len(group))] {
				jobs = append(jobs, job{
					source: sources[at], search: newSearcher(o, e.weights.Config, adjust, sources[at].Stream),
					done: func(outputs []Sequence) {
						results[at] = outputs
						if e.Finished != nil {
							e.Finished(outputs)
						}
					},
				})
			}
			group = group[len(jobs):]
			return jobs
		})
		if err != nil {
			return nil, err
		}
	}
	return results, nil
}

// groups divides sources, which stand in the order of their lengths, so that those of one bucket
// are together; a group that would not fill a batch goes on into the next bucket.
func groups(sources []Source, order []int, rows int) [][]int {
	var list [][]int
	from := 0
	for i := 1; i <= len(order); i++ {
		if i == len(order) || i-from >= rows && Bucket(len(sources[order[i]].Tokens)) != Bucket(len(sources[order[i-1]].Tokens)) {
			list = append(list, order[from:i])
			from = i
		}
	}
	return list
}

// Bucket rounds a length up, so that few shapes are compiled.
func Bucket(length int) int { return max(32, ceilPower(length)) }

func ceilPower(n int) int {
	p := 1
	for p < n {
		p *= 2
	}
	return p
}

// shape is what a batch's programs are compiled for.
type shape struct {
	slots, length, steps int
	share                int // decoder rows of one slot
	kind                 scoreKind
}

func (s shape) rows() int { return s.slots * s.share }

// stepper holds the decoder's memory of a batch. A slot has the rows slot·share and on.
type stepper interface {
	// admit encodes sources into slots, whose rows start anew.
	admit(slots []int, sources []Source) error
	// step feeds one token a row: tokens and order [rows], positions [slots], where −1 is an idle
	// slot, whose results mean nothing. It gives the best tokens or the scores, as the shape says.
	step(tokens, order, positions []int32) (best []int32, scores []float32, err error)
	// worth is how many slots must be free before it pays to admit into them.
	worth() int
	close()
}

// open makes the stepper that the engine's backend is best served with: a GPU decodes by itself; on a CPU encoder and
// steps run in kernels of our own where these are fast.
func (e *Engine) open(sh shape) (stepper, error) {
	if e.OnDevice || !e.opening.OnHost() || !matvec.Fast() {
		return e.newDeviceStepper(sh)
	}
	return e.newHostStepper(sh)
}

// job is one source to decode.
type job struct {
	source Source
	search searcher
	wrote  func(token int32)        // told of each token of a search that writes one output; may be nil
	gone   <-chan struct{}          // closed: nobody waits for the outputs any more; may be nil
	done   func(outputs []Sequence) // nil outputs: it was gone
}

// slot is a place for one source; its job's search is nil where the slot is free.
type slot struct {
	job
	made int32
}

// batch decodes sources in a fixed number of slots.
type batch struct {
	stepper stepper
	shape   shape
	vocab   int
	more    func(free int, idle bool, worth int) []job
	slots   []slot
}

// decode runs jobs in the slots of a shape. Before each step, more is asked for as many as are free;
// idle says that none is under way, and then none from more ends it.
func (e *Engine) decode(ctx context.Context, sh shape, more func(free int, idle bool, worth int) []job) error {
	st, err := e.open(sh)
	if err != nil {
		return err
	}
	defer st.close()
	b := batch{stepper: st, shape: sh, vocab: e.weights.Config.VocabSize, more: more, slots: make([]slot, sh.slots)}
	return b.run(ctx)
}

func (b *batch) run(ctx context.Context) error {
	rows := b.shape.rows()
	tokens, order, positions := make([]int32, rows), make([]int32, rows), make([]int32, b.shape.slots)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := b.refill(); err != nil {
			return err
		}
		if !b.lay(tokens, order, positions) {
			return nil
		}
		best, scores, err := b.stepper.step(tokens, order, positions)
		if err != nil {
			return err
		}
		b.take(best, scores)
	}
}

// refill gives free slots to sources that wait.
func (b *batch) refill() error {
	var free []int
	for i := range b.slots {
		if s := &b.slots[i]; s.search == nil {
			free = append(free, i)
		} else if s.left() {
			s.done(nil)
			*s = slot{}
			free = append(free, i)
		}
	}
	if len(free) == 0 {
		return nil
	}
	jobs := b.more(len(free), len(free) == len(b.slots), b.stepper.worth())
	if len(jobs) == 0 {
		return nil
	}
	admitted := make([]Source, len(jobs))
	for i, j := range jobs {
		admitted[i], b.slots[free[i]] = j.source, slot{job: j}
	}
	return b.stepper.admit(free[:len(jobs)], admitted)
}

// left says whether nobody waits for the job any more.
func (j *job) left() bool {
	select {
	case <-j.gone:
		return true
	default:
		return false
	}
}

// lay puts together what the step is fed and says whether there is anything.
func (b *batch) lay(tokens, order, positions []int32) (any bool) {
	share := b.shape.share
	for i, s := range b.slots {
		from := i * share
		if s.search == nil {
			positions[i] = -1
			for j := range share {
				tokens[from+j], order[from+j] = 0, int32(from+j)
			}
			continue
		}
		any, positions[i] = true, s.made
		s.search.feed(tokens[from:from+share], order[from:from+share])
		for j := range share {
			order[from+j] += int32(from)
		}
	}
	return any
}

// take gives the step's results to the searches and frees the slots of those that are over.
func (b *batch) take(best []int32, scores []float32) {
	share, width := b.shape.share, b.shape.share*b.vocab
	tell := func(i int) {
		switch s := &b.slots[i]; {
		case s.search == nil:
		case scores != nil:
			s.search.take(nil, scores[i*width:(i+1)*width])
		default:
			s.search.take(best[i*share:(i+1)*share], nil)
		}
	}
	if b.shape.kind == logProbs && b.apart() {
		matvec.Parallel(len(b.slots), tell)
	} else {
		for i := range b.slots {
			tell(i)
		}
	}
	for i := range b.slots {
		s := &b.slots[i]
		if s.search == nil {
			continue
		}
		s.made++
		if w, ok := s.search.(*writer); ok && s.wrote != nil && len(w.rows) == 1 && len(w.rows[0].tokens) == int(s.made)+1 {
			s.wrote(w.rows[0].tokens[s.made])
		}
		if s.search.over() {
			s.done(s.search.sequences())
			*s = slot{}
		}
	}
}

// apart says whether the searches share nothing, so that each may go on in a goroutine of its own.
func (b *batch) apart() bool {
	return !slices.ContainsFunc(b.slots, func(s slot) bool {
		beams, ok := s.search.(*search)
		return ok && beams.adjust != nil
	})
}
