package vocab_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/internal/vocab"
)

// vector is one line of the reference vectors: what transformers 5.23.0, tokenizers 0.23.3 and
// sentencepiece 0.2.3 made of a text.
type vector struct {
	N        int     `json:"n"`
	Cat      string  `json:"cat"`
	Text     *string `json:"text"`
	Raw      []byte  `json:"b64"` // the text where it is not valid UTF-8
	IDs      []int32 `json:"ids"`
	HF5      []int32 `json:"hf5"`
	T5JSON   []int32 `json:"t5json"`
	FlanJSON []int32 `json:"flanjson"`
	V11JSON  []int32 `json:"v11json"`
	SP       []int32 `json:"sp"`
	Dec      *string `json:"dec"`
	DecSkip  *string `json:"dec_skip"`
	SPDec    *string `json:"sp_dec"`
}

func (v *vector) text() string {
	if v.Text != nil {
		return *v.Text
	}
	return string(v.Raw)
}

// openData opens one of the reference files: from $T5CTL_VECTORS/tokenizers, else from testdata.
// It returns nil if the variable is set and there is no such file.
func openData(t testing.TB, name string) io.Reader {
	t.Helper()
	dir := "testdata"
	if root := os.Getenv("T5CTL_VECTORS"); root != "" {
		dir = filepath.Join(root, "tokenizers")
	}
	if data, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
		return bytes.NewReader(data)
	}
	packed, err := os.ReadFile(filepath.Join(dir, name+".gz"))
	switch {
	case err == nil:
		reader, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		return reader
	case errors.Is(err, fs.ErrNotExist) && dir != "testdata":
		return nil
	case errors.Is(err, fs.ErrNotExist) && published()[name] != "":
		return bytes.NewReader(publishedJSON(t, name))
	}
	t.Fatal(err)
	return nil
}

// published has the SHA-256 of the tokenizer.json files as they are published. They differ from
// each other in the pipeline only, so testdata holds the pipelines and one vocabulary.
func published() map[string]string {
	return map[string]string{
		"t5-small-tokenizer.json":         "d2acde0d8d71dd30a711834b07781b9c89feaac33fd332f60507699282740066",
		"flan-t5-small-tokenizer.json":    "fe2ebbbbde2985be723e0ce18217853e4020c5e9d35bd07be2c27ab9d3ead57a",
		"flux-t5-v1_1-xxl-tokenizer.json": "6cd1badb7467cdab971403bbeb1945070ca385652385a2b6549f672b08089dfc",
	}
}

// publishedJSON puts a published tokenizer.json together again, to the bit.
func publishedJSON(t testing.TB, name string) []byte {
	t.Helper()
	model, err := io.ReadAll(openData(t, "t5-spiece.model"))
	if err != nil {
		t.Fatal(err)
	}
	template, err := io.ReadAll(openData(t, name+".tmpl"))
	if err != nil {
		t.Fatal(err)
	}
	pieces, scores, charsmap, err := vocab.ModelParts(model)
	if err != nil {
		t.Fatal(err)
	}
	for k := 99; k >= 0; k-- {
		pieces, scores = append(pieces, fmt.Sprintf("<extra_id_%d>", k)), append(scores, 0)
	}
	open, entry, between, end := "[", "[%s,%s]", ",", "]"
	if bytes.Contains(template, []byte("\n")) {
		open, entry, between, end = "[\n", "      [\n        %s,\n        %s\n      ]", ",\n", "\n    ]"
	}
	var list strings.Builder
	for i, piece := range pieces {
		list.WriteString(open)
		open = between
		score := strconv.FormatFloat(float64(scores[i]), 'f', -1, 64)
		if !strings.Contains(score, ".") {
			score += ".0"
		}
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(piece) + `"`
		fmt.Fprintf(&list, entry, quoted, score)
	}
	list.WriteString(end)
	out := strings.NewReplacer("{{vocab}}", list.String(), "{{charsmap}}", base64.StdEncoding.EncodeToString(charsmap)).
		Replace(string(template))
	if sum := sha256.Sum256([]byte(out)); hex.EncodeToString(sum[:]) != published()[name] {
		t.Fatalf("%s does not come out as published", name)
	}
	return []byte(out)
}

// check is one field of a vector and the tokenizer that must reproduce it.
type check struct {
	field string
	same  func(v *vector) bool
}

