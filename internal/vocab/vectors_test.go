package vocab_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
func openData(t testing.TB, name string) io.Reader {
	t.Helper()
	dir := "testdata"
	if root := os.Getenv("T5CTL_VECTORS"); root != "" {
		dir = filepath.Join(root, "tokenizers")
	}
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err == nil {
		return bytes.NewReader(data)
	}
	packed, err := os.ReadFile(filepath.Join(dir, name+".gz"))
	if errors.Is(err, fs.ErrNotExist) && dir != "testdata" {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	reader, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	return reader
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
