package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/internal/safetensors"
)

// sick copies the shipped base with one tensor a thousand times as large, and with what changes config.json.
func sick(t *testing.T, tensor string, config map[string]any) string {
	t.Helper()
	from, dir := filepath.Join("..", "..", "..", "models", "g2p-base"), t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]any{}
	if err := json.Unmarshal(text, &known); err != nil {
		t.Fatal(err)
	}
	for key, value := range config {
		known[key] = value
	}
	if text, err = json.Marshal(known); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	old, err := safetensors.OpenFolder(from, "model")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Close() }()
	var all []safetensors.Tensor
	for _, name := range old.Names() {
		one, _ := old.Tensor(name)
		if name == tensor {
			values, err := one.Float32s()
			if err != nil {
				t.Fatal(err)
			}
			for i := range values {
				values[i] *= 1000
			}
			if one, err = safetensors.FromFloat32s(name, safetensors.F32, one.Shape, values); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, one)
	}
	if err := safetensors.Write(filepath.Join(dir, "model.safetensors"), old.Metadata(), all); err != nil {
		t.Fatal(err)
	}
	return dir
}

// doctorOf gives the findings of a check on a model and some words.
func doctorOf(t *testing.T, model, rows, check string) (found []string, layers []string) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "rows.jsonl")
	if err := os.WriteFile(data, []byte(rows), 0o600); err != nil {
		t.Fatal(err)
	}
	var result struct {
		Findings []struct {
			Check, Verdict, Found, Fix string
			Layers                     []struct {
				Name    string
				Largest float64
			}
		}
	}
	if err := json.Unmarshal([]byte(t5ctl(t, 0, "--json", "doctor", "--model", model, "--data", data)), &result); err != nil {
		t.Fatal(err)
	}
	for _, f := range result.Findings {
		if f.Check == check {
			found = append(found, f.Verdict+": "+f.Found+" | "+f.Fix)
			for _, l := range f.Layers {
				if l.Largest <= 65504/2 {
					t.Errorf("%s is named with %g", l.Name, l.Largest)
				}
				layers = append(layers, l.Name)
			}
		}
	}
	return found, layers
}

func TestDoctorNamesTheLayersThatFP16CannotHold(t *testing.T) {
	const words = `{"input": "tomato", "target": "T AH M EY T OW"}` + "\n" + `{"input": "photo", "target": "F OW T OW"}` + "\n"
	const layer = "decoder.block.2.layer.2.DenseReluDense"
	found, layers := doctorOf(t, sick(t, layer+".wo.weight", nil), words, "fp16 overflow")
	if len(found) != 1 || !strings.HasPrefix(found[0], "note: on 2 rows these layers pass 65504") || !strings.Contains(found[0], "bf16") ||
		strings.Join(layers, " ") != layer+".wo "+layer {
		t.Errorf("%v, layers %v", found, layers)
	}
	if found, layers = doctorOf(t, sick(t, "", nil), words, "fp16 overflow"); len(found) != 1 || !strings.HasPrefix(found[0], "ok: the largest value on 2 rows") || layers != nil {
		t.Errorf("the base as it is: %v, layers %v", found, layers)
	}
}

func TestDoctorComparesPrefixesAndHeadWithTheBase(t *testing.T) {
	tasks := map[string]any{"task_specific_params": map[string]any{"summarization": map[string]any{"prefix": "summarize: "}, "other": map[string]any{"num_beams": 4}}}
	dir := sick(t, "", tasks)
	none, some, all := `{"input": "one", "target": "1"}`+"\n", `{"input": "summarize: two", "target": "2"}`+"\n", `{"input": "summarize: three", "target": "3"}`+"\n"
	if found, _ := doctorOf(t, dir, none, "prefix"); len(found) != 1 || !strings.Contains(found[0], "no input begins with it") || !strings.Contains(found[0], `--set data.prefix="summarize: "`) {
		t.Errorf("without it: %v", found)
	}
	if found, _ := doctorOf(t, dir, some+all, "prefix"); found != nil {
		t.Errorf("with it: %v", found)
	}
	if found, _ := doctorOf(t, sick(t, "", map[string]any{"tie_word_embeddings": true}), none, "head"); len(found) != 1 || !strings.Contains(found[0], "set tie_word_embeddings to false") {
		t.Errorf("a head that config.json denies: %v", found)
	}
	if found, _ := doctorOf(t, sick(t, "", nil), none, "head"); found != nil {
		t.Errorf("the base as it is: %v", found)
	}
}
