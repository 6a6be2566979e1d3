package trainer

import (
	"errors"
	"fmt"
	"math"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas

	"github.com/t5ctl/t5ctl/internal/t5"
)

// Optimizer is what makes a step of a gradient.
type Optimizer struct {
	Name           string  `yaml:"name"`            // adamw or adafactor
	LearningRate   float64 `yaml:"learning_rate"`   // peak rate; adafactor multiplies it by each tensor's root mean square where scale_parameter is on
	WeightDecay    float64 `yaml:"weight_decay"`    // decoupled; layer norms are left alone
	Beta1          float64 `yaml:"beta1"`           // adamw: decay of the first moment
	Beta2          float64 `yaml:"beta2"`           // adamw: decay of the second moment
	Epsilon        float64 `yaml:"epsilon"`         // adamw: added to the root of the second moment
	ScaleParameter bool    `yaml:"scale_parameter"` // adafactor: rates relative to the size of a tensor, as T5 was trained
	RelativeStep   bool    `yaml:"relative_step"`   // adafactor: min(1e-2, 1/√step) instead of learning_rate and schedule
	DecayRate      float64 `yaml:"decay_rate"`      // adafactor: β₂ at step t is 1 − t^decay_rate
	ClipThreshold  float64 `yaml:"clip_threshold"`  // adafactor: largest root mean square of an update
	State          string  `yaml:"state"`           // adamw: of the moments, fp32 or bf16, which is half of that; rounded stochastically
}

// DefaultOptimizer is AdamW with the usual constants; Adafactor's stand ready.
func DefaultOptimizer() Optimizer {
	return Optimizer{
		Name: "adamw", LearningRate: 1e-3, Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8,
		ScaleParameter: true, DecayRate: -0.8, ClipThreshold: 1, State: "fp32",
	}
}

// Validate says all that is wrong with the optimizer.
func (o Optimizer) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("train.optimizer."+format, args...))
	}
	if o.Name != "adamw" && o.Name != "adafactor" {
		bad("name is %q; it is adamw or adafactor", o.Name)
	}
	if o.State != "fp32" && o.State != "bf16" {
		bad("state is %q; it is fp32 or bf16", o.State)
	}
	if o.State == "bf16" && o.Name == "adafactor" {
		bad("state bf16 is for adamw: adafactor keeps a row and a column of a matrix, which is little already")
	}
	if o.LearningRate <= 0 && !o.RelativeStep {
		bad("learning_rate is %g, must be positive", o.LearningRate)
	}
	if o.WeightDecay < 0 {
		bad("weight_decay is %g, must not be negative", o.WeightDecay)
	}
	if o.Beta1 < 0 || o.Beta1 >= 1 || o.Beta2 <= 0 || o.Beta2 >= 1 {
		bad("beta1 and beta2 are %g and %g, must be in [0, 1)", o.Beta1, o.Beta2)
	}
	if o.Name == "adafactor" && (o.ClipThreshold <= 0 || o.DecayRate >= 0) {
		bad("clip_threshold must be positive and decay_rate negative")
	}
	return errors.Join(errs...)
}

// Slots of the vector of numbers that change from step to step; they are fed to the compiled
// program, so that no step compiles anew.
const (
	slotRate      = iota // learning rate
	slotInvTokens        // one over the tokens of the step
	slotBias1            // adamw: 1 − β₁ᵗ
	slotBias2            // adamw: 1 − β₂ᵗ
	slotBeta2            // adafactor: β₂ of this step
	slotLow              // lower half of the step's key for rounding: a whole number below 2¹⁶
	slotHigh             // upper half
	slots
)

// numbers are the slots' values at step t, counted from 1; key is the step's own.
func (o Optimizer) numbers(t int, rate, tokens float64, key uint32) []float32 {
	v := make([]float32, slots)
	if o.Name == "adafactor" && o.RelativeStep {
		rate = min(1e-2, 1/math.Sqrt(float64(t)))
	}
	v[slotRate] = float32(rate)
	v[slotInvTokens] = float32(1 / tokens)
	v[slotBias1] = float32(1 - math.Pow(o.Beta1, float64(t)))
	v[slotBias2] = float32(1 - math.Pow(o.Beta2, float64(t)))
	v[slotBeta2] = float32(1 - math.Pow(float64(t), o.DecayRate))
	v[slotLow], v[slotHigh] = float32(key&0xFFFF), float32(key>>16)
	return v
}

// moment is one tensor of optimizer state.
type moment struct {
	name string // exp_avg, exp_avg_sq, exp_avg_sq_row, exp_avg_sq_col, as in torch and transformers
	dims []int
}

// moments are the state that a parameter of that shape needs.
func (o Optimizer) moments(dims []int) []moment {
	if o.Name == "adamw" {
		return []moment{{"exp_avg", dims}, {"exp_avg_sq", dims}}
	}
	if len(dims) < 2 {
		return []moment{{"exp_avg_sq", dims}}
	}
	last := len(dims) - 1
	return []moment{{"exp_avg_sq_row", dims[:last]}, {"exp_avg_sq_col", []int{dims[last]}}}
}

