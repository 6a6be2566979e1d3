package trainer

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/rdp"
	"github.com/t5ctl/t5ctl/internal/t5"
)

// Privacy bounds what a run can reveal of one row of its training data (DP-SGD; Abadi et al. 2016):
// the gradient of every example is cut to a length, noise is added to their sum, and examples are
// drawn by chance. It works on LoRA only, and train.batch is then the expected size of a step.
type Privacy struct {
	Noise float64 `yaml:"noise"` // standard deviation of the noise, in multiples of clip; 0 gives no privacy
	Clip  float64 `yaml:"clip"`  // largest length of an example's gradient, of its loss per token; 0: no differential privacy
	Delta float64 `yaml:"delta"` // of the (ε, δ) that is told; below one over the rows
	Rows  int     `yaml:"rows"`  // examples whose gradients are made at a time: more need more memory
}

// On says whether the run is private.
func (p Privacy) On() bool { return p.Clip != 0 || p.Noise != 0 }

// refusals are what is wrong with a private run: its numbers, and what it cannot be combined with.
func (o Options) refusals() (all []string) {
	p := o.DP
	if !p.On() {
		return nil
	}
	for _, c := range []struct {
		wrong bool
		text  string
	}{
		{!(p.Clip > 0) || math.IsInf(p.Clip, 0), "dp.clip must be positive and finite"},
		{!(p.Noise >= 0) || math.IsInf(p.Noise, 0), "dp.noise must be finite and not negative"},
		{!(p.Delta > 0 && p.Delta < 1), "dp.delta must be in (0, 1), and below one over the rows"},
		{p.Rows < 1, "dp.rows must be at least 1"},
		{o.Method != LoRA, "dp needs train.method lora: every example has a gradient of its own, and only an adapter's are small"},
		{o.Method == LoRA && o.LoRA.DoRA, "dp cannot stand beside lora.dora: every example would need the lengths of whole weights"},
		{o.Method == LoRA && len(o.LoRA.ModulesToSave) > 0, "dp cannot stand beside lora.modules_to_save: every example would have a gradient of a whole weight"},
		{o.Accumulate != 1, "dp cannot stand beside accumulate: a step has train.batch examples on average, taken dp.rows at a time"},
		{o.TokensPerBatch > 0, "dp cannot stand beside tokens_per_batch: a step has train.batch examples on average, each drawn by chance"},
		{o.Distill.Teacher != "", "dp cannot stand beside distill: epsilon would not cover what the teacher has seen"},
	} {
		if c.wrong {
			all = append(all, c.text)
		}
	}
	return all
}

// Spent is what a run has cost the privacy of a row so far.
type Spent struct {
	Privacy
	Rate    float64 // probability with which a row is in a step
	Steps   int
	Epsilon *float64 // for one row added or removed; nil: no noise, no bound
	Order   float64  // of the Rényi divergence at which the bound is tightest
}

// Spent is the account after so many steps with that rate of sampling.
func (p Privacy) Spent(rate float64, steps int) (Spent, error) {
	found, err := rdp.Mechanism{Noise: p.Noise, Rate: rate}.Spend(steps, p.Delta)
	if err != nil {
		return Spent{}, fmt.Errorf("train.dp: %w", err)
	}
	s := Spent{Privacy: p, Rate: rate, Steps: steps, Order: found.Order}
	if isFinite(found.Epsilon) {
		s.Epsilon = &found.Epsilon
	}
	return s, nil
}

// Lots are batches that take every row into a step by itself, with the same probability.
type Lots interface {
	Batches
	Rate() float64 // the probability
}

// DeltaError says that a delta is no promise: one row in so many may be given away whole.
type DeltaError struct {
	Delta float64
	Rows  int
}

func (e *DeltaError) Error() string {
	return fmt.Sprintf("train.dp.delta is %g, but must be below one over the %d rows of the training data, %.3g", e.Delta, e.Rows, 1/float64(e.Rows))
}

// checkPrivacy says whether the data are what the account assumes.
func (r *run) checkPrivacy() error {
	if !r.Options.DP.On() {
		return nil
	}
	lots, ok := r.Train.(Lots)
	if !ok || lots.Rate() <= 0 {
		return errors.New("train.dp needs batches that are drawn by chance")
	}
	r.rate = lots.Rate()
	if rows := int(math.Round(float64(r.Options.Batch) / r.rate)); r.rate < 1 && r.Options.DP.Delta >= 1/float64(rows) {
		return &DeltaError{Delta: r.Options.DP.Delta, Rows: rows}
	}
	_, err := r.Options.DP.Spent(r.rate, r.total)
	return err
}

