package model_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/internal/model"
	"github.com/t5ctl/t5ctl/internal/safetensors"
)

// variablesOf reads a model.bin as testdata/list_variables.py of internal/ctranslate2 does.
func variablesOf(t *testing.T, path string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	take := func(n int) []byte {
		part := data[:n]
		data = data[n:]
		return part
	}
	number := func(n int) int {
		return int(binary.LittleEndian.Uint32(append(bytes.Clone(take(n)), 0, 0, 0, 0)))
	}
	text := func() string { return string(bytes.TrimSuffix(take(number(2)), []byte{0})) }
	found := map[string]string{"-": fmt.Sprintf("%d %s %d", number(4), text(), number(4))}
	for range number(4) {
		name := text()
		var dims []string
		for range number(1) {
			dims = append(dims, fmt.Sprint(number(4)))
		}
		if dims == nil {
			dims = []string{"-"}
		}
		kind := number(1)
		sum := sha256.Sum256(take(number(4)))
		found[name] = fmt.Sprintf("%s %d %s", strings.Join(dims, "x"), kind, hex.EncodeToString(sum[:])[:16])
	}
	for range number(4) {
		name, of := text(), text()
		found[name] = found[of]
		if scale := found[of+"_scale"]; scale != "" {
			found[name+"_scale"] = scale
		}
	}
	if len(data) != 0 {
		t.Fatalf("%d bytes are left", len(data))
	}
	return found
}

// Every variable is, byte for byte, the one that the converter of CTranslate2 4.8.5 writes; but for the scale before the
// head, which it takes from a flag that transformers 5 sets for every model.
func TestExportIsThatOfCTranslate2(t *testing.T) {
	packed, err := os.Open("../ctranslate2/testdata/byt5.txt.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]string{}
	for lines := bufio.NewScanner(unpacked); lines.Scan(); {
		precision, rest, _ := strings.Cut(lines.Text(), " ")
		name, value, _ := strings.Cut(rest, " ")
		if want[precision] == nil {
			want[precision] = map[string]string{}
		}
		want[precision][name] = value
	}
	dir := folder(t, nil, safetensors.F32)
	for ours, theirs := range map[string]string{"fp32": "float32", "int8": "int8", "bf16": "bfloat16"} {
		to := filepath.Join(t.TempDir(), "out")
		if err := model.ExportCTranslate2(to, dir, ours); err != nil {
			t.Fatal(err)
		}
		got := variablesOf(t, filepath.Join(to, "model.bin"))
		delete(want[theirs], "decoder/scale_outputs")
		if len(got) != len(want[theirs]) || len(got) < 60 {
			t.Errorf("%s: %d variables, want %d", ours, len(got), len(want[theirs]))
		}
		for name, value := range want[theirs] {
			if got[name] != value {
				t.Errorf("%s: %s is %q, want %q", ours, name, got[name], value)
			}
		}
		var tokens []string
		data, err := os.ReadFile(filepath.Join(to, "shared_vocabulary.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &tokens); err != nil || len(tokens) != 384 || tokens[1] != "</s>" || tokens[3+'a'] != "a" || tokens[3+255] != "ÿ" {
			t.Errorf("%v; %d tokens", err, len(tokens))
		}
		if err := model.ExportCTranslate2(to, dir, ours); !errors.Is(err, fs.ErrExist) {
			t.Errorf("a second time: %v", err)
		}
	}
}
