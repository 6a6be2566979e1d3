package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/datasets"
)

// textOptions say where texts come from.
type textOptions struct {
	column string
	files  []string
}

func (o *textOptions) bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.column, "column", "", "`name` of the column with the texts (default: input and target, both)")
}

// texts gives the texts of the files one by one: the lines of plain text, the columns of tables.
// Without files it gives the lines of stdin.
func (o *textOptions) texts(stdin io.Reader) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if len(o.files) == 0 {
			for line, err := range textLines(stdin, "stdin") {
				if !yield(line, err) {
					return
				}
			}
			return
		}
		for _, path := range o.files {
			read := o.table
			if !isTable(path) {
				read = plainText
			}
			for text, err := range read(path) {
				if !yield(text, err) || err != nil {
					return
				}
			}
		}
	}
}

// isTable says by its name whether a file has rows with columns.
func isTable(path string) bool {
	name := strings.ToLower(path)
	for _, packing := range []string{".gz", ".zst"} {
		name = strings.TrimSuffix(name, packing)
	}
	for _, ending := range []string{".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"} {
		if strings.HasSuffix(name, ending) {
			return true
		}
	}
	return false
}

func (o *textOptions) table(path string) iter.Seq2[string, error] {
	options := datasets.ReadOptions{Need: datasets.Texts, Columns: datasets.Columns{Text: o.column}}
	return func(yield func(string, error) bool) {
		for row, err := range datasets.Read(path, options) {
			if !yield(row.Input, err) || err != nil {
				return
			}
			if o.column == "" && !yield(row.Target, nil) {
				return
			}
		}
	}
}

func plainText(path string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		file, err := os.Open(path)
		if err != nil {
			yield("", err)
			return
		}
		defer func() { _ = file.Close() }() // it was only read
		for line, err := range textLines(file, path) {
			if !yield(line, err) {
				return
			}
		}
	}
}

// textLines gives the lines of a stream, however long, without the line feed and otherwise as they are.
func textLines(stream io.Reader, name string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		lines := bufio.NewReaderSize(stream, 1<<16)
		for {
			line, err := lines.ReadString('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				yield("", fmt.Errorf("reading %s: %w", name, err))
				return
			}
			if line == "" || !yield(strings.TrimSuffix(line, "\n"), nil) {
				return
			}
		}
	}
}

// textRules maps the failures of data files to exit codes.
func textRules() []rule {
	return []rule{
		as(exitUsage, func(e *datasets.ColumnError) string { return didYouMean(e.Nearest) }),
		as[*datasets.RowError](exitUsage, nil),
		as[*datasets.EmptyError](exitUsage, nil),
		as[*datasets.FormatError](exitUsage, nil),
	}
}
