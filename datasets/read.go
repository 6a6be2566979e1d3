package datasets

import (
	"cmp"
	"errors"
	"io"
	"iter"
	"strings"
	"unicode/utf8"

	"github.com/t5ctl/t5ctl/internal/nearest"
)

// Need says which texts of a row are asked for.
type Need int

// What a reader of examples may need.
const (
	Pairs       Need = iota // input and target: training and evaluation
	Inputs                  // input alone: generation; a target is taken where there is one
	Texts                   // plain text, in Example.Input: pretraining
	IDs                     // the id alone, which every row must have: dividing a file
	Preferences             // input, chosen and rejected text; the chosen is Example.Target
	Anything                // rows as they are, whatever their columns
)

// DefaultMaxRowBytes bounds a row, so that a file without line ends cannot fill the memory.
const DefaultMaxRowBytes = 16 << 20

// ReadOptions says how rows are read. The zero value reads pairs from the columns input and
// target and stops at the first bad row.
type ReadOptions struct {
	Columns     Columns
	Need        Need
	OnBadRow    string          // Fail or Skip; empty is Fail
	OnSkip      func(*RowError) // hears of each row that is skipped; may be nil
	MaxRowBytes int             // 0 is DefaultMaxRowBytes
	Raw         bool            // fill in Example.Raw
}

// Read gives the rows of a file in order. An error ends it: *RowError for a row that is no
// example (unless it is skipped), *ColumnError, *EmptyError, *FormatError, or what the operating
// system says. Memory does not grow with the file.
func Read(path string, o ReadOptions) iter.Seq2[Example, error] {
	return ReadFiles([]string{path}, o)
}

// ReadFiles is Read over several files, whose rows are numbered on. Each must have a row.
func ReadFiles(paths []string, o ReadOptions) iter.Seq2[Example, error] {
	return func(yield func(Example, error) bool) {
		row := int64(0)
		for _, path := range paths {
			for example, err := range readFile(path, o, &row) {
				if !yield(example, err) || err != nil {
					return
				}
			}
		}
	}
}

// readFile gives the rows of one file and counts them in row.
func readFile(path string, o ReadOptions, row *int64) iter.Seq2[Example, error] {
	return func(yield func(Example, error) bool) {
		format, packing, err := formatOf(path)
		if err != nil {
			yield(Example{}, err)
			return
		}
		file, err := open(path, packing)
		if err != nil {
			yield(Example{}, err)
			return
		}
		defer file.Close() //nolint:errcheck // read only
		rows, err := newRows(format, file, path, o)
		if err == nil {
			err = o.drain(path, rows, row, yield)
			if closer, ok := rows.(io.Closer); ok {
				_ = closer.Close() // read only
			}
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(Example{}, file.explain(path, err))
		}
	}
}

// rowReader is one file format. next overwrites the example with the next row; *RowError says
// that this row is bad and the next one may be asked for, io.EOF that there is none.
type rowReader interface {
	next(*Example) error
}

// errStopped says that whoever ranges over the rows wants no more.
var errStopped = errors.New("stopped")

// drain gives out all rows of one file and applies the policy for bad ones.
func (o ReadOptions) drain(path string, rows rowReader, row *int64, yield func(Example, error) bool) error {
	good, skipped := int64(0), int64(0)
	var missing *ColumnError
	for ; ; *row++ {
		example := Example{Row: *row}
		err := rows.next(&example)
		if errors.Is(err, io.EOF) {
			break
		}
		if bad, ok := errors.AsType[*badRow](err); ok {
			if good+skipped == 0 {
				missing = bad.column
			}
			if o.OnBadRow != Skip || bad.final {
				if missing != nil && !bad.final {
					return missing
				}
				return bad.row
			}
			skipped++
			if o.OnSkip != nil {
				o.OnSkip(bad.row)
			}
			continue
		}
		if err != nil {
			return err
		}
		good++
		if !yield(example, nil) {
			return errStopped
		}
	}
	switch checker, _ := rows.(interface{ unseen() *ColumnError }); {
	case good == 0 && missing != nil:
		return missing
	case good == 0:
		return &EmptyError{Path: path, Skipped: skipped}
	case checker != nil:
		if unseen := checker.unseen(); unseen != nil {
			return unseen
		}
	}
	return nil
}

