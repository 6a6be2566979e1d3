package eval

import (
	"errors"
	"fmt"
	"io"
	"iter"
)

// JoinAnswers is like OpenAnswers for files of JSON lines in different orders: rows belong together
// that have the same "id". The reference files are held in memory.
func JoinAnswers(hypotheses string, references []string) iter.Seq2[Answered, error] {
	return func(yield func(Answered, error) bool) {
		tables := make([]map[string]fileRow, len(references))
		for i, path := range references {
			var err error
			if tables[i], err = rowsByID(path); err != nil {
				yield(Answered{}, err)
				return
			}
		}
		f, err := openRows(hypotheses)
		if err != nil {
			yield(Answered{}, err)
			return
		}
		defer func() { _ = f.Close() }() // only read from
		seen := map[string]bool{}
		for {
			a, err := nextJoined(f, tables, references, seen)
			if errors.Is(err, io.EOF) {
				if err := f.complete(tables, references); err != nil {
					yield(Answered{}, err)
				}
				return
			}
			if !yield(a, err) || err != nil {
				return
			}
		}
	}
}

// rowsByID reads a file of JSON lines whole.
func rowsByID(path string) (map[string]fileRow, error) {
	f, err := openRows(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	out := map[string]fileRow{}
	for {
		row, err := f.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			_, twice := out[row.ID]
			err = f.checkID(row, twice)
		}
		if err != nil {
			return nil, err
		}
		out[row.ID] = row
	}
	if len(out) == 0 {
		return nil, &EmptyFileError{path}
	}
	return out, nil
}

// checkID refuses a row without an id of its own.
func (f *rowFile) checkID(row fileRow, twice bool) error {
	switch {
	case !f.json:
		return &LineError{f.path, f.line, "is a line of text, which has no id to join by"}
	case row.ID == "":
		return &LineError{f.path, f.line, `has no "id" to join by`}
	case twice:
		return &LineError{f.path, f.line, fmt.Sprintf("id %q stands twice", row.ID)}
	}
	return nil
}

func nextJoined(f *rowFile, tables []map[string]fileRow, names []string, seen map[string]bool) (Answered, error) {
	h, err := f.next()
	if err != nil {
		return Answered{}, err
	}
	if err := f.checkID(h, seen[h.ID]); err != nil {
		return Answered{}, err
	}
	seen[h.ID] = true
	if h.Output == nil {
		return Answered{}, &LineError{f.path, f.line, `has no "output"`}
	}
	a := Answered{Pair: Pair{ID: h.ID, Task: h.Task, Input: h.Input, Group: h.Group, Passages: h.Passages}, Output: *h.Output}
	for i, table := range tables {
		row, ok := table[h.ID]
		if !ok {
			return Answered{}, &LineError{f.path, f.line, fmt.Sprintf("id %q is not in %s", h.ID, names[i])}
		}
		if a.Pair.Input == "" {
			a.Pair.Input = row.Input
		}
		a.Pair.References = append(a.Pair.References, row.answers()...)
	}
	if len(a.Pair.References) == 0 {
		return Answered{}, &LineError{f.path, f.line, "no reference for this row"}
	}
	return a, nil
}

// complete makes sure that every reference row was answered.
func (f *rowFile) complete(tables []map[string]fileRow, names []string) error {
	if f.rows == 0 {
		return &EmptyFileError{f.path}
	}
	for i, table := range tables {
		if len(table) != f.rows {
			return &LengthError{First: f.path, Second: names[i], FirstRows: f.rows, SecondRows: len(table)}
		}
	}
	return nil
}
