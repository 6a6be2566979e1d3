package audit

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// A spill divides records by six bits of their first eight bytes, and a file that is still too large to be
// sorted in memory by the next six.
const (
	spillFiles  = 64
	spillBits   = 6
	spillLevels = 64 / spillBits
	spillSorted = 8 << 20 // bytes of records that are sorted at a time
)

// spill keeps records of one size in files, so that those with the same beginning can be brought
// together without holding all.
type spill struct {
	size  int
	level int
	files []*os.File
	out   []*bufio.Writer
}

func newSpill(dir, name string, size, level int) (*spill, error) {
	s := &spill{size: size, level: level}
	for i := range spillFiles {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%s-%02d", name, i)))
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.files, s.out = append(s.files, f), append(s.out, bufio.NewWriterSize(f, 1<<14))
	}
	return s, nil
}

func (s *spill) write(record []byte) error {
	at := binary.BigEndian.Uint64(record) >> (64 - spillBits*(s.level+1)) % spillFiles
	_, err := s.out[at].Write(record)
	return err
}

func (s *spill) flush() error {
	for _, w := range s.out {
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// close takes the files away.
func (s *spill) close() (err error) {
	if s == nil {
		return nil
	}
	for _, f := range s.files {
		err = errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return err
}

// groups gives all records, those that share their first n bytes behind one another in the order in which
// they were written; first says that a record begins such a group. The files are gone then. Records must
// sort as they were written.
func (s *spill) groups(n int, visit func(record []byte, first bool) error) (err error) {
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.flush(); err != nil {
		return err
	}
	for _, f := range s.files {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := s.file(f, info.Size(), n, visit); err != nil {
			return err
		}
	}
	return nil
}

// file gives the records of one file.
func (s *spill) file(f *os.File, size int64, n int, visit func(record []byte, first bool) error) error {
	if size <= spillSorted || s.level == spillLevels-1 {
		return s.sorted(f, size, n, visit)
	}
	same := true
	var start []byte
	err := s.each(f, func(r []byte) error {
		if start == nil {
			start = bytes.Clone(r[:n])
		}
		same = same && bytes.Equal(start, r[:n])
		return nil
	})
	if err != nil {
		return err
	}
	if same { // one group, in order already
		first := true
		return s.each(f, func(r []byte) error {
			err := visit(r, first)
			first = false
			return err
		})
	}
	below, err := newSpill(filepath.Dir(f.Name()), filepath.Base(f.Name()), s.size, s.level+1)
	if err != nil {
		return err
	}
	if err := s.each(f, below.write); err != nil {
		return errors.Join(err, below.close())
	}
	return below.groups(n, visit)
}

// each reads a file from its start.
func (s *spill) each(f *os.File, visit func(record []byte) error) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	in, record := bufio.NewReaderSize(f, 1<<16), make([]byte, s.size)
	for {
		_, err := io.ReadFull(in, record)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := visit(record); err != nil {
			return err
		}
	}
}

// sorted gives the records of a file by sorting them in memory.
func (s *spill) sorted(f *os.File, size int64, n int, visit func(record []byte, first bool) error) error {
	data := make([]byte, size)
	if _, err := io.ReadFull(f, data); err != nil && size > 0 {
		return err
	}
	records := slices.Collect(slices.Chunk(data, s.size))
	slices.SortFunc(records, bytes.Compare)
	for i, r := range records {
		if err := visit(r, i == 0 || !bytes.Equal(records[i-1][:n], r[:n])); err != nil {
			return err
		}
	}
	return nil
}