// badRow is how a format reports a row that is no example.
type badRow struct {
	row    *RowError
	column *ColumnError // set if a column is missing: in the first row, the file's columns are wrong
	final  bool         // reading cannot go on behind it
}

func (b *badRow) Error() string { return b.row.Error() }

func bad(path string, line int64, reason string) *badRow {
	return &badRow{row: &RowError{Path: path, Line: line, Reason: reason}}
}

// role is what a column is for.
type role int

const (
	roleInput role = iota
	roleTarget
	roleReferences
	roleID
	roleTask
	roleText
	roleRejected
	roles
)

// plan says which columns are read, by role. An empty name is not read.
type plan struct {
	name     [roles]string
	required [roles]bool
	named    [roles]bool // the user gave it another name than the usual one: it must exist somewhere in the file
	list     string      // the column whose texts are lists, where a table's row is spelled as JSON
}

// plan works out the columns that the options ask for.
func (o ReadOptions) plan() plan {
	c := o.Columns
	given := [roles]string{c.Input, c.Target, c.References, c.ID, c.Task, c.Text, c.Rejected}
	usual := Columns{}.withDefaults()
	c = c.withDefaults()
	p := plan{list: c.References, name: [roles]string{c.Input, c.Target, c.References, c.ID, c.Task, c.Text}}
	if o.Need == Preferences {
		given[roleTarget], given[roleReferences] = c.Chosen, ""
		p.name[roleTarget], p.name[roleReferences] = cmp.Or(c.Chosen, "chosen"), ""
		p.name[roleRejected], p.required[roleRejected] = cmp.Or(c.Rejected, "rejected"), true
		usual.Target = "chosen"
	}
	for r, name := range [roles]string{usual.Input, usual.Target, usual.References, usual.ID, usual.Task, "", "rejected"} {
		p.named[r] = given[r] != "" && given[r] != name // Source.WithDefaults names the usual ones too
	}
	switch {
	case o.Need == Texts && c.Text != "":
		p.name[roleInput], p.name[roleTarget], p.name[roleReferences] = "", "", ""
		p.required[roleText] = true
	case o.Need == Anything:
		return plan{list: c.References}
	case o.Need == IDs:
		for r := range p.name {
			if role(r) != roleID {
				p.name[r] = ""
			}
		}
		p.required[roleID] = true
	case o.Need == Inputs:
		p.name[roleText] = ""
		p.required[roleInput] = true
		p.named[roleTarget], p.named[roleReferences] = false, false // generation does not read them
	default:
		p.name[roleText] = ""
		p.required[roleInput], p.required[roleTarget] = true, true
	}
	return p
}

// missing is the error for a file that has only these columns.
func (p plan) missing(path string, r role, have []string) *ColumnError {
	return &ColumnError{Path: path, Column: p.name[r], Have: have, Nearest: nearest.Of(p.name[r], have)}
}

// lacking says that a row has no id where it must have one, or nothing.
func (p plan) lacking(e *Example, r role) string {
	if r == roleID && p.required[roleID] && e.ID == "" {
		return "is empty"
	}
	return ""
}

// set puts a text into the example.
func (e *Example) set(r role, text string) {
	switch r {
	case roleInput, roleText:
		e.Input = text
	case roleTarget:
		e.Target = text
	case roleRejected:
		e.Rejected = text
	case roleID:
		e.ID = text
	case roleTask:
		e.Task = text
	case roleReferences, roles:
	}
}

// textProblem says why a text cannot be used, or nothing.
func textProblem(text string) string {
	if !utf8.ValidString(text) {
		return "is not UTF-8"
	}
	if strings.IndexByte(text, 0) >= 0 {
		return "holds a NUL byte"
	}
	return ""
}
