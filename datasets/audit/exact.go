package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"github.com/t5ctl/t5ctl/datasets"
)

// An exact record is 16 bytes of the input's SHA-256, then the row's place, then 8 bytes of the
// target's. Equal inputs have equal hashes; that different ones do is beyond chance.
const (
	hashBytes   = 16
	exactRecord = hashBytes + 2 + 2 + 8 + 8
)

func newExact(w where, e datasets.Example) []byte {
	b := make([]byte, 0, exactRecord)
	input, target := sha256.Sum256([]byte(e.Input)), sha256.Sum256([]byte(e.Target))
	b = append(b, input[:hashBytes]...)
	b = binary.BigEndian.AppendUint16(b, uint16(w.part))
	b = binary.BigEndian.AppendUint16(b, uint16(w.file))
	b = binary.BigEndian.AppendUint64(b, uint64(w.line))
	return append(b, target[:8]...)
}

func placeOf(record []byte) where {
	r := record[hashBytes:]
	return where{int(binary.BigEndian.Uint16(r)), int(binary.BigEndian.Uint16(r[2:])), int64(binary.BigEndian.Uint64(r[4:]))}
}

func targetOf(record []byte) []byte { return record[exactRecord-8:] }

// duplicates counts inputs that occur more than once.
func (a *auditor) duplicates() error {
	return a.exact.groups(hashBytes, func(group [][]byte) error {
		perPart := map[int][][]byte{}
		var order []int // ascending: records are sorted by part behind the hash
		for _, r := range group {
			part := placeOf(r).part
			if perPart[part] == nil {
				order = append(order, part)
			}
			perPart[part] = append(perPart[part], r)
		}
		for _, part := range order {
			a.within(part, perPart[part])
		}
		for i, x := range order {
			for _, y := range order[i+1:] {
				c := a.cross(x, y)
				c.Inputs++
				c.RowsA += int64(len(perPart[x]))
				c.RowsB += int64(len(perPart[y]))
				c.Pairs += common(perPart[x], perPart[y])
				for _, r := range perPart[y] {
					a.finding("shared-input", placeOf(r), "the input is also in %s, line %d", a.options.Parts[x].Name, placeOf(perPart[x][0]).line)
				}
			}
		}
		return nil
	})
}

// within counts equal inputs of one part.
func (a *auditor) within(part int, rows [][]byte) {
	if len(rows) < 2 {
		return
	}
	r := &a.report.Parts[part]
	r.Inputs.Surplus += int64(len(rows) - 1)
	r.Inputs.Distinct++
	targets := map[string]int64{}
	for i, row := range rows {
		targets[string(targetOf(row))]++
		if i > 0 {
			a.finding("repeated-input", placeOf(row), "the input repeats that of line %d", placeOf(rows[0]).line)
		}
	}
	for _, n := range targets {
		if n > 1 {
			r.Pairs.Surplus += n - 1
			r.Pairs.Distinct++
		}
	}
	if len(targets) > 1 {
		r.Conflicting++
	}
}

// common counts the targets that both lists of equal inputs have.
func common(a, b [][]byte) (n int64) {
	seen := map[string]bool{}
	for _, x := range a {
		for _, y := range b {
			if key := string(targetOf(x)); bytes.Equal(targetOf(x), targetOf(y)) && !seen[key] {
				seen[key] = true
				n++
			}
		}
	}
	return n
}
