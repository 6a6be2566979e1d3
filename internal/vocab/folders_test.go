package vocab_test

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/internal/vocab"
)

// folderCase is a model folder and what transformers 5.23.0 made of texts with it. A file is
// settings, or the name of a vocabulary: t5, mt5 or json.
type folderCase struct {
	Name  string                     `json:"name"`
	Files map[string]json.RawMessage `json:"files"`
	Size  int                        `json:"size"`
	Lines []struct {
		Text    string  `json:"text"`
		IDs     []int32 `json:"ids"`
		Dec     string  `json:"dec"`
		DecSkip string  `json:"dec_skip"`
	} `json:"lines"`
}

// write puts the folder on disk.
func (c *folderCase) write(t *testing.T, vocabularies map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range c.Files {
		var vocabulary string
		data := []byte(content)
		if json.Unmarshal(content, &vocabulary) == nil && vocabulary != "" {
			data = vocabularies[vocabulary]
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func readData(t testing.TB, name string) []byte {
	t.Helper()
	data, err := io.ReadAll(openData(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestFolders(t *testing.T) {
	t.Setenv("T5CTL_VECTORS", "")
	vocabularies := map[string][]byte{
		"t5": readData(t, "t5-spiece.model"), "mt5": readData(t, "mt5like.model"), "json": readData(t, "t5-small-tokenizer.json"),
	}
	var cases []folderCase
	if err := json.Unmarshal(readData(t, "folders.json"), &cases); err != nil {
		t.Fatal(err)
	}
	hashes := map[string]string{}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			tok, err := vocab.Load(c.write(t, vocabularies), "")
			if err != nil {
				t.Fatal(err)
			}
			c.compare(t, tok)
			copied := filepath.Join(t.TempDir(), "copy")
			if err := tok.WriteFiles(copied); err != nil {
				t.Fatal(err)
			}
			again, err := vocab.Load(copied, tok.Mode())
			if err != nil {
				t.Fatal(err)
			}
			if again.Hash() != tok.Hash() {
				t.Errorf("hash is %s, and %s after WriteFiles", tok.Hash(), again.Hash())
			}
			c.compare(t, again)
			hashes[c.Name] = tok.Hash()
		})
	}
	// Settings that change nothing leave the hash, those that change ids change it.
	for _, pair := range []struct {
		a, b string
		same bool
	}{
		{"model alone", "model, listed sentinels", true},
		{"model alone", "model, map", true},
		{"model alone", "model, sentinels that strip", false},
		{"model alone", "model, no sentinels", false},
		{"model alone", "model, a token of its own", false},
		{"json alone", "json and model", true},
		{"ByT5", "ByT5, 100 sentinels", false},
		{"ByT5, listed", "ByT5, 100 sentinels", true},
	} {
		if same := hashes[pair.a] == hashes[pair.b]; same != pair.same {
			t.Errorf("hashes of %q and %q equal: %v", pair.a, pair.b, same)
		}
	}
}

func (c *folderCase) compare(t *testing.T, tok *vocab.Tokenizer) {
	t.Helper()
	if tok.Size() != c.Size {
		t.Errorf("size %d, want %d", tok.Size(), c.Size)
	}
	for _, line := range c.Lines {
		if got := tok.Encode(line.Text); !slices.Equal(got, line.IDs) {
			t.Errorf("Encode(%q) = %v, want %v", line.Text, got, line.IDs)
		}
		if got := tok.Decode(line.IDs, false); got != line.Dec {
			t.Errorf("Decode(%v) = %q, want %q", line.IDs, got, line.Dec)
		}
		if got := tok.Decode(line.IDs, true); got != line.DecSkip {
			t.Errorf("Decode(%v), special tokens skipped = %q, want %q", line.IDs, got, line.DecSkip)
		}
	}
}
