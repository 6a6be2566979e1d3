package decode_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
)

// strategy is what transformers 5.23.0 generated with one setting; see testdata/gen.
type strategy struct {
	Settings  json.RawMessage `json:"settings"`
	Inputs    [][]int32       `json:"input_ids"`
	Sequences [][]int32       `json:"sequences"`
	Scores    []float64       `json:"scores"`
}

// optionsOf reads settings as a model folder's generation_config.json.
func optionsOf(t *testing.T, settings []byte) decode.Options {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "generation_config.json"), settings, 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := decode.ReadOptions(dir, decode.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func fixtureFile(t *testing.T, name string, into any) {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(unpacked).Decode(into); err != nil {
		t.Fatal(err)
	}
}

func sourcesOf(rows [][]int32) []decode.Source {
	list := make([]decode.Source, len(rows))
	for i, row := range rows {
		list[i] = decode.Source{Tokens: row, Stream: uint64(i)}
	}
	return list
}

// Every setting, all rows in one batch, each row alone, and in batches of two slots, which are
// refilled as rows end.
func TestStrategiesAgreeWithTransformers(t *testing.T) {
	var f struct {
		Variants map[string]map[string]strategy `json:"variants"`
	}
	fixtureFile(t, "strategies.json.gz", &f)
	b := devicetest.Go(t)
	for variant, settings := range f.Variants {
		e := engine(t, b, filepath.Join("../t5/testdata", variant))
		for name, s := range settings {
			t.Run(variant+"/"+name, func(t *testing.T) {
				o := optionsOf(t, s.Settings)
				s.check(t, e, o, "together", s.Inputs, s.Sequences)
				o.BatchRows = 2
				s.check(t, e, o, "by twos", s.Inputs, s.Sequences)
				if variant == "umt5" {
					e.OnDevice = true
					s.check(t, e, o, "by twos on the device", s.Inputs, s.Sequences)
					e.OnDevice = false
				}
				n := o.NumReturnSequences
				for i := range s.Inputs {
					s.check(t, e, o, fmt.Sprintf("row %d alone", i), s.Inputs[i:i+1], s.Sequences[i*n:(i+1)*n])
				}
			})
		}
	}
}

func (s strategy) check(t *testing.T, e *decode.Engine, o decode.Options, how string, inputs, want [][]int32) {
	t.Helper()
	got, err := e.Generate(context.Background(), sourcesOf(inputs), o)
	if err != nil {
		t.Fatal(err)
	}
	for i, sequence := range want {
		g := got[i/o.NumReturnSequences][i%o.NumReturnSequences]
		if !slices.Equal(g.Tokens, sequence) {
			t.Errorf("%s: output %d is %v, want %v", how, i, g.Tokens, sequence)
		}
		if s.Scores != nil && len(want) == len(s.Scores) && math.Abs(g.Score-s.Scores[i]) > 1e-4+1e-5*math.Abs(s.Scores[i]) {
			t.Errorf("%s: output %d scores %g, want %g", how, i, g.Score, s.Scores[i])
		}
	}
}

func TestDistributionsAgreeWithTransformers(t *testing.T) {
	var f struct {
		Cases []struct {
			Settings      json.RawMessage `json:"settings"`
			Logits        []float32       `json:"logits"`
			Tokens        []int32         `json:"tokens"`
			Probabilities []float64       `json:"probabilities"`
		} `json:"cases"`
	}
	fixtureFile(t, "distributions.json.gz", &f)
	for _, c := range f.Cases {
		o := optionsOf(t, c.Settings)
		if !bytes.Contains(c.Settings, []byte(`"top_k"`)) {
			o.TopK = 0
		}
		ids, weights := decode.Distribution(c.Logits, o)
		total := 0.0
		for _, w := range weights {
			total += w
		}
		got := map[int32]float64{}
		for i, id := range ids {
			got[id] = weights[i] / total
		}
		if len(got) != len(c.Tokens) {
			t.Errorf("%s: %d tokens are left, want %d", c.Settings, len(got), len(c.Tokens))
		}
		for i, id := range c.Tokens {
			if math.Abs(got[id]-c.Probabilities[i]) > 1e-6 {
				t.Errorf("%s: token %d has probability %g, want %g", c.Settings, id, got[id], c.Probabilities[i])
			}
		}
	}
}

// TestSamplingFollowsTheDistribution draws the first token of one source many times and compares
// the counts with the exact probabilities by a chi-square test at 1e-4.
func TestSamplingFollowsTheDistribution(t *testing.T) {
	b := devicetest.Go(t)
	e := engine(t, b, "../t5/testdata/t5-1.0")
	source := []int32{17, 45, 91, 8, 1}
	const draws = 4000
	for name, change := range map[string]func(*decode.Options){
		"plain":  func(o *decode.Options) { o.TopK = 0 },
		"warped": func(o *decode.Options) { o.TopK, o.Temperature, o.MinP = 40, 1.5, 0.02 },
	} {
		o := decode.DefaultOptions()
		o.Sample, o.MaxNewTokens, o.Seed, o.BatchRows = true, 1, 11, 256
		change(&o)
		var targets [][]int32
		for token := range int32(160) {
			targets = append(targets, []int32{token})
		}
		scores, err := e.Score(context.Background(), source, targets)
		if err != nil {
			t.Fatal(err)
		}
		flat := make([]float32, len(scores))
		for i, s := range scores {
			flat[i] = s[0]
		}
		ids, weights := decode.Distribution(flat, o)
		many := make([]decode.Source, draws)
		for i := range many {
			many[i] = decode.Source{Tokens: source, Stream: uint64(i)}
		}
		found, err := e.Generate(context.Background(), many, o)
		if err != nil {
			t.Fatal(err)
		}
		counts := map[int32]float64{}
		for _, sequences := range found {
			counts[sequences[0].Tokens[0]]++
		}
		if statistic, limit := chiSquare(ids, weights, counts, draws); statistic > limit {
			t.Errorf("%s: chi-square %.1f, limit %.1f", name, statistic, limit)
		}
	}
}

// chiSquare puts tokens that are expected less than five times together. The limit is the
// 1 − 1e-4 quantile by Wilson and Hilferty.
func chiSquare(ids []int32, weights []float64, counts map[int32]float64, draws int) (statistic, limit float64) {
	total := 0.0
	for _, w := range weights {
		total += w
	}
	cells, restExpected, restSeen, seen := 0, 0.0, 0.0, 0.0
	for i, id := range ids {
		expected := weights[i] / total * float64(draws)
		seen += counts[id]
		if expected < 5 {
			restExpected += expected
			restSeen += counts[id]
			continue
		}
		cells++
		statistic += (counts[id] - expected) * (counts[id] - expected) / expected
	}
	if restExpected > 0 {
		cells++
		statistic += (restSeen - restExpected) * (restSeen - restExpected) / restExpected
	}
	if seen != float64(draws) { // something impossible was drawn
		return math.Inf(1), 0
	}
	k := float64(cells - 1)
	z := 3.719 // of 1e-4
	return statistic, k * math.Pow(1-2/(9*k)+z*math.Sqrt(2/(9*k)), 3)
}

func TestUnsupportedSettingsAreRefused(t *testing.T) {
	dir := t.TempDir()
	for text, fits := range map[string]bool{
		`{"num_beam_groups": 2, "num_beams": 4}`: false,
		`{"penalty_alpha": 0.6}`:                 false,
		`{"num_beam_groups": 1, "top_h": null}`:  true,
	} {
		if err := os.WriteFile(filepath.Join(dir, "generation_config.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := decode.ReadOptions(dir, decode.DefaultOptions()); (err == nil) != fits {
			t.Errorf("%s: %v", text, err)
		}
	}
}
