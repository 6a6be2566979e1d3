package vocab_test

import (
	"testing"
	"unicode/utf8"

	"github.com/t5ctl/t5ctl/internal/vocab"
)

// use encodes and decodes with a tokenizer that came from foreign bytes: whatever it is, every id is
// in range and nothing panics.
func use(t *testing.T, tok *vocab.Tokenizer, text string) {
	for _, input := range []string{text, "Hello  wörld </s> <extra_id_0>\u0301 ａ漢字\x00\xff", ""} {
		ids := tok.Encode(input)
		for _, id := range ids {
			if id < 0 || int(id) >= tok.Size() {
				t.Fatalf("id %d of %d", id, tok.Size())
			}
		}
		for _, skip := range []bool{false, true} {
			if out := tok.Decode(ids, skip); !utf8.ValidString(out) {
				t.Fatalf("decoded to %q", out)
			}
		}
	}
}

func FuzzModelFile(f *testing.F) {
	tok, err := vocab.Train(linesOf([]string{"the quick brown fox jumps over the lazy dog", "the quick brown dog"}), vocab.TrainOptions{VocabSize: 32})
	if err != nil {
		f.Fatal(err)
	}
	small := vocab.WithoutRules(tok)
	f.Add(small, "the quick fox")
	f.Add(small[:len(small)/2], "the")
	f.Add([]byte{}, "")
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		for _, tok := range vocab.FromModel(data) {
			use(t, tok, text)
		}
	})
}

func FuzzCharsmap(f *testing.F) {
	// A trie of two rules: a becomes b, c followed by d becomes nothing.
	f.Add([]byte{8, 0, 0, 0, 0, 4, 0, 0, 97, 1, 0, 0, 98, 0}, "abcd")
	f.Fuzz(func(t *testing.T, charsmap []byte, text string) {
		for _, tok := range vocab.WithRules(charsmap) {
			use(t, tok, text)
		}
	})
}

func FuzzTokenizerJSON(f *testing.F) {
	f.Add([]byte(tinyJSON), "ab ba")
	f.Add([]byte(`{"model":{"vocab":[["<pad>",0],["</s>",0],["<unk>",0]]}}`), "x")
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		for _, tok := range vocab.FromJSON(data) {
			use(t, tok, text)
		}
	})
}

func FuzzBytes(f *testing.F) {
	f.Add("a </s> \xe2\x82 <extra_id_124>")
	f.Fuzz(func(t *testing.T, text string) { use(t, vocab.Bytes(), text) })
}

func FuzzEncode(f *testing.F) {
	modes := []*vocab.Tokenizer{
		load(f, "mt5like.model", "spiece.model", vocab.ModeHF5), load(f, "mt5like.model", "spiece.model", vocab.ModeSP),
		load(f, "flux-t5-v1_1-xxl-tokenizer.json", "tokenizer.json", vocab.ModeJSON), load(f, "flan-t5-small-tokenizer.json", "tokenizer.json", vocab.ModeJSON),
	}
	f.Add(" a\u0301 ｂ ▁<extra_id_3> \xff")
	f.Fuzz(func(t *testing.T, text string) {
		for _, tok := range modes {
			use(t, tok, text)
		}
	})
}
