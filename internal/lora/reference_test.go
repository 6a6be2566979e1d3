package lora_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
	"github.com/t5ctl/t5ctl/internal/lora"
	"github.com/t5ctl/t5ctl/internal/safetensors"
	"github.com/t5ctl/t5ctl/internal/t5"
)

const base = "../t5/testdata/t5-1.1"

// supported are the adapters made by peft 0.21.2.
func supported() []string {
	return []string{"q-v", "all-linear-rslora", "regex", "patterns", "dora", "modules-to-save"}
}

type example struct {
	Inputs [][]int32 `json:"input_ids"`
	Labels [][]int32 `json:"labels"`
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

func float32s(t *testing.T, f *safetensors.File, name string) []float32 {
	t.Helper()
	tensor, ok := f.Tensor(name)
	if !ok {
		t.Fatalf("no %s in %s", name, f.Path())
	}
	values, err := tensor.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func openWeights(t *testing.T, b *device.Backend, adapter string) decode.Weights {
	t.Helper()
	return openWeightsIn(t, b, filepath.Join("testdata", adapter))
}

func openWeightsIn(t *testing.T, b *device.Backend, dir string) decode.Weights {
	t.Helper()
	c, err := t5.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	folder, err := lora.Read(dir, c.Config)
	if err != nil {
		t.Fatal(err)
	}
	return decode.Weights{
		Config: c.Config, Base: decode.InFolder(b, c),
		Adapter: folder.Adapter, Update: decode.InMemory(b, folder.Adapter.Specs(), folder.Values),
	}
}

func TestAdapterAgreesWithPEFT(t *testing.T) {
	var fixture example
	readJSON(t, filepath.Join(base, "fixture.json"), &fixture)
	var reference struct {
		Adapters map[string]struct {
			Greedy [][]int32 `json:"greedy"`
		} `json:"adapters"`
	}
	readJSON(t, "testdata/adapters.json", &reference)
	want, err := safetensors.Open("testdata/adapters.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = want.Close() })
	devicetest.Each(t, func(t *testing.T, b *device.Backend) {
		for _, name := range supported() {
			t.Run(name, func(t *testing.T) {
				w := openWeights(t, b, name)
				checkLogits(t, logits(t, b, w, fixture), float32s(t, want, name+".logits"))
				checkGreedy(t, b, w, fixture, reference.Adapters[name].Greedy)
			})
		}
	})
}

func logits(t *testing.T, b *device.Backend, w decode.Weights, f example) []float32 {
	t.Helper()
	e := decode.New(b, w)
	defer e.Close()
	values, err := e.Logits(f.Inputs, f.Labels)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func checkLogits(t *testing.T, got, want []float32) {
	t.Helper()
	for i := range want {
		if diff := math.Abs(float64(got[i] - want[i])); !(diff <= 1e-4*math.Max(1, math.Abs(float64(want[i])))) {
			t.Fatalf("logit %d is %g, want %g", i, got[i], want[i])
		}
	}
}

func checkGreedy(t *testing.T, b *device.Backend, w decode.Weights, f example, want [][]int32) {
	t.Helper()
	e := decode.New(b, w)
	defer e.Close()
	var sources []decode.Source
	for _, row := range f.Inputs {
		if end := slices.Index(row, 0); end >= 0 {
			row = row[:end]
		}
		sources = append(sources, decode.Source{Tokens: row})
	}
	o := decode.DefaultOptions()
	o.MaxNewTokens = 24
	got, err := e.Generate(context.Background(), sources, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if !slices.Equal(got[i][0].Tokens, want[i]) {
			t.Errorf("row %d: %v, want %v", i, got[i][0].Tokens, want[i])
		}
	}
}

func TestMergeAgreesWithPEFT(t *testing.T) {
	const weight = "encoder.block.0.layer.0.SelfAttention.v.weight"
	want, err := safetensors.Open("testdata/adapters.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = want.Close() })
	c, err := t5.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	for _, name := range supported() {
		folder, err := lora.Read(filepath.Join("testdata", name), c.Config)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(c.Tensors, func(t safetensors.Tensor) bool { return t.Name == weight })
		w, err := c.Tensors[i].Float32s()
		if err != nil {
			t.Fatal(err)
		}
		got := folder.Adapter.Merge(weight, w, folder.Values)
		for j, v := range float32s(t, want, name+".merged."+weight) {
			if math.Abs(float64(got[j]-v)) > 1e-6*math.Max(1, math.Abs(float64(v))) {
				t.Fatalf("%s: merged[%d] = %g, want %g", name, j, got[j], v)
			}
		}
	}
}

func TestFeaturesOfOtherAdaptersAreRefused(t *testing.T) {
	for _, change := range []string{`"bias": "all"`, `"fan_in_fan_out": true`, `"peft_type": "LOHA"`} {
		dir := t.TempDir()
		config := `{"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q"], ` + change + `}`
		if err := os.WriteFile(filepath.Join(dir, "adapter_config.json"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := lora.Read(dir, t5.DefaultConfig())
		if _, ok := errors.AsType[*lora.UnsupportedError](err); !ok {
			t.Errorf("%s: %v", change, err)
		}
	}
}

// Two patterns that disagree about a projection are refused: their order should not decide.
func TestPatternsThatDisagree(t *testing.T) {
	config := t5.DefaultConfig()
	config.NumDecoderLayers = 1
	o := lora.Options{Rank: 2, Alpha: 2, Targets: []string{"q"}, RankPattern: map[string]int{"q": 3, `decoder\..*\.q`: 4}}
	if _, err := lora.New(o, config); err == nil {
		t.Error("taken")
	}
	o.RankPattern["q"] = 4
	if _, err := lora.New(o, config); err != nil {
		t.Error(err)
	}
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	c, err := t5.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	for _, name := range supported() {
		folder, err := lora.Read(filepath.Join("testdata", name), c.Config)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		writeAdapter(t, dir, folder.Adapter, "some/base", map[string]string{"key": "value"}, folder.Values)
		back, err := lora.Read(dir, c.Config)
		if err != nil {
			t.Fatal(err)
		}
		if back.Base != "some/base" || back.Metadata["key"] != "value" || !slices.EqualFunc(back.Values, folder.Values, slices.Equal) {
			t.Errorf("%s changed on its way through a folder", name)
		}
	}
}

func TestTargets(t *testing.T) {
	config := t5.DefaultConfig()
	config.NumLayers, config.NumDecoderLayers = 2, 2
	tests := map[string]struct {
		targets []string
		modules int // 0: refused
	}{
		"q and v":                    {[]string{"q", "v"}, 12},
		"all linear":                 {[]string{lora.AllLinear}, 24 + 8},
		"a longer suffix":            {[]string{"EncDecAttention.q"}, 2},
		"a regular expression":       {[]string{`encoder\..*\.(q|k)`}, 4},
		"nothing matches":            {[]string{"q", "query"}, 0},
		"an expression among others": {[]string{"q", `enc.*`}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a, err := lora.New(lora.Options{Rank: 2, Alpha: 2, Targets: tt.targets}, config)
			if tt.modules == 0 {
				if _, ok := errors.AsType[*lora.NoTargetError](err); !ok {
					t.Errorf("New(%v) = %v; want a NoTargetError", tt.targets, err)
				}
				return
			}
			if err != nil || len(a.Specs()) != 2*tt.modules {
				t.Errorf("New(%v) sits on %d projections, %v; want %d", tt.targets, len(a.Specs())/2, err, tt.modules)
			}
		})
	}
}

// writeAdapter writes an adapter's folder as the trainer does.
func writeAdapter(t *testing.T, dir string, a *lora.Adapter, base string, metadata map[string]string, values [][]float32) {
	t.Helper()
	var tensors []safetensors.Tensor
	for i, spec := range a.Specs() {
		tensor, err := safetensors.FromFloat32s(spec.Name, "F32", spec.Shape, values[i])
		if err != nil {
			t.Fatal(err)
		}
		tensors = append(tensors, tensor)
	}
	if err := safetensors.Write(filepath.Join(dir, "adapter_model.safetensors"), metadata, tensors); err != nil {
		t.Fatal(err)
	}
	if err := lora.WriteConfig(dir, a.Options, base); err != nil {
		t.Fatal(err)
	}
}
