package datasets

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
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
	return nil
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
	for _, c := range r.column {
		if c != nil {
			c.close()
		}
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
		for _, c := range r.column {
			if c != nil {
				c.open(chunks[c.leaf.ColumnIndex])
			}
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
		if reason != "" && problem == nil { // all columns must move on together
			problem = bad(r.path, r.row, c.name+" "+reason)
		}
	}
	if problem != nil {
		return problem
	}
	if r.raw {
		e.Raw = e.object(r.plan)
	}
	return nil
}

// take reads one row of a column into the example.
func (r *parquetRows) take(e *Example, which role, c *parquetColumn) (problem string, err error) {
	texts, null, size := []string(nil), false, 0
	for first := true; ; first = false {
		value, ok, err := c.peek()
		if err != nil {
			return "", err
		}
		if !ok && first {
			return "", errors.New("the column ends before the file does")
		}
		if !ok || (!first && value.RepetitionLevel() == 0) {
			break
		}
		c.at++
		if value.IsNull() {
			null = true
			continue
		}
		text := value.String()
		if size += len(text); size > r.max {
			problem = fmt.Sprintf("is longer than %d bytes", r.max)
			continue
		}
		if p := textProblem(text); p != "" {
			problem = p
		}
		texts = append(texts, text)
	}
	switch {
	case problem != "":
		return problem, nil
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

// object spells what was read as a JSON object with the names of the file's columns.
func (e *Example) object(p plan) []byte {
	var b strings.Builder
	sep := byte('{')
	put := func(r role, value []byte) {
		b.WriteByte(sep)
		b.Write(marshal(p.name[r]))
		b.WriteByte(':')
		b.Write(value)
		sep = ','
	}
	if e.ID != "" {
		put(roleID, marshal(e.ID))
	}
	if e.Task != "" {
		put(roleTask, marshal(e.Task))
	}
	for _, r := range []role{roleInput, roleText} {
		if p.name[r] != "" {
			put(r, marshal(e.Input))
		}
	}
	if p.name[roleTarget] != "" {
		put(roleTarget, marshal(e.Target))
	}
	if len(e.References) > 0 {
		put(roleReferences, marshal(e.References))
	}
	b.WriteByte('}')
	return []byte(b.String())
}
