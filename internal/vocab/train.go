package vocab

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"
	"iter"
	"runtime"
	"unicode/utf8"
)

// nmtNFKC is SentencePiece's default normaliser, as version 0.2.3 compiles it.
//
//go:embed nmt_nfkc.charsmap.gz
var nmtNFKC []byte

// The largest values that TrainOptions may have.
const (
	MaxVocabSize   = maxTrieValue
	MaxPieceLength = 1000
)

// TrainOptions says what vocabulary to make. Zero values stand for the usual settings.
type TrainOptions struct {
	// VocabSize is the number of pieces, <pad>, </s> and <unk> among them, sentinels not.
	VocabSize int
	// Sentinels is the number of <extra_id_k> behind the pieces: 100 if 0, none if negative.
	Sentinels int
	// CharacterCoverage is the share of the text's characters that get a piece each: 0.9995 if 0.
	CharacterCoverage float64
	// MaxPieceLength is the longest piece, in characters: 16 if 0.
	MaxPieceLength int
	// SeedSize is the number of candidates to start from: as many as there are, up to a million, if 0.
	SeedSize int
	// Threads is how many work at once: all there are if 0. The result does not depend on it.
	Threads int
	// Progress, if set, is told the number of pieces that are left after each round.
	Progress func(pieces int)
}

// SizeError says that the text cannot give a vocabulary of the size that was asked for.
type SizeError struct {
	Want  int
	Least int // what the required characters alone take
	Most  int // what the text has to offer; 0 if Want is less than Least
}

func (e *SizeError) Error() string {
	if e.Most == 0 {
		return fmt.Sprintf("a vocabulary of %d pieces is too small for this text: its characters alone take %d", e.Want, e.Least)
	}
	return fmt.Sprintf("a vocabulary of %d pieces is too large for this text: it has %d", e.Want, e.Most)
}

// NoTextError says that there was nothing to train on but white space.
type NoTextError struct{}

func (*NoTextError) Error() string { return "there is no text to make a vocabulary from" }

// Train makes a Unigram vocabulary from lines of text, as SentencePiece does: candidates from a
// suffix array, expectation maximisation, and pruning by what each piece is worth. Memory grows
// with the number of different words, not with the text. The result is a ModeHF5 tokenizer whose
// spiece.model SentencePiece loads; the same lines in any order give the same bytes.
func Train(lines iter.Seq2[string, error], opts TrainOptions) (*Tokenizer, error) {
	if err := opts.fill(); err != nil {
		return nil, err
	}
	charsmap, err := unpack(nmtNFKC)
	if err != nil {
		return nil, err
	}
	text, err := countWords(lines, charsmap)
	if err != nil {
		return nil, err
	}
	if len(text.words) == 0 {
		return nil, &NoTextError{}
	}
	required := text.requiredCharacters(opts.CharacterCoverage)
	const special = 3 // <pad>, </s> and <unk>
	if least := len(required) + special; opts.VocabSize < least {
		return nil, &SizeError{Want: opts.VocabSize, Least: least}
	}
	t := trainer{opts: opts, words: text.words, required: required}
	pieces := t.finalize(t.run(t.seeds()), opts.VocabSize-special)
	if got := len(pieces) + special; got < opts.VocabSize {
		return nil, &SizeError{Want: opts.VocabSize, Least: len(required) + special, Most: got}
	}
	data := writeModel(pieces, charsmap, opts)
	sentinels := opts.Sentinels
	l := loader{mode: ModeHF5, conf: config{ExtraIDs: &sentinels}}
	tok, err := l.buildHF5Model(data)
	if err != nil {
		return nil, fmt.Errorf("reading the new vocabulary back: %w", err)
	}
	tok.mode, tok.files = ModeHF5, []file{{spieceName, data}}
	return tok, nil
}

// fill puts the usual settings where there are none, and checks the rest.
func (o *TrainOptions) fill() error {
	switch {
	case o.Sentinels == 0:
		o.Sentinels = usualExtraIDs
	case o.Sentinels < 0:
		o.Sentinels = 0
	}
	if o.CharacterCoverage == 0 {
		o.CharacterCoverage = 0.9995
	}
	if o.MaxPieceLength == 0 {
		o.MaxPieceLength = 16
	}
	if o.SeedSize == 0 {
		o.SeedSize = 1000000
	}
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	switch {
	case o.VocabSize < 1 || o.VocabSize > MaxVocabSize:
		return fmt.Errorf("a vocabulary of %d pieces cannot be made", o.VocabSize)
	case o.CharacterCoverage < 0 || o.CharacterCoverage > 1:
		return fmt.Errorf("a character coverage of %v is not between 0 and 1", o.CharacterCoverage)
	case o.MaxPieceLength < 1 || o.MaxPieceLength > MaxPieceLength:
		return fmt.Errorf("pieces of up to %d characters cannot be made", o.MaxPieceLength)
	case o.SeedSize < 1:
		return fmt.Errorf("training cannot start from %d candidates", o.SeedSize)
	}
	return nil
}

func unpack(packed []byte) ([]byte, error) {
	reader, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(reader)
}

// countedWord is a word of the text, with ▁ in front, and how often it occurs.
type countedWord struct {
	text  string
	count int64
}

// wordCounts is the text that is trained on.
type wordCounts struct {
	words []countedWord // in the order of their text
}

// countWords normalises lines as SentencePiece does and counts the words.
func countWords(lines iter.Seq2[string, error], charsmap []byte) (*wordCounts, error) {
	normalizer, err := newSP(&spModel{charsmap: charsmap, dummyPrefix: true, removeSpaces: true, escapeSpaces: true}, nil)
	if err != nil {
		return nil, err
	}
	counts := map[string]*int64{}
	var buffer []byte
	for line, err := range lines {
		if err != nil {
			return nil, err
		}
		buffer = normalizer.normalize(buffer[:0], line)
		for rest := buffer; len(rest) > 0; {
			n := nextMark(rest)
			if count, ok := counts[string(rest[:n])]; ok {
				*count++
			} else {
				one := int64(1)
				counts[string(rest[:n])] = &one
			}
			rest = rest[n:]
		}
	}
	return sortedCounts(counts), nil
}

// requiredCharacters returns the characters that make up the given share of the text, the most
// frequent first.
func (c *wordCounts) requiredCharacters(coverage float64) []countedRune {
	counts := map[rune]int64{}
	total := int64(0)
	for _, w := range c.words {
		for _, r := range w.text {
			counts[r] += w.count
			total += w.count
		}
	}
	all := sortedRunes(counts)
	covered := int64(0)
	for i, c := range all {
		// The comparison is SentencePiece's, in single precision.
		if float32(float64(covered)/float64(total)) >= float32(coverage) {
			return all[:i]
		}
		covered += c.count
	}
	return all
}

// countedRune is a character and how often it occurs.
type countedRune struct {
	char  rune
	count int64
}

// characters is the length of text in characters.
func characters(text string) int { return utf8.RuneCountInString(text) }
