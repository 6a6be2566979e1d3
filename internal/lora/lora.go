// Package lora is low-rank adaptation: which projections an adapter sits on, what it adds to
// them in a graph, how it is merged, and its PEFT folder on disk.
//
// An adapter never changes the base's weights. Names, layouts and scaling are those of PEFT:
// A [rank, in] starts at random, B [out, rank] at zero, and the update is α/r·B·A (rsLoRA:
// α/√r). Reference: peft 0.17, tuners/lora.
package lora

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"

	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas

	"github.com/t5ctl/t5ctl/internal/t5"
)

// Options say how an adapter is built. The keys are the recipe's train.lora section.
type Options struct {
	Rank    int      `yaml:"rank"`    // rank of the update
	Alpha   float64  `yaml:"alpha"`   // scale; the update is multiplied by alpha/rank
	Dropout float64  `yaml:"dropout"` // dropout before A while training
	Targets []string `yaml:"targets"` // projections by the end of their name, as q or DenseReluDense.wo, or one regular expression of the whole name, or all-linear
	RSLoRA  bool     `yaml:"rslora"`  // scale by alpha/√rank instead
}

// DefaultOptions are PEFT's for T5.
func DefaultOptions() Options {
	return Options{Rank: 8, Alpha: 16, Targets: []string{"q", "v"}}
}

// AllLinear stands for every projection in the blocks; the head must be named by itself, as
// lm_head.
const AllLinear = "all-linear"

// Validate says all that is wrong with the options.
func (o Options) Validate() error {
	var errs []error
	if o.Rank <= 0 {
		errs = append(errs, fmt.Errorf("lora.rank is %d, must be positive", o.Rank))
	}
	if o.Alpha <= 0 {
		errs = append(errs, fmt.Errorf("lora.alpha is %g, must be positive", o.Alpha))
	}
	if o.Dropout < 0 || o.Dropout >= 1 {
		errs = append(errs, fmt.Errorf("lora.dropout is %g, must be in [0, 1)", o.Dropout))
	}
	if len(o.Targets) == 0 {
		errs = append(errs, errors.New("lora.targets is empty; q and v are usual"))
	}
	return errors.Join(errs...)
}

// Scale is what the update is multiplied by.
func (o Options) Scale() float64 {
	if o.RSLoRA {
		return o.Alpha / math.Sqrt(float64(o.Rank))
	}
	return o.Alpha / float64(o.Rank)
}

// NoTargetError says that a target names no projection of the model.
type NoTargetError struct {
	Target string
	Have   []string // the ends of the names that there are
}

func (e *NoTargetError) Error() string {
	return fmt.Sprintf("lora target %q matches no projection of the model; there are %s", e.Target, strings.Join(e.Have, ", "))
}

// Adapter is one adapter on one model: the projections it sits on, in the model's order.
type Adapter struct {
	Options Options
	modules []module
	at      map[string]int // position of a projection's module
}

type module struct {
	name    string // of the projection, without .weight
	in, out int
}

// New finds the projections that the options name. A target that matches nothing is an error.
func New(o Options, config t5.Config) (*Adapter, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	a := &Adapter{Options: o, at: map[string]int{}}
	used := make([]bool, len(o.Targets))
	ends := []string{}
	for _, spec := range config.Specs() {
		if !spec.Projection() {
			continue
		}
		name := strings.TrimSuffix(spec.Name, ".weight")
		if end := name[strings.LastIndex(name, ".")+1:]; !slices.Contains(ends, end) {
			ends = append(ends, end)
		}
		hit := false
		for i, target := range o.Targets {
			ok, err := matches(target, name, len(o.Targets) == 1)
			if err != nil {
				return nil, err
			}
			used[i] = used[i] || ok
			hit = hit || ok
		}
		if hit {
			a.at[spec.Name] = len(a.modules)
			a.modules = append(a.modules, module{name: name, in: spec.Shape[1], out: spec.Shape[0]})
		}
	}
	if i := slices.Index(used, false); i >= 0 {
		return nil, &NoTargetError{Target: o.Targets[i], Have: ends}
	}
	return a, nil
}

