package datasets

import (
	"slices"

	"github.com/t5ctl/t5ctl/internal/seq2seq"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// noise is how denoising disturbs a text: tokens are moved a little, left out, and hidden, as in
// Lample et al. (2018), with T5's sentinels for the hidden ones. Most tokens stay, and some texts
// stay whole, so that what is learned first is to copy.
type noise struct {
	settings
	sentinels []int32
}

// disturb gives the disturbed tokens. They are never more than the tokens themselves, and never
// none.
func (d noise) disturb(tokens []int32, r *random) []int32 {
	if len(tokens) == 0 || r.float() < d.clean {
		return slices.Clone(tokens)
	}
	out, hidden, used := make([]int32, 0, len(tokens)), false, 0
	for _, token := range d.move(tokens, r) {
		switch u := r.float(); {
		case u < d.drop:
			continue // a token left out does not end a hidden run
		case u < d.drop+d.mask && (hidden || used < len(d.sentinels)):
			if !hidden {
				out = append(out, d.sentinels[used])
				used++
			}
			hidden = true
		default:
			out = append(out, token)
			hidden = false
		}
	}
	if len(out) == 0 {
		out = append(out, tokens[0])
	}
	return out
}

// move shuffles so that no token ends further than d.shuffle places from where it was.
func (d noise) move(tokens []int32, r *random) []int32 {
	if d.shuffle == 0 {
		return tokens
	}
	type placed struct {
		at    float64
		token int32
	}
	places := make([]placed, len(tokens))
	for i, token := range tokens {
		places[i] = placed{float64(i) + r.float()*float64(d.shuffle+1), token}
	}
	slices.SortStableFunc(places, func(a, b placed) int {
		switch {
		case a.at < b.at:
			return -1
		case a.at > b.at:
			return 1
		}
		return 0
	})
	moved := make([]int32, len(tokens))
	for i, p := range places {
		moved[i] = p.token
	}
	return moved
}

// denoiseRows are the texts of a corpus, each to be written from its disturbed self.
type denoiseRows struct {
	texts  *Corpus
	noise  noise
	eos    int32
	limit  int // tokens of a text, </s> apart
	seed   uint64
	stream uint64
}

func newDenoiseRows(texts *Corpus, tok *vocab.Tokenizer, s settings, limit int, seed, stream uint64) *denoiseRows {
	return &denoiseRows{
		texts: texts, noise: noise{s, sentinelsOf(tok)}, eos: tok.EOSID(), limit: limit, seed: seed, stream: stream,
	}
}

func (d *denoiseRows) len() int64 { return d.texts.Len() }

func (d *denoiseRows) lengths(i int64) (input, target int) {
	n, _ := d.texts.Lengths(i)
	n = min(n, d.limit) + 1
	return n, n
}

func (d *denoiseRows) examples(epoch int, i int64) []seq2seq.Example {
	tokens, _ := d.texts.Tokens(i)
	tokens = tokens[:min(len(tokens), d.limit)]
	r := newRandom(forNoise, d.seed, d.stream, uint64(epoch), uint64(i))
	return []seq2seq.Example{{ID: d.texts.ID(i), Input: append(d.noise.disturb(tokens, r), d.eos), Target: append(tokens, d.eos)}}
}
