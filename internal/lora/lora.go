// Package lora is low-rank adaptation: which projections an adapter sits on, what it adds to
// them in a graph, how it is merged, and its PEFT folder on disk.
//
// An adapter never changes the base's weights. Names, layouts and scaling are those of PEFT:
// A [rank, in] starts at random, B [out, rank] at zero, and the update is α/r·B·A (rsLoRA:
// α/√r). DoRA learns the length of each row of the sum as well (Liu et al. 2024). Reference: peft
// 0.21.2, tuners/lora.
package lora

import (
	"errors"
	"fmt"
	"maps"
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
	DoRA    bool     `yaml:"dora"`    // learn the length of each row of a weight too

	RankPattern   map[string]int     `yaml:"rank_pattern"`    // other ranks, by the end of a projection's name or an expression of it
	AlphaPattern  map[string]float64 `yaml:"alpha_pattern"`   // other alphas, likewise
	ModulesToSave []string           `yaml:"modules_to_save"` // tensors that learn in full beside the adapter, by the end of their name, as lm_head
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
	for _, pattern := range slices.Sorted(maps.Keys(o.RankPattern)) {
		if rank := o.RankPattern[pattern]; rank <= 0 {
			errs = append(errs, fmt.Errorf("lora.rank_pattern gives %q the rank %d, must be positive", pattern, rank))
		}
	}
	for _, pattern := range slices.Sorted(maps.Keys(o.AlphaPattern)) {
		if alpha := o.AlphaPattern[pattern]; alpha <= 0 {
			errs = append(errs, fmt.Errorf("lora.alpha_pattern gives %q the alpha %g, must be positive", pattern, alpha))
		}
	}
	return errors.Join(errs...)
}

// scale is what an update of that rank and alpha is multiplied by.
func (o Options) scale(rank int, alpha float64) float64 {
	if o.RSLoRA {
		return alpha / math.Sqrt(float64(rank))
	}
	return alpha / float64(rank)
}

// patterned is the value of the pattern that matches the name, or usual where none does. Two
// patterns that give one name different values are an error: PEFT would take the first of the
// file, and an order of keys should not decide.
func patterned[V comparable](patterns map[string]V, name string, usual V) (V, error) {
	value, by := usual, ""
	for _, pattern := range slices.Sorted(maps.Keys(patterns)) {
		re, err := regexp.Compile(`^(?:.*\.)?(?:` + pattern + `)$`)
		if err != nil {
			return usual, fmt.Errorf("lora pattern %q is no regular expression: %w", pattern, err)
		}
		if !re.MatchString(name) {
			continue
		}
		if by != "" && patterns[pattern] != value {
			return usual, fmt.Errorf("lora patterns %q and %q both match %s and disagree", by, pattern, name)
		}
		value, by = patterns[pattern], pattern
	}
	return value, nil
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
	saved   []t5.Spec      // tensors that it replaces
}

type module struct {
	name    string // of the projection, without .weight
	in, out int
	rank    int
	scale   float64 // of the update
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
			if err := a.add(spec); err != nil {
				return nil, err
			}
		}
	}
	if i := slices.Index(used, false); i >= 0 {
		return nil, &NoTargetError{Target: o.Targets[i], Have: ends}
	}
	return a, a.save(config)
}

// add puts the adapter on a projection.
func (a *Adapter) add(spec t5.Spec) error {
	name := strings.TrimSuffix(spec.Name, ".weight")
	rank, err := patterned(a.Options.RankPattern, name, a.Options.Rank)
	if err != nil {
		return err
	}
	alpha, err := patterned(a.Options.AlphaPattern, name, a.Options.Alpha)
	if err != nil {
		return err
	}
	a.at[spec.Name] = len(a.modules)
	a.modules = append(a.modules, module{name, spec.Shape[1], spec.Shape[0], rank, a.Options.scale(rank, alpha)})
	return nil
}

