package datasets

import (
	"bufio"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// RowWriter writes rows that are spelled as JSON objects, as ReadOptions.Raw gives them.
type RowWriter interface {
	Write(row []byte) error
	// Close ends the rows and what packs them; the writer below stays open.
	Close() error
}

// NewRowWriter writes rows to out in the format and packing that the name target says. A table has the
// columns of the rows like, in their order; a later row with another column is refused. What is no text
// is spelled as JSON there, but for lists of texts in Parquet; a dot in a name leads into a nested column.
func NewRowWriter(out io.Writer, target string, like [][]byte) (RowWriter, error) {
	format, packing, err := formatOf(target)
	if err != nil {
		return nil, err
	}
	packer, err := repack(out, packing)
	if err != nil {
		return nil, err
	}
	if format == formatJSONL {
		return &lineWriter{bufio.NewWriterSize(packer, 1<<16), packer}, nil
	}
	t := columnsOf(target, like)
	if format == formatParquet {
		return newParquetWriter(t, packer), nil
	}
	w := &tableWriter{tableOut: t, buf: bufio.NewWriterSize(packer, 1<<16), packer: packer, tabs: format == formatTSV}
	w.csv = csv.NewWriter(w.buf)
	return w, w.record(t.names)
}

// lineWriter writes JSON lines.
type lineWriter struct {
	*bufio.Writer
	packer io.Closer
}

func (w *lineWriter) Write(row []byte) error {
	_, err := w.Writer.Write(row)
	return cmp.Or(err, w.WriteByte('\n'))
}

func (w *lineWriter) Close() error { return errors.Join(w.Flush(), w.packer.Close()) }

// tableOut is a table's columns, and the cells of the row at hand.
type tableOut struct {
	path  string
	row   int64
	names []string
	place map[string]int
	lists []bool // the column holds lists of texts
	cells [][]byte
}

// columnsOf collects the columns of some rows.
func columnsOf(path string, like [][]byte) tableOut {
	t := tableOut{path: path, place: map[string]int{}}
	for _, row := range like {
		members(row, func(key, value []byte) bool {
			name := string(key)
			at, known := t.place[name]
			if !known {
				at = len(t.names)
				t.place[name] = at
				t.names, t.lists = append(t.names, name), append(t.lists, false)
			}
			t.lists[at] = t.lists[at] || isTexts(value)
			return true
		})
	}
	t.cells = make([][]byte, len(t.names))
	return t
}

// isTexts says that a value is a list of texts, and has one at least.
func isTexts(value []byte) bool {
	return value[0] == '[' && new(Example).takeReferences(value) == ""
}

func (t *tableOut) bad(format string, args ...any) error {
	return &RowError{Path: t.path, Line: t.row, Reason: fmt.Sprintf(format, args...)}
}

// take puts a row into the cells; what it does not have is empty.
func (t *tableOut) take(row []byte) (err error) {
	t.row++
	clear(t.cells)
	members(row, func(key, value []byte) bool {
		at, ok := t.place[string(key)]
		if !ok {
			err = t.bad("has a column %q that the first rows do not have: write .jsonl", key)
			return false
		}
		t.cells[at] = value
		return true
	})
	return err
}

// text spells a cell.
func (t *tableOut) text(cell []byte) (string, error) {
	switch {
	case len(cell) == 0 || cell[0] == 'n':
		return "", nil
	case cell[0] != '"':
		return string(cell), nil
	}
	text, problem := unquote(cell)
	if problem != "" {
		return "", t.bad("%s", problem)
	}
	return text, nil
}

// tableWriter writes CSV, and TSV where nothing needs quotes.
type tableWriter struct {
	tableOut
	csv    *csv.Writer
	buf    *bufio.Writer
	packer io.Closer
	tabs   bool
	texts  []string
}

func (w *tableWriter) Write(row []byte) error {
	if err := w.take(row); err != nil {
		return err
	}
	w.texts = w.texts[:0]
	for i, cell := range w.cells {
		text, err := w.text(cell)
		if err != nil {
			return err
		}
		if w.tabs && (strings.ContainsAny(text, "\t\r\n") || looksQuoted(text)) {
			return w.bad("%s holds a tab, the end of a line, or quotes around it, which cannot stand in TSV: write .csv", w.names[i])
		}
		w.texts = append(w.texts, text)
	}
	return w.record(w.texts)
}

func (w *tableWriter) record(texts []string) error {
	switch {
	case w.tabs:
		_, err := w.buf.WriteString(strings.Join(texts, "\t") + "\n")
		return err
	case len(texts) == 1 && texts[0] == "": // a blank line would be no row
		w.csv.Flush()
		_, err := w.buf.WriteString("\"\"\n")
		return cmp.Or(w.csv.Error(), err)
	}
	return w.csv.Write(texts)
}

func (w *tableWriter) Close() error {
	w.csv.Flush()
	return errors.Join(w.csv.Error(), w.buf.Flush(), w.packer.Close())
}

// parquetWriter writes columns of text, and of lists of texts.
type parquetWriter struct {
	tableOut
	w      *parquet.GenericWriter[any]
	packer io.Closer
	order  []int // the cell of each column of the file
	row    parquet.Row
	bytes  int
}

// groupBytes is how much text a row group may have in memory before it is written.
const groupBytes = 32 << 20

func newParquetWriter(t tableOut, packer io.WriteCloser) *parquetWriter {
	root := parquet.Group{}
	for i, name := range t.names {
		node := parquet.Optional(parquet.String())
		if t.lists[i] {
			node = parquet.List(parquet.String())
		}
		nest(root, strings.Split(name, "."), node)
	}
	schema := parquet.NewSchema("rows", root)
	w := &parquetWriter{tableOut: t, packer: packer}
	for _, path := range schema.Columns() {
		w.order = append(w.order, t.place[plainName(path)])
	}
	w.w = parquet.NewGenericWriter[any](packer, schema, parquet.Compression(&parquet.Zstd))
	return w
}

// nest puts a column into a group, below the groups that its path names. A name that is a column already
// has none below it.
func nest(root parquet.Group, path []string, node parquet.Node) {
	below, ok := root[path[0]].(parquet.Group)
	switch {
	case len(path) > 1 && ok:
		nest(below, path[1:], node)
	case len(path) > 1 && root[path[0]] == nil:
		below = parquet.Group{}
		root[path[0]] = below
		nest(below, path[1:], node)
	default:
		root[strings.Join(path, ".")] = node
	}
}

func (w *parquetWriter) Write(row []byte) error {
	if err := w.take(row); err != nil {
		return err
	}
	w.row = w.row[:0]
	for column, at := range w.order {
		if err := w.cell(column, at); err != nil {
			return err
		}
	}
	if _, err := w.w.WriteRows([]parquet.Row{w.row}); err != nil {
		return err
	}
	if w.bytes += len(row); w.bytes < groupBytes {
		return nil
	}
	w.bytes = 0
	return w.w.Flush()
}

// cell appends what a cell holds to the row.
func (w *parquetWriter) cell(column, at int) error {
	cell := w.cells[at]
	switch {
	case len(cell) == 0 || cell[0] == 'n' || w.lists[at] && slices.Equal(cell, []byte("[]")):
		w.row = append(w.row, parquet.Value{}.Level(0, 0, column))
	case !w.lists[at]:
		text, err := w.text(cell)
		if err != nil {
			return err
		}
		w.row = append(w.row, parquet.ValueOf(text).Level(0, 1, column))
	default:
		var e Example
		if problem := e.takeReferences(cell); problem != "" {
			return w.bad("%s %s, as in the first rows", w.names[at], problem)
		}
		for i, text := range e.References {
			w.row = append(w.row, parquet.ValueOf(text).Level(min(i, 1), 1, column))
		}
	}
	return nil
}

func (w *parquetWriter) Close() error { return errors.Join(w.w.Close(), w.packer.Close()) }