// spent is the account of the steps so far; nil where the run is not private.
func (r *run) spent() *Spent {
	if !r.Options.DP.On() {
		return nil
	}
	s, err := r.Options.DP.Spent(r.rate, r.step)
	if err != nil {
		return nil // checkPrivacy has seen that there is none
	}
	return &s
}

// divisor is what a step's gradients are divided by: the labels that counted or, where the run is
// private, the expected number of examples, which says nothing of those that were drawn.
func (r *run) divisor(tokens float64) float64 {
	if r.Options.DP.On() {
		return float64(r.Options.Batch)
	}
	return tokens
}

// withNoise adds the step's noise to the sum of the clipped gradients.
func (r *run) withNoise(grads []*device.Array) ([]*device.Array, error) {
	p := r.Options.DP
	if !p.On() || p.Noise == 0 {
		return grads, nil
	}
	random := noiseOf(r.Options.Seed, r.step)
	noise := make([]*device.Array, 0, len(grads))
	for _, in := range r.net.learning {
		values := make([]float32, in.Shape.Size())
		for i := range values {
			values[i] = float32(random.NormFloat64() * p.Noise * p.Clip)
		}
		t, err := r.mesh.Float32(values, r.net.divides(in.Shape.Dimensions), in.Shape.Dimensions...)
		if err != nil {
			finalize(append(noise, grads...))
			return nil, err
		}
		noise = append(noise, t)
	}
	return r.accumulate(grads, noise)
}

// noiseOf is the source of a step's noise: ChaCha8 under a key made of the seed and the step.
func noiseOf(seed uint64, step int) *rand.Rand {
	key := []byte("t5ctl noise of a private step")
	key = binary.LittleEndian.AppendUint64(key, seed)
	key = binary.LittleEndian.AppendUint64(key, uint64(step))
	return rand.New(rand.NewChaCha8(sha256.Sum256(key)))
}

// clipped compiles one micro-step of a private run. The adapter's tensors are repeated for each
// row of the batch, so that one backward pass gives the gradient of every example apart; each is
// that of the example's mean loss over its tokens, and is cut to the length train.dp.clip before
// they are summed.
//
//	learning…, frozen…, batch…, seed   →   Σ clipped gradients…, [sums]
func (n *network) clipped(shape batchShape) (*device.Program, error) {
	return n.mesh.Compile(device.Build{Name: "t5.clipped " + shape.String(), Inputs: n.microInputs(shape), Split: append(n.split(n.learning), false), Graph: func(in []*Node) []*Node {
		learning, frozen, rest := n.divide(in)
		own := make([]*Node, len(learning)) // [rows, …]
		for i, p := range learning {
			own[i] = BroadcastToDims(InsertAxes(p, 0), append([]int{shape.rows}, p.Shape().Dimensions...)...)
		}
		net := n.build(own, frozen, rest[len(rest)-1])
		net.Checkpointing = n.options.GradientCheckpointing
		s := shape.loss(n.lossOf(shape, frozen, rest), net, rest)
		grads := Gradient(s.Loss, own...)
		counted := ConvertDType(NotEqual(rest[1], ConstAs(rest[1], int32(t5.Ignore))), dtypes.Float32)
		share := Inverse(MaxScalar(ReduceSum(counted, -1), 1)) // [rows], 1/tokens
		square := ZerosLike(share)
		for _, g := range grads {
			square = Add(square, ReduceSum(Mul(g, g), axesAfterFirst(g)...))
		}
		length := Mul(Sqrt(square), share)
		factor := Mul(share, MinScalar(Div(MulScalar(OnesLike(length), n.options.DP.Clip), AddScalar(length, 1e-6)), 1))
		out := make([]*Node, len(grads))
		for i, g := range grads {
			dims := slices.Repeat([]int{1}, g.Rank())
			dims[0] = shape.rows
			out[i] = ReduceSum(Mul(g, Reshape(factor, dims...)), 0)
		}
		return append(out, stack(s))
	}})
}

func axesAfterFirst(x *Node) (axes []int) {
	for i := 1; i < x.Rank(); i++ {
		axes = append(axes, i)
	}
	return axes
}
