package eval

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"os"
	"slices"
	"strings"
)

// rowsHeader is the first line of a rows file: what the statistics in it are.
type rowsHeader struct {
	Schema  int         `json:"schema"`
	Kind    string      `json:"kind"` // "rows"
	Metrics []rowMetric `json:"metrics"`
}

// rowMetric describes the statistics of one metric of one task.
type rowMetric struct {
	Task    string   `json:"task"`
	Name    string   `json:"name"`
	Spec    string   `json:"spec"`
	Columns []string `json:"columns"`
}

// rowLine is every other line: one row's scores and sufficient statistics, and no texts.
type rowLine struct {
	ID     string               `json:"id"`
	Task   string               `json:"task,omitempty"`
	Slices []string             `json:"slices,omitempty"`
	Scores map[string]Number    `json:"scores"`
	Stats  map[string][]float64 `json:"stats"`
}

// rowWriter writes a rows file and digests it on the way.
type rowWriter struct {
	buf *bufio.Writer
	sum hash.Hash
	enc *json.Encoder
	err error
}

func newRowWriter(w io.Writer, tasks []*taskRun) *rowWriter {
	r := &rowWriter{sum: sha256.New()}
	r.buf = bufio.NewWriterSize(io.MultiWriter(w, r.sum), 1<<16)
	r.enc = json.NewEncoder(r.buf)
	r.enc.SetEscapeHTML(false)
	head := rowsHeader{Schema: ReportSchema, Kind: "rows", Metrics: []rowMetric{}}
	for _, t := range tasks {
		for _, m := range t.table.metrics {
			head.Metrics = append(head.Metrics, rowMetric{t.name, m.Name, m.Spec, m.columns})
		}
	}
	r.err = r.enc.Encode(head)
	return r
}

// write appends rows that were just added to the task's table.
func (r *rowWriter) write(t *taskRun, samples []Sample, stats []float64) error {
	first := t.table.rows - len(samples)
	for i := range samples {
		line := rowLine{ID: samples[i].ID, Task: t.name, Scores: map[string]Number{}, Stats: map[string][]float64{}}
		for k, s := range t.slices {
			if has(t.members[k], int32(first+i)) {
				line.Slices = append(line.Slices, s.Name)
			}
		}
		for m, metric := range t.table.metrics {
			from, to := t.table.columns(m)
			row := stats[i*t.table.width+from : i*t.table.width+to]
			line.Stats[metric.Name] = row
			if metric.score != nil {
				line.Scores[metric.Name] = Number(metric.score(row, 1))
			}
		}
		if r.err == nil {
			r.err = r.enc.Encode(line)
		}
	}
	return r.err
}

// has looks near the end of an ascending list, where rows just added stand.
func has(members []int32, row int32) bool {
	for i := len(members) - 1; i >= 0 && members[i] >= row; i-- {
		if members[i] == row {
			return true
		}
	}
	return false
}

func (r *rowWriter) close() (digest string, err error) {
	if err := errors.Join(r.err, r.buf.Flush()); err != nil {
		return "", fmt.Errorf("writing rows: %w", err)
	}
	return digestOf(r.sum), nil
}

// Rows are the per-row statistics of an evaluation, read back.
type Rows struct {
	Metrics []*Metric
	header  rowsHeader
	ids     map[string][]string    // by task
	slices  map[string][][]string  // by task
	stats   map[string][][]float64 // by task and metric, joined by a NUL
}

// RowsError says why a file is no rows file, or not the one that its report names.
type RowsError struct {
	Path   string
	Line   int
	Reason string
}

func (e *RowsError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("rows %s:%d: %s", e.Path, e.Line, e.Reason)
	}
	return fmt.Sprintf("rows %s: %s", e.Path, e.Reason)
}

// ReadRows reads a rows file that must have the given digest, "sha256:" and hexadecimal digits.
func ReadRows(path, digest string) (*Rows, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if digestBytes(data) != digest {
		return nil, &RowsError{path, 0, "has another digest than its report names"}
	}
	return ParseRows(path, data)
}

