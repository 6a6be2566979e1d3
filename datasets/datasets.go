// Package datasets reads the examples that a model learns from and turns them into batches.
//
// A data file is JSON lines, CSV, TSV or Parquet, plain or packed by gzip or zstd. Columns are
// found by name, never by position, and nothing is repaired in silence: a row that is not what
// it should be is an error that names file and line, or is skipped and counted if the recipe
// says so.
//
// Everything random follows from a seed, so that the same data, options and seed give the same
// batches on any machine, and any place in that order can be reached without walking there.
// Memory does not grow with the data: texts are streamed once into a file of token ids, which
// is then mapped.
package datasets

// Example is one row: a text, what it should become, and what else would be right.
type Example struct {
	ID         string   // the row's own id; empty if it has none
	Line       int64    // where it starts in its file, counted from 1; the row number in Parquet
	Row        int64    // its number among the rows of the split, counted from 0, bad rows included
	Task       string   // which task the row belongs to, where a file mixes several
	Input      string   // without the prefix
	Target     string   // empty if only inputs were asked for
	References []string // all targets that count as right, the target itself not added
	Rejected   string   // a worse target, where pairs of preference were asked for
	Raw        []byte   // the whole row as a JSON object, if it was asked for
}

// Name identifies the example in messages: its id, or file and line.
func (e Example) Name(path string) string {
	if e.ID != "" {
		return e.ID
	}
	return place(path, e.Line)
}
