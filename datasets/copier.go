package datasets

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
)

// Copier goes through a file of any format row by row, and writes its rows to a file of the same
// format, with others among them.
type Copier interface {
	// Next reads a row, which stays the current one; io.EOF says that there is none.
	Next() error
	// Copy writes the current row as it was.
	Copy() error
	// Insert writes a row with these values by column. Other columns are empty; a value for a column
	// that the file does not have is left out.
	Insert(values map[string]string) error
	// Close ends what was written, and the reading.
	Close() error
}

// NewCopier opens a file to copy to out, packed as the name target says. The columns must be there
// and hold text. The formats of both names must be the same, since rows are copied as they are.
func NewCopier(path, target string, out io.Writer, columns ...string) (Copier, error) {
	format, packed, err := formatOf(path)
	if err != nil {
		return nil, err
	}
	other, packing, err := formatOf(target)
	if err != nil {
		return nil, err
	}
	if format != other {
		return nil, &FormatError{Path: target, Reason: fmt.Sprintf("is to be %s, but its rows are copied from %s, which is %s", other, path, format)}
	}
	file, err := open(path, packed)
	if err != nil {
		return nil, err
	}
	packer, err := repack(out, packing)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	base := copied{path: path, file: file, out: packer, columns: columns}
	c, err := base.open(format)
	if err != nil {
		return nil, errors.Join(file.explain(path, err), file.Close())
	}
	return c, nil
}

// repack puts an encoder before a writer.
func repack(out io.Writer, p packing) (io.WriteCloser, error) {
	switch p {
	case packingGzip:
		return gzip.NewWriter(out), nil
	case packingZstd:
		return zstd.NewWriter(out, zstd.WithEncoderConcurrency(1))
	case packingNone:
	}
	return unpacked{out}, nil
}

// unpacked is a writer that needs no end.
type unpacked struct{ io.Writer }

func (unpacked) Close() error { return nil }

// copied is what the formats share.
type copied struct {
	path    string
	file    *opened
	out     io.WriteCloser
	columns []string
}

func (c copied) open(f format) (Copier, error) {
	if f == formatParquet {
		return newParquetCopier(c)
	}
	in := bufio.NewReaderSize(c.file, 1<<18)
	if err := checkHead(in, c.path); err != nil {
		return nil, err
	}
	w := bufio.NewWriterSize(c.out, 1<<16)
	text := lines{in: in, max: DefaultMaxRowBytes}
	switch f {
	case formatCSV:
		source := &metered{r: in, left: DefaultMaxRowBytes + csvReadAhead}
		return newCSVCopier(c, source, w)
	case formatTSV:
		return newTSVCopier(c, text, w)
	default:
		return &jsonlCopier{copied: c, lines: text, w: w}, nil
	}
}

// header makes sure that the columns are there.
func (c *copied) header(have []string) error {
	for _, name := range c.columns {
		found := false
		for _, h := range have {
			found = found || h == name
		}
		if !found {
			return &FormatError{Path: c.path, Reason: fmt.Sprintf("has no column %q; it has %s", name, strings.Join(have, ", "))}
		}
	}
	return nil
}

// ended tells the end of the rows from what keeps the rest of the file from being read.
func (c *copied) ended(err error) error {
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return c.file.explain(c.path, err)
}

// line reads the next line of a text format.
func (c *copied) line(text *lines) ([]byte, error) {
	row, err := text.next()
	if errors.Is(err, errLongLine) {
		return nil, &RowError{Path: c.path, Line: text.line, Reason: fmt.Sprintf("is longer than %d bytes", text.max)}
	}
	if err != nil {
		return nil, c.ended(err)
	}
	return row, nil
}

func (c *copied) close(w *bufio.Writer) error {
	return errors.Join(w.Flush(), c.out.Close(), c.file.Close())
}

// jsonlCopier copies lines that are not blank.
type jsonlCopier struct {
	copied
	lines lines
	w     *bufio.Writer
	row   []byte
	rows  int
}

func (c *jsonlCopier) Next() (err error) {
	for {
		switch c.row, err = c.line(&c.lines); {
		case err != nil:
			return err
		case len(bytes.TrimSpace(c.row)) > 0:
			c.rows++
			return c.check()
		}
	}
}

