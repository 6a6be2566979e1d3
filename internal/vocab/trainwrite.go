package vocab

import (
	"encoding/binary"
	"math"
)

// writeModel makes the spiece.model of pieces, in the layout of T5: <pad>, </s>, <unk>, then the
// pieces.
func writeModel(pieces []scoredPiece, charsmap []byte, opts TrainOptions) []byte {
	var out []byte
	for _, special := range []struct {
		text string
		kind pieceType
	}{{"<pad>", pieceControl}, {"</s>", pieceControl}, {"<unk>", pieceUnknown}} {
		message := appendBytesField(nil, 1, []byte(special.text))
		message = appendFloatField(message, 2, 0)
		out = appendBytesField(out, 1, appendVarintField(message, 3, int64(special.kind)))
	}
	for _, p := range pieces {
		message := appendBytesField(nil, 1, []byte(p.text))
		out = appendBytesField(out, 1, appendFloatField(message, 2, float32(p.score)))
	}
	trainer := appendVarintField(nil, 3, 1) // Unigram
	trainer = appendVarintField(trainer, 4, int64(opts.VocabSize))
	trainer = appendFloatField(trainer, 10, float32(opts.CharacterCoverage))
	trainer = appendVarintField(trainer, 14, int64(opts.SeedSize))
	trainer = appendVarintField(trainer, 20, int64(opts.MaxPieceLength))
	trainer = appendVarintField(trainer, 40, 2)  // unk_id
	trainer = appendVarintField(trainer, 41, -1) // bos_id: there is none
	trainer = appendVarintField(trainer, 42, 1)  // eos_id
	trainer = appendVarintField(trainer, 43, 0)  // pad_id
	out = appendBytesField(out, 2, trainer)
	normalizer := appendBytesField(nil, 1, []byte("nmt_nfkc"))
	normalizer = appendBytesField(normalizer, 2, charsmap)
	for field := 3; field <= 5; field++ { // add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces
		normalizer = appendVarintField(normalizer, field, 1)
	}
	return appendBytesField(out, 3, normalizer)
}

func appendBytesField(out []byte, number int, data []byte) []byte {
	out = binary.AppendUvarint(out, uint64(number)<<3|2)
	out = binary.AppendUvarint(out, uint64(len(data)))
	return append(out, data...)
}

func appendVarintField(out []byte, number int, value int64) []byte {
	out = binary.AppendUvarint(out, uint64(number)<<3)
	return binary.AppendUvarint(out, uint64(value))
}

func appendFloatField(out []byte, number int, value float32) []byte {
	out = binary.AppendUvarint(out, uint64(number)<<3|5)
	return binary.LittleEndian.AppendUint32(out, math.Float32bits(value))
}
