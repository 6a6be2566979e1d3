package drift

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"regexp"
	"time"
)

const kindBaseline = "drift_baseline"

// Baseline is a reference that is kept: a sample of inputs under one encoder. It holds no texts.
type Baseline struct {
	Schema    int                  `json:"schema"`
	Kind      string               `json:"kind"` // "drift_baseline"
	Model     string               `json:"model"`
	Encoder   string               `json:"encoder_digest"` // of the model's files
	Data      string               `json:"data_fingerprint"`
	Made      time.Time            `json:"made"`
	Season    *Season              `json:"season,omitempty"` // null: the whole year
	Rows      int                  `json:"rows"`
	Dimension int                  `json:"dimension"`
	Points    string               `json:"embeddings"` // float32, little-endian, base64
	Scalars   map[string][]float64 `json:"scalars"`
}

// Season is a part of the year, both days in it, as "12-01" to "02-28".
type Season struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// ParseSeason reads "MM-DD:MM-DD".
func ParseSeason(text string) (*Season, error) {
	if !regexp.MustCompile(`^\d\d-\d\d:\d\d-\d\d$`).MatchString(text) {
		return nil, fmt.Errorf("season %q is not MM-DD:MM-DD", text)
	}
	s := &Season{text[:5], text[6:]}
	for _, day := range []string{s.From, s.To} {
		if _, err := time.Parse("2006-01-02", "2024-"+day); err != nil {
			return nil, fmt.Errorf("season %q: %s is no day", text, day)
		}
	}
	return s, nil
}

// Holds says whether a day lies in the season, which may go over the turn of the year.
func (s Season) Holds(day time.Time) bool {
	d := day.Format("01-02")
	if s.From <= s.To {
		return s.From <= d && d <= s.To
	}
	return d >= s.From || d <= s.To
}

// Before reports whether b serves better than other for a day: a season before the whole year, then
// what was made by the end of that day, then what is newer.
func (b Baseline) Before(other Baseline, day time.Time) bool {
	if season := b.Season != nil; season != (other.Season != nil) {
		return season
	}
	end := time.Date(day.Year(), day.Month(), day.Day()+1, 0, 0, 0, 0, day.Location())
	if made := b.Made.Before(end); made != other.Made.Before(end) {
		return made
	}
	return b.Made.After(other.Made)
}

// IsBaseline reports whether a file says that it is a baseline.
func IsBaseline(data []byte) bool {
	var head struct {
		Kind string `json:"kind"`
	}
	return json.Unmarshal(data, &head) == nil && head.Kind == kindBaseline
}

// Keep makes a baseline of a sample.
func (s Sample) Keep() Baseline {
	b := Baseline{Schema: Schema, Kind: kindBaseline, Rows: s.Size(), Scalars: s.Scalars}
	var raw []byte
	for _, row := range s.Embeddings {
		b.Dimension = len(row)
		for _, v := range row {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(v)))
		}
	}
	b.Points = base64.StdEncoding.EncodeToString(raw)
	return b
}

// BaselineError says why a file is no baseline, or not one for this encoder.
type BaselineError struct{ Path, Reason string }

func (e *BaselineError) Error() string { return fmt.Sprintf("baseline %s: %s", e.Path, e.Reason) }

// maxValues bounds what a baseline may hold.
const maxValues = 1 << 26

// ParseBaseline reads a baseline; path is for messages.
func ParseBaseline(path string, data []byte) (Baseline, Sample, error) {
	var b Baseline
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	fail := func(format string, a ...any) (Baseline, Sample, error) {
		return b, Sample{}, &BaselineError{path, fmt.Sprintf(format, a...)}
	}
	if err := dec.Decode(&b); err != nil {
		return fail("%v", err)
	}
	if b.Schema != Schema || b.Kind != kindBaseline {
		return fail("is of kind %q, schema %d; this version reads drift_baseline, %d", b.Kind, b.Schema, Schema)
	}
	if b.Rows < 1 || b.Dimension < 1 || b.Rows > maxValues/b.Dimension {
		return fail("%d rows of %d figures cannot be", b.Rows, b.Dimension)
	}
	raw, err := base64.StdEncoding.DecodeString(b.Points)
	if err != nil || len(raw) != 4*b.Rows*b.Dimension {
		return fail("has not %d embeddings of %d figures", b.Rows, b.Dimension)
	}
	s := Sample{Scalars: b.Scalars}
	for i := range b.Rows {
		row := make([]float64, b.Dimension)
		for k := range row {
			v := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*(i*b.Dimension+k):]))
			if row[k] = float64(v); math.IsNaN(row[k]) || math.IsInf(row[k], 0) {
				return fail("holds a figure that is no number")
			}
		}
		s.Embeddings = append(s.Embeddings, row)
	}
	for name, x := range b.Scalars {
		if len(x) != b.Rows {
			return fail("has %d figures %s for %d rows", len(x), name, b.Rows)
		}
	}
	return b, s, nil
}

// Encode writes the baseline.
func (b Baseline) Encode(w io.Writer) error { return json.NewEncoder(w).Encode(b) }