// check looks for the columns in the first row.
func (c *jsonlCopier) check() error {
	if c.rows > 1 {
		return nil
	}
	var row map[string]any
	if err := json.Unmarshal(c.row, &row); err != nil {
		return &RowError{Path: c.path, Line: c.lines.line, Reason: "is not a JSON object: " + err.Error()}
	}
	for _, column := range c.columns {
		if _, ok := row[column].(string); !ok {
			return &RowError{Path: c.path, Line: c.lines.line, Reason: fmt.Sprintf("has no text %q", column)}
		}
	}
	return nil
}

func (c *jsonlCopier) Copy() error {
	_, err := c.w.Write(c.row)
	return cmp.Or(err, c.w.WriteByte('\n'))
}

func (c *jsonlCopier) Insert(values map[string]string) error {
	_, err := c.w.Write(append(marshal(values), '\n'))
	return err
}

func (c *jsonlCopier) Close() error { return c.close(c.w) }

// csvCopier copies records; quotes are written where they are needed.
type csvCopier struct {
	copied
	source *metered
	r      *csv.Reader
	w      *csv.Writer
	buf    *bufio.Writer
	names  []string
	row    []string
}

func newCSVCopier(base copied, source *metered, w *bufio.Writer) (*csvCopier, error) {
	c := &csvCopier{copied: base, source: source, r: csv.NewReader(source), w: csv.NewWriter(w), buf: w}
	c.r.ReuseRecord = true
	if err := c.Next(); err != nil {
		if errors.Is(err, io.EOF) {
			err = &EmptyError{Path: c.path}
		}
		return nil, err
	}
	c.names = append(c.names, c.row...)
	return c, cmp.Or(c.header(c.names), c.w.Write(c.names))
}

func (c *csvCopier) Next() (err error) {
	c.source.left = DefaultMaxRowBytes + csvReadAhead
	c.row, err = c.r.Read()
	if parse, ok := errors.AsType[*csv.ParseError](err); ok {
		return &RowError{Path: c.path, Line: int64(parse.Line), Reason: "is not CSV: " + parse.Err.Error()}
	}
	if errors.Is(err, errLongLine) {
		return &FormatError{Path: c.path, Reason: fmt.Sprintf("a row is longer than %d bytes: is a quote not closed?", DefaultMaxRowBytes)}
	}
	if err != nil {
		return c.ended(err)
	}
	return nil
}

func (c *csvCopier) Copy() error { return c.w.Write(c.row) }

func (c *csvCopier) Insert(values map[string]string) error { return c.w.Write(record(c.names, values)) }

func (c *csvCopier) Close() error {
	c.w.Flush()
	return cmp.Or(c.w.Error(), c.close(c.buf))
}

// record is a row of a table.
func record(names []string, values map[string]string) []string {
	row := make([]string, len(names))
	for i, name := range names {
		row[i] = values[name]
	}
	return row
}

// tsvCopier copies lines that are not empty.
type tsvCopier struct {
	copied
	lines lines
	w     *bufio.Writer
	names []string
	row   []byte
}

func newTSVCopier(base copied, text lines, w *bufio.Writer) (*tsvCopier, error) {
	c := &tsvCopier{copied: base, lines: text, w: w}
	if err := c.Next(); err != nil {
		if errors.Is(err, io.EOF) {
			err = &EmptyError{Path: c.path}
		}
		return nil, err
	}
	c.names = strings.Split(string(c.row), "\t")
	return c, cmp.Or(c.header(c.names), c.Copy())
}

func (c *tsvCopier) Next() (err error) {
	for {
		switch c.row, err = c.line(&c.lines); {
		case err != nil:
			return err
		case len(c.row) == 0:
			continue
		}
		if n := bytes.Count(c.row, []byte("\t")) + 1; c.names != nil && n != len(c.names) {
			return &RowError{Path: c.path, Line: c.lines.line, Reason: fmt.Sprintf("has %d fields, the header has %d", n, len(c.names))}
		}
		return nil
	}
}

func (c *tsvCopier) Copy() error {
	_, err := c.w.Write(c.row)
	return cmp.Or(err, c.w.WriteByte('\n'))
}

