package exposure

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
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

// RowError says what is wrong with a row of the data.
type RowError struct {
	Line   int
	Reason string
}

func (e *RowError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Reason) }

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

// Plant copies JSON lines from source to out with the canaries among them, each repetition as a row
// of its own at a place drawn from the seed. source is opened twice. The manifest lacks the names
// and digests of the files, which the caller knows.
func Plant(ctx context.Context, source func() (io.ReadCloser, error), out io.Writer, o PlantOptions) (Manifest, error) {
	m, err := Draw(o)
	if err != nil {
		return m, err
	}
	rows, err := countRows(ctx, source, o)
	if err != nil {
		return m, err
	}
	places := m.places(rows)
	in, err := source()
	if err != nil {
		return m, err
	}
	defer func() { _ = in.Close() }() // only read from
	w := bufio.NewWriterSize(out, 1<<16)
	m.Source.Rows = rows
	next, written := 0, 0
	insert := func(gap int) error {
		for ; next < len(places) && places[next].gap == gap; next++ {
			c := &m.Canaries[places[next].canary]
			c.Positions = append(c.Positions, written)
			written++
			if err := writeRow(w, c, o); err != nil {
				return err
			}
		}
		return nil
	}
	gap := 0
	err = eachLine(ctx, in, func(_ int, line []byte) error {
		if err := insert(gap); err != nil {
			return err
		}
		gap++
		written++
		_, err := w.Write(append(line, '\n'))
		return err
	})
	if err == nil {
		err = insert(gap)
	}
	if err = errors.Join(err, w.Flush()); err != nil {
		return m, err
	}
	m.Data.Rows = written
	return m, nil
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

func writeRow(w io.Writer, c *Canary, o PlantOptions) error {
	row := map[string]string{o.InputColumn: c.Input, o.TargetColumn: c.Target}
	if o.IDColumn != "" {
		row[o.IDColumn] = c.ID
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(row)
}

// countRows counts the rows and makes sure that the first one has the columns.
func countRows(ctx context.Context, source func() (io.ReadCloser, error), o PlantOptions) (int, error) {
	in, err := source()
	if err != nil {
		return 0, err
	}
	defer func() { _ = in.Close() }() // only read from
	rows := 0
	err = eachLine(ctx, in, func(number int, line []byte) error {
		rows++
		if rows > 1 {
			return nil
		}
		var row map[string]any
		if err := json.Unmarshal(line, &row); err != nil {
			return &RowError{number, "is not a JSON object: " + err.Error()}
		}
		for _, column := range []string{o.InputColumn, o.TargetColumn} {
			if _, ok := row[column].(string); !ok {
				return &RowError{number, fmt.Sprintf("has no text %q (it has %s)", column, keys(row))}
			}
		}
		return nil
	})
	if err == nil && rows == 0 {
		err = &RowError{1, "there are no rows"}
	}
	return rows, err
}

func keys(row map[string]any) string {
	var names []string
	for k := range row {
		names = append(names, k)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// maxLine bounds a line, so that a broken file cannot take the whole memory.
const maxLine = 256 << 20

// eachLine calls do with every line that is not blank, without its end.
func eachLine(ctx context.Context, r io.Reader, do func(number int, line []byte) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 1<<16), maxLine)
	number := 0
	for s.Scan() {
		number++
		if number%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		line := bytes.TrimSuffix(s.Bytes(), []byte("\r"))
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if err := do(number, slices.Clip(line)); err != nil {
			return err
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return &RowError{number + 1, fmt.Sprintf("is longer than %d bytes", maxLine)}
	}
	return s.Err()
}
