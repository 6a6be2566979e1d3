package model_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/t5ctl/t5ctl/internal/device/devicetest"
	"github.com/t5ctl/t5ctl/internal/lora"
	"github.com/t5ctl/t5ctl/internal/model"
	"github.com/t5ctl/t5ctl/internal/safetensors"
	"github.com/t5ctl/t5ctl/internal/t5"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// wideFolder writes a byte-level model whose weights weigh 24 MB.
func wideFolder(t *testing.T) (dir string, config t5.Config) {
	t.Helper()
	dir = t.TempDir()
	text := `{"model_type":"t5","vocab_size":384,"d_model":256,"d_kv":64,"d_ff":1024,"num_layers":3,"num_decoder_layers":3,"num_heads":4,` +
		`"feed_forward_proj":"relu","tie_word_embeddings":true,"decoder_start_token_id":0,"eos_token_id":1,"pad_token_id":0,"layer_norm_epsilon":1e-6,` +
		`"relative_attention_num_buckets":32,"relative_attention_max_distance":128}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := t5.ParseConfig([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var tensors []safetensors.Tensor
	for k, spec := range config.Specs() {
		values := pattern(spec.Shape, k)
		tensor, err := safetensors.FromFloat32s(spec.Name, "F32", spec.Shape, values)
		if err != nil {
			t.Fatal(err)
		}
		tensors = append(tensors, tensor)
	}
	if err := safetensors.Write(filepath.Join(dir, "model.safetensors"), model.Metadata(vocab.Bytes(), ""), tensors); err != nil {
		t.Fatal(err)
	}
	return dir, config
}

// pattern fills a shape with numbers that differ from one seed to the next.
func pattern(shape []int, seed int) []float32 {
	size := 1
	for _, n := range shape {
		size *= n
	}
	values := make([]float32, size)
	for i := range values {
		values[i] = float32((i*31+seed*17)%101-50) * 0.002
	}
	return values
}

// TestShelf opens a base and four adapters on it: each writes what it writes alone, all of them take less memory
// than three models, and the last to go takes the base along.
func TestShelf(t *testing.T) {
	b := devicetest.Go(t)
	dir, config := wideFolder(t)
	adapters := []string{""}
	for seed := range 4 {
		a, err := lora.New(lora.Options{Rank: 4, Alpha: 8, Targets: []string{"q", "v"}}, config)
		if err != nil {
			t.Fatal(err)
		}
		var values [][]float32
		for k, spec := range a.Specs() {
			v := pattern(spec.Shape, k+seed*1000)
			for i := range v {
				v[i] *= 10
			}
			values = append(values, v)
		}
		adapter := t.TempDir()
		writeAdapter(t, adapter, a, dir, model.Metadata(vocab.Bytes(), fmt.Sprintf("%d: ", seed)), values)
		adapters = append(adapters, adapter)
	}
	write := func(m *model.Model) string {
		m.Generation.MaxNewTokens = 4
		texts, err := m.Predict(t.Context(), []string{"what is it?"})
		if err != nil {
			t.Fatal(err)
		}
		scores, err := m.LogProbs(t.Context(), "what is it?", []string{"a text"})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s %q %g", m.Prefix, texts[0], scores[0])
	}
	held := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var alone []string
	var each int64
	for _, adapter := range adapters {
		before := held()
		m, err := model.Open(b, dir, model.Options{Adapter: adapter})
		if err != nil {
			t.Fatal(err)
		}
		alone = append(alone, write(m))
		each = max(each, held()-before)
		m.Close()
	}
	var shelf model.Shelf
	empty := held()
	var models []*model.Model
	for i, adapter := range adapters {
		m, err := shelf.Open(b, dir, model.Options{Adapter: adapter})
		if err != nil {
			t.Fatal(err)
		}
		models = append(models, m)
		if got := write(m); got != alone[i] || i > 0 && got == alone[0] {
			t.Errorf("adapter %d on the shelf: %s, alone %s, the base %s", i, got, alone[i], alone[0])
		}
	}
	all := held() - empty
	t.Logf("one model holds %d MB, a base and four adapters of it %d MB", each>>20, all>>20)
	if all > 3*each {
		t.Errorf("a base and four adapters hold %d MB, one model alone %d", all>>20, each>>20)
	}
	models[0].Close() // the adapters still have the base
	if got := write(models[4]); got != alone[4] {
		t.Errorf("without the base's own model: %s, alone %s", got, alone[4])
	}
	for _, m := range models[1:] {
		m.Close()
	}
	clear(models)
	if left := held() - empty; left > each/4 {
		t.Errorf("after the last has gone %d MB are held", left>>20)
	}
	if m, err := shelf.Open(b, dir, model.Options{}); err != nil || write(m) != alone[0] {
		t.Errorf("opened again: %v", err)
	} else {
		m.Close()
	}
	if _, err := shelf.Open(b, t.TempDir(), model.Options{}); err == nil {
		t.Error("an empty folder was opened")
	}
}
