package audit

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// spillFiles is into how many files records are divided, by their first byte.
const spillFiles = 64

// spill keeps records of one size in files, so that those with the same beginning can be brought
// together without holding all.
type spill struct {
	size  int
	files []*os.File
	out   []*bufio.Writer
}

func newSpill(dir, name string, size int) (*spill, error) {
	s := &spill{size: size}
	for i := range spillFiles {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%s-%02d", name, i)))
		if err != nil {
			return nil, err
		}
		s.files, s.out = append(s.files, f), append(s.out, bufio.NewWriterSize(f, 1<<14))
	}
	return s, nil
}

func (s *spill) write(record []byte) error {
	_, err := s.out[int(record[0])%spillFiles].Write(record)
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

// groups gives the records that share their first n bytes, sorted, and those groups alone that have
// more than one record.
func (s *spill) groups(n int, visit func(group [][]byte) error) error {
	for _, f := range s.files {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		data, err := io.ReadAll(f)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		records := make([][]byte, 0, len(data)/s.size)
		for r := range slices.Chunk(data, s.size) {
			records = append(records, r)
		}
		slices.SortFunc(records, bytes.Compare)
		for from := 0; from < len(records); {
			to := from + 1
			for to < len(records) && bytes.Equal(records[from][:n], records[to][:n]) {
				to++
			}
			if to-from > 1 {
				if err := visit(records[from:to]); err != nil {
					return err
				}
			}
			from = to
		}
	}
	return nil
}
