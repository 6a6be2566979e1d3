package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
)

// feed fetches batches ahead of the step that needs them.
type feed struct {
	items  chan fed
	cancel context.CancelFunc
	done   chan struct{}
	next   seq2seq.Position // of the first batch that no step has taken
}

type fed struct {
	batch seq2seq.Batch
	after seq2seq.Position // position once this batch is taken
	err   error
}

// startFeed reads on from where the batches stand.
func startFeed(ctx context.Context, batches Batches) *feed {
	ctx, cancel := context.WithCancel(ctx)
	f := &feed{items: make(chan fed, 2), cancel: cancel, done: make(chan struct{}), next: batches.Position()}
	go func() {
		defer close(f.done)
		for {
			batch, err := batches.Next(ctx)
			select {
			case f.items <- fed{batch, batches.Position(), err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return f
}

// take gives the next batch.
func (f *feed) take() (seq2seq.Batch, error) {
	item := <-f.items
	if item.err != nil {
		return seq2seq.Batch{}, item.err
	}
	f.next = item.after
	return item.batch, nil
}

func (f *feed) stop() {
	f.cancel()
	<-f.done
}

// oneStep accumulates the gradients of some micro-batches and applies them. If it fails, the
// weights are those before the step.
func (r *run) oneStep(feed *feed) error {
	var grads []*device.Array
	var total [sums]float64
	var rows []string
	var batches []seq2seq.Batch
	for micro, more := 0, true; more; micro++ {
		batch, err := feed.take()
		if err != nil {
			finalize(grads)
			return err
		}
		more = batch.More || micro+1 < r.Options.Accumulate
		rows, batches = append(rows, batch.IDs...), append(batches, batch)
		g, s, err := r.gradients(batch, micro)
		if err != nil {
			finalize(grads)
			return err
		}
		for i := range total {
			total[i] += float64(s[i])
		}
		r.meter.batch(batch)
		if grads, err = r.accumulate(grads, g); err != nil {
			return err
		}
	}
	grads, err := r.withNoise(grads)
	if err != nil {
		return err
	}
	norm, err := r.update(grads, r.divisor(total[sumTokens]), isFinite(total[sumLoss]))
	if err != nil {
		return err
	}
	if !isFinite(total[sumLoss]) || !isFinite(norm) {
		return r.nonFinite(rows, batches)
	}
	r.step++
	r.position = feed.next
	r.meter.step(total, norm)
	return nil
}

// nonFinite is the error of a step whose loss or gradient is not finite; where it is asked for, it
// names the first thing that was not.
func (r *run) nonFinite(rows []string, batches []seq2seq.Batch) error {
	if err := r.settle(); err != nil {
		return err
	}
	e := &NonFiniteError{Step: r.step + 1, Rows: rows, Checkpoint: r.last}
	for micro, batch := range batches {
		if !r.TraceNaN || e.First != "" {
			break
		}
		var err error
		if e.First, err = r.trace(batch, micro); err != nil {
			return errors.Join(e, fmt.Errorf("tracing it: %w", err))
		}
	}
	return e
}

func isFinite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// gradients runs one micro-step.
func (r *run) gradients(batch seq2seq.Batch, micro int) ([]*device.Array, []float32, error) {
	batch = r.whole(batch)
	shape := shapeOf(batch)
	program, ok := r.gradientsOf[shape]
	if !ok {
		var err error
		if program, err = r.net.gradients(shape); err != nil {
			return nil, nil, err
		}
		r.gradientsOf[shape] = program
		r.Sink(Compiled{Program: "t5.gradients " + shape.String(), Took: program.CompileTime, Memory: program.Memory, Reused: program.Reused})
		r.meter.pause(program.CompileTime)
	}
	out, err := r.runMicro(program, batch, micro)
	if err != nil {
		return nil, nil, err
	}
	grads := out[:len(out)-1]
	s, err := floats(out[len(out)-1])
	finalize(out[len(out)-1:])
	return grads, s, err
}

// whole is the batch with rows of padding after its own, so that all devices get as many: they
// count for nothing.
func (r *run) whole(batch seq2seq.Batch) seq2seq.Batch {
	of := r.mesh.Size()
	if of > 1 && r.Options.DPO.On() {
		of *= 2 // the two rows of a pair stay together
	}
	return batch.Padded(of)
}

// runMicro runs a program over the weights, a batch and the dropout seed of a micro-step.
func (r *run) runMicro(program *device.Program, batch seq2seq.Batch, micro int) ([]*device.Array, error) {
	args, own, err := r.arguments(batch)
	if err != nil {
		return nil, err
	}
	seed, err := r.mesh.Uint32(r.dropoutSeed(micro))
	if err != nil {
		return nil, err
	}
	return program.RunOn(append(args, seed), donateLast(len(args)+1, own+1))
}

// arguments are the weights and the batch; the last `own` of them are the batch's.
func (r *run) arguments(batch seq2seq.Batch) (args []*device.Array, own int, err error) {
	args = append(append(args, r.learn...), r.frozen...)
	values := [][]int32{batch.Inputs, batch.Labels, batch.InputSegments, batch.LabelSegments}
	for i, in := range shapeOf(batch).inputs() {
		t, err := r.mesh.Int32(values[i], in.Split, in.Shape.Dimensions...)
		if err != nil {
			return nil, 0, err
		}
		args = append(args, t)
		own++
	}
	return args, own, nil
}

// donateLast gives away the last k of n arguments.
func donateLast(n, k int) []bool {
	donate := make([]bool, n)
	for i := n - k; i < n; i++ {
		donate[i] = true
	}
	return donate
}

// dropoutSeed is fresh for each micro-step of a run and depends on nothing else.
func (r *run) dropoutSeed(micro int) uint32 {
	x := r.Options.Seed*0x9E3779B97F4A7C15 + uint64(r.step)*0xBF58476D1CE4E5B9 + uint64(micro)*0x94D049BB133111EB
	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
	x = (x ^ (x >> 27)) * 0x94D049BB133111EB
	return uint32((x ^ (x >> 31)) >> 16)
}

func (r *run) accumulate(total, grads []*device.Array) ([]*device.Array, error) {
	if total == nil {
		return grads, nil
	}
	if r.add == nil {
		var err error
		if r.add, err = r.net.addition(); err != nil {
			return nil, err
		}
		r.Sink(Compiled{Program: "t5.addition", Took: r.add.CompileTime, Memory: r.add.Memory, Reused: r.add.Reused})
	}
	return r.add.RunOn(append(total, grads...), nil)
}

// update applies the gradients and gives their norm. A loss that is not finite leaves all as it
// was.
func (r *run) update(grads []*device.Array, tokens float64, finite bool) (float64, error) {
	if !finite {
		finalize(grads)
		return math.NaN(), nil
	}
	t := r.step + 1
	rate := r.Options.Optimizer.LearningRate * r.Options.Schedule.Factor(r.step, r.total)
	numbers, err := r.mesh.Float32(r.Options.Optimizer.numbers(t, rate, max(tokens, 1), r.dropoutSeed(-1)), false, slots) // no micro-step has this seed
	if err != nil {
		return 0, err
	}
	r.meter.rate = rate
	defer numbers.Free()
	out, err := r.norm.RunOn(append(append([]*device.Array{}, grads...), numbers), nil)
	if err != nil {
		return 0, err
	}
	defer finalize(out)
	for i, g := range r.groups {
		if err := r.applyTo(g, r.apply[i], grads[g.from:g.to], numbers, out[0]); err != nil {
			return 0, err
		}
	}
	norm, err := floats(out[0])
	if err != nil {
		return 0, err
	}
	return float64(norm[0]), nil
}

// applyTo updates one group.
func (r *run) applyTo(g group, program *device.Program, grads []*device.Array, numbers, norm *device.Array) error {
	learn, moments := r.learn[g.from:g.to], r.moments[g.momentsFrom:g.momentsTo]
	args := append(append(append(append([]*device.Array{}, learn...), moments...), grads...), numbers, norm)
	out, err := program.RunOn(args, nil)
	if err != nil {
		return err
	}
	copy(learn, out)
	copy(moments, out[len(learn):])
	return nil
}

// floats copies a result that every device has.
func floats(a *device.Array) ([]float32, error) {
	return tensors.CopyFlatData[float32](a.First())
}

// evaluate judges the weights on one pass over the validation data; stop says that patience has
// ended.
func (r *run) evaluate(ctx context.Context) (found *evaluation, stop bool, err error) {
	start := time.Now()
	if err := r.Validation.Seek(seq2seq.Position{}); err != nil {
		return nil, false, err
	}
	var total [sums]float64
	for range r.Validation.PerEpoch() {
		batch, err := r.Validation.Next(ctx)
		if err != nil {
			return nil, false, err
		}
		s, err := r.evaluateBatch(batch)
		if err != nil {
			return nil, false, err
		}
		for i := range total {
			total[i] += float64(s[i])
		}
	}
	found = &evaluation{Step: r.step, Metrics: map[string]float64{
		"loss":               total[sumNLL] / total[sumTokens],
		r.Options.accuracy(): total[sumCorrect] / total[sumTokens],
	}}
	if r.Evaluator != nil {
		w := r.weights()
		more, err := r.Evaluator.Evaluate(ctx, w)
		w.Close()
		if err != nil {
			return nil, false, err
		}
		for name, v := range more {
			found.Metrics[name] = v
		}
	}
	stop, err = r.judge(found)
	if err != nil {
		return nil, false, err
	}
	r.meter.pause(time.Since(start))
	r.Sink(Evaluated{Step: r.step, Metrics: found.Metrics, Best: r.best == found, Took: time.Since(start)})
	return found, stop, nil
}

func (r *run) evaluateBatch(batch seq2seq.Batch) ([]float32, error) {
	batch = r.whole(batch)
	shape := shapeOf(batch)
	program, ok := r.evaluationOf[shape]
	if !ok {
		var err error
		if program, err = r.net.evaluation(shape); err != nil {
			return nil, err
		}
		r.evaluationOf[shape] = program
		r.Sink(Compiled{Program: "t5.evaluation " + shape.String(), Took: program.CompileTime, Memory: program.Memory, Reused: program.Reused})
	}
	args, own, err := r.arguments(batch)
	if err != nil {
		return nil, err
	}
	out, err := program.RunOn(args, donateLast(len(args), own))
	if err != nil {
		return nil, err
	}
	s, err := floats(out[0])
	finalize(out)
	return s, err
}

// judge compares with the best so far. A metric that is not there, or not a number, is no
// improvement and an error: a run must not be led by what it cannot measure.
func (r *run) judge(found *evaluation) (stop bool, err error) {
	value, ok := found.Metrics[r.Options.Metric]
	if !ok {
		return false, &UnknownMetricError{Name: r.Options.Metric, Have: found.Metrics}
	}
	better := r.best == nil
	if r.best != nil && isFinite(value) {
		gain := r.best.Metrics[r.Options.Metric] - value
		if r.higherIsBetter() {
			gain = -gain
		}
		better = gain > r.Options.EarlyStopping.MinDelta
	}
	if better {
		r.best, r.since = found, 0
		return false, nil
	}
	r.since++
	return r.Options.EarlyStopping.Patience > 0 && r.since >= r.Options.EarlyStopping.Patience, nil
}

func (r *run) higherIsBetter() bool {
	if r.Options.Metric == r.Options.accuracy() {
		return true
	}
	return r.Evaluator != nil && r.Evaluator.HigherIsBetter(r.Options.Metric)
}
