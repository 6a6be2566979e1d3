package datasets

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// parquetRows reads the wanted columns of a Parquet file, each a page at a time.
type parquetRows struct {
	path   string
	plan   plan
	raw    bool
	max    int
	file   *parquet.File
	temp   *os.File // holds the unpacked file, if it was packed
	group  int      // of those in the file, the next one
	left   int64    // rows of the current group
	row    int64
	column [roles]*parquetColumn
	all    []*parquetColumn // every column, if the whole row is asked for
}

// parquetColumn walks through the values of one column.
type parquetColumn struct {
	leaf   parquet.LeafColumn
	name   string
	chunk  parquet.Pages
	page   parquet.Page
	values parquet.ValueReader
	buffer [64]parquet.Value
	at, n  int
}

func newParquet(file *opened, path string, o ReadOptions) (_ *parquetRows, err error) {
	r := &parquetRows{path: path, plan: o.plan(), raw: o.Raw, max: o.MaxRowBytes}
	defer func() {
		if err != nil {
			_ = r.Close() // read only
		}
	}()
	defer r.guard(&err)
	source := file.raw
	if file.packing != packingNone {
		if r.temp, err = spool(file); err != nil {
			return nil, err
		}
		source = r.temp
	}
	info, err := source.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() == 0 {
		return nil, &EmptyError{Path: path}
	}
	if err := checkFooter(source, info.Size()); err != nil {
		return nil, &FormatError{Path: path, Reason: err.Error()}
	}
	r.file, err = parquet.OpenFile(source, info.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, &FormatError{Path: path, Reason: "is not sound Parquet: " + err.Error()}
	}
	return r, r.findColumns()
}

// spool puts an unpacked stream into a file that has no name any more: Parquet is read from its
// end.
func spool(r io.Reader) (*os.File, error) {
	temp, err := os.CreateTemp("", "t5ctl-*.parquet")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(temp.Name()) // not on every system; Close tries again
	if _, err := io.Copy(temp, r); err != nil {
		_ = temp.Close() // of no use any more
		return nil, err
	}
	return temp, nil
}

// checkFooter looks whether the footer can be as long as it says, before the library makes room
// for it.
func checkFooter(r io.ReaderAt, size int64) error {
	var tail [8]byte
	if size < 12 {
		return errors.New("is too short for Parquet")
	}
	if _, err := r.ReadAt(tail[:], size-8); err != nil {
		return err
	}
	if string(tail[4:]) != "PAR1" {
		return errors.New("is not Parquet, or is cut short: it does not end in PAR1")
	}
	if length := int64(binary.LittleEndian.Uint32(tail[:])); length > size-12 {
		return fmt.Errorf("is not sound Parquet: its footer claims %d of %d bytes", length, size)
	}
	return nil
}

// guard turns a panic of the library, which trusts its input in places, into an error.
func (r *parquetRows) guard(err *error) {
	if p := recover(); p != nil {
		*err = &FormatError{Path: r.path, Reason: fmt.Sprintf("is not sound Parquet: %v", p)}
	}
}

// findColumns looks the wanted columns up in the schema.
func (r *parquetRows) findColumns() error {
	schema := r.file.Schema()
	have := []string{}
	byName := map[string][]string{}
	for _, path := range schema.Columns() {
		name := plainName(path)
		have = append(have, name)
		byName[name] = path
	}
	for i, name := range r.plan.name {
		if name == "" {
			continue
		}
		path, ok := byName[name]
		if !ok {
			if r.plan.required[i] || r.plan.named[i] {
				return r.plan.missing(r.path, role(i), have)
			}
			continue
		}
		leaf, ok := schema.Lookup(path...)
		if !ok {
			return r.plan.missing(r.path, role(i), have)
		}
		if problem := unfit(role(i), leaf); problem != "" {
			return &FormatError{Path: r.path, Reason: fmt.Sprintf("column %q %s", name, problem)}
		}
		r.column[i] = &parquetColumn{leaf: leaf, name: name}
	}
	if r.raw {
		return r.findAll(byName, have)
	}
	return nil
}

