package vocab_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/internal/vocab"
)

// bibleTexts are the inputs and targets of a split of the Bible corpus, in order.
func bibleTexts(t testing.TB, split string) []string {
	t.Helper()
	packed, err := os.Open(filepath.Join("..", "..", "recipes", "data", "bible-ylt-bbe", split+".jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = packed.Close() }()
	reader, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	lines := bufio.NewScanner(reader)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var row struct{ Input, Target string }
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, row.Input, row.Target)
	}
	return texts
}

func linesOf(texts []string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, text := range texts {
			if !yield(text, nil) {
				return
			}
		}
	}
}

func tokens(tok *vocab.Tokenizer, texts []string) (n int) {
	for _, text := range texts {
		n += len(tok.Encode(text))
	}
	return n
}

// loadSP writes the files of tok and loads them as SentencePiece would.
func loadSP(t testing.TB, tok *vocab.Tokenizer) *vocab.Tokenizer {
	t.Helper()
	dir := t.TempDir()
	if err := tok.WriteFiles(dir); err != nil {
		t.Fatal(err)
	}
	sp, err := vocab.Load(dir, vocab.ModeSP)
	if err != nil {
		t.Fatal(err)
	}
	return sp
}

// The model that spm_train of sentencepiece 0.2.3 makes of the same text spells the test split with
// 133,292 pieces (bench/tokenizer/train.py prints this).
func TestTrainAgainstSentencePiece(t *testing.T) {
	if testing.Short() {
		t.Skip("trains 8,000 pieces on 7 MB of text")
	}
	tok, err := vocab.Train(linesOf(bibleTexts(t, "train")), vocab.TrainOptions{VocabSize: 8000})
	if err != nil {
		t.Fatal(err)
	}
	const reference = 133292
	got := tokens(loadSP(t, tok), bibleTexts(t, "test"))
	t.Logf("%d pieces where SentencePiece's model takes %d", got, reference)
	if got > reference*101/100 {
		t.Errorf("%d pieces, over 1 %% more than the %d of SentencePiece's model", got, reference)
	}
}

func TestTrainIsDeterministic(t *testing.T) {
	texts := bibleTexts(t, "test")[:1000]
	train := func(texts []string, threads int) *vocab.Tokenizer {
		tok, err := vocab.Train(linesOf(texts), vocab.TrainOptions{VocabSize: 600, Threads: threads})
		if err != nil {
			t.Fatal(err)
		}
		return tok
	}
	first := train(texts, 1)
	backwards := slices.Clone(texts)
	slices.Reverse(backwards)
	for name, other := range map[string]*vocab.Tokenizer{"four threads": train(texts, 4), "another order": train(backwards, 2)} {
		if other.Hash() != first.Hash() {
			t.Errorf("with %s another vocabulary comes out", name)
		}
	}
	if first.Size() != 700 || first.PadID() != 0 || first.EOSID() != 1 || first.UnkID() != 2 {
		t.Errorf("trained %v", first)
	}
	if id, ok := first.Sentinel(0); !ok || id != 699 {
		t.Errorf("sentinel 0 is %d, %v", id, ok)
	}
	for _, text := range texts {
		ids := first.Encode(text)
		if got, want := first.Decode(ids, true), strings.Join(strings.Fields(text), " "); got != want && !slices.Contains(ids, 2) {
			t.Fatalf("%q comes back as %q", want, got)
		}
	}
}

func TestTrainKeepsScriptsApart(t *testing.T) {
	var texts []string
	for range 50 {
		texts = append(texts, "abc漢字カナかな abcмир 12ab x+y", "漢字カナ мирabc ab12")
	}
	tok, err := vocab.Train(linesOf(texts), vocab.TrainOptions{VocabSize: 28, CharacterCoverage: 1, Sentinels: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := tok.Sentinel(0); ok || tok.Size() != 28 {
		t.Errorf("trained %v, sentinel 0: %v", tok, ok)
	}
	classes := func(piece string) (n int) {
		for _, class := range []string{"abcxy", "мир", "漢字カナかな", "12+"} {
			if strings.ContainsAny(piece, class) {
				n++
			}
		}
		return n
	}
	longest := ""
	for id := range int32(tok.Size()) {
		piece, _ := tok.Piece(id)
		if classes(piece) > 1 || strings.LastIndex(piece, "▁") > 0 {
			t.Errorf("piece %d is %q", id, piece)
		}
		if len(piece) > len(longest) {
			longest = piece
		}
	}
	if !strings.Contains(longest, "漢字カナ") {
		t.Errorf("the longest piece is %q; kana and Chinese characters belong together", longest)
	}
}

func TestTrainErrors(t *testing.T) {
	texts := []string{"the quick brown fox jumps over the lazy dog", "the quick brown dog"}
	broken := errors.New("broken")
	tests := map[string]struct {
		lines iter.Seq2[string, error]
		opts  vocab.TrainOptions
		check func(error) bool
	}{
		"too small": {linesOf(texts), vocab.TrainOptions{VocabSize: 10}, func(err error) bool {
			e, ok := errors.AsType[*vocab.SizeError](err)
			return ok && e.Want == 10 && e.Least == 30 && e.Most == 0
		}},
		"too large": {linesOf(texts), vocab.TrainOptions{VocabSize: 5000}, func(err error) bool {
			e, ok := errors.AsType[*vocab.SizeError](err)
			return ok && e.Most > 30 && e.Most < 100
		}},
		"no text": {linesOf([]string{"", "  "}), vocab.TrainOptions{VocabSize: 10}, func(err error) bool {
			_, ok := errors.AsType[*vocab.NoTextError](err)
			return ok
		}},
		"no size": {linesOf(texts), vocab.TrainOptions{}, func(err error) bool { return err != nil }},
		"broken input": {func(yield func(string, error) bool) { yield("", broken) }, vocab.TrainOptions{VocabSize: 50},
			func(err error) bool { return errors.Is(err, broken) }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tok, err := vocab.Train(tt.lines, tt.opts)
			if tok != nil || !tt.check(err) {
				t.Errorf("Train = %v, %v", tok, err)
			}
		})
	}
}

// The normaliser that Train uses is the one in the model that SentencePiece 0.2.3 trained.
func TestTrainedNormalizer(t *testing.T) {
	t.Setenv("T5CTL_VECTORS", "")
	tok, err := vocab.Train(linesOf([]string{"a b c a b c"}), vocab.TrainOptions{VocabSize: 7})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := tok.WriteFiles(dir); err != nil {
		t.Fatal(err)
	}
	model, err := os.ReadFile(filepath.Join(dir, "spiece.model"))
	if err != nil {
		t.Fatal(err)
	}
	_, _, ours, err := vocab.ModelParts(model)
	if err != nil {
		t.Fatal(err)
	}
	_, _, theirs, err := vocab.ModelParts(readData(t, "mt5like.model"))
	if err != nil || !bytes.Equal(ours, theirs) {
		t.Errorf("the charsmaps differ (%v)", err)
	}
}
