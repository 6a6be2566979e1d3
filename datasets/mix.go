package datasets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"strconv"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

// SampleOptions say which rows of files are taken, as they are and in their order.
type SampleOptions struct {
	Files    []string
	Rows     int64   // so many, every choice of them as likely as any other; 0: a share
	Share    float64 // of the rows, or of the keys
	Key      string  // the column that decides together with the seed, so that rows with one key stay together
	Seed     uint64
	OnBadRow string
}

// FewRowsError says that there are fewer rows than were asked for.
type FewRowsError struct{ Want, Have int64 }

// Error names both numbers.
func (e *FewRowsError) Error() string {
	return fmt.Sprintf("%d rows are asked for, and there are %d", e.Want, e.Have)
}

// Validate tells what is wrong with the options.
func (o SampleOptions) Validate() error {
	switch {
	case o.Rows < 0 || o.Share < 0 || o.Share > 1 || math.IsNaN(o.Share):
		return fmt.Errorf("%d rows or a share of %g cannot be taken", o.Rows, o.Share)
	case (o.Rows > 0) == (o.Share > 0):
		return errors.New("either a number of rows or a share says how much is taken")
	case o.Rows > 0 && o.Key != "":
		return errors.New("a key decides on a share, not on a number of rows")
	}
	return nil
}

// Taken counts what a sample or a mixture was made of.
type Taken struct {
	Rows    int64 `json:"rows"`    // written
	Of      int64 `json:"of"`      // read
	Skipped int64 `json:"skipped"` // bad rows
}

// WriteTo writes the sample to a new file in the format of its name; memory does not grow with the
// data. A number of rows is taken in two passes, the first of which counts.
func (o SampleOptions) WriteTo(ctx context.Context, path string) (taken Taken, err error) {
	if err := o.Validate(); err != nil {
		return taken, err
	}
	total := int64(0)
	if o.Rows > 0 {
		for _, err := range o.read(ctx, nil) {
			if err != nil {
				return taken, err
			}
			total++
		}
		if total < o.Rows {
			return taken, &FewRowsError{o.Rows, total}
		}
	}
	err = writeRows(path, func(give func(row []byte) error) error {
		taken = Taken{}
		take := o.chooser(total)
		for e, err := range o.read(ctx, func(*RowError) { taken.Skipped++ }) {
			if err != nil {
				return err
			}
			if taken.Of++; take(e) {
				taken.Rows++
				if err := give(e.Raw); err != nil {
					return err
				}
			}
		}
		if taken.Rows < o.Rows { // the files became shorter between the passes
			return &FewRowsError{o.Rows, taken.Of}
		}
		return nil
	})
	return taken, err
}

// chooser decides row by row. Of a known number of rows each is taken with the chance that what is still
// wanted has among what is still to come, which gives every choice the same chance.
func (o SampleOptions) chooser(total int64) func(Example) bool {
	if o.Rows > 0 {
		random, left, wanted := newRandom(forSample, o.Seed), total, o.Rows
		return func(Example) bool {
			take := left > 0 && int64(random.below(uint64(left))) < wanted
			left--
			if take {
				wanted--
			}
			return take
		}
	}
	part := SplitOptions{Salt: "sample " + strconv.FormatUint(o.Seed, 10), Test: o.Share}
	return func(e Example) bool {
		key := e.ID
		if o.Key == "" {
			key = strconv.FormatInt(e.Row, 10)
		}
		return part.SplitOf(key) == Test
	}
}

func (o SampleOptions) read(ctx context.Context, skipped func(*RowError)) iter.Seq2[Example, error] {
	return wholeRows(ctx, o.Files, o.Key, o.OnBadRow, skipped)
}

