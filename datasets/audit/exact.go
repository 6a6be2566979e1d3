package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"github.com/t5ctl/t5ctl/datasets"
)

// An exact record is 16 bytes of the input's SHA-256, then the row's place, then 8 bytes of the
// target's. Equal inputs have equal hashes; that different ones do is beyond chance. A pair record is 16
// bytes of the hash of both, and the part.
const (
	hashBytes   = 16
	exactRecord = hashBytes + 2 + 2 + 8 + 8
	pairRecord  = hashBytes + 2
)

func newExact(w where, e datasets.Example) (exact, pair []byte) {
	exact = make([]byte, 0, exactRecord+pairRecord)
	input, target := sha256.Sum256([]byte(e.Input)), sha256.Sum256([]byte(e.Target))
	exact = append(exact, input[:hashBytes]...)
	exact = binary.BigEndian.AppendUint16(exact, uint16(w.part))
	exact = binary.BigEndian.AppendUint16(exact, uint16(w.file))
	exact = binary.BigEndian.AppendUint64(exact, uint64(w.line))
	exact = append(exact, target[:8]...)
	both := sha256.Sum256(append(input[:], target[:]...))
	return exact, binary.BigEndian.AppendUint16(both[:hashBytes:hashBytes], uint16(w.part))
}

func placeOf(record []byte) where {
	r := record[hashBytes:]
	return where{int(binary.BigEndian.Uint16(r)), int(binary.BigEndian.Uint16(r[2:])), int64(binary.BigEndian.Uint64(r[4:]))}
}

func targetOf(record []byte) []byte { return record[exactRecord-8:] }

// same counts rows of one part with one input, or with one input and target.
type same struct {
	rows   int64
	first  where
	target []byte // of the first row
	differ bool   // a row has another target
}

// duplicates counts inputs, and pairs of input and target, that occur more than once. The rows of a group
// come part by part, and within a part in their order.
func (a *auditor) duplicates() error {
	group := make([]same, len(a.options.Parts))
	err := a.exact.groups(hashBytes, func(r []byte, first bool) error {
		if first {
			a.repeated(group)
			clear(group)
		}
		a.repeat(group, r)
		return nil
	})
	if err != nil {
		return err
	}
	a.repeated(group)
	counts := make([]int64, len(a.options.Parts))
	err = a.pairs.groups(hashBytes, func(r []byte, first bool) error {
		if first {
			a.repeatedPairs(counts)
			clear(counts)
		}
		counts[binary.BigEndian.Uint16(r[hashBytes:])]++
		return nil
	})
	a.repeatedPairs(counts)
	return err
}

// repeat takes in one more row with the input of a group.
func (a *auditor) repeat(group []same, record []byte) {
	w := placeOf(record)
	g := &group[w.part]
	if g.rows++; g.rows == 1 {
		g.first, g.target = w, bytes.Clone(targetOf(record))
	} else {
		g.differ = g.differ || !bytes.Equal(g.target, targetOf(record))
		a.finding("repeated-input", w, "the input repeats that of line %d", g.first.line)
	}
	for x := range w.part {
		if group[x].rows > 0 {
			a.finding("shared-input", w, "the input is also in %s, line %d", a.options.Parts[x].Name, group[x].first.line)
		}
	}
}

// repeated counts a group of equal inputs.
func (a *auditor) repeated(group []same) {
	for x, g := range group {
		if g.rows > 1 {
			r := &a.report.Parts[x]
			r.Inputs.Surplus += g.rows - 1
			r.Inputs.Distinct++
			if g.differ {
				r.Conflicting++
			}
		}
		for y := x + 1; y < len(group); y++ {
			if g.rows > 0 && group[y].rows > 0 {
				c := a.cross(x, y)
				c.Inputs++
				c.RowsA += g.rows
				c.RowsB += group[y].rows
			}
		}
	}
}

// repeatedPairs counts a group of equal inputs and targets.
func (a *auditor) repeatedPairs(counts []int64) {
	for x, n := range counts {
		if n > 1 {
			r := &a.report.Parts[x]
			r.Pairs.Surplus += n - 1
			r.Pairs.Distinct++
		}
		for y := x + 1; y < len(counts); y++ {
			if n > 0 && counts[y] > 0 {
				a.cross(x, y).Pairs++
			}
		}
	}
}
