package model_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
	"github.com/t5ctl/t5ctl/internal/lora"
	"github.com/t5ctl/t5ctl/internal/model"
	"github.com/t5ctl/t5ctl/internal/safetensors"
	"github.com/t5ctl/t5ctl/internal/t5"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

const byt5 = "../t5/testdata/byt5"

// folder writes the tiny byte-level model as a finished one, with the given metadata.
func folder(t *testing.T, metadata map[string]string, dtype safetensors.DType) string {
	t.Helper()
	config, err := os.ReadFile(filepath.Join(byt5, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "model")
	o := decode.DefaultOptions()
	o.MaxNewTokens = 9
	f := model.Finished{Weights: byt5, ConfigJSON: config, Generation: o, Tokenizer: vocab.Bytes(), Metadata: metadata, DType: dtype}
	if err := model.Write(dir, f); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestModelWritesScoresAndRemembersItsSettings(t *testing.T) {
	b := devicetest.Go(t)
	m, err := model.Open(b, folder(t, model.Metadata(vocab.Bytes(), "say: "), "F32"), model.Options{MaxInput: 6})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if m.Generation.MaxNewTokens != 9 || m.Prefix != "say: " || m.Tokenizer.Mode() != vocab.ModeBytes {
		t.Errorf("opened with %+v, prefix %q, mode %s", m.Generation, m.Prefix, m.Tokenizer.Mode())
	}
	out, err := m.Predict(context.Background(), []string{"ab", "longer than six"})
	if err != nil || len(out) != 2 || m.Truncated != 1 {
		t.Errorf("Predict = %q, %v, with %d inputs cut; want two texts and one cut", out, err, m.Truncated)
	}
	scores, err := m.LogProbs(context.Background(), "ab", []string{"x", "xy", "xyz"})
	if err != nil {
		t.Fatal(err)
	}
	alone, err := m.LogProbs(context.Background(), "ab", []string{"xy"})
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(scores[1]-alone[0]) > 1e-4 || scores[0] >= 0 {
		t.Errorf("log-probabilities %v, of the second alone %v", scores, alone)
	}
}

func TestOtherTokenizerIsRefused(t *testing.T) {
	b := devicetest.Go(t)
	for name, metadata := range map[string]map[string]string{
		"other files": {"t5ctl.tokenizer.sha256": "sha256:other", "t5ctl.tokenizer.mode": "bytes"},
		"other mode":  {"t5ctl.tokenizer.sha256": vocab.Bytes().Hash(), "t5ctl.tokenizer.mode": "sp"},
	} {
		_, err := model.Open(b, folder(t, metadata, "F32"), model.Options{TokenizerMode: vocab.ModeBytes})
		if _, ok := errors.AsType[*model.TokenizerError](err); !ok {
			t.Errorf("%s: %v; want a TokenizerError", name, err)
		}
	}
}

func TestMergedModelScoresLikeBaseAndAdapter(t *testing.T) {
	b := devicetest.Go(t)
	base := folder(t, model.Metadata(vocab.Bytes(), ""), "F32")
	c, err := t5.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	adapter, err := lora.New(lora.Options{Rank: 2, Alpha: 4, Targets: []string{"q", "v", "wo"}}, c.Config)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	var values [][]float32
	for i, spec := range adapter.Specs() {
		v, err := spec.Init(3, c.Float32s)
		if err != nil {
			t.Fatal(err)
		}
		for j := range v {
			if i%2 == 1 { // B would start at zero
				v[j] = float32(j%7-3) * 0.05
			}
		}
		values = append(values, v)
	}
	peft := t.TempDir()
	writeAdapter(t, peft, adapter, base, model.Metadata(vocab.Bytes(), ""), values)
	merged := filepath.Join(t.TempDir(), "merged")
	certificate, err := model.Merge(context.Background(), b, merged, base, peft)
	if err != nil {
		t.Fatal(err)
	}
	if !certificate.GreedyIdentical || certificate.Difference > certificate.Limit || certificate.GreedyTokens == 0 {
		t.Errorf("certified %+v", certificate)
	}
	// another model than the merged one gets no certificate
	if _, err := model.Certify(context.Background(), b, base, peft, base); err == nil {
		t.Error("the base without its adapter was certified")
	} else if refused, ok := errors.AsType[*model.CertificateError](err); !ok || refused.Certificate.Difference <= refused.Certificate.Limit {
		t.Errorf("%v; want a CertificateError", err)
	}
	score := func(dir, adapter string) []float64 {
		m, err := model.Open(b, dir, model.Options{Adapter: adapter})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		scores, err := m.LogProbs(context.Background(), "abc", []string{"d", "efgh"})
		if err != nil {
			t.Fatal(err)
		}
		return scores
	}
	plain, with, after := score(base, ""), score(base, peft), score(merged, "")
	for i := range with {
		if math.Abs(with[i]-after[i]) > 1e-4*math.Abs(with[i]) {
			t.Errorf("target %d scores %g merged, %g with the adapter", i, after[i], with[i])
		}
		if math.Abs(with[i]-plain[i]) < 1e-3 {
			t.Errorf("target %d: the adapter changes nothing", i)
		}
	}
}

// Several adapters share one base, and each scores as it does alone.
func TestAdaptersSideBySide(t *testing.T) {
	b := devicetest.Go(t)
	base := folder(t, model.Metadata(vocab.Bytes(), ""), "F32")
	c, err := t5.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	adapter, err := lora.New(lora.Options{Rank: 2, Alpha: 4, Targets: []string{"q", "wo"}}, c.Config)
	if err != nil {
		t.Fatal(err)
	}
	score := func(m *model.Model) float64 {
		scores, err := m.LogProbs(context.Background(), "abc", []string{"defg"})
		if err != nil {
			t.Fatal(err)
		}
		return scores[0]
	}
	var dirs []string
	var alone []float64
	for seed := range 2 {
		var values [][]float32
		for i, spec := range adapter.Specs() {
			v := make([]float32, spec.Shape[0]*spec.Shape[1])
			for j := range v {
				v[j] = float32((j+i*3+seed*5)%7-3) * 0.1
			}
			values = append(values, v)
		}
		dir := t.TempDir()
		writeAdapter(t, dir, adapter, base, model.Metadata(vocab.Bytes(), ""), values)
		m, err := model.Open(b, base, model.Options{Adapter: dir})
		if err != nil {
			t.Fatal(err)
		}
		alone = append(alone, score(m))
		m.Close()
		dirs = append(dirs, dir)
	}
	first, err := model.Open(b, base, model.Options{Adapter: dirs[0]})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := first.With(dirs[1])
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if a, b := score(first), score(second); a != alone[0] || b != alone[1] || a == b {
		t.Errorf("side by side %g and %g, alone %v", a, b, alone)
	}
}

func TestBF16FolderIsHalfTheSize(t *testing.T) {
	full, half := folder(t, nil, "F32"), folder(t, nil, "BF16")
	size := func(dir string) int64 {
		info, err := os.Stat(filepath.Join(dir, "model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	if f, h := size(full), size(half); h > f*6/10 {
		t.Errorf("bf16 takes %d bytes, fp32 %d", h, f)
	}
}

// Pairs scored together have the probabilities that each has alone.
func TestScorePairs(t *testing.T) {
	b := devicetest.Go(t)
	m, err := model.Open(b, folder(t, nil, "F32"), model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	sources, targets := []string{"a", "a longer input", "b"}, []string{"xyz", "q", ""}
	scores, err := m.ScorePairs(context.Background(), sources, targets)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range scores {
		sum := 0.0
		for _, p := range s.LogProbs {
			sum += float64(p)
		}
		alone, err := m.LogProbs(context.Background(), sources[i], targets[i:i+1])
		if err != nil || math.Abs(sum-alone[0]) > 1e-4 {
			t.Errorf("%q: %v in a batch, %v alone, %v", targets[i], sum, alone, err)
		}
	}
}

// Padding and the batch do not change an embedding.
func TestEmbed(t *testing.T) {
	b := devicetest.Go(t)
	m, err := model.Open(b, folder(t, nil, "F32"), model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	long := "a much longer text that goes into another bucket of lengths"
	all, err := m.Embed(context.Background(), []string{long, "ab", "abc"})
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range []string{long, "ab", "abc"} {
		alone, err := m.Embed(context.Background(), []string{text})
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range alone[0] {
			if math.Abs(float64(v-all[i][k])) > 1e-4 {
				t.Fatalf("%q: %v alone, %v in a batch", text, v, all[i][k])
			}
		}
		if len(alone[0]) != m.Config.DModel {
			t.Errorf("%d figures; want %d", len(alone[0]), m.Config.DModel)
		}
	}
	if all[1][0] == all[2][0] {
		t.Error("different texts have one embedding")
	}
}

// Every setting of generation survives being written to a folder.
func TestGenerationSettingsAreKept(t *testing.T) {
	config, err := os.ReadFile(filepath.Join(byt5, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := decode.Options{
		MaxNewTokens: 9, MinNewTokens: 2, Beams: 1, LengthPenalty: 1, EarlyStopping: "false", NumReturnSequences: 2, Sample: true,
		Temperature: 0.5, TopK: 3, TopP: 0.9, MinP: 0.1, TypicalP: 0.8, RepetitionPenalty: 1.2, NoRepeatNGram: 3,
		BadWords: [][]int32{{5, 6}, {7}}, SuppressTokens: []int32{8}, BeginSuppress: []int32{9}, ForcedFirst: 10, ForcedLast: 1, BatchRows: 64,
	}
	dir := filepath.Join(t.TempDir(), "model")
	if err := model.Write(dir, model.Finished{Weights: byt5, ConfigJSON: config, Generation: want, Tokenizer: vocab.Bytes(), DType: "F32"}); err != nil {
		t.Fatal(err)
	}
	got, err := decode.ReadOptions(dir, decode.DefaultOptions())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, %v; want %+v", got, err, want)
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