// ParseRows reads the content of a rows file; path is for messages.
func ParseRows(path string, data []byte) (*Rows, error) {
	r := &Rows{ids: map[string][]string{}, slices: map[string][][]string{}, stats: map[string][][]float64{}}
	widths := map[string]int{}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		if number == 1 {
			if err := r.readHeader(dec, widths); err != nil {
				return nil, &RowsError{path, number, err.Error()}
			}
			continue
		}
		var row rowLine
		if err := dec.Decode(&row); err != nil {
			return nil, &RowsError{path, number, err.Error()}
		}
		r.ids[row.Task] = append(r.ids[row.Task], row.ID)
		r.slices[row.Task] = append(r.slices[row.Task], row.Slices)
		for name, stats := range row.Stats {
			key := row.Task + "\x00" + name
			if want, ok := widths[key]; !ok || want != len(stats) {
				return nil, &RowsError{path, number, fmt.Sprintf("%d statistics of %q do not fit the first line", len(stats), name)}
			}
			for _, v := range stats {
				if math.IsInf(v, 0) {
					return nil, &RowsError{path, number, "a statistic is not finite"}
				}
			}
			r.stats[key] = append(r.stats[key], stats)
		}
	}
	if number == 0 {
		return nil, &RowsError{path, 0, "is empty"}
	}
	for key, rows := range r.stats {
		task, _, _ := bytes.Cut([]byte(key), []byte{0})
		if len(rows) != len(r.ids[string(task)]) {
			return nil, &RowsError{path, 0, "some rows lack the statistics of a metric"}
		}
	}
	return r, nil
}

func (r *Rows) readHeader(dec *json.Decoder, widths map[string]int) error {
	if err := dec.Decode(&r.header); err != nil {
		return err
	}
	if r.header.Kind != "rows" || r.header.Schema != ReportSchema {
		return fmt.Errorf("the first line is not that of a rows file of schema %d", ReportSchema)
	}
	for _, m := range r.header.Metrics {
		metric, err := ParseMetric(m.Spec)
		if err != nil {
			return err
		}
		if len(metric.columns) != len(m.Columns) {
			return fmt.Errorf("metric %s has %d statistics here, %d in this version", m.Spec, len(m.Columns), len(metric.columns))
		}
		metric.Name = m.Name
		r.Metrics = append(r.Metrics, metric)
		widths[m.Task+"\x00"+m.Name] = len(m.Columns)
	}
	return nil
}

// of gives the metric, the row ids and the statistics of a metric in a task.
func (r *Rows) of(task, name string) (*Metric, []string, [][]float64, bool) {
	for i, m := range r.header.Metrics {
		if m.Task == task && m.Name == name {
			return r.Metrics[i], r.ids[task], r.stats[task+"\x00"+name], true
		}
	}
	return nil, nil, nil, false
}

// Scores are the ids and the own scores of the rows of a task; false where the metric gives rows none.
func (r *Rows) Scores(task, name string) (ids []string, scores []float64, ok bool) {
	m, ids, stats, found := r.of(task, name)
	if !found || m.score == nil {
		return nil, nil, false
	}
	for _, row := range stats {
		scores = append(scores, m.score(row, 1))
	}
	return ids, scores, true
}

// splitSlice parts what a report calls a slice into task and slice.
func (r *Rows) splitSlice(name string) (task, slice string) {
	if task, slice, ok := strings.Cut(name, "/"); ok {
		return task, slice
	}
	if _, ok := r.ids[name]; ok {
		return name, ""
	}
	return "", name
}

func (r *Rows) inSlice(task string, row int, slice string) bool {
	return slices.Contains(r.slices[task][row], slice)
}

func digestOf(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }

func digestBytes(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// idsIn are the ids of the rows in what a report calls a slice.
func (r *Rows) idsIn(name string) []string {
	task, slice := r.splitSlice(name)
	var out []string
	for i, id := range r.ids[task] {
		if slice == "" || r.inSlice(task, i, slice) {
			out = append(out, id)
		}
	}
	return out
}
