package vocab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// pieceType is the type of a piece in a SentencePiece model.
type pieceType int32

const (
	pieceNormal      pieceType = 1
	pieceUnknown     pieceType = 2
	pieceControl     pieceType = 3
	pieceUserDefined pieceType = 4
	pieceUnused      pieceType = 5
	pieceByte        pieceType = 6
)

// piece is an entry of the vocabulary.
type piece struct {
	text  string
	score float32
	kind  pieceType
}

// spModel is what this package reads of a SentencePiece ModelProto.
type spModel struct {
	pieces       []piece
	modelType    int64 // 1 is Unigram
	byteFallback bool
	spaceSuffix  bool // treat_whitespace_as_suffix
	unkSurface   string
	charsmap     []byte
	dummyPrefix  bool
	removeSpaces bool
	escapeSpaces bool
	denormalizer bool // there are rules to be applied after decoding
}

var errProto = errors.New("not a protocol buffer")

// protoField is one field of a message: number, and either an integer or bytes.
type protoField struct {
	number int
	wire   int
	value  uint64
	data   []byte
}

// readFields calls visit for each field of a protocol buffer message, in order.
func readFields(message []byte, visit func(protoField) error) error {
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 || tag>>3 == 0 || tag>>3 > math.MaxInt32 {
			return errProto
		}
		message = message[n:]
		f := protoField{number: int(tag >> 3), wire: int(tag & 7)}
		size := 0
		switch f.wire {
		case 0:
			if f.value, size = binary.Uvarint(message); size <= 0 {
				return errProto
			}
		case 1:
			size = 8
		case 2:
			length, n := binary.Uvarint(message)
			if n <= 0 || length > uint64(len(message)-n) {
				return errProto
			}
			size = n + int(length)
			f.data = message[n:size]
		case 5:
			size = 4
		default:
			return errProto
		}
		if size > len(message) {
			return errProto
		}
		if f.wire == 5 {
			f.value = uint64(binary.LittleEndian.Uint32(message))
		}
		message = message[size:]
		if err := visit(f); err != nil {
			return err
		}
	}
	return nil
}

// is says that the field has this number and wire type.
func (f protoField) is(number, wire int) bool { return f.number == number && f.wire == wire }

// readModel reads a spiece.model. The reasons it gives for refusing one are for a CorruptError.
func readModel(data []byte) (*spModel, error) {
	m := &spModel{
		modelType: 1, unkSurface: " \u2047 ",
		dummyPrefix: true, removeSpaces: true, escapeSpaces: true,
	}
	err := readFields(data, func(f protoField) error {
		switch {
		case f.is(1, 2):
			p, err := readPiece(f.data)
			m.pieces = append(m.pieces, p)
			return err
		case f.is(2, 2):
			return readFields(f.data, m.trainerField)
		case f.is(3, 2):
			return readFields(f.data, m.normalizerField)
		case f.is(5, 2):
			return readFields(f.data, func(f protoField) error {
				m.denormalizer = m.denormalizer || f.is(2, 2) && len(f.data) > 0
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return m, m.check()
}

func readPiece(data []byte) (piece, error) {
	p := piece{kind: pieceNormal}
	err := readFields(data, func(f protoField) error {
		switch {
		case f.is(1, 2):
			p.text = string(f.data)
		case f.is(2, 5):
			p.score = math.Float32frombits(uint32(f.value))
		case f.is(3, 0):
			p.kind = pieceType(min(f.value, math.MaxInt32))
		}
		return nil
	})
	return p, err
}

func (m *spModel) trainerField(f protoField) error {
	switch {
	case f.is(3, 0):
		m.modelType = int64(f.value)
	case f.is(24, 0):
		m.spaceSuffix = f.value != 0
	case f.is(35, 0):
		m.byteFallback = f.value != 0
	case f.is(44, 2):
		m.unkSurface = string(f.data)
	}
	return nil
}

func (m *spModel) normalizerField(f protoField) error {
	switch {
	case f.is(2, 2):
		m.charsmap = f.data
	case f.is(3, 0):
		m.dummyPrefix = f.value != 0
	case f.is(4, 0):
		m.removeSpaces = f.value != 0
	case f.is(5, 0):
		m.escapeSpaces = f.value != 0
	}
	return nil
}

// check holds the model to what SentencePiece itself demands of one.
func (m *spModel) check() error {
	if len(m.pieces) == 0 {
		return errors.New("it has no pieces")
	}
	unknown := 0
	seen := make(map[string]bool, len(m.pieces))
	for id, p := range m.pieces {
		if err := checkPiece(id, p.text, float64(p.score)); err != nil {
			return err
		}
		if p.kind < pieceNormal || p.kind > pieceByte {
			return fmt.Errorf("piece %d has type %d", id, p.kind)
		}
		if seen[p.text] {
			return fmt.Errorf("piece %d, %q, is there twice", id, p.text)
		}
		seen[p.text] = true
		if p.kind == pieceUnknown {
			unknown++
		}
	}
	if unknown != 1 {
		return fmt.Errorf("it has %d unknown pieces where one is needed", unknown)
	}
	return m.checkBytes(seen)
}

// checkBytes says whether byte fallback has all its 256 pieces.
func (m *spModel) checkBytes(seen map[string]bool) error {
	for c := range 256 {
		if m.byteFallback && !seen[bytePiece(byte(c))] {
			return fmt.Errorf("byte fallback lacks the piece %s", bytePiece(byte(c)))
		}
	}
	return nil
}

// checkPiece refuses entries that neither reference takes, or that would make encoding slow.
func checkPiece(id int, text string, score float64) error {
	const longest = 8000 // SentencePiece takes no longer ones
	switch {
	case text == "":
		return fmt.Errorf("piece %d is empty", id)
	case len(text) >= longest:
		return fmt.Errorf("piece %d is %d bytes long", id, len(text))
	case !utf8.ValidString(text):
		return fmt.Errorf("piece %d is not UTF-8", id)
	case math.IsNaN(score) || math.IsInf(score, 0):
		return fmt.Errorf("piece %d has score %v", id, score)
	case id > maxTrieValue:
		return fmt.Errorf("it has more than %d pieces", maxTrieValue)
	}
	return nil
}

// bytePiece is how byte fallback spells a byte.
func bytePiece(c byte) string { return fmt.Sprintf("<0x%02X>", c) }
