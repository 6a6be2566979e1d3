package eval

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"unicode/utf8"
)

// LengthError says that files which belong together have different numbers of rows.
type LengthError struct {
	First, Second         string
	FirstRows, SecondRows int
	Shifted               int // the first line that looks shifted; 0: not known
}

func (e *LengthError) Error() string {
	text := fmt.Sprintf("%s has %d rows, %s has %d", e.First, e.FirstRows, e.Second, e.SecondRows)
	if e.Shifted > 0 {
		text += fmt.Sprintf("; line %d looks like the first that is shifted", e.Shifted)
	}
	return text
}

// EmptyFileError says that a file holds no row.
type EmptyFileError struct{ Path string }

func (e *EmptyFileError) Error() string { return fmt.Sprintf("%s is empty", e.Path) }

// LineError says what is wrong with a line of a file.
type LineError struct {
	Path   string
	Line   int
	Reason string
}

func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %s", e.Path, e.Line, e.Reason) }

// OrderError says that two files have their rows in different orders.
type OrderError struct {
	Path    string
	Line    int
	ID      string
	Other   string
	OtherID string
}

func (e *OrderError) Error() string {
	return fmt.Sprintf("%s:%d: id %q stands where %s has id %q: the files have another order", e.Path, e.Line, e.ID, e.Other, e.OtherID)
}

// maxLine bounds a line, so that a broken file cannot take the whole memory.
const maxLine = 256 << 20

// OpenAnswers reads outputs with what would have been right, row by row: hypotheses is a text file of
// one output a line, or JSON lines with "output" (and "id", "input", "references" or "target", as
// eval run writes them); each of references is a text file or JSON lines with "references" or
// "target". Without reference files the hypotheses must carry their own. A .gz suffix is understood.
func OpenAnswers(hypotheses string, references []string) iter.Seq2[Answered, error] {
	return func(yield func(Answered, error) bool) {
		var files []*rowFile
		defer func() {
			for _, f := range files {
				_ = f.Close() // only read from
			}
		}()
		for _, path := range append([]string{hypotheses}, references...) {
			f, err := openRows(path)
			if err != nil {
				yield(Answered{}, err)
				return
			}
			files = append(files, f)
		}
		for {
			a, err := nextAnswer(files[0], files[1:])
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(a, err) || err != nil {
				return
			}
		}
	}
}

// OpenOutputs reads the outputs of JSON lines as OpenAnswers does, whether or not they carry what would
// have been right.
func OpenOutputs(path string) iter.Seq2[Answered, error] {
	return func(yield func(Answered, error) bool) {
		f, err := openRows(path)
		if err != nil {
			yield(Answered{}, err)
			return
		}
		defer func() { _ = f.Close() }() // only read from
		f.alone = true
		for {
			a, err := nextAnswer(f, nil)
			if errors.Is(err, io.EOF) || !yield(a, err) || err != nil {
				return
			}
		}
	}
}

// nextAnswer reads one row of each file.
func nextAnswer(hyps *rowFile, refs []*rowFile) (Answered, error) {
	h, err := hyps.next()
	ended := errors.Is(err, io.EOF)
	if err != nil && !ended {
		return Answered{}, err
	}
	a := Answered{Pair: Pair{ID: h.ID, Task: h.Task, Input: h.Input, Group: h.Group, Passages: h.Passages}}
	answered := false
	if len(refs) == 0 && !h.text {
		a.Pair.References = h.listed()
		if answered = h.Target != nil; answered {
			a.Pair.Target = *h.Target
		}
	}
	for _, f := range refs {
		r, refErr := f.next()
		if errors.Is(refErr, io.EOF) != ended {
			return Answered{}, lengths(hyps, f)
		}
		if refErr != nil {
			if ended {
				continue
			}
			return Answered{}, refErr
		}
		if f.json && hyps.json && r.ID != "" && h.ID != "" && r.ID != h.ID {
			return Answered{}, &OrderError{f.path, f.line, r.ID, hyps.path, h.ID}
		}
		if a.Pair.ID == "" {
			a.Pair.ID = r.ID
		}
		if r.Input != "" && a.Pair.Input == "" {
			a.Pair.Input = r.Input
		}
		a.Pair.References = append(a.Pair.References, r.answers()...)
	}
	switch {
	case ended && hyps.rows == 0:
		return Answered{}, &EmptyFileError{hyps.path}
	case ended:
		return Answered{}, io.EOF
	case hyps.json && h.Output == nil:
		return Answered{}, &LineError{hyps.path, hyps.line, `has no "output"`}
	case len(a.Pair.References) == 0 && !answered && !hyps.alone:
		return Answered{}, &LineError{hyps.path, hyps.line, "no reference for this row"}
	}
	a.Output = *h.Output
	return a, nil
}