// save finds the tensors that learn in full.
func (a *Adapter) save(config t5.Config) error {
	used := make([]bool, len(a.Options.ModulesToSave))
	var have []string
	for _, spec := range config.Specs() {
		name := strings.TrimSuffix(spec.Name, ".weight")
		have = append(have, name)
		for i, target := range a.Options.ModulesToSave {
			if name != target && !strings.HasSuffix(name, "."+target) {
				continue
			}
			used[i] = true
			if _, adapted := a.at[spec.Name]; adapted {
				return fmt.Errorf("lora: %s is a target and among modules_to_save", name)
			}
			if spec.Name == t5.Embedding {
				return fmt.Errorf("lora: %s cannot be among modules_to_save: encoder, decoder and often the head share it", name)
			}
			a.saved = append(a.saved, spec)
		}
	}
	if i := slices.Index(used, false); i >= 0 {
		return &NoTargetError{Target: a.Options.ModulesToSave[i], Have: have}
	}
	return nil
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
	Name  string // its key in PEFT's file: "base_model.model.decoder.block.0.layer.0.SelfAttention.q.lora_A.weight"
	Shape []int
	start start
	of    string // the base's tensor that it starts from or belongs to
}

// start says what a fresh tensor is.
type start int

const (
	random  start = iota // A: uniform in ±1/√in
	zeros                // B
	lengths              // DoRA's magnitude: the lengths of the base's rows
	copied               // the base's own tensor
)

// Specs lists the adapter's tensors in a fixed order: A, B and with DoRA the magnitude of each
// projection in turn, then the tensors that learn in full.
func (a *Adapter) Specs() []Spec {
	var specs []Spec
	for _, m := range a.modules {
		of := m.name + ".weight"
		specs = append(specs,
			Spec{prefix + m.name + ".lora_A.weight", []int{m.rank, m.in}, random, of},
			Spec{prefix + m.name + ".lora_B.weight", []int{m.out, m.rank}, zeros, of})
		if a.Options.DoRA {
			specs = append(specs, Spec{prefix + m.name + ".lora_magnitude_vector", []int{m.out}, lengths, of})
		}
	}
	for _, spec := range a.saved {
		specs = append(specs, Spec{prefix + spec.Name, spec.Shape, copied, spec.Name})
	}
	return specs
}

// tensorsOf is how many tensors a projection's module has.
func (a *Adapter) tensorsOf() int {
	if a.Options.DoRA {
		return 3
	}
	return 2
}

// Init draws a fresh tensor, so that an adapter that has not learned changes nothing: A as PEFT
// does (Kaiming uniform with a = √5, that is uniform in ±1/√in), B zero, and the rest from the
// base's tensors, which are asked for by name.
func (s Spec) Init(seed uint64, base func(name string) ([]float32, error)) ([]float32, error) {
	switch s.start {
	case lengths:
		w, err := base(s.of)
		if err != nil {
			return nil, err
		}
		return rowLengths(w, s.Shape[0]), nil
	case copied:
		return base(s.of)
	case random, zeros: // below
	}
	values := make([]float32, s.Shape[0]*s.Shape[1])
	if s.start == zeros {
		return values, nil
	}
	h := uint64(1469598103934665603)
	for i := range len(s.Name) {
		h = (h ^ uint64(s.Name[i])) * 1099511628211
	}
	rng := rand.New(rand.NewPCG(seed, h))
	bound := 1 / math.Sqrt(float64(s.Shape[1]))
	for i := range values {
		values[i] = float32((2*rng.Float64() - 1) * bound)
	}
	return values, nil
}

// rowLengths are the Euclidean norms of a matrix's rows.
func rowLengths(w []float32, rows int) []float32 {
	norms, width := make([]float32, rows), len(w)/rows
	for i := range norms {
		sum := 0.0
		for _, v := range w[i*width : (i+1)*width] {
			sum += float64(v) * float64(v)
		}
		norms[i] = float32(math.Sqrt(sum))
	}
	return norms
}