// wholeRows reads rows as they are; of the columns only the key, if there is one, must be there.
func wholeRows(ctx context.Context, files []string, key, onBadRow string, skipped func(*RowError)) iter.Seq2[Example, error] {
	read := ReadOptions{Need: Anything, OnBadRow: onBadRow, OnSkip: skipped, Raw: true}
	if key != "" {
		read.Need, read.Columns.ID = IDs, key
	}
	return func(yield func(Example, error) bool) {
		rows := 0
		for e, err := range ReadFiles(files, read) {
			if rows++; err == nil && rows%1024 == 0 && ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// writeRows writes the rows that from gives to a new file. The first of them says which columns a table has.
func writeRows(path string, from func(give func(row []byte) error) error, like ...[]byte) error {
	return atomicfile.Write(path, func(out io.Writer) error {
		var w RowWriter
		err := from(func(row []byte) (err error) {
			if w == nil {
				if w, err = NewRowWriter(out, path, append([][]byte{row}, like...)); err != nil {
					return err
				}
			}
			return w.Write(row)
		})
		if err != nil {
			return err
		}
		if w == nil {
			return &FewRowsError{1, 0}
		}
		return w.Close()
	})
}

// MixSource is one of the sources of a mixture.
type MixSource struct {
	Files []string
	Rate  float64 // its share, as part of the sum of all
}

// When a mixture ends, where no number of rows says it.
const (
	UntilFirst = "first" // before a source would have to begin anew
	UntilLast  = "last"  // when all have been read once; the others begin anew until then
)

// MixOptions say how rows of several sources are mixed.
type MixOptions struct {
	Sources  []MixSource
	Rows     int64  // of the result; sources begin anew when they end. 0: Until says it
	Until    string // UntilFirst or UntilLast; empty is UntilFirst
	Seed     uint64 // of the order within each block
	OnBadRow string
}

// Mixed is what a mixture took of a source.
type Mixed struct {
	Rows    int64 `json:"rows"`    // written
	Passes  int64 `json:"passes"`  // begun
	Skipped int64 `json:"skipped"` // bad rows
}

// Validate tells what is wrong with the options, files apart.
func (o MixOptions) Validate() error {
	if len(o.Sources) < 2 {
		return errors.New("a mixture has two sources or more")
	}
	sum := 0.0
	for _, s := range o.Sources {
		if !(s.Rate > 0) || math.IsInf(s.Rate, 0) {
			return fmt.Errorf("rate %g is not positive", s.Rate)
		}
		sum += s.Rate
	}
	for _, s := range o.Sources {
		if s.Rate/sum*mixBlock < 1 {
			return fmt.Errorf("rate %g is less than 1 in %d of all", s.Rate, mixBlock)
		}
	}
	if o.Rows < 0 || o.Until != "" && o.Until != UntilFirst && o.Until != UntilLast {
		return fmt.Errorf("%d rows until %q is no end", o.Rows, o.Until)
	}
	return nil
}

// WriteTo writes the mixture to a new file in the format of its name. Every mixBlock rows hold each
// source as often as its rate says, in an order that the seed draws; the rows of a source keep
// their own order. Memory does not grow with the data.
func (o MixOptions) WriteTo(ctx context.Context, path string) (mixed []Mixed, err error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	rates := make([]float64, len(o.Sources))
	like := make([][]byte, len(o.Sources)) // a first row of each, for the columns
	for i, s := range o.Sources {
		rates[i] = s.Rate
		for e, err := range wholeRows(ctx, s.Files, "", o.OnBadRow, nil) {
			if err != nil {
				return nil, err
			}
			like[i] = e.Raw
			break
		}
	}
	err = writeRows(path, func(give func(row []byte) error) error {
		m := &mixing{o: o, order: mixture{counts: shares(rates), seed: o.Seed, block: -1}, taken: make([]Mixed, len(o.Sources))}
		defer m.close()
		err := m.deal(ctx, give)
		mixed = m.taken
		return err
	}, like...)
	return mixed, err
}

// mixing is a mixture being written.
type mixing struct {
	o     MixOptions
	order mixture // only the order within the blocks
	taken []Mixed
	next  []func() (Example, error, bool)
	stop  []func()
	done  int // sources that were read once
}

func (m *mixing) close() {
	for _, stop := range m.stop {
		stop()
	}
}

// begin starts a pass of a source.
func (m *mixing) begin(ctx context.Context, i int) {
	m.stop[i]()
	m.taken[i].Passes++
	skipped := func(*RowError) { m.taken[i].Skipped++ }
	if m.taken[i].Passes > 1 { // counted before
		skipped = nil
	}
	m.next[i], m.stop[i] = iter.Pull2(wholeRows(ctx, m.o.Sources[i].Files, "", m.o.OnBadRow, skipped))
}

func (m *mixing) deal(ctx context.Context, give func(row []byte) error) error {
	m.next, m.stop = make([]func() (Example, error, bool), len(m.taken)), make([]func(), len(m.taken))
	for i := range m.taken {
		m.stop[i] = func() {}
		m.begin(ctx, i)
	}
	for n := int64(0); m.o.Rows == 0 || n < m.o.Rows; n++ {
		m.order.arrange(n / mixBlock)
		i := m.order.order[n%mixBlock]
		e, err, ok := m.next[i]()
		if !ok {
			if m.ended(i) {
				return nil
			}
			m.begin(ctx, i)
			e, err, ok = m.next[i]()
		}
		if err == nil && !ok {
			err = &EmptyError{Path: m.o.Sources[i].Files[0]}
		}
		if err != nil {
			return err
		}
		m.taken[i].Rows++
		if err := give(e.Raw); err != nil {
			return err
		}
	}
	return nil
}

// ended says whether the end of a source ends the mixture.
func (m *mixing) ended(i int) bool {
	if m.taken[i].Passes == 1 {
		m.done++
	}
	switch {
	case m.o.Rows > 0:
		return false
	case m.o.Until == UntilLast:
		return m.done == len(m.taken)
	}
	return true
}
