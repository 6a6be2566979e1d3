package exposure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
)

// PlantOptions say how canaries go into data.
type PlantOptions struct {
	Settings Settings
	// Columns under which the data keeps inputs, targets and, if wanted, ids.
	InputColumn, TargetColumn, IDColumn string
	// TokenCount, where given, counts the tokens of a target; all secrets and alternatives of a format
	// then have the same number, so that no length gives a secret away.
	TokenCount func(text string) int
	Tokenizer  string // digest of the tokenizer that TokenCount asks
}

// Table is data that canaries go into: its rows are copied as they are, with others among them.
type Table interface {
	// Next reads a row, which stays the current one; io.EOF says that there is none.
	Next() error
	// Copy writes the current row.
	Copy() error
	// Insert writes a row of these values by column.
	Insert(values map[string]string) error
	// Close ends what was written.
	Close() error
}

// NoRowsError says that there is nothing to plant canaries among.
type NoRowsError struct{}

func (*NoRowsError) Error() string { return "there are no rows" }

// Draw makes the canaries, not yet planted anywhere.
func Draw(o PlantOptions) (Manifest, error) {
	s := o.Settings.WithDefaults()
	m := Manifest{Schema: ManifestSchema, Kind: "canaries", Settings: s, Equal: o.TokenCount != nil, Tokenizer: o.Tokenizer, Canaries: []Canary{}}
	if err := s.Validate(); err != nil {
		return m, err
	}
	for i := range s.Formats {
		f := &s.Formats[i]
		secrets, length, err := m.sampler(f, o.TokenCount, -1)
		if err != nil {
			return m, err
		}
		if m.Equal {
			m.Lengths = append(m.Lengths, length)
		}
		if err := m.draw(f, secrets); err != nil {
			return m, err
		}
		if _, err := alternatives(f, secrets, s.References); err != nil {
			return m, err
		}
		m.Spaces = append(m.Spaces, Space{f.Name, f.Space().String(), f.MaxExposure()})
	}
	return m, nil
}

// sampler draws the secrets of a format, then its alternatives. With count, all have the same number
// of tokens: length, or the most frequent one among some draws if that is negative.
func (m *Manifest) sampler(f *Format, count func(string) int, length int) (*sampler, int, error) {
	s := f.newSampler(f.Target, "secret", m.Settings.Seed)
	if count == nil {
		return s, 0, nil
	}
	if length < 0 {
		probe := f.newSampler(f.Target, "length", m.Settings.Seed)
		seen := map[int]int{}
		for range 201 {
			text, err := probe.next()
			if errors.Is(err, errExhausted) {
				break
			}
			seen[count(text)]++
		}
		best := 0
		for n, times := range seen {
			if times > best || (times == best && n < length) {
				length, best = n, times
			}
		}
	}
	s.accepts = func(text string) bool { return count(text) == length }
	return s, length, nil
}

// draw makes the canaries of one format. Inputs with placeholders are all different.
func (m *Manifest) draw(f *Format, secrets *sampler) error {
	s := m.Settings
	inputs := f.newSampler(f.Input, "input", s.Seed)
	shared := f.space(f.Input).IsInt64() && f.space(f.Input).Int64() == 1
	for _, reps := range s.Repetitions {
		for k := range s.Canaries {
			target, err := secrets.next()
			if err != nil {
				return &FormatError{f.Name, err.Error()}
			}
			input := f.Input
			if !shared {
				if input, err = inputs.next(); err != nil {
					return &FormatError{f.Name, "there are not enough different inputs"}
				}
			}
			m.Canaries = append(m.Canaries, Canary{
				ID: fmt.Sprintf("canary/%s/%d/%d", f.Name, reps, k), Format: f.Name, Repetitions: reps,
				Input: input, Target: target, Seed: s.Seed, Positions: []int{},
			})
		}
	}
	return nil
}

// alternatives draws the references that secrets are ranked among; none is a secret.
func alternatives(f *Format, s *sampler, n int) ([]string, error) {
	out := make([]string, n)
	for i := range out {
		text, err := s.next()
		if err != nil {
			return nil, &FormatError{f.Name, fmt.Sprintf("%v: %d secrets and %d alternatives are asked for", err, len(s.drawn)-i, n)}
		}
		out[i] = text
	}
	return out, nil
}

// Plant copies a table with the canaries among its rows, each repetition as a row of its own at a
// place drawn from the seed. open is called twice: to count the rows, and to write to out. The manifest
// lacks the names and digests of the files, which the caller knows.
func Plant(ctx context.Context, open func(out io.Writer) (Table, error), out io.Writer, o PlantOptions) (Manifest, error) {
	m, err := Draw(o)
	if err != nil {
		return m, err
	}
	err = eachRow(ctx, open, io.Discard, func(Table) error { m.Source.Rows++; return nil }, nil)
	switch {
	case err != nil:
		return m, err
	case m.Source.Rows == 0:
		return m, &NoRowsError{}
	}
	places := m.places(m.Source.Rows)
	next, gap, written := 0, 0, 0
	insert := func(t Table) error {
		for ; next < len(places) && places[next].gap == gap; next++ {
			c := &m.Canaries[places[next].canary]
			c.Positions = append(c.Positions, written)
			written++
			if err := t.Insert(c.row(o)); err != nil {
				return err
			}
		}
		return nil
	}
	err = eachRow(ctx, open, out, func(t Table) error {
		if err := insert(t); err != nil {
			return err
		}
		gap++
		written++
		return t.Copy()
	}, insert)
	m.Data.Rows = written
	return m, err
}

// eachRow calls do at each row of a table, and last after the last one.
func eachRow(ctx context.Context, open func(io.Writer) (Table, error), out io.Writer, do, last func(Table) error) error {
	t, err := open(out)
	if err != nil {
		return err
	}
	for n := 1; err == nil; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return errors.Join(ctx.Err(), t.Close())
		}
		if err = t.Next(); err == nil {
			err = do(t)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
		if last != nil {
			err = last(t)
		}
	}
	return errors.Join(err, t.Close())
}

// place is where one repetition goes: before the row of that number.
type place struct{ gap, canary int }

// places draws a place for every repetition, evenly over the data, in the order of the data.
func (m *Manifest) places(rows int) []place {
	rng := rand.New(rand.NewChaCha8(streamKey(m.Settings.Seed, "places")))
	var out []place
	for i, c := range m.Canaries {
		for range c.Repetitions {
			out = append(out, place{rng.IntN(rows + 1), i})
		}
	}
	slices.SortStableFunc(out, func(a, b place) int { return a.gap - b.gap })
	return out
}

// row is the canary by column.
func (c *Canary) row(o PlantOptions) map[string]string {
	row := map[string]string{o.InputColumn: c.Input, o.TargetColumn: c.Target}
	if o.IDColumn != "" {
		row[o.IDColumn] = c.ID
	}
	return row
}
