package datasets

import (
	"fmt"
	"math"
	"sort"

	"github.com/t5ctl/t5ctl/internal/seq2seq"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// SpanLengths gives, for inputs of inputLength tokens after span corruption, how many tokens of
// text go into one and how long its target is, </s> included in both: T5's random_spans_helper
// with one sentinel a span.
func SpanLengths(inputLength int, density, meanSpan float64) (tokens, target int) {
	lengths := func(tokens int) (input, target int) {
		noise := int(math.RoundToEven(float64(tokens) * density))
		spans := int(math.RoundToEven(float64(noise) / meanSpan))
		return tokens - noise + spans + 1, noise + spans + 1
	}
	tokens = inputLength - 1
	for {
		if input, _ := lengths(tokens + 1); input > inputLength {
			break
		}
		tokens++
	}
	input, target := lengths(tokens)
	if density == 0.5 && target > input {
		tokens, target = tokens-1, target-1
	}
	return tokens, target
}

// spanCounts is how many of n tokens are masked, in how many spans: T5's
// random_spans_noise_mask, which counts in float32.
func spanCounts(n int, density, meanSpan float64) (noise, spans int) {
	n = max(n, 2)
	noise = int(math.RoundToEven(float64(float32(n) * float32(density))))
	noise = min(max(noise, 1), n-1)
	spans = int(math.RoundToEven(float64(float32(noise) / float32(meanSpan))))
	return noise, min(max(spans, 1), n-noise)
}

// spanMask draws which of n tokens are masked: spans of text and of noise take turns, text
// first, and all ways to divide the counts into spans are equally likely.
func spanMask(n int, density, meanSpan float64, r *random) []bool {
	noise, spans := spanCounts(n, density, meanSpan)
	noiseLengths := segments(noise, spans, r)
	textLengths := segments(max(n, 2)-noise, spans, r)
	mask := make([]bool, 0, max(n, 2))
	for i := range spans {
		for range textLengths[i] {
			mask = append(mask, false)
		}
		for range noiseLengths[i] {
			mask = append(mask, true)
		}
	}
	return mask[:n]
}

// segments divides n items into k segments with at least one each, all ways equally likely.
func segments(n, k int, r *random) []int {
	lengths, cuts := make([]int, 1, k), k-1
	lengths[0] = 1
	for left := n - 1; left > 0; left-- { // one place between two items after the other
		if cuts > 0 && r.below(uint64(left)) < uint64(cuts) {
			cuts--
			lengths = append(lengths, 0)
		}
		lengths[len(lengths)-1]++
	}
	return lengths
}

// SpanCorrupt makes T5's pretraining example of a text and a mask: in the input each masked span
// is one sentinel, in the target each span between them is; the k-th in both is <extra_id_k>.
// No </s> is added.
func SpanCorrupt(tokens []int32, mask []bool, sentinels []int32) (input, target []int32) {
	return hideSpans(tokens, mask, true, sentinels), hideSpans(tokens, mask, false, sentinels)
}

// hideSpans replaces each run of tokens whose mask is hidden by the next sentinel.
func hideSpans(tokens []int32, mask []bool, hidden bool, sentinels []int32) []int32 {
	out, next := make([]int32, 0, len(tokens)+1), 0
	for i, token := range tokens {
		switch {
		case mask[i] != hidden:
			out = append(out, token)
		case i == 0 || mask[i-1] != hidden:
			out = append(out, sentinels[next])
			next++
		}
	}
	return out
}

// sentinelsOf lists all sentinels of a tokenizer.
func sentinelsOf(tok *vocab.Tokenizer) []int32 {
	var ids []int32
	for {
		id, ok := tok.Sentinel(len(ids))
		if !ok {
			return ids
		}
		ids = append(ids, id)
	}
}

// spanRows are the texts of a corpus written one after the other and cut into pieces of equal
// length, with spans masked anew in each pass.
type spanRows struct {
	texts     *Corpus
	eos       int32
	sentinels []int32
	piece     int // tokens of a piece
	total     int64
	settings  settings
	seed      uint64
	stream    uint64
}

func newSpanRows(texts *Corpus, tok *vocab.Tokenizer, s settings, maxInput, maxTarget int, seed, stream uint64) (*spanRows, error) {
	piece, target := SpanLengths(maxInput, s.density, s.span)
	for input := maxInput; target > maxTarget && input > 3; {
		input--
		piece, target = SpanLengths(input, s.density, s.span)
	}
	if target > maxTarget || piece < 2 {
		return nil, &FieldError{Field: "max_target", Reason: fmt.Sprintf("%d tokens are too few for a target of span corruption", maxTarget)}
	}
	r := &spanRows{
		texts: texts, eos: tok.EOSID(), sentinels: sentinelsOf(tok), piece: piece,
		total: texts.Stats().InputTokens, settings: s, seed: seed, stream: stream,
	}
	if _, spans := spanCounts(piece, s.density, s.span); spans > len(r.sentinels) {
		return nil, &FieldError{Field: "max_input", Reason: fmt.Sprintf(
			"%d tokens hold %d masked spans, and the tokenizer has %d sentinels: a larger mean_span or a smaller max_input fits",
			maxInput, spans, len(r.sentinels))}
	}
	return r, nil
}

func (s *spanRows) len() int64 { return (s.total + int64(s.piece) - 1) / int64(s.piece) }

// size is the number of tokens of a piece; only the last can be shorter.
func (s *spanRows) size(i int64) int { return int(min(int64(s.piece), s.total-i*int64(s.piece))) }

func (s *spanRows) lengths(i int64) (input, target int) {
	n := s.size(i)
	noise, spans := spanCounts(n, s.settings.density, s.settings.span)
	if n < 2 { // the mask is made for two tokens, and the second, which is not there, is masked
		return n + 1, 2
	}
	return n - noise + spans + 1, noise + spans + 1
}

func (s *spanRows) examples(epoch int, i int64) []seq2seq.Example {
	tokens, first := s.texts.running(i*int64(s.piece), s.size(i))
	r := newRandom(forNoise, s.seed, s.stream, uint64(epoch), uint64(i))
	mask := spanMask(len(tokens), s.settings.density, s.settings.span, r)
	input, target := SpanCorrupt(tokens, mask, s.sentinels)
	return []seq2seq.Example{{ID: s.texts.ID(first), Input: append(input, s.eos), Target: append(target, s.eos)}}
}

// running gives n tokens of the texts written one after the other, and the row they start in.
func (c *Corpus) running(from int64, n int) (tokens []int32, first int64) {
	// A text's record is a head of fixed size and its tokens, so its place in the file says how
	// many tokens lie before it.
	start := func(row int64) int64 {
		record, _, _ := c.entry(row)
		return (c.head.Records - int64(len(record)) - row*recordHead) / int64(c.width)
	}
	first = int64(sort.Search(int(c.Len()), func(i int) bool { return start(int64(i)) > from })) - 1
	for row, skip := first, int(from-start(first)); len(tokens) < n; row++ {
		text, _ := c.Tokens(row)
		text = text[skip:]
		tokens, skip = append(tokens, text[:min(len(text), n-len(tokens))]...), 0
	}
	return tokens, first
}