func encodes(tok *vocab.Tokenizer, want func(*vector) []int32) func(*vector) bool {
	return func(v *vector) bool { return slices.Equal(tok.Encode(v.text()), want(v)) }
}

func decodes(tok *vocab.Tokenizer, skip bool, ids func(*vector) []int32, want func(*vector) *string) func(*vector) bool {
	return func(v *vector) bool { return want(v) == nil || tok.Decode(ids(v), skip) == *want(v) }
}

// runVectors applies the checks to every line of the file. A line differs if any of them fails.
func runVectors(t *testing.T, name string, checks []check) {
	t.Helper()
	reader := openData(t, name)
	if reader == nil {
		t.Skipf("vectors: %s: skipped, not there", name)
	}
	lines := bufio.NewScanner(reader)
	lines.Buffer(nil, 64<<20)
	cases, differ := 0, 0
	for lines.Scan() {
		var v vector
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		cases++
		bad := false
		for _, c := range checks {
			if c.same(&v) {
				continue
			}
			if bad = true; differ < 20 {
				t.Errorf("%s line %d (%s): %s of %.200q differs", name, v.N, v.Cat, c.field, v.text())
			}
		}
		if bad {
			differ++
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	t.Logf("vectors: %s: %d cases, %d differ", name, cases, differ)
	if differ > 0 || cases == 0 {
		t.Errorf("%s: %d of %d cases differ", name, differ, cases)
	}
}

func TestVectorsByT5(t *testing.T) {
	tok := vocab.Bytes()
	ids := func(v *vector) []int32 { return v.IDs }
	runVectors(t, "vectors-byt5.jsonl", []check{
		{"ids", encodes(tok, ids)},
		{"dec", decodes(tok, false, ids, func(v *vector) *string { return v.Dec })},
		{"dec_skip", decodes(tok, true, ids, func(v *vector) *string { return v.DecSkip })},
	})
}

// load writes a reference file to disk under a name that says what it is, and loads it.
func load(t testing.TB, data, name string, mode vocab.Mode) *vocab.Tokenizer {
	t.Helper()
	reader := openData(t, data)
	if reader == nil {
		t.Skipf("vectors: %s: skipped, not there", data)
	}
	content, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	tok, err := vocab.Load(path, mode)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestVectorsT5(t *testing.T) {
	hf5 := load(t, "t5-spiece.model", "spiece.model", vocab.ModeHF5)
	sp := load(t, "t5-spiece.model", "spiece.model", vocab.ModeSP)
	ids := func(v *vector) []int32 { return v.HF5 }
	checks := []check{
		{"hf5", encodes(hf5, ids)},
		{"dec", decodes(hf5, false, ids, func(v *vector) *string { return v.Dec })},
		{"dec_skip", decodes(hf5, true, ids, func(v *vector) *string { return v.DecSkip })},
		{"sp", encodes(sp, func(v *vector) []int32 { return v.SP })},
		{"sp_dec", decodes(sp, false, func(v *vector) []int32 { return v.SP }, func(v *vector) *string { return v.SPDec })},
	}
	for _, c := range []struct {
		data, field string
		want        func(*vector) []int32
	}{
		{"t5-small-tokenizer.json", "t5json", func(v *vector) []int32 { return v.T5JSON }},
		{"flan-t5-small-tokenizer.json", "flanjson", func(v *vector) []int32 { return v.FlanJSON }},
		{"flux-t5-v1_1-xxl-tokenizer.json", "v11json", func(v *vector) []int32 { return v.V11JSON }},
	} {
		checks = append(checks,
			check{c.field, encodes(load(t, c.data, "tokenizer.json", vocab.ModeJSON), c.want)},
			check{"hf5 of " + c.data, encodes(load(t, c.data, "tokenizer.json", vocab.ModeHF5), ids)})
	}
	runVectors(t, "vectors-t5.jsonl", checks)
}

func TestVectorsMT5Like(t *testing.T) {
	hf5 := load(t, "mt5like.model", "spiece.model", vocab.ModeHF5)
	sp := load(t, "mt5like.model", "spiece.model", vocab.ModeSP)
	runVectors(t, "vectors-mt5like.jsonl", []check{
		{"hf5", encodes(hf5, func(v *vector) []int32 { return v.HF5 })},
		{"sp", encodes(sp, func(v *vector) []int32 { return v.SP })},
		{"sp_dec", decodes(sp, false, func(v *vector) []int32 { return v.SP }, func(v *vector) *string { return v.SPDec })},
	})
}
