package datasets_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
	"github.com/t5ctl/t5ctl/internal/vocab"
	"pgregory.net/rapid"
)

// words writes n pairs whose lengths vary, in a fixed way.
func words(t *testing.T, n int) string {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for i := range n {
		input := strings.Repeat(string(rune('a'+i%26)), 1+int(r.ExpFloat64()*6)%40)
		target := strings.Repeat("x", 1+2*len(input)/3+r.IntN(4))
		fmt.Fprintf(&b, `{"input":"%s","target":"%s","id":"r%d"}`+"\n", input, target, i)
	}
	return write(t, "words.jsonl", b.String())
}

// corpus tokenizes the file at byte level.
func corpus(t *testing.T, path string) *datasets.Corpus {
	t.Helper()
	c, _, err := datasets.Tokenize(t.Context(), datasets.TokenizeOptions{
		Files: []string{path}, Tokenizer: vocab.Bytes(), MaxInput: 64, MaxTarget: 64,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func stream(t *testing.T, c *datasets.Corpus, o datasets.BatchOptions) *datasets.Stream {
	t.Helper()
	s, err := c.Batches(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// next gives n batches.
func next(t *testing.T, s *datasets.Stream, n int64) []seq2seq.Batch {
	t.Helper()
	var out []seq2seq.Batch
	for range n {
		b, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// fingerprint is a text that differs if any bit of the batches does.
func fingerprint(t *testing.T, batches []seq2seq.Batch) string {
	t.Helper()
	data, err := json.Marshal(batches)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestTokenize(t *testing.T) {
	path := write(t, "d.jsonl", `{"input":"abc","target":"déf","id":"one"}`+"\n"+`bad`+"\n"+`{"input":"abcdefgh","target":""}`+"\n")
	c, files, err := datasets.Tokenize(t.Context(), datasets.TokenizeOptions{
		Files: []string{path}, Tokenizer: vocab.Bytes(), Prefix: "p:", MaxInput: 7, MaxTarget: 4,
		Read: datasets.ReadOptions{OnBadRow: datasets.Skip},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // a test
	want := datasets.Stats{
		Rows: 2, Skipped: 1, TruncatedInputs: 1, TruncatedTargets: 1, InputTokens: 13, TargetTokens: 5,
		LongestInput: 11, LongestTarget: 5,
	}
	if got := c.Stats(); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
	input, target := c.Tokens(0)
	if !slices.Equal(input, []int32{115, 61, 100, 101, 102, 1}) || !slices.Equal(target, []int32{103, 198, 172, 1}) {
		t.Errorf("row 0: %v and %v", input, target)
	}
	input, target = c.Tokens(1)
	if !slices.Equal(input, []int32{115, 61, 100, 101, 102, 103, 1}) || !slices.Equal(target, []int32{1}) {
		t.Errorf("row 1: %v and %v", input, target)
	}
	if c.ID(0) != "one" || c.ID(1) != filepath.ToSlash(path)+":3" {
		t.Errorf("ids %q, %q", c.ID(0), c.ID(1))
	}
	if skipped := c.Skipped(); len(skipped) != 1 || skipped[0].Line != 2 || skipped[0].Path != path {
		t.Errorf("skipped %v", skipped)
	}
	if len(files) != 1 || files[0].Path != path || !strings.HasPrefix(files[0].Digest, "sha256:") {
		t.Errorf("files %+v", files)
	}
}

// A cache is used for the same content under the same settings, and made anew when it is damaged.
func TestTokenCache(t *testing.T) {
	dir, path := t.TempDir(), words(t, 300)
	open := func(change func(*datasets.TokenizeOptions)) (string, int) {
		tokenized := 0
		o := datasets.TokenizeOptions{
			Files: []string{path}, Tokenizer: vocab.Bytes(), MaxInput: 20, MaxTarget: 20, CacheDir: dir,
			Progress: func(int64) { tokenized++ },
		}
		change(&o)
		c, _, err := datasets.Tokenize(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() //nolint:errcheck // a test
		s := stream(t, c, datasets.BatchOptions{Rows: 8, Shuffle: true})
		return fingerprint(t, next(t, s, s.PerEpoch())), tokenized
	}
	same := func(*datasets.TokenizeOptions) {}
	first, made := open(same)
	if made == 0 {
		t.Fatal("nothing was tokenized")
	}
	again, made := open(same)
	if made != 0 || again != first {
		t.Errorf("the cache was not used (%d) or differs (%v)", made, again != first)
	}
	if _, made = open(func(o *datasets.TokenizeOptions) { o.Prefix = "x" }); made == 0 {
		t.Error("the cache was used under another prefix")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("the cache holds %v, %v", entries, err)
	}
	for _, entry := range entries {
		file := filepath.Join(dir, entry.Name())
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/3]++
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if again, made = open(same); made == 0 || again != first {
		t.Errorf("a damaged cache: made %d, differs %v", made, again != first)
	}
}

func TestTokenizeFailures(t *testing.T) {
	dir := t.TempDir()
	o := datasets.TokenizeOptions{Tokenizer: vocab.Bytes(), CacheDir: dir, Files: []string{write(t, "d.jsonl", good+"bad\n")}}
	if _, _, err := datasets.Tokenize(t.Context(), o); err == nil {
		t.Error("a bad row was taken")
	} else if _, ok := errors.AsType[*datasets.RowError](err); !ok {
		t.Errorf("%T: %v", err, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	cancel(stop)
	o.Files = []string{words(t, 10000)}
	if _, _, err := datasets.Tokenize(ctx, o); !errors.Is(err, stop) {
		t.Errorf("cancelled: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// One pass gives every row once, whatever the options.
func TestBatchesCoverTheData(t *testing.T) {
	c := corpus(t, words(t, 700))
	tests := map[string]datasets.BatchOptions{
		"rows":           {Rows: 16},
		"shuffled":       {Rows: 16, Shuffle: true, Seed: 3},
		"one bucket":     {Rows: 16, Shuffle: true, MaxBuckets: 1},
		"five buckets":   {Rows: 7, Shuffle: true, MaxBuckets: 5},
		"tokens":         {Tokens: 1000, Shuffle: true},
		"tiny budget":    {Tokens: 1, Shuffle: true},
		"buckets given":  {Rows: 16, Buckets: []datasets.Bucket{{Input: 64, Target: 64}, {Input: 8, Target: 8}}},
		"a larger batch": {Rows: 2000, MaxBuckets: 2},
	}
	for name, o := range tests {
		t.Run(name, func(t *testing.T) {
			s := stream(t, c, o)
			seen := map[string]int{}
			shapes := map[[3]int]int64{}
			for _, b := range next(t, s, s.PerEpoch()) {
				if len(b.IDs) == 0 || len(b.IDs) > b.Rows || len(b.Inputs) != b.Rows*b.InputLen || len(b.Labels) != b.Rows*b.TargetLen {
					t.Fatalf("batch %d × (%d → %d) with %d ids", b.Rows, b.InputLen, b.TargetLen, len(b.IDs))
				}
				shapes[[3]int{b.Rows, b.InputLen, b.TargetLen}]++
				for _, id := range b.IDs {
					seen[id]++
				}
				if strings.Contains(name, "budget") && o.Tokens > 1 && b.Rows*(b.InputLen+b.TargetLen) > o.Tokens {
					t.Errorf("%d tokens in a batch", b.Rows*(b.InputLen+b.TargetLen))
				}
				for _, label := range b.Labels[len(b.IDs)*b.TargetLen:] {
					if label != seq2seq.Ignore {
						t.Fatal("an empty row has a label")
					}
				}
			}
			if len(seen) != 700 {
				t.Errorf("%d rows were seen", len(seen))
			}
			for id, n := range seen {
				if n != 1 {
					t.Errorf("row %s was seen %d times", id, n)
				}
			}
			for _, shape := range s.Shapes() {
				if shapes[[3]int{shape.Rows, shape.Input, shape.Target}] != shape.Batches {
					t.Errorf("shape %+v, but seen %v", shape, shapes)
				}
			}
			if p := s.Position(); p != (seq2seq.Position{Epoch: 1}) {
				t.Errorf("behind a pass the position is %+v", p)
			}
		})
	}
}

// More buckets never pad more, and a few of them pad little.
func TestBucketsSavePadding(t *testing.T) {
	c := corpus(t, words(t, 5000))
	before := 1.0
	for n := 1; n <= 4; n++ {
		s := stream(t, c, datasets.BatchOptions{Tokens: 4096, MaxBuckets: n})
		if len(s.Shapes()) > n {
			t.Errorf("%d buckets, at most %d were asked for", len(s.Shapes()), n)
		}
		if s.Padding() > before+0.001 {
			t.Errorf("%d buckets pad %.3f, fewer %.3f", n, s.Padding(), before)
		}
		before = s.Padding()
		t.Logf("%d buckets: %.1f %% padding, %+v", n, 100*before, s.Shapes())
	}
	if before > 0.4 {
		t.Errorf("four buckets pad %.1f %%", 100*before)
	}
}

// A pass is not like the one before, and another seed not like this one.
func TestShuffle(t *testing.T) {
	c := corpus(t, words(t, 300))
	o := datasets.BatchOptions{Rows: 8, Shuffle: true, Seed: 1}
	s := stream(t, c, o)
	first, second := fingerprint(t, next(t, s, s.PerEpoch())), fingerprint(t, next(t, s, s.PerEpoch()))
	if first == second {
		t.Error("two passes have the same order")
	}
	if again := stream(t, c, o); fingerprint(t, next(t, again, again.PerEpoch())) != first {
		t.Error("the same seed gives another order")
	}
	o.Seed = 2
	if other := stream(t, c, o); fingerprint(t, next(t, other, other.PerEpoch())) == first {
		t.Error("another seed gives the same order")
	}
}

// The order of rows is part of the promise: a run that is resumed by a later version must go on
// with the same data.
func TestOrderIsFixed(t *testing.T) {
	s := stream(t, corpus(t, words(t, 40)), datasets.BatchOptions{Rows: 8, Shuffle: true, Seed: 42, MaxBuckets: 1})
	var ids []string
	for _, b := range next(t, s, 2) {
		ids = append(ids, strings.Join(b.IDs, " "))
	}
	want := []string{"r28 r32 r27 r19 r34 r10 r1 r16", "r38 r5 r31 r13 r36 r39 r9 r29"}
	if !slices.Equal(ids, want) {
		t.Errorf("got %q, want %q", ids, want)
	}
}

// From any position, what follows is what followed before.
func TestSeek(t *testing.T) {
	path := words(t, 400)
	c := corpus(t, path)
	source := datasets.Source{
		Train: datasets.Paths{path}, MaxInput: 64, MaxTarget: 64,
		Objectives: []datasets.Objective{{Kind: datasets.SpanCorruption}, {Kind: datasets.Denoise, Rate: 3}, {Kind: datasets.Supervised, Rate: 0.5}},
	}
	data, err := source.Open(t.Context(), datasets.Train, datasets.OpenOptions{Tokenizer: vocab.Bytes()})
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close() //nolint:errcheck // a test
	tests := map[string]func() (*datasets.Stream, error){
		"pairs": func() (*datasets.Stream, error) {
			return c.Batches(datasets.BatchOptions{Rows: 8, Shuffle: true, Seed: 5})
		},
		"mixture": func() (*datasets.Stream, error) {
			return data.Batches(datasets.BatchOptions{Rows: 8, Shuffle: true, Seed: 5})
		},
	}
	for name, open := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := open()
			if err != nil {
				t.Fatal(err)
			}
			n := 3 * s.PerEpoch()
			var positions []seq2seq.Position
			var batches []string
			for range n {
				positions = append(positions, s.Position())
				batches = append(batches, fingerprint(t, next(t, s, 1)))
			}
			fresh, err := open()
			if err != nil {
				t.Fatal(err)
			}
			rapid.Check(t, func(r *rapid.T) {
				i := rapid.IntRange(0, int(n)-2).Draw(r, "position")
				if err := fresh.Seek(positions[i]); err != nil {
					r.Fatal(err)
				}
				for j := i; j < i+2; j++ {
					if got := fingerprint(t, next(t, fresh, 1)); got != batches[j] {
						r.Fatalf("batch %d behind %+v differs", j-i, positions[i])
					}
				}
			})
			for _, p := range []seq2seq.Position{{Epoch: -1}, {Offset: -1}, {Offset: s.PerEpoch()}} {
				if err := s.Seek(p); err == nil {
					t.Errorf("seeking %+v was taken", p)
				}
			}
		})
	}
}

func TestBatchesRefuse(t *testing.T) {
	c := corpus(t, words(t, 50))
	tests := map[string]datasets.BatchOptions{
		"no size":        {},
		"two sizes":      {Rows: 1, Tokens: 100},
		"too short":      {Rows: 4, Buckets: []datasets.Bucket{{Input: 5, Target: 5}}},
		"nothing's left": {Rows: 1000, DropLast: true},
	}
	for name, o := range tests {
		if s, err := c.Batches(o); err == nil {
			t.Errorf("%s: no error, shapes %+v", name, s.Shapes())
		}
	}
	_, err := c.Batches(tests["too short"])
	if _, ok := errors.AsType[*datasets.TooLongError](err); !ok {
		t.Errorf("got %v, want a TooLongError", err)
	}
	s := stream(t, c, datasets.BatchOptions{Rows: 7, DropLast: true, MaxBuckets: 1, Shuffle: true})
	for _, b := range next(t, s, s.PerEpoch()) {
		if len(b.IDs) != b.Rows {
			t.Errorf("a batch with %d of %d rows", len(b.IDs), b.Rows)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Objectives make what they say of the texts, in the shares that they say.
func TestObjectives(t *testing.T) {
	path := words(t, 1000)
	source := datasets.Source{
		Train: datasets.Paths{path}, MaxInput: 32, MaxTarget: 32,
		Objectives: []datasets.Objective{{Kind: datasets.SpanCorruption}, {Kind: datasets.Denoise, Rate: 3}},
	}
	data, err := source.Open(t.Context(), datasets.Train, datasets.OpenOptions{Tokenizer: vocab.Bytes()})
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close() //nolint:errcheck // a test
	s, err := data.Batches(datasets.BatchOptions{Rows: 4, Shuffle: true})
	if err != nil {
		t.Fatal(err)
	}
	spans, running := 0, map[string]bool{}
	const n = 1000
	for _, b := range next(t, s, n) {
		if b.InputLen == 32 && b.TargetLen == 8 {
			spans++
			for i := range b.IDs {
				running[fmt.Sprint(b.Labels[i*8:(i+1)*8])] = true
				if first, _ := vocab.Bytes().Sentinel(0); b.Labels[i*8] != first {
					t.Fatalf("a target starts with %d, not the first sentinel", b.Labels[i*8])
				}
			}
		} else {
			checkDenoised(t, b)
		}
	}
	if spans != n/4 {
		t.Errorf("%d of %d batches are of span corruption, want a quarter", spans, n)
	}
	if data.Record.Rows != 1000 || data.Record.TruncatedTargets == 0 {
		t.Errorf("record %+v", data.Record)
	}
}

// checkDenoised compares inputs with their targets: nothing that the target lacks, and seldom
// much that it has is missing.
func checkDenoised(t *testing.T, b seq2seq.Batch) {
	t.Helper()
	for i := range b.IDs {
		input, target := b.Inputs[i*b.InputLen:(i+1)*b.InputLen], b.Labels[i*b.TargetLen:(i+1)*b.TargetLen]
		have := map[int32]int{}
		for _, id := range target {
			have[id]++
		}
		for _, id := range input {
			if id != seq2seq.Pad && id < 259 {
				if have[id]--; have[id] < 0 {
					t.Fatalf("input %v has what target %v lacks", input, target)
				}
			}
		}
	}
}

func TestSpanCorruptionNeedsSentinels(t *testing.T) {
	source := datasets.Source{
		Train: datasets.Paths{words(t, 2000)}, MaxInput: 4000, MaxTarget: 2000,
		Objectives: []datasets.Objective{{Kind: datasets.SpanCorruption}},
	}
	data, err := source.Open(t.Context(), datasets.Train, datasets.OpenOptions{Tokenizer: vocab.Bytes()})
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close() //nolint:errcheck // a test
	_, err = data.Batches(datasets.BatchOptions{Rows: 4})
	if _, ok := errors.AsType[*datasets.FieldError](err); !ok || !strings.Contains(err.Error(), "sentinels") {
		t.Errorf("got %v", err)
	}
}