func (c *tsvCopier) Insert(values map[string]string) error {
	for _, v := range values {
		if strings.ContainsAny(v, "\t\r\n") {
			return &FormatError{Path: c.path, Reason: "a value with a tab or the end of a line cannot stand in TSV"}
		}
	}
	_, err := c.w.WriteString(strings.Join(record(c.names, values), "\t") + "\n")
	return err
}

func (c *tsvCopier) Close() error { return c.close(c.w) }

// parquetCopier copies rows whatever their columns are.
type parquetCopier struct {
	copied
	temp   *os.File // holds the unpacked file, if it was packed
	r      *parquet.GenericReader[any]
	w      *parquet.GenericWriter[any]
	schema *parquet.Schema
	rows   [1]parquet.Row
	places map[string]int // of the columns of text
	n      int
}

// rowGroup is how many rows the copy keeps in memory before it writes them.
const rowGroup = 1 << 14

func newParquetCopier(base copied) (c *parquetCopier, err error) {
	c = &parquetCopier{copied: base, places: map[string]int{}}
	defer c.guard(&err)
	source := base.file.raw
	if base.file.packing != packingNone {
		if c.temp, err = spool(base.file); err != nil {
			return nil, err
		}
		source = c.temp
	}
	info, err := source.Stat()
	if err != nil {
		return nil, err
	}
	if err := checkFooter(source, info.Size()); err != nil {
		return nil, &FormatError{Path: c.path, Reason: err.Error()}
	}
	file, err := parquet.OpenFile(source, info.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, &FormatError{Path: c.path, Reason: "is not sound Parquet: " + err.Error()}
	}
	c.schema = file.Schema()
	var names []string
	for _, path := range c.schema.Columns() {
		leaf, ok := c.schema.Lookup(path...)
		if ok && leaf.MaxRepetitionLevel == 0 && leaf.Node.Type().Kind() == parquet.ByteArray {
			c.places[plainName(path)] = leaf.ColumnIndex
			names = append(names, plainName(path))
		}
	}
	if err := c.header(names); err != nil {
		return nil, err
	}
	c.r = parquet.NewGenericReader[any](file)
	c.w = parquet.NewGenericWriter[any](c.out, c.schema, parquet.Compression(&parquet.Zstd))
	return c, nil
}

func (c *parquetCopier) guard(err *error) {
	if p := recover(); p != nil {
		*err = &FormatError{Path: c.path, Reason: fmt.Sprintf("is not sound Parquet: %v", p)}
	}
}

func (c *parquetCopier) Next() (err error) {
	defer c.guard(&err)
	n, err := c.r.ReadRows(c.rows[:])
	if n == 1 {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.EOF
	}
	return &FormatError{Path: c.path, Reason: "is not sound Parquet: " + err.Error()}
}

func (c *parquetCopier) Copy() error { return c.write(c.rows[:]) }

func (c *parquetCopier) write(rows []parquet.Row) (err error) {
	defer c.guard(&err)
	if _, err := c.w.WriteRows(rows); err != nil {
		return err
	}
	if c.n++; c.n%rowGroup == 0 {
		return c.w.Flush()
	}
	return nil
}

func (c *parquetCopier) Insert(values map[string]string) error {
	byPlace := map[int]string{}
	for name, at := range c.places {
		if v, ok := values[name]; ok {
			byPlace[at] = v
		}
	}
	var row parquet.Row
	for at, path := range c.schema.Columns() {
		leaf, _ := c.schema.Lookup(path...)
		v, ok := byPlace[at]
		switch {
		case ok:
			row = append(row, parquet.ValueOf(v).Level(0, leaf.MaxDefinitionLevel, at))
		case leaf.MaxDefinitionLevel > 0:
			row = append(row, parquet.Value{}.Level(0, 0, at))
		default:
			row = append(row, parquet.ZeroValue(leaf.Node.Type().Kind()).Level(0, 0, at))
		}
	}
	return c.write([]parquet.Row{row})
}

func (c *parquetCopier) Close() error {
	err := errors.Join(c.w.Close(), c.out.Close(), c.r.Close(), c.file.Close())
	if c.temp != nil {
		_ = c.temp.Close()           // read only
		_ = os.Remove(c.temp.Name()) // gone already on most systems
	}
	return err
}