// findAll opens every column once more, for the whole row.
func (r *parquetRows) findAll(byName map[string][]string, names []string) error {
	for _, name := range names {
		leaf, ok := r.file.Schema().Lookup(byName[name]...)
		if !ok || leaf.MaxRepetitionLevel > 1 {
			return &FormatError{Path: r.path, Reason: fmt.Sprintf("column %q cannot be written as JSON", name)}
		}
		r.all = append(r.all, &parquetColumn{leaf: leaf, name: name})
	}
	return nil
}

// columns gives every column that is being read.
func (r *parquetRows) columns() []*parquetColumn {
	return slices.DeleteFunc(append(slices.Clone(r.all), r.column[:]...), func(c *parquetColumn) bool { return c == nil })
}

// plainName is how a recipe names a column: its path with dots, without the levels that Parquet
// puts between a list and its elements.
func plainName(path []string) string {
	n := len(path)
	switch {
	case n > 2 && path[n-2] == "list" && (path[n-1] == "element" || path[n-1] == "item"):
		n -= 2
	case n > 2 && path[n-2] == "bag" && path[n-1] == "array_element":
		n -= 2
	case n > 1 && path[n-1] == "array":
		n--
	}
	return strings.Join(path[:n], ".")
}

// unfit says why a column cannot have this role, or nothing.
func unfit(r role, leaf parquet.LeafColumn) string {
	list, text := leaf.MaxRepetitionLevel > 0, leaf.Node.Type().Kind() == parquet.ByteArray
	switch {
	case leaf.MaxRepetitionLevel > 1:
		return "is a list of lists"
	case r == roleReferences && !list:
		return "is not a list of strings"
	case r != roleReferences && list:
		return "is a list, not a string"
	case r != roleID && !text:
		return "is " + leaf.Node.Type().String() + ", not a string"
	}
	return ""
}

