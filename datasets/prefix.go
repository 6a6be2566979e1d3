package datasets

import (
	"github.com/t5ctl/t5ctl/internal/seq2seq"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// prefixRows are the texts of a corpus written one after the other and cut into pieces; of each
// piece the beginning is the input and the rest the target (prefix language modelling; Raffel et
// al. 2020, section 3.3.1). Where a piece is split is drawn once for each, so that its lengths are
// known before it is batched.
type prefixRows struct {
	texts  *Corpus
	eos    int32
	piece  int // tokens of a piece
	total  int64
	target int // most tokens of a target, </s> apart
	seed   uint64
	stream uint64
}

func newPrefixRows(texts *Corpus, tok *vocab.Tokenizer, maxInput, maxTarget int, seed, stream uint64) *prefixRows {
	return &prefixRows{
		texts: texts, eos: tok.EOSID(), piece: max(2, maxInput), total: texts.Stats().InputTokens,
		target: max(1, maxTarget-1), seed: seed, stream: stream,
	}
}

func (p *prefixRows) len() int64 { return (p.total + int64(p.piece) - 1) / int64(p.piece) }

// split is how many tokens piece i gives to the input, and how many to the target.
func (p *prefixRows) split(i int64) (input, target int) {
	n := int(min(int64(p.piece), p.total-i*int64(p.piece)))
	r := newRandom(forNoise, p.seed, p.stream, uint64(i))
	return prefixSplit(n, p.target, r)
}

// prefixSplit draws the end of the input of n tokens, all places that leave one to max tokens for
// the target being equally likely.
func prefixSplit(n, max int, r *random) (input, target int) {
	if n < 2 {
		return 0, n
	}
	target = 1 + int(r.below(uint64(min(n-1, max))))
	return n - target, target
}

func (p *prefixRows) lengths(i int64) (input, target int) {
	input, target = p.split(i)
	return input + 1, target + 1
}

func (p *prefixRows) examples(_ int, i int64) []seq2seq.Example {
	input, target := p.split(i)
	tokens, first := p.texts.running(i*int64(p.piece), input+target)
	return []seq2seq.Example{{
		ID:     p.texts.ID(first),
		Input:  append(append([]int32{}, tokens[:input]...), p.eos),
		Target: append(tokens[input:], p.eos),
	}}
}
