package datasets

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// table is what CSV and TSV share: a header that names the columns, and rows of texts.
type table struct {
	path   string
	plan   plan
	raw    bool
	header []string
	column [roles]int // -1 is not there
}

// setHeader finds the columns by name.
func (t *table) setHeader(header []string) error {
	t.header = slices.Clone(header)
	for i, name := range t.header {
		if problem := textProblem(name); problem != "" {
			return &FormatError{Path: t.path, Reason: fmt.Sprintf("the name of column %d %s", i+1, problem)}
		}
		if slices.Index(t.header, name) < i {
			return &FormatError{Path: t.path, Reason: fmt.Sprintf("the header names column %q twice", name)}
		}
	}
	for i, name := range t.plan.name {
		t.column[i] = -1
		if name == "" {
			continue
		}
		t.column[i] = slices.Index(t.header, name)
		if t.column[i] < 0 && (t.plan.required[i] || t.plan.named[i]) {
			return t.plan.missing(t.path, role(i), t.header)
		}
	}
	return nil
}

// fill takes the wanted columns of a row.
func (t *table) fill(e *Example, line int64, fields []string) error {
	e.Line = line
	if len(fields) != len(t.header) {
		return bad(t.path, line, fmt.Sprintf("has %d fields, the header has %d", len(fields), len(t.header)))
	}
	for i, at := range t.column {
		if at < 0 {
			continue
		}
		text := fields[at]
		if problem := textProblem(text); problem != "" {
			return bad(t.path, line, t.header[at]+" "+problem)
		}
		if role(i) != roleReferences {
			e.set(role(i), text)
			if problem := t.plan.lacking(e, role(i)); problem != "" {
				return bad(t.path, line, t.header[at]+" "+problem)
			}
			continue
		}
		if text == "" {
			continue
		}
		if !json.Valid([]byte(text)) {
			return bad(t.path, line, t.header[at]+" is not a JSON list of strings")
		}
		if problem := e.takeReferences(bytes.TrimSpace([]byte(text))); problem != "" {
			return bad(t.path, line, t.header[at]+" "+problem)
		}
	}
	if t.raw {
		return t.keepRaw(e, line, fields)
	}
	return nil
}

// keepRaw spells the row as a JSON object in the order of the header. References are a list there too.
func (t *table) keepRaw(e *Example, line int64, fields []string) error {
	var b bytes.Buffer
	for i, name := range t.header {
		if problem := textProblem(fields[i]); problem != "" {
			return bad(t.path, line, name+" "+problem)
		}
		b.WriteString([]string{",", "{"}[max(0, 1-i)])
		b.Write(marshal(name))
		b.WriteByte(':')
		switch list := []byte(strings.TrimSpace(fields[i])); {
		case name == t.plan.list && len(list) == 0:
			b.WriteString("null")
		case name == t.plan.list && json.Valid(list) && isTexts(list):
			b.Write(list)
		default:
			b.Write(marshal(fields[i]))
		}
	}
	b.WriteByte('}')
	e.Raw = b.Bytes()
	return nil
}

// marshal spells a string or a list of strings without the escapes for HTML.
func marshal(v any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v) // strings into memory
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// csvRows reads CSV as RFC 4180 has it.
type csvRows struct {
	table
	reader *csv.Reader
	source *metered
	limit  int
	line   int64 // where the last row starts
}

// metered bounds what the CSV reader may take in for one row: a quote that is never closed would
// otherwise draw the rest of the file into memory.
type metered struct {
	r    io.Reader
	left int
}

func (m *metered) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, errLongLine
	}
	n, err := m.r.Read(p[:min(len(p), m.left)])
	m.left -= n
	return n, err
}

// csvReadAhead is the most that encoding/csv reads beyond the row it gives.
const csvReadAhead = 1 << 16

func newCSV(in *bufio.Reader, path string, o ReadOptions) (*csvRows, error) {
	source := &metered{r: in, left: o.MaxRowBytes + csvReadAhead}
	r := &csvRows{source: source, reader: csv.NewReader(source), limit: o.MaxRowBytes, table: table{path: path, plan: o.plan(), raw: o.Raw}}
	r.reader.ReuseRecord = true
	r.reader.FieldsPerRecord = -1 // fill compares
	header, err := r.read()
	if errors.Is(err, io.EOF) {
		return nil, &EmptyError{Path: path}
	}
	if err != nil {
		return nil, headerError(path, err)
	}
	return r, r.setHeader(header)
}

// headerError is for what a row's error means in the first line.
func headerError(path string, err error) error {
	if bad, ok := errors.AsType[*badRow](err); ok {
		return &FormatError{Path: path, Reason: "the header " + bad.row.Reason}
	}
	return err
}

// read gives the next record.
func (r *csvRows) read() ([]string, error) {
	r.source.left = r.limit + csvReadAhead
	record, err := r.reader.Read()
	if parse, ok := errors.AsType[*csv.ParseError](err); ok {
		return nil, bad(r.path, int64(parse.StartLine), fmt.Sprintf("is not CSV: %v (line %d, column %d)", parse.Err, parse.Line, parse.Column))
	}
	if errors.Is(err, errLongLine) {
		long := bad(r.path, r.line+1, fmt.Sprintf("is longer than %d bytes: is a quote not closed?", r.limit))
		long.final = true
		return nil, long
	}
	return record, err
}

func (r *csvRows) next(e *Example) error {
	record, err := r.read()
	if err != nil {
		return err
	}
	line, _ := r.reader.FieldPos(0)
	r.line = int64(line)
	return r.fill(e, r.line, record)
}

// tsvRows reads tab-separated values as they are registered with IANA: one row a line, no
// quotes, so that a quotation mark is a character like any other.
type tsvRows struct {
	table
	lines  lines
	fields []string
}

func newTSV(in *bufio.Reader, path string, o ReadOptions) (*tsvRows, error) {
	r := &tsvRows{lines: lines{in: in, max: o.MaxRowBytes}, table: table{path: path, plan: o.plan(), raw: o.Raw}}
	err := r.split()
	if errors.Is(err, io.EOF) {
		return nil, &EmptyError{Path: path}
	}
	if err != nil {
		return nil, headerError(path, err)
	}
	return r, r.setHeader(r.fields)
}

// split reads the fields of the next line that is not empty.
func (r *tsvRows) split() error {
	for {
		line, err := r.lines.next()
		if errors.Is(err, errLongLine) {
			return bad(r.path, r.lines.line, fmt.Sprintf("is longer than %d bytes", r.lines.max))
		}
		if err != nil {
			return err
		}
		if len(line) > 0 {
			r.fields = append(r.fields[:0], strings.Split(string(line), "\t")...)
			return nil
		}
	}
}

func (r *tsvRows) next(e *Example) error {
	err := r.split()
	e.Line = r.lines.line
	if err != nil {
		return err
	}
	for i, field := range r.fields {
		if looksQuoted(field) {
			name := fmt.Sprintf("field %d", i+1)
			if i < len(r.header) {
				name = r.header[i]
			}
			return bad(r.path, e.Line, name+" is quoted as in CSV, and TSV has no quotes: write it without, or as .csv")
		}
	}
	return r.fill(e, e.Line, r.fields)
}

// looksQuoted says that a field was surely written by a CSV library: quotes around it, and every
// quote within doubled.
func looksQuoted(field string) bool {
	if len(field) < 4 || field[0] != '"' || field[len(field)-1] != '"' {
		return false
	}
	inner := field[1 : len(field)-1]
	return strings.Contains(inner, `""`) && !strings.Contains(strings.ReplaceAll(inner, `""`, ""), `"`)
}
