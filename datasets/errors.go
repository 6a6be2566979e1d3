package datasets

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// RowError says that one row of a file is not an example.
type RowError struct {
	Path   string
	Line   int64 // counted from 1; in Parquet the row number
	Reason string
}

// Error is in the form that editors jump to.
func (e *RowError) Error() string { return place(e.Path, e.Line) + ": " + e.Reason }

// ColumnError says that a file lacks a column.
type ColumnError struct {
	Path    string
	Column  string   // what was looked for
	Have    []string // what there is
	Nearest string   // the one most like it; empty if none is alike
}

// Error names the column and all those there are.
func (e *ColumnError) Error() string {
	have := "none"
	if len(e.Have) > 0 {
		have = strings.Join(e.Have, ", ")
	}
	return fmt.Sprintf("%s has no column %q; it has %s", e.Path, e.Column, have)
}

// EmptyError says that a file has no row to learn from.
type EmptyError struct {
	Path    string
	Skipped int64 // rows that were bad and skipped
}

// Error says whether the file is empty or all of it was bad.
func (e *EmptyError) Error() string {
	if e.Skipped > 0 {
		return fmt.Sprintf("%s has no usable row: all %d were skipped", e.Path, e.Skipped)
	}
	return e.Path + " has no rows"
}

// FormatError says that a file as a whole cannot be read: of no known format, damaged, or not
// what its name says.
type FormatError struct{ Path, Reason string }

// Error names the file and what is wrong with it.
func (e *FormatError) Error() string { return e.Path + ": " + e.Reason }

// FieldError says that a key of the recipe's data section has a value it cannot have.
type FieldError struct {
	Field  string // such as "max_input"
	Reason string
}

// Error names the key as it is written in a recipe.
func (e *FieldError) Error() string { return "data." + e.Field + ": " + e.Reason }

// place is "file:line".
func place(path string, line int64) string {
	return filepath.ToSlash(path) + ":" + strconv.FormatInt(line, 10)
}
