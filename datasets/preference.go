package datasets

import "github.com/t5ctl/t5ctl/internal/seq2seq"

// preferenceRows are the rows of a corpus that was read as Preferences, which holds each twice:
// with the chosen text, then with the rejected one. A row of theirs takes two rows of a batch, the
// chosen first, and its lengths are those of the longer.
type preferenceRows struct{ *Corpus }

func (p preferenceRows) len() int64 { return p.Len() / 2 }

func (p preferenceRows) lengths(i int64) (input, target int) {
	input, target = p.Lengths(2 * i)
	_, other := p.Lengths(2*i + 1)
	return input, max(target, other)
}

func (p preferenceRows) examples(_ int, i int64) []seq2seq.Example {
	input, chosen := p.Tokens(2 * i)
	_, rejected := p.Tokens(2*i + 1)
	id := p.ID(2 * i)
	return []seq2seq.Example{{ID: id, Input: input, Target: chosen}, {ID: id, Input: input, Target: rejected}}
}