// lengths counts what is left of two files of which one has ended.
func lengths(a, b *rowFile) error {
	for _, f := range []*rowFile{a, b} {
		for {
			if _, err := f.next(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return err
			}
		}
	}
	if a.rows == 0 || b.rows == 0 {
		if a.rows == 0 {
			return &EmptyFileError{a.path}
		}
		return &EmptyFileError{b.path}
	}
	return &LengthError{a.path, b.path, a.rows, b.rows, shiftedAt(a, b)}
}

// rowFile reads a text or JSON-lines file row by row.
type rowFile struct {
	path       string
	json       bool
	alone      bool // its rows need no references
	file       *os.File
	r          *bufio.Reader
	line, rows int
	ended      bool
	buf        []byte
}

// fileRow is a row of either kind; a text line is its output, or its only reference.
type fileRow struct {
	ID         string    `json:"id"`
	Task       string    `json:"task"`
	Group      string    `json:"group"`
	Input      string    `json:"input"`
	Output     *string   `json:"output"`
	Passages   []string  `json:"passages"`
	Target     *string   `json:"target"`
	References []*string `json:"references"` // null: no reference there
	text       bool
}

// listed are the references that a JSON row lists.
func (r *fileRow) listed() []string {
	var out []string
	for _, ref := range r.References {
		if ref != nil {
			out = append(out, *ref)
		}
	}
	return out
}

// answers are the references that a row of a reference file gives.
func (r *fileRow) answers() []string {
	if r.text {
		return []string{*r.Output}
	}
	out := r.listed()
	if len(out) == 0 && r.Target != nil {
		out = []string{*r.Target}
	}
	return out
}

func openRows(path string) (*rowFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	name, packed := strings.CutSuffix(path, ".gz")
	out := &rowFile{path: path, file: f, json: strings.HasSuffix(name, ".jsonl") || strings.HasSuffix(name, ".ndjson")}
	var r io.Reader = f
	if packed {
		if r, err = gzip.NewReader(f); err != nil {
			_ = f.Close() // the other error says more
			return nil, &LineError{path, 1, "is not gzip: " + err.Error()}
		}
	}
	out.r = bufio.NewReaderSize(r, 1<<16)
	return out, nil
}

func (f *rowFile) Close() error { return f.file.Close() }

// next is the next row, io.EOF after the last. Lines end at \n alone; a \r before it is dropped.
func (f *rowFile) next() (fileRow, error) {
	if f.ended {
		return fileRow{}, io.EOF
	}
	text, err := f.readLine()
	if err != nil {
		f.ended = errors.Is(err, io.EOF)
		return fileRow{}, err
	}
	if !utf8.Valid(text) {
		return fileRow{}, &LineError{f.path, f.line, "is not valid UTF-8"}
	}
	if !f.json && bytes.IndexByte(text, '\r') >= 0 {
		return fileRow{}, &LineError{f.path, f.line, "holds a carriage return that ends no line: some tools would part it in two"}
	}
	f.rows++
	if !f.json {
		s := string(text)
		return fileRow{Output: &s, text: true}, nil
	}
	var row fileRow
	if err := json.Unmarshal(text, &row); err != nil {
		return fileRow{}, &LineError{f.path, f.line, "is not a JSON object of a row: " + err.Error()}
	}
	return row, nil
}

func (f *rowFile) readLine() ([]byte, error) {
	f.buf = f.buf[:0]
	for {
		part, err := f.r.ReadSlice('\n')
		f.buf = append(f.buf, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			if len(f.buf) > maxLine {
				return nil, &LineError{f.path, f.line + 1, fmt.Sprintf("is longer than %d bytes", maxLine)}
			}
			continue
		case err != nil && (!errors.Is(err, io.EOF) || len(f.buf) == 0):
			return nil, err
		}
		f.line++
		return bytes.TrimSuffix(bytes.TrimSuffix(f.buf, []byte("\n")), []byte("\r")), nil
	}
}