// stateType is the type of the moments.
func (o Optimizer) stateType() dtypes.DType {
	if o.State == "bf16" {
		return dtypes.BFloat16
	}
	return dtypes.Float32
}

// StateBytes is how many bytes are kept for a parameter of that shape.
func (o Optimizer) StateBytes(dims []int) int {
	total := 0
	for _, m := range o.moments(dims) {
		n := 1
		for _, d := range m.dims {
			n *= d
		}
		total += n
	}
	return total * o.stateType().Size()
}

// update is one step of one parameter. It gives the new parameter and its new state.
func (o Optimizer) update(p, grad *Node, state []*Node, n func(slot int) *Node, decay bool) (*Node, []*Node) {
	weightDecay := 0.0
	if decay {
		weightDecay = o.WeightDecay
	}
	if o.Name == "adamw" {
		return o.adamW(p, grad, state, n, weightDecay)
	}
	return o.adafactor(p, grad, state, n, weightDecay)
}

// adamW follows torch.optim.AdamW.
func (o Optimizer) adamW(p, grad *Node, state []*Node, n func(int) *Node, weightDecay float64) (*Node, []*Node) {
	m := Add(MulScalar(state[0], o.Beta1), MulScalar(grad, 1-o.Beta1))
	v := Add(MulScalar(state[1], o.Beta2), MulScalar(Mul(grad, grad), 1-o.Beta2))
	root := AddScalar(Div(Sqrt(v), Sqrt(n(slotBias2))), o.Epsilon)
	step := Mul(n(slotRate), Div(Div(m, n(slotBias1)), root))
	if weightDecay > 0 {
		p = Sub(p, Mul(MulScalar(n(slotRate), weightDecay), p))
	}
	return Sub(p, step), []*Node{m, v}
}

// adafactor follows transformers.optimization.Adafactor without a first moment: the second
// moment of a matrix is kept as its row and column means (Shazeer and Stern 2018, algorithm 4).
func (o Optimizer) adafactor(p, grad *Node, state []*Node, n func(int) *Node, weightDecay float64) (*Node, []*Node) {
	const eps1, eps2 = 1e-30, 1e-3
	beta2 := n(slotBeta2)
	rest := OneMinus(beta2)
	square := AddScalar(Mul(grad, grad), eps1)
	var update *Node
	var kept []*Node
	if len(state) == 2 {
		row := Add(Mul(state[0], beta2), Mul(ReduceMean(square, -1), rest))
		col := Add(Mul(state[1], beta2), Mul(ReduceMean(square, -2), rest))
		r := InsertAxes(Sqrt(Div(row, ReduceAndKeep(row, ReduceMean, -1))), -1)
		c := InsertAxes(Sqrt(col), -2)
		update = Div(Div(grad, r), c)
		kept = []*Node{row, col}
	} else {
		v := Add(Mul(state[0], beta2), Mul(square, rest))
		update = Div(grad, Sqrt(v))
		kept = []*Node{v}
	}
	update = Div(update, MaxScalar(DivScalar(rms(update), o.ClipThreshold), 1))
	rate := n(slotRate)
	if o.ScaleParameter {
		rate = Mul(rate, MaxScalar(rms(p), eps2))
	}
	if weightDecay > 0 {
		p = Sub(p, Mul(MulScalar(rate, weightDecay), p))
	}
	return Sub(p, Mul(rate, update)), kept
}

func rms(x *Node) *Node { return Sqrt(ReduceAllMean(Mul(x, x))) }

// rounded is x as bfloat16, up or down by chance in proportion to how near each neighbour is, so
// that small changes of a moment are not lost: half of one unit in the last place of bfloat16 is
// more than β₂ = 0.999 moves it by. The chance is a hash of key and place. It is for finite x.
func rounded(x, key *Node) *Node {
	g, shape := x.Graph(), x.Shape()
	index := Reshape(Iota(g, shapes.Make(dtypes.Uint32, shape.Size()), 0), shape.Dimensions...)
	chance := BitwiseShiftRightLogicalScalar(t5.Mix32(BitwiseXor(t5.Mix32(index), key)), uint32(16)) // below 2¹⁶
	bits := Add(Bitcast(x, dtypes.Uint32), chance)
	bits = BitwiseAnd(bits, ConstAs(bits, uint32(0xFFFF0000)))
	return ConvertDType(Bitcast(bits, dtypes.Float32), dtypes.BFloat16)
}

// roundingKey is that of a step for one tensor of moments.
func roundingKey(n func(slot int) *Node, tensor uint32) *Node {
	half := func(slot int) *Node { return ConvertDType(n(slot), dtypes.Uint32) }
	key := Add(half(slotLow), MulScalar(half(slotHigh), 1<<16))
	return t5.Mix32(BitwiseXor(key, ConstAs(key, tensor*0x9E3779B9)))
}