// Attach lets the adapter act on every projection it sits on, y = x·Wᵀ becoming
//
//	y + s·(x·Aᵀ)·Bᵀ                                     LoRA
//	y + (m/‖W + s·B·A‖ − 1)∘x·Wᵀ + m/‖W + s·B·A‖∘s·(x·Aᵀ)·Bᵀ   DoRA; the norms are of rows and learn nothing
//
//	nodes: the adapter's tensors in the order of Specs
func (a *Adapter) Attach(network *t5.Network, nodes []*Node) {
	dropout := network.Dropout.At(a.Options.Dropout)
	before := network.Adapt
	size := a.tensorsOf()
	for i, spec := range a.saved {
		network.Weights[spec.Name] = nodes[size*len(a.modules)+i]
	}
	network.Adapt = func(name string, x, y *Node) *Node {
		if before != nil {
			y = before(name, x, y)
		}
		i, ok := a.at[name]
		if !ok {
			return y
		}
		m, tensors := a.modules[i], nodes[size*i:size*(i+1)]
		dropped := ConvertDType(dropout.Apply(x), y.DType())
		low := network.Linear(dropped, tensors[0])                   // [..., rank]
		delta := MulScalar(network.Linear(low, tensors[1]), m.scale) // [..., out]
		if !a.Options.DoRA {
			return Add(y, delta)
		}
		w := ConvertDType(network.Weights[name], tensors[0].DType())
		sum := Add(w, MulScalar(DotGeneral(tensors[1], []int{1}, nil, tensors[0], []int{0}, nil), m.scale)) // [out, in]
		norm := StopGradient(Sqrt(ReduceSum(Mul(sum, sum), -1)))
		share := ConvertDType(ExpandLeftToRank(Div(tensors[2], norm), y.Rank()), y.DType()) // [1, …, out]
		straight := network.Linear(dropped, w)
		return Add(y, Add(Mul(AddScalar(share, -1), straight), Mul(share, delta)))
	}
}

// Changes says whether the adapter makes something else of a tensor of the base.
func (a *Adapter) Changes(name string) bool {
	_, touched := a.at[name]
	return touched || slices.ContainsFunc(a.saved, func(s t5.Spec) bool { return s.Name == name })
}

// Merge gives what the adapter makes of a tensor of the base [out, in]: W + s·B·A, with DoRA
// scaled row by row to the lengths learned, accumulated in float64; a tensor that learned in full
// is the adapter's own. What the adapter does not touch comes back as it was.
//
//	values: the adapter's tensors in the order of Specs
func (a *Adapter) Merge(name string, w []float32, values [][]float32) []float32 {
	size := a.tensorsOf()
	for i, spec := range a.saved {
		if spec.Name == name {
			return values[size*len(a.modules)+i]
		}
	}
	k, ok := a.at[name]
	if !ok {
		return w
	}
	m, tensors := a.modules[k], values[size*k:size*(k+1)]
	merged, row := make([]float32, len(w)), make([]float64, m.in)
	for i := range m.out {
		m.update(row, tensors[0], tensors[1][i*m.rank:(i+1)*m.rank])
		sum := 0.0
		for j := range row {
			row[j] = float64(w[i*m.in+j]) + float64(row[j]*m.scale)
			sum += float64(row[j] * row[j])
		}
		share := 1.0
		if a.Options.DoRA {
			share = float64(tensors[2][i]) / math.Sqrt(sum)
		}
		for j, v := range row {
			merged[i*m.in+j] = float32(v * share)
		}
	}
	return merged
}

// update is one row of B·A.
func (m module) update(row []float64, a, b []float32) {
	clear(row)
	for r, scale := range b {
		for j, v := range a[r*m.in : (r+1)*m.in] {
			row[j] += float64(float64(scale) * float64(v))
		}
	}
}
