// Package vocab turns text into the token ids that T5-family models read, and ids back into text.
//
// A Tokenizer gives exactly the ids of a reference implementation, which its Mode names: the
// T5Tokenizer of transformers 5, the Rust tokenizers library, SentencePiece, or ByT5Tokenizer.
// What a file asks for and this package does not know is refused when it is loaded, never guessed.
// A Tokenizer does not change once made and may be used by many goroutines at once.
package vocab

import (
	"fmt"
	"slices"
	"strings"
)

// Mode says whose behaviour a Tokenizer reproduces: the same vocabulary gives different ids in
// each, mostly where white space, ties and special tokens are concerned.
type Mode string

const (
	// ModeHF5 is T5Tokenizer of transformers 5, which ignores the pipeline in tokenizer.json.
	ModeHF5 Mode = "hf5"
	// ModeJSON is the pipeline in tokenizer.json, run as the Rust tokenizers library runs it.
	ModeJSON Mode = "json"
	// ModeSP is SentencePiece itself, which pretraining with seqio used; it adds no </s>.
	ModeSP Mode = "sp"
	// ModeBytes is ByT5Tokenizer: one id a byte, no vocabulary file.
	ModeBytes Mode = "bytes"
)

// Modes lists the modes that ParseMode takes.
func Modes() []Mode { return []Mode{ModeHF5, ModeJSON, ModeSP, ModeBytes} }

// ParseMode returns the mode called name; the empty name stands for what Load chooses by itself.
func ParseMode(name string) (Mode, error) {
	if name == "" || slices.Contains(Modes(), Mode(name)) {
		return Mode(name), nil
	}
	return "", &ModeError{Mode: name}
}

// encoder is what the modes differ in. Implementations keep no state between calls.
type encoder interface {
	// encode appends the ids of text to ids, as the mode's reference gives them.
	encode(ids []int32, text string) []int32
	// decode returns the text of ids as the mode's reference gives it.
	decode(ids []int32, skipSpecial bool) string
	// piece returns how the vocabulary spells id.
	piece(id int32) (string, bool)
}

// Tokenizer encodes and decodes text. Make one with Load, Bytes or Train.
type Tokenizer struct {
	encoder
	mode      Mode
	size      int
	pad       int32
	eos       int32
	unk       int32
	sentinels []int32 // id of <extra_id_k> at k, or -1
	extraIDs  int     // what tokenizer_config.json has to say about their number
	hash      string
	files     []file
}

// file is one of the files that make up the tokenizer on disk.
type file struct {
	name string
	data []byte
}

// Encode returns the ids that the mode's reference gives for text: they end in </s>, except in
// ModeSP. Text that is not valid UTF-8 is read as that reference reads it.
func (t *Tokenizer) Encode(text string) []int32 {
	return t.encode(make([]int32, 0, len(text)/3+4), text)
}

// AppendEncode is Encode that appends to ids, for callers that keep a buffer.
func (t *Tokenizer) AppendEncode(ids []int32, text string) []int32 { return t.encode(ids, text) }

// Sequence returns the ids that a model is fed for text: those of Encode, ending in </s> in every mode.
func (t *Tokenizer) Sequence(text string) []int32 {
	ids := t.Encode(text)
	if t.mode == ModeSP {
		ids = append(ids, t.eos)
	}
	return ids
}

// Decode returns the text of ids as the mode's reference writes it. With skipSpecial, padding,
// </s>, <unk> and sentinels leave no trace. Ids outside the vocabulary are skipped.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string { return t.decode(ids, skipSpecial) }

// Size is the number of ids, sentinels included; a model's embedding may be larger.
func (t *Tokenizer) Size() int { return t.size }

// PadID is the id that fills up short rows.
func (t *Tokenizer) PadID() int32 { return t.pad }

// EOSID is the id of </s>.
func (t *Tokenizer) EOSID() int32 { return t.eos }

// UnkID is the id that stands for text the vocabulary cannot spell.
func (t *Tokenizer) UnkID() int32 { return t.unk }

// Sentinel returns the id of <extra_id_k>, which stands for the k-th masked span in pretraining.
func (t *Tokenizer) Sentinel(k int) (int32, bool) {
	if k < 0 || k >= len(t.sentinels) || t.sentinels[k] < 0 {
		return 0, false
	}
	return t.sentinels[k], true
}

// Sentinels is the number of sentinels, counted from <extra_id_0> without a gap.
func (t *Tokenizer) Sentinels() int {
	for k, id := range t.sentinels {
		if id < 0 {
			return k
		}
	}
	return len(t.sentinels)
}

// Piece returns the spelling of id in the vocabulary, as tables and inspection show it.
func (t *Tokenizer) Piece(id int32) (string, bool) { return t.piece(id) }

// Mode says whose behaviour the tokenizer reproduces.
func (t *Tokenizer) Mode() Mode { return t.mode }

// Hash identifies the tokenizer: the digest of the file that its vocabulary was read from, and of
// the settings beside it where those are not the usual ones; of the word "byt5" for byte level.
// Two tokenizers of equal Mode and Hash give equal ids.
func (t *Tokenizer) Hash() string { return t.hash }

// String names mode, size and hash, for messages.
func (t *Tokenizer) String() string {
	return fmt.Sprintf("%s tokenizer of %d ids (%s)", t.mode, t.size, t.hash)
}

// sentinelName is how every T5 spells its k-th sentinel.
func sentinelName(k int) string { return fmt.Sprintf("<extra_id_%d>", k) }

// sentinelIndex returns k if piece spells <extra_id_k>, which mT5 writes with a ▁ in front.
func sentinelIndex(piece string) (int, bool) {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(piece, "▁"), "<extra_id_")
	if !ok {
		return 0, false
	}
	digits, ok := strings.CutSuffix(rest, ">")
	if !ok || digits == "" || len(digits) > 6 {
		return 0, false
	}
	k := 0
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return 0, false
		}
		k = k*10 + int(c-'0')
	}
	return k, true
}
