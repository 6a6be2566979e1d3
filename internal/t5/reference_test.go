package t5_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
	"github.com/t5ctl/t5ctl/internal/safetensors"
	"github.com/t5ctl/t5ctl/internal/t5"
)

// fixture holds what transformers 5.23.0 computed with a tiny random model; testdata/gen says
// what each value is.
type fixture struct {
	Inputs        [][]int32 `json:"input_ids"`
	Labels        [][]int32 `json:"labels"`
	Loss          float64   `json:"loss"`
	LossSmoothed  float64   `json:"loss_smoothed"`
	LossZ         float64   `json:"loss_z"`
	LossSmoothedZ float64   `json:"loss_smoothed_z"`
	LabelLogProb  []float64 `json:"label_logprob"`
	tensors       *safetensors.File
}

func variants(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/*/fixture.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for i, p := range paths {
		paths[i] = filepath.Dir(p)
	}
	return paths
}

func readFixture(t *testing.T, dir string) fixture {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "fixture.json"))
	if err != nil {
		t.Fatal(err)
	}
	var f fixture
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	if f.tensors, err = safetensors.Open(filepath.Join(dir, "fixture.safetensors")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.tensors.Close() })
	return f
}

// want gives a tensor of the fixture.
func (f fixture) want(t *testing.T, name string) []float32 {
	t.Helper()
	tensor, ok := f.tensors.Tensor(name)
	if !ok {
		t.Fatalf("the fixture has no %s", name)
	}
	values, err := tensor.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// harness runs graphs over one checkpoint's weights.
type harness struct {
	backend *device.Backend
	config  t5.Config
	inputs  []device.Input
	args    []*tensors.Tensor
}

func open(t *testing.T, b *device.Backend, dir string) harness {
	t.Helper()
	c, err := t5.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	h := harness{backend: b, config: c.Config}
	if h.args, err = c.Place(b.Float32); err != nil {
		t.Fatal(err)
	}
	for _, spec := range c.Config.Specs() {
		h.inputs = append(h.inputs, device.Input{Name: spec.Name, Shape: shapes.Make(dtypes.Float32, spec.Shape...)})
	}
	return h
}

// run evaluates fn on two matrices of ids and gives the outputs' values.
func (h harness) run(t *testing.T, inputs, labels [][]int32, fn func(net *t5.Network, weights []*Node, inputs, labels *Node) []*Node) [][]float32 {
	t.Helper()
	in := append(slices.Clone(h.inputs),
		device.Input{Name: "inputs", Shape: shapes.Make(dtypes.Int32, len(inputs), len(inputs[0]))},
		device.Input{Name: "labels", Shape: shapes.Make(dtypes.Int32, len(labels), len(labels[0]))})
	k := len(h.inputs)
	p, err := h.backend.Compile("reference", in, func(nodes []*Node) []*Node {
		net := &t5.Network{Config: h.config, Weights: map[string]*Node{}}
		for i, w := range h.inputs {
			net.Weights[w.Name] = nodes[i]
		}
		return fn(net, nodes[:k], nodes[k], nodes[k+1])
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	args := slices.Clone(h.args)
	for _, m := range [][][]int32{inputs, labels} {
		tensor, err := h.backend.Int32(slices.Concat(m...), len(m), len(m[0]))
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, tensor)
	}
	out, err := p.Run(args, nil)
	if err != nil {
		t.Fatal(err)
	}
	values := make([][]float32, len(out))
	for i, o := range out {
		if values[i], err = tensors.CopyFlatData[float32](o); err != nil {
			t.Fatal(err)
		}
	}
	return values
}

const tolerance = 1e-4

func near(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s has %d values, want %d", what, len(got), len(want))
	}
	worst, at := 0.0, 0
	for i := range want {
		diff := math.Abs(float64(got[i]) - float64(want[i]))
		if scale := math.Abs(float64(want[i])); scale > 1 {
			diff /= scale
		}
		if !(diff <= worst) { // a NaN is the worst
			worst, at = diff, i
		}
	}
	if !(worst <= tolerance) {
		t.Errorf("%s differs by %g at %d: %g, want %g", what, worst, at, got[at], want[at])
	}
}

func TestForwardAgreesWithTransformers(t *testing.T) {
	devicetest.Each(t, func(t *testing.T, b *device.Backend) {
		for _, dir := range variants(t) {
			t.Run(filepath.Base(dir), func(t *testing.T) {
				f := readFixture(t, dir)
				got := open(t, b, dir).run(t, f.Inputs, f.Labels, func(net *t5.Network, _ []*Node, inputs, labels *Node) []*Node {
					states := net.Encode(inputs)
					real := BroadcastToDims(InsertAxes(NotEqual(inputs, ConstAs(inputs, int32(0))), -1), states.Shape().Dimensions...)
					return []*Node{Where(real, states, ZerosLike(states)), net.Forward(inputs, labels)}
				})
				near(t, "encoder", got[0], onlyReal(f, f.want(t, "encoder")))
				near(t, "logits", got[1], f.want(t, "logits"))
			})
		}
	})
}

// onlyReal zeroes the encoder states of padding, which mean nothing.
func onlyReal(f fixture, states []float32) []float32 {
	length := len(f.Inputs[0])
	width := len(states) / len(f.Inputs) / length
	for i, row := range f.Inputs {
		for j, id := range row {
			if id == 0 {
				clear(states[(i*length+j)*width : (i*length+j+1)*width])
			}
		}
	}
	return states
}

func TestLossAndGradientsAgreeWithTransformers(t *testing.T) {
	devicetest.Each(t, func(t *testing.T, b *device.Backend) {
		for _, dir := range variants(t) {
			t.Run(filepath.Base(dir), func(t *testing.T) {
				f := readFixture(t, dir)
				h := open(t, b, dir)
				for _, c := range []struct {
					loss   t5.Loss
					want   float64
					prefix string
					chunk  int // positions whose logits exist at a time; fewer than all: with gradient checkpointing
				}{
					{t5.Loss{}, f.Loss, "grad.", 1000},
					{t5.Loss{LabelSmoothing: 0.1}, f.LossSmoothed, "", 1000},
					{t5.Loss{ZLoss: 1e-4}, f.LossZ, "", 1000},
					{t5.Loss{LabelSmoothing: 0.1, ZLoss: 1e-4}, f.LossSmoothedZ, "grad_smoothed_z.", 3},
				} {
					checkLoss(t, h, f, c.loss, c.want, c.prefix, c.chunk)
				}
			})
		}
	})
}

func checkLoss(t *testing.T, h harness, f fixture, loss t5.Loss, want float64, prefix string, chunk int) {
	t.Helper()
	var names []string
	for _, name := range f.tensors.Names() {
		if weight, ok := strings.CutPrefix(name, prefix); ok && prefix != "" {
			names = append(names, weight)
		}
	}
	got := h.run(t, f.Inputs, f.Labels, func(net *t5.Network, weights []*Node, inputs, labels *Node) []*Node {
		net.Checkpointing = chunk < len(f.Labels[0])
		sums := loss.OfStates(net, net.States(inputs, labels), labels, chunk)
		mean := Div(sums.Loss, sums.Tokens)
		all := Gradient(mean, weights...)
		out := []*Node{mean}
		for _, name := range names {
			out = append(out, all[slices.IndexFunc(h.inputs, func(in device.Input) bool { return in.Name == name })])
		}
		return out
	})
	near(t, fmt.Sprintf("loss %+v", loss), got[0], []float32{float32(want)})
	for i, name := range names {
		near(t, prefix+name, got[i+1], f.want(t, prefix+name))
	}
}

func TestSequenceScoreAgreesWithTransformers(t *testing.T) {
	b := devicetest.Go(t)
	for _, dir := range variants(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			f := readFixture(t, dir)
			got := open(t, b, dir).run(t, f.Inputs, f.Labels, func(net *t5.Network, _ []*Node, inputs, labels *Node) []*Node {
				logProbs, _ := t5.TokenLogProbs(net.Forward(inputs, labels), labels)
				counted := NotEqual(labels, ConstAs(labels, int32(t5.Ignore)))
				return []*Node{ReduceSum(Where(counted, logProbs, ZerosLike(logProbs)), -1)}
			})
			want := make([]float32, len(f.LabelLogProb))
			for i, v := range f.LabelLogProb {
				want[i] = float32(v)
			}
			near(t, "log-probability", got[0], want)
		})
	}
}
