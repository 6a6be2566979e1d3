package vocab_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clipperhouse/uax29/v2/graphemes"

	"github.com/t5ctl/t5ctl/internal/vocab"
)

func TestSequence(t *testing.T) {
	t.Setenv("T5CTL_VECTORS", "")
	hf5 := load(t, "t5-spiece.model", "spiece.model", vocab.ModeHF5)
	sp := load(t, "t5-spiece.model", "spiece.model", vocab.ModeSP)
	for _, text := range []string{"", " ", "hello world", "a b"} {
		a, b := hf5.Sequence(text), sp.Sequence(text)
		if !slices.Equal(a, b) || a[len(a)-1] != hf5.EOSID() {
			t.Errorf("%q is %v in hf5 and %v in sp", text, a, b)
		}
		if got := sp.Encode(text); !slices.Equal(got, b[:len(b)-1]) {
			t.Errorf("Encode(%q) = %v", text, got)
		}
	}
	for _, tok := range []*vocab.Tokenizer{hf5, sp} {
		if id, ok := tok.Sentinel(3); !ok || id != 32096 || tok.Size() != 32100 || tok.Sentinels() != 100 {
			t.Errorf("%v: sentinel 3 is %d, %v, of %d", tok, id, ok, tok.Sentinels())
		}
	}
	if got := sp.Decode([]int32{8774, 32099, 1, 40000, -5, 296}, false); got != "Hello<extra_id_0> world" {
		t.Errorf("sp decodes to %q", got)
	}
	if got := sp.Decode([]int32{8774, 32099, 296}, true); got != "Hello world" {
		t.Errorf("sp decodes to %q without special tokens", got)
	}
	if got := hf5.Decode([]int32{-1, 8774, 50000, 296, 1, 0}, true); got != "Hello world" {
		t.Errorf("hf5 decodes to %q", got)
	}
}

// One tokenizer is used by many goroutines; run with -race.
func TestConcurrentUse(t *testing.T) {
	t.Setenv("T5CTL_VECTORS", "")
	texts := []string{"hello world", "Ünïcödé ｆｕｌｌ", strings.Repeat("abc ", 1000), "<extra_id_0> x </s>", "日本語 中文"}
	for name, tok := range map[string]*vocab.Tokenizer{
		"hf5": load(t, "t5-spiece.model", "spiece.model", vocab.ModeHF5), "sp": load(t, "mt5like.model", "spiece.model", vocab.ModeSP), "bytes": vocab.Bytes(),
	} {
		var want [][]int32
		for _, text := range texts {
			want = append(want, tok.Encode(text))
		}
		var group sync.WaitGroup
		for worker := range 8 {
			group.Go(func() {
				for i := range 50 {
					k := (worker + i) % len(texts)
					ids := tok.Encode(texts[k])
					if !slices.Equal(ids, want[k]) || tok.Decode(ids, true) != tok.Decode(want[k], true) {
						t.Errorf("%s: %.20q differs", name, texts[k])
						return
					}
				}
			})
		}
		group.Wait()
	}
}

// A megabyte without a space takes no longer than other text, whatever it consists of.
func TestLongWords(t *testing.T) {
	t.Setenv("T5CTL_VECTORS", "")
	const size = 1 << 20
	words := map[string]string{
		"one letter": strings.Repeat("a", size), "a word": strings.Repeat("international", size/13), "unknown": strings.Repeat("ሀ", size/3),
		"one cluster": "a" + strings.Repeat("\u0301", size/2), "ideographs": strings.Repeat("漢字", size/6), "marks": strings.Repeat("▁", size/3),
		"specials": strings.Repeat("<extra_id_1", size/11), "spaces": strings.Repeat(" ", size), "invalid": strings.Repeat("\xf0\x90", size/2),
	}
	modes := map[string]*vocab.Tokenizer{
		"hf5": load(t, "t5-spiece.model", "spiece.model", vocab.ModeHF5), "sp": load(t, "t5-spiece.model", "spiece.model", vocab.ModeSP),
		"v11": load(t, "flux-t5-v1_1-xxl-tokenizer.json", "tokenizer.json", vocab.ModeJSON), "bytes": vocab.Bytes(),
	}
	for name, word := range words {
		for mode, tok := range modes {
			start := time.Now()
			ids := tok.Encode(word)
			// The bound is loose, for slow machines and the race detector; cubic work would take days.
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("%s: %s: %v for %d ids", mode, name, took, len(ids))
			} else {
				t.Logf("%s: %s: %v", mode, name, took)
			}
		}
	}
}

// The fast way through text rests on clusters ending between characters of these ranges.
func TestStandaloneRanges(t *testing.T) {
	count := func(text string) (n int) {
		for clusters := graphemes.FromString(text); clusters.Next(); {
			n++
		}
		return n
	}
	var samples []rune
	for _, bounds := range vocab.StandaloneRanges() {
		samples = append(samples, bounds[0], (bounds[0]+bounds[1])/2, bounds[1])
	}
	for _, bounds := range vocab.StandaloneRanges() {
		for r := bounds[0]; r <= bounds[1]; r++ {
			for _, other := range append(samples, r, 'a', ' ', '\n', 0, '<') {
				if n := count(string([]rune{r, other})); n != 2 {
					t.Fatalf("%U %U are %d clusters", r, other, n)
				}
				if n := count(string([]rune{other, r})); n != 2 {
					t.Fatalf("%U %U are %d clusters", other, r, n)
				}
			}
		}
	}
}

func TestParseMode(t *testing.T) {
	for name, want := range map[string]bool{"": true, "hf5": true, "json": true, "sp": true, "bytes": true, "HF5": false, "hf4": false} {
		if mode, err := vocab.ParseMode(name); (err == nil) != want || want && string(mode) != name {
			t.Errorf("ParseMode(%q) = %q, %v", name, mode, err)
		}
	}
}
