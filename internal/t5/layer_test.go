package t5_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
	"github.com/t5ctl/t5ctl/internal/t5"
)

// A panic of the engine names the layer and what went in; the stack is there for who asks.
func TestPanicsNameTheLayer(t *testing.T) {
	b := devicetest.Go(t)
	base, err := t5.Open("testdata/train/model")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = base.Close() }()
	const wrong = "decoder.block.1.layer.1.EncDecAttention.v.weight"
	inputs := []device.Input{{Name: "inputs", Shape: shapes.Make(dtypes.Int32, 2, 5)}, {Name: "labels", Shape: shapes.Make(dtypes.Int32, 2, 3)}}
	for _, spec := range base.Config.Specs() {
		in := device.Input{Name: spec.Name, Shape: shapes.Make(dtypes.Float32, spec.Shape...)}
		if spec.Name == wrong {
			in.Shape = shapes.Make(dtypes.Float32, spec.Shape[0], spec.Shape[1]+1)
		}
		inputs = append(inputs, in)
	}
	_, err = b.Compile("t5.test", inputs, func(in []*Node) []*Node {
		net := &t5.Network{Config: base.Config, Weights: map[string]*Node{}}
		for i, spec := range base.Config.Specs() {
			net.Weights[spec.Name] = in[2+i]
		}
		return []*Node{net.Forward(in[0], in[1])}
	})
	e, ok := errors.AsType[*t5.LayerError](err)
	if !ok || e.Layer != wrong || !slices.Equal(e.Shapes, []string{
		shapes.Make(dtypes.Float32, 2, 5, base.Config.DModel).String(),
		shapes.Make(dtypes.Float32, base.Config.NumHeads*base.Config.DKV, base.Config.DModel+1).String(),
	}) {
		t.Fatalf("%#v (%v)", e, err)
	}
	if text := err.Error(); strings.Contains(text, "\n") || strings.Contains(text, ".go:") || !strings.HasPrefix(text, "compiling t5.test: "+wrong+", given ") {
		t.Errorf("%q", text)
	}
	if detailed, ok := errors.AsType[interface {
		error
		Detail() string
	}](err); !ok || !strings.Contains(detailed.Detail(), "network.go:") {
		t.Errorf("the stack is not to be had: %v", detailed)
	}
}
