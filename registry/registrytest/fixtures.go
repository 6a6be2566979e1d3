// Package registrytest holds the tests that every backend of a registry must pass, and the
// small models that they push.
package registrytest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/registry"
)

// WriteModel puts a model folder at dir, whose one weight holds value, and returns dir. It has
// the form that transformers writes, sub-folder included.
func WriteModel(t testing.TB, dir string, value byte) string {
	t.Helper()
	write(t, dir, "config.json", `{"model_type":"t5","architectures":["T5ForConditionalGeneration"]}`)
	write(t, dir, "generation_config.json", `{"max_new_tokens":32}`)
	write(t, dir, "tokenizer_config.json", `{"tokenizer_class":"ByT5Tokenizer"}`)
	write(t, dir, "sub/extra.json", `{}`)
	write(t, dir, "pytorch_model.bin", "not to be kept")
	write(t, dir, ".cache/x.json", `{}`)
	write(t, dir, "model.safetensors", safetensors(value))
	return dir
}

// WriteAdapter puts a PEFT folder at dir.
func WriteAdapter(t testing.TB, dir, base string, value byte) string {
	t.Helper()
	config, err := json.Marshal(map[string]any{"peft_type": "LORA", "base_model_name_or_path": base, "r": 8})
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "adapter_config.json", string(config))
	write(t, dir, "adapter_model.safetensors", safetensors(value))
	return dir
}

// safetensors is a file with one tensor of 64 bytes.
func safetensors(value byte) string {
	header := `{"w":{"dtype":"F32","shape":[16],"data_offsets":[0,64]}}`
	for len(header)%8 != 0 {
		header += " "
	}
	data := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	data = append(data, header...)
	for range 64 {
		data = append(data, value)
	}
	return string(data)
}

func write(t testing.TB, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Report is an evaluation report with a BLEU score.
func Report(name string, score float64) registry.File {
	return registry.File{Name: name, Data: fmt.Appendf(nil, `{"schema":1,"kind":"evaluation","model":"m","data":{"fingerprint":"sha256:00","n":600},"decoding":{},`+
		`"metrics":[{"name":"bleu","label":"BLEU","score":%v,"signature":"nrefs:1","higher_is_better":true,"ci":[%v,%v],"n":600,"slice":"","verdict":"ok"}],"rows":null}`,
		score, score-1, score+1)}
}

// Gate is the result of a gate run over reports, as it is stored with a version.
func Gate(verdict string, reports ...registry.File) registry.File {
	type judged struct {
		Name   string `json:"name"`
		SHA256 string `json:"sha256"`
	}
	list := []judged{}
	for _, r := range reports {
		list = append(list, judged{r.Name, digest.Bytes(r.Data)})
	}
	data, err := json.Marshal(map[string]any{
		"schema": 1, "kind": "gate", "passed": verdict == "pass", "reports": list,
		"checks": []map[string]any{{"metric": "bleu", "slice": "", "bound": "min 30", "value": 40, "verdict": verdict, "reason": ""}},
	})
	if err != nil {
		panic(err) // a map of plain values
	}
	return registry.File{Name: "gate.json", Data: data}
}

// Evidence is a report and the gate result over it.
func Evidence(verdict string) []registry.File {
	report := Report("eval.json", 40.25)
	return []registry.File{report, Gate(verdict, report)}
}

// Request is a push of a model folder with passing gates.
func Request(t testing.TB, name string, value byte) registry.PushRequest {
	t.Helper()
	return registry.PushRequest{
		Model:   name,
		Dir:     WriteModel(t, t.TempDir(), value),
		Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		About:   registry.About{Family: "t5", Licenses: []string{"Apache-2.0"}},
		Reports: Evidence("pass"),
	}
}
