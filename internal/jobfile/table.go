package jobfile

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

// Format names the format of an output by its file name: jsonl, csv, tsv or parquet.
func Format(path string) (string, error) {
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".jsonl", ".json", ".ndjson":
		return "jsonl", nil
	case ".csv", ".tsv", ".parquet":
		return ext[1:], nil
	default:
		return "", fmt.Errorf("%s: outputs end in .jsonl, .csv, .tsv or .parquet", path)
	}
}

// Convert writes the JSON objects of one file, one a line, as a table. Its columns are the keys
// of the first object, in their order; values that are no texts are written as JSON.
func Convert(from, to, format string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // read only
	lines := bufio.NewReaderSize(in, 1<<16)
	first, err := nextRow(lines)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return atomicfile.Write(to, func(w io.Writer) error {
		t := newTable(w, format, first.keys)
		for row := first; row.keys != nil; {
			if err := t.write(row.in(first.keys)); err != nil {
				return err
			}
			if row, err = nextRow(lines); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
		return t.close()
	})
}

// record is one JSON object with the order of its keys.
type record struct {
	keys   []string
	values map[string]string
}

// in lists the values of the given columns; what is absent is empty.
func (r record) in(columns []string) []string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = r.values[c]
	}
	return list
}

func nextRow(lines *bufio.Reader) (record, error) {
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return record{}, err
	}
	r := record{values: map[string]string{}}
	decoder := json.NewDecoder(bytes.NewReader(line))
	if _, err := decoder.Token(); err != nil {
		return r, err
	}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return r, err
		}
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return r, err
		}
		name := fmt.Sprint(key)
		var text string
		if json.Unmarshal(raw, &text) != nil {
			text = string(raw)
		}
		r.keys, r.values[name] = append(r.keys, name), text
	}
	return r, nil
}

// table is one of the formats.
type table struct {
	csv     *csv.Writer
	parquet *parquet.GenericWriter[any]
	order   []int // the column of each of the Parquet file's, which sorts them
	header  []string
}

func newTable(w io.Writer, format string, columns []string) *table {
	if format == "parquet" {
		group := parquet.Group{}
		for _, c := range columns {
			group[c] = parquet.String()
		}
		t := &table{parquet: parquet.NewGenericWriter[any](w, parquet.NewSchema("rows", group))}
		for _, name := range slices.Sorted(slices.Values(columns)) {
			t.order = append(t.order, slices.Index(columns, name))
		}
		return t
	}
	t := &table{csv: csv.NewWriter(w), header: columns}
	if format == "tsv" {
		t.csv.Comma = '\t'
	}
	return t
}

func (t *table) write(values []string) error {
	if t.parquet == nil {
		if t.header != nil {
			if err := t.csv.Write(t.header); err != nil {
				return err
			}
			t.header = nil
		}
		return t.csv.Write(values)
	}
	row := make(parquet.Row, len(values))
	for i, from := range t.order {
		row[i] = parquet.ValueOf(values[from]).Level(0, 0, i)
	}
	_, err := t.parquet.WriteRows([]parquet.Row{row})
	return err
}

func (t *table) close() error {
	if t.parquet != nil {
		return t.parquet.Close()
	}
	t.csv.Flush()
	return t.csv.Error()
}
