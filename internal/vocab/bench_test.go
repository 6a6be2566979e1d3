package vocab_test

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/t5ctl/t5ctl/internal/vocab"
)

// benchLines are the texts of the vectors in the given categories.
func benchLines(b *testing.B, cats ...string) (lines []string, size int64) {
	b.Helper()
	scanner := bufio.NewScanner(openData(b, "vectors-t5.jsonl"))
	scanner.Buffer(nil, 64<<20)
	for scanner.Scan() {
		var v vector
		if err := json.Unmarshal(scanner.Bytes(), &v); err != nil {
			b.Fatal(err)
		}
		for _, c := range cats {
			if v.Cat == c {
				lines, size = append(lines, v.text()), size+int64(len(v.text()))
			}
		}
	}
	return lines, size
}

func BenchmarkEncode(b *testing.B) {
	modes := map[string]*vocab.Tokenizer{
		"hf5":   load(b, "t5-spiece.model", "spiece.model", vocab.ModeHF5),
		"v11":   load(b, "flux-t5-v1_1-xxl-tokenizer.json", "tokenizer.json", vocab.ModeJSON),
		"sp":    load(b, "t5-spiece.model", "spiece.model", vocab.ModeSP),
		"bytes": vocab.Bytes(),
	}
	for _, set := range []struct {
		name string
		cats []string
	}{{"english", []string{"en"}}, {"languages", []string{"natural"}}} {
		lines, size := benchLines(b, set.cats...)
		for _, name := range []string{"hf5", "v11", "sp", "bytes"} {
			b.Run(set.name+"/"+name, func(b *testing.B) {
				b.SetBytes(size)
				var ids []int32
				for b.Loop() {
					for _, line := range lines {
						ids = modes[name].AppendEncode(ids[:0], line)
					}
				}
			})
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, name := range []string{"t5-spiece.model", "flux-t5-v1_1-xxl-tokenizer.json"} {
		path := filepath.Join(b.TempDir(), name)
		if err := os.WriteFile(path, readData(b, name), 0o600); err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := vocab.Load(path, vocab.ModeHF5); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
