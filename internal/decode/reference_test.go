package decode_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
	"github.com/t5ctl/t5ctl/internal/t5"
)

// generation is what transformers 5.23.0 generated with one setting.
type generation struct {
	Settings struct {
		MaxNewTokens  int     `json:"max_new_tokens"`
		Beams         int     `json:"num_beams"`
		LengthPenalty float64 `json:"length_penalty"`
		EarlyStopping any     `json:"early_stopping"`
		Return        int     `json:"num_return_sequences"`
	} `json:"settings"`
	Sequences [][]int32 `json:"sequences"`
	Scores    []float64 `json:"scores"`
}

func (g generation) options() decode.Options {
	o := decode.DefaultOptions()
	o.MaxNewTokens, o.Beams = g.Settings.MaxNewTokens, g.Settings.Beams
	o.NumReturnSequences = max(1, g.Settings.Return)
	if g.Settings.EarlyStopping != nil {
		o.EarlyStopping, o.LengthPenalty = fmt.Sprint(g.Settings.EarlyStopping), g.Settings.LengthPenalty
	}
	return o
}

type fixture struct {
	Inputs     [][]int32             `json:"input_ids"`
	Generation map[string]generation `json:"generation"`
}

// sources cuts the padding off.
func (f fixture) sources() []decode.Source {
	var list []decode.Source
	for i, row := range f.Inputs {
		if end := slices.Index(row, 0); end >= 0 {
			row = row[:end]
		}
		list = append(list, decode.Source{Tokens: row, Stream: uint64(i)})
	}
	return list
}

func eachVariant(t *testing.T, b *device.Backend, run func(t *testing.T, e *decode.Engine, f fixture)) {
	t.Helper()
	paths, err := filepath.Glob("../t5/testdata/*/fixture.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, path := range paths {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var f fixture
			if err := json.Unmarshal(data, &f); err != nil {
				t.Fatal(err)
			}
			run(t, engine(t, b, dir), f)
		})
	}
}

func engine(t *testing.T, b *device.Backend, dir string) *decode.Engine {
	t.Helper()
	c, err := t5.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	w := decode.Weights{Config: c.Config, Base: decode.InFolder(b, c)}
	e := decode.New(b, w)
	t.Cleanup(func() {
		e.Close()
		w.Close()
		_ = c.Close()
	})
	return e
}

func TestSearchesAgreeWithTransformers(t *testing.T) {
	devicetest.Each(t, func(t *testing.T, b *device.Backend) {
		eachVariant(t, b, func(t *testing.T, e *decode.Engine, f fixture) {
			for name, g := range f.Generation {
				t.Run(name, func(t *testing.T) { checkGeneration(t, e, f, g) })
			}
		})
	})
}

func checkGeneration(t *testing.T, e *decode.Engine, f fixture, g generation) {
	t.Helper()
	o := g.options()
	for _, onDevice := range []bool{true, false} { // false: in the kernels, where this machine has them
		e.OnDevice = onDevice
		got, err := e.Generate(context.Background(), f.sources(), o)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range g.Sequences {
			s := got[i/o.NumReturnSequences][i%o.NumReturnSequences]
			if !slices.Equal(s.Tokens, want) {
				t.Errorf("on the device %v: sequence %d is %v, want %v", onDevice, i, s.Tokens, want)
			}
			if g.Scores != nil && math.Abs(s.Score-g.Scores[i]) > 1e-4 {
				t.Errorf("on the device %v: sequence %d scores %g, want %g", onDevice, i, s.Score, g.Scores[i])
			}
		}
	}
}

func TestBatchingChangesNothing(t *testing.T) {
	b := devicetest.Go(t)
	eachVariant(t, b, func(t *testing.T, e *decode.Engine, f fixture) {
		for _, sample := range []bool{false, true} {
			o := decode.DefaultOptions()
			o.MaxNewTokens, o.Sample, o.Seed = 12, sample, 7
			together, err := e.Generate(context.Background(), f.sources(), o)
			if err != nil {
				t.Fatal(err)
			}
			for i, source := range f.sources() {
				alone, err := e.Generate(context.Background(), []decode.Source{source}, o)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(alone[0][0].Tokens, together[i][0].Tokens) {
					t.Errorf("sample %v, row %d: alone %v, in a batch %v", sample, i, alone[0][0].Tokens, together[i][0].Tokens)
				}
			}
		}
	})
}