// Close lets go of pages and of the unpacked file.
func (r *parquetRows) Close() error {
	for _, c := range r.columns() {
		c.close()
	}
	if r.temp == nil {
		return nil
	}
	return errors.Join(r.temp.Close(), ignoreMissing(os.Remove(r.temp.Name())))
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (r *parquetRows) next(e *Example) (err error) {
	defer r.guard(&err)
	for r.left == 0 {
		groups := r.file.RowGroups()
		if r.group == len(groups) {
			return io.EOF
		}
		group := groups[r.group]
		r.group, r.left = r.group+1, group.NumRows()
		chunks := group.ColumnChunks()
		for _, c := range r.columns() {
			c.open(chunks[c.leaf.ColumnIndex])
		}
	}
	r.left--
	r.row++
	e.Line = r.row
	var problem *badRow
	for i, c := range r.column {
		if c == nil {
			continue
		}
		reason, err := r.take(e, role(i), c)
		if err != nil {
			return &FormatError{Path: r.path, Reason: fmt.Sprintf("is not sound Parquet: column %q, row %d: %v", c.name, r.row, err)}
		}
		if reason = cmp.Or(reason, r.plan.lacking(e, role(i))); reason != "" && problem == nil { // all columns must move on together
			problem = bad(r.path, r.row, c.name+" "+reason)
		}
	}
	if r.raw {
		var reason string
		e.Raw, reason, err = r.object()
		if err != nil {
			return &FormatError{Path: r.path, Reason: fmt.Sprintf("is not sound Parquet: row %d: %v", r.row, err)}
		}
		if reason != "" && problem == nil {
			problem = bad(r.path, r.row, reason)
		}
	}
	if problem != nil {
		return problem
	}
	return nil
}

// rowValues gives all values of the next row of a column; more than one only in a list.
func (c *parquetColumn) rowValues(give func(parquet.Value)) error {
	for first := true; ; first = false {
		value, ok, err := c.peek()
		if err != nil {
			return err
		}
		if !ok && first {
			return errors.New("the column ends before the file does")
		}
		if !ok || (!first && value.RepetitionLevel() == 0) {
			return nil
		}
		c.at++
		give(value)
	}
}

// textSize is the bytes of a text; the library cannot be asked for those of a number.
func textSize(value parquet.Value) int {
	if value.Kind() != parquet.ByteArray {
		return 0
	}
	return len(value.ByteArray())
}

// take reads one row of a column into the example.
func (r *parquetRows) take(e *Example, which role, c *parquetColumn) (problem string, err error) {
	texts, null, size := []string(nil), false, 0
	err = c.rowValues(func(value parquet.Value) {
		if value.IsNull() {
			null = true
			return
		}
		if size += textSize(value); size > r.max {
			problem = fmt.Sprintf("is longer than %d bytes", r.max)
			return
		}
		text := value.String()
		problem = cmp.Or(problem, textProblem(text))
		texts = append(texts, text)
	})
	switch {
	case err != nil, problem != "":
		return problem, err
	case which == roleReferences:
		e.References = texts
		if null && len(texts) > 0 {
			return "holds a null", nil
		}
	case len(texts) == 1:
		e.set(which, texts[0])
	case which == roleID || which == roleTask || which == roleTarget && !r.plan.required[roleTarget]:
	default:
		return "is null", nil
	}
	return "", nil
}

// open starts on the next row group.
func (c *parquetColumn) open(chunk parquet.ColumnChunk) {
	c.close()
	c.chunk = chunk.Pages()
}

func (c *parquetColumn) close() {
	if c.page != nil {
		parquet.Release(c.page)
	}
	if c.chunk != nil {
		_ = c.chunk.Close() // read only
	}
	c.page, c.chunk, c.values, c.at, c.n = nil, nil, nil, 0, 0
}

// peek gives the next value of the row group without taking it.
func (c *parquetColumn) peek() (parquet.Value, bool, error) {
	for c.at == c.n {
		if c.values != nil {
			n, err := c.values.ReadValues(c.buffer[:])
			if err != nil && !errors.Is(err, io.EOF) {
				return parquet.Value{}, false, err
			}
			if c.at, c.n = 0, n; n > 0 {
				break
			}
		}
		if c.page != nil {
			parquet.Release(c.page)
			c.page = nil
		}
		page, err := c.chunk.ReadPage()
		if errors.Is(err, io.EOF) {
			return parquet.Value{}, false, nil
		}
		if err != nil {
			return parquet.Value{}, false, err
		}
		c.page, c.values = page, page.Values()
	}
	return c.buffer[c.at], true, nil
}

// object spells the whole row as a JSON object; columns within columns are named with dots.
func (r *parquetRows) object() (raw []byte, problem string, err error) {
	raw = append(raw, '{')
	for i, c := range r.all {
		if i > 0 {
			raw = append(raw, ',')
		}
		raw = append(append(raw, marshal(c.name)...), ':')
		list, n, size := c.leaf.MaxRepetitionLevel > 0, 0, 0
		if list {
			raw = append(raw, '[')
		}
		err := c.rowValues(func(value parquet.Value) {
			if list && value.IsNull() { // how an empty list is stored, or none
				return
			}
			if n++; n > 1 {
				raw = append(raw, ',')
			}
			var spelled []byte
			var reason string
			if size += textSize(value); size > r.max {
				reason = fmt.Sprintf("is longer than %d bytes", r.max)
			} else {
				spelled, reason = spell(value)
			}
			if reason != "" {
				problem = cmp.Or(problem, c.name+" "+reason)
			}
			raw = append(raw, spelled...)
		})
		if err != nil {
			return nil, "", fmt.Errorf("column %q: %w", c.name, err)
		}
		switch {
		case list && n == 0 && c.name == r.plan.list:
			raw = append(raw[:len(raw)-1], "null"...) // a row of JSON lines has no empty list of references
		case list:
			raw = append(raw, ']')
		}
	}
	return append(raw, '}'), problem, nil
}

// spell writes a value as JSON, or says why it cannot be.
func spell(value parquet.Value) (spelled []byte, problem string) {
	switch {
	case value.IsNull():
		return []byte("null"), ""
	case value.Kind() == parquet.ByteArray:
		text := value.String()
		return marshal(text), textProblem(text)
	case value.Kind() == parquet.Float || value.Kind() == parquet.Double:
		if f := value.Double(); value.Kind() == parquet.Double && (math.IsNaN(f) || math.IsInf(f, 0)) {
			return nil, "is not a number that JSON has"
		}
		if f := value.Float(); value.Kind() == parquet.Float && (f != f || math.IsInf(float64(f), 0)) {
			return nil, "is not a number that JSON has"
		}
		return []byte(value.String()), ""
	case value.Kind() == parquet.Boolean || value.Kind() == parquet.Int32 || value.Kind() == parquet.Int64:
		return []byte(value.String()), ""
	}
	return nil, "is " + value.Kind().String() + ", which is not written as JSON"
}
