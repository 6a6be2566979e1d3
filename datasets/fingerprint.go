package datasets

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/t5ctl/t5ctl/internal/digest"
)

// Fingerprinter identifies rows by what they say: two splits have the same fingerprint if they
// hold the same inputs, targets and references in the same order, whatever the file format, the
// packing, the names of the columns, and the files they are divided into.
type Fingerprinter struct {
	hash   hash.Hash
	buffer []byte
	rows   int64
}

// NewFingerprinter starts with no rows.
func NewFingerprinter() *Fingerprinter {
	f := &Fingerprinter{hash: sha256.New()}
	f.hash.Write([]byte("t5ctl rows 1\n"))
	return f
}

// Add takes the next row.
func (f *Fingerprinter) Add(e Example) {
	b := f.buffer[:0]
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	text(e.Input)
	text(e.Target)
	b = binary.AppendUvarint(b, uint64(len(e.References)))
	for _, reference := range e.References {
		text(reference)
	}
	f.hash.Write(b)
	f.buffer = b
	f.rows++
}

// Rows is how many rows were added.
func (f *Fingerprinter) Rows() int64 { return f.rows }

// Sum is the fingerprint of the rows so far, in the form of a digest.
func (f *Fingerprinter) Sum() string { return digest.Sum(f.hash) }