// matches follows PEFT: a name ends in the target after a dot, or, where there is one target
// only, the target is a regular expression of the whole name.
func matches(target, name string, single bool) (bool, error) {
	if target == AllLinear {
		return name+".weight" != t5.Head, nil
	}
	if name == target || strings.HasSuffix(name, "."+target) {
		return true, nil
	}
	if !single || !strings.ContainsAny(target, `.*+?()[]{}|\^$`) {
		return false, nil
	}
	re, err := regexp.Compile("^(?:" + target + ")$")
	if err != nil {
		return false, fmt.Errorf("lora target %q is no regular expression: %w", target, err)
	}
	return re.MatchString(name), nil
}

// Spec is one tensor of an adapter.
type Spec struct {
	Name  string // without PEFT's prefix: "decoder.block.0.layer.0.SelfAttention.q.lora_A.weight"
	Shape []int
	fan   int // A: width of its input; B: 0
}

// Specs lists the adapter's tensors in a fixed order: A and B of each projection in turn.
func (a *Adapter) Specs() []Spec {
	var specs []Spec
	for _, m := range a.modules {
		specs = append(specs,
			Spec{m.name + ".lora_A.weight", []int{a.Options.Rank, m.in}, m.in},
			Spec{m.name + ".lora_B.weight", []int{m.out, a.Options.Rank}, 0})
	}
	return specs
}

// Init draws a fresh tensor: A as PEFT does (Kaiming uniform with a = √5, that is uniform in
// ±1/√in), B zero, so that an adapter that has not learned changes nothing.
func (s Spec) Init(seed uint64) []float32 {
	values := make([]float32, s.Shape[0]*s.Shape[1])
	if s.fan == 0 {
		return values
	}
	h := uint64(1469598103934665603)
	for i := range len(s.Name) {
		h = (h ^ uint64(s.Name[i])) * 1099511628211
	}
	rng := rand.New(rand.NewPCG(seed, h))
	bound := 1 / math.Sqrt(float64(s.fan))
	for i := range values {
		values[i] = float32((2*rng.Float64() - 1) * bound)
	}
	return values
}

// Attach lets the adapter act on every projection it sits on: y + scale·(x·Aᵀ)·Bᵀ.
//
//	nodes: the adapter's tensors in the order of Specs
func (a *Adapter) Attach(network *t5.Network, nodes []*Node) {
	dropout := network.Dropout.At(a.Options.Dropout)
	before := network.Adapt
	network.Adapt = func(name string, x, y *Node) *Node {
		if before != nil {
			y = before(name, x, y)
		}
		i, ok := a.at[name]
		if !ok {
			return y
		}
		x = ConvertDType(dropout.Apply(x), y.DType())
		low := network.Linear(x, nodes[2*i])       // [..., rank]
		delta := network.Linear(low, nodes[2*i+1]) // [..., out]
		return Add(y, MulScalar(delta, a.Options.Scale()))
	}
}

// Merge adds the update to a projection's weight: W + scale·B·A, accumulated in float64.
//
//	w [out, in], a [rank, in], b [out, rank]
func (o Options) Merge(w, a, b []float32, out, in int) []float32 {
	merged := make([]float32, len(w))
	row := make([]float64, in)
	for i := range out {
		clear(row)
		for r := range o.Rank {
			scale := float64(b[i*o.Rank+r])
			for j, v := range a[r*in : (r+1)*in] {
				row[j] += float64(scale * float64(v))
			}
		}
		for j := range in {
			merged[i*in+j] = float32(float64(w[i*in+j]) + float64(row[j]*o.Scale()))
		}
	}
	return merged
}

// Module gives the place of a projection's A in Specs (B follows it), or false if the adapter
// does not sit on it.
func (a *Adapter) Module(weight string) (int, bool) {
	i, ok := a.at[weight]
	return 2 * i, ok
}
