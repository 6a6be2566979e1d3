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
	"math/bits"
	"os"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/eval/significance"
	"github.com/t5ctl/t5ctl/internal/mapped"
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

// Rows are the per-row statistics of an evaluation, read back: four bytes a statistic where all of
// them are counts, in temporary files where there are many. They are to be closed.
type Rows struct {
	metrics []rowStats
	tasks   map[string]*rowTask
}

// rowStats are the statistics of one metric of one task.
type rowStats struct {
	rowMetric
	metric *Metric
	stats  *significance.Stats // nil: nobody asked for them
}

// rowTask says which rows a task has.
type rowTask struct {
	ids    mapped.Array[uint8] // of all rows, one after the other
	ends   mapped.Array[int64] // where in ids each ends
	slices map[string]*membership
}

func (t *rowTask) id(row int) string {
	start, ends := int64(0), t.ends.All()
	if row > 0 {
		start = ends[row-1]
	}
	return string(t.ids.All()[start:ends[row]])
}

// membership is a set of rows.
type membership []uint64

func (m *membership) add(row int) {
	for len(*m) <= row/64 {
		*m = append(*m, 0)
	}
	(*m)[row/64] |= 1 << (row % 64)
}

func (m *membership) has(row int) bool {
	return m != nil && row/64 < len(*m) && (*m)[row/64]>>(row%64)&1 != 0
}

// at is the row that has n members before it, which must be one itself.
func (m *membership) at(n int) int {
	for i, word := range *m {
		if n -= bits.OnesCount64(word); n >= 0 {
			continue
		}
		for n += bits.OnesCount64(word); ; word &= word - 1 {
			if n == 0 {
				return 64*i + bits.TrailingZeros64(word)
			}
			n--
		}
	}
	return -1
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

// ReadRows reads a rows file that must have the given digest, "sha256:" and hexadecimal digits. Where
// metrics are named, by name or specification, the statistics of no other are kept.
func ReadRows(path, digest string, metrics ...string) (*Rows, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	sum := sha256.New()
	in := io.TeeReader(f, sum)
	rows, err := ParseRows(path, in, metrics...)
	if _, readErr := io.Copy(io.Discard, in); readErr != nil {
		return nil, readErr
	}
	if digestOf(sum) != digest {
		if err == nil {
			_ = rows.Close() // of no use
		}
		return nil, &RowsError{path, 0, "has another digest than its report names"}
	}
	return rows, err
}

// ParseRows reads the content of a rows file; path is for messages. Where metrics are named, by name or
// specification, the statistics of no other are kept.
func ParseRows(path string, in io.Reader, metrics ...string) (_ *Rows, err error) {
	r := &Rows{tasks: map[string]*rowTask{}}
	defer func() {
		if err != nil {
			_ = r.Close() // of no use
		}
	}()
	file := rowFile{path: path, r: bufio.NewReaderSize(in, 1<<16)}
	var row []float64
	for {
		line, err := file.readLine()
		if errors.Is(err, io.EOF) {
			break
		}
		switch {
		case err != nil:
		case file.line == 1:
			err = r.readHeader(line, metrics)
		default:
			row, err = r.readRow(line, row)
		}
		if err != nil {
			return nil, &RowsError{path, file.line, err.Error()}
		}
	}
	if file.line == 0 {
		return nil, &RowsError{path, 0, "is empty"}
	}
	return r, r.settle()
}

// settle makes what was read readable.
func (r *Rows) settle() (err error) {
	for _, m := range r.metrics {
		if m.stats != nil {
			err = errors.Join(err, m.stats.Settle())
		}
	}
	for _, t := range r.tasks {
		err = errors.Join(err, t.ids.Settle(), t.ends.Settle())
	}
	return err
}

// Close lets the statistics go. A second call does nothing.
func (r *Rows) Close() (err error) {
	if r == nil {
		return nil
	}
	for _, m := range r.metrics {
		if m.stats != nil {
			err = errors.Join(err, m.stats.Close())
		}
	}
	for _, t := range r.tasks {
		err = errors.Join(err, t.ids.Close(), t.ends.Close())
	}
	r.metrics, r.tasks = nil, nil
	return err
}

func (r *Rows) readHeader(line []byte, metrics []string) error {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	var header rowsHeader
	if err := dec.Decode(&header); err != nil {
		return err
	}
	if header.Kind != "rows" || header.Schema != ReportSchema {
		return fmt.Errorf("the first line is not that of a rows file of schema %d", ReportSchema)
	}
	for _, m := range header.Metrics {
		metric, err := ParseMetric(m.Spec)
		if err != nil {
			return err
		}
		if len(metric.columns) != len(m.Columns) {
			return fmt.Errorf("metric %s has %d statistics here, %d in this version", m.Spec, len(m.Columns), len(metric.columns))
		}
		metric.Name = m.Name
		s := rowStats{m, metric, nil}
		if len(metrics) == 0 || slices.Contains(metrics, m.Name) || slices.Contains(metrics, m.Spec) {
			s.stats = significance.NewStats(len(m.Columns))
		}
		r.metrics = append(r.metrics, s)
	}
	return nil
}

// readRow takes in a line. buf is memory to use again.
func (r *Rows) readRow(line []byte, buf []float64) ([]float64, error) {
	s := jsonScan{b: line}
	var id, task []byte
	var parts []string
	var t *rowTask
	err := s.object(func(key []byte) (err error) {
		switch string(key) {
		case "id":
			id, err = s.text()
		case "task":
			task, err = s.text()
		case "slices":
			err = s.array(func() error {
				part, err := s.text()
				parts = append(parts, string(part))
				return err
			})
		case "scores":
			err = s.skip()
		case "stats":
			t = r.task(string(task))
			buf, err = r.readStats(&s, string(task), buf)
		default:
			err = fmt.Errorf("key %q is unknown", key)
		}
		if t != nil && string(key) != "stats" && err == nil {
			err = fmt.Errorf("key %q stands behind the statistics", key)
		}
		return err
	})
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return buf, err
	}
	if t == nil {
		t = r.task(string(task))
	}
	for _, p := range parts {
		if t.slices[p] == nil {
			t.slices[p] = &membership{}
		}
		t.slices[p].add(t.ends.Len())
	}
	t.ids.Append(id...)
	t.ends.Append(int64(t.ids.Len()))
	for _, m := range r.metrics {
		if m.Task == string(task) && m.stats != nil && m.stats.Rows() != t.ends.Len() {
			return buf, fmt.Errorf("the row lacks the statistics of %s, or has them twice", m.Name)
		}
	}
	return buf, nil
}

func (r *Rows) task(name string) *rowTask {
	t := r.tasks[name]
	if t == nil {
		t = &rowTask{slices: map[string]*membership{}}
		r.tasks[name] = t
	}
	return t
}

// readStats takes in the statistics of a row.
func (r *Rows) readStats(s *jsonScan, task string, buf []float64) ([]float64, error) {
	err := s.object(func(key []byte) error {
		i := slices.IndexFunc(r.metrics, func(m rowStats) bool { return m.Task == task && m.Name == string(key) })
		if i < 0 {
			return fmt.Errorf("statistics of %q are not told of in the first line", key)
		}
		m := r.metrics[i]
		if m.stats == nil {
			return s.skip()
		}
		buf = buf[:0]
		if err := s.array(func() error {
			v, err := s.number()
			buf = append(buf, v)
			return err
		}); err != nil {
			return err
		}
		if len(buf) != len(m.Columns) {
			return fmt.Errorf("%d statistics of %q do not fit the first line", len(buf), key)
		}
		m.stats.Append(buf)
		return nil
	})
	return buf, err
}

// of gives the metric, the rows and the statistics of a metric in a task.
func (r *Rows) of(task, name string) (*Metric, *rowTask, *significance.Stats, bool) {
	for _, m := range r.metrics {
		if m.Task == task && m.Name == name && m.stats != nil {
			return m.metric, r.task(task), m.stats, true
		}
	}
	return nil, nil, nil, false
}

// Scores are the ids and the own scores of the rows of a task; false where the metric gives rows none.
func (r *Rows) Scores(task, name string) (ids []string, scores []float64, ok bool) {
	m, t, stats, found := r.of(task, name)
	if !found || m.score == nil {
		return nil, nil, false
	}
	row := make([]float64, stats.Width())
	for i := range stats.Rows() {
		ids, scores = append(ids, t.id(i)), append(scores, m.score(stats.Row(row, i), 1))
	}
	return ids, scores, true
}

// splitSlice parts what a report calls a slice into task and slice.
func (r *Rows) splitSlice(name string) (task, slice string) {
	if task, slice, ok := strings.Cut(name, "/"); ok {
		return task, slice
	}
	if _, ok := r.tasks[name]; ok {
		return name, ""
	}
	return "", name
}

func digestOf(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }

func digestBytes(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// paired are the statistics of a metric in two evaluations of the same rows. They are to be closed.
type paired struct {
	metric *Metric
	x, y   *significance.Stats
	rows   *membership // which rows of the task they are; nil: all
	task   *rowTask
}

func (p *paired) id(i int) string {
	if p.rows != nil {
		i = p.rows.at(i)
	}
	return p.task.id(i)
}

// close lets go of statistics that were copied for a slice.
func (p *paired) close() error {
	if p.rows == nil {
		return nil
	}
	return errors.Join(p.x.Close(), p.y.Close())
}

// pairRows aligns the statistics of two rows files.
func pairRows(a, b *Rows, slice, name, baseName string) (*paired, error) {
	task, sub := a.splitSlice(slice)
	m, rows, x, ok := a.of(task, name)
	if !ok {
		return nil, fmt.Errorf("the rows have no statistics of %s", name)
	}
	_, baseRows, y, ok := b.of(task, baseName)
	switch {
	case !ok:
		return nil, fmt.Errorf("the baseline's rows have no statistics of %s", baseName)
	case rows.ends.Len() != baseRows.ends.Len():
		return nil, fmt.Errorf("there are %d rows here and %d in the baseline", rows.ends.Len(), baseRows.ends.Len())
	case !bytes.Equal(rows.ids.All(), baseRows.ids.All()) || !slices.Equal(rows.ends.All(), baseRows.ends.All()):
		for i := range rows.ends.Len() {
			if rows.id(i) != baseRows.id(i) {
				return nil, fmt.Errorf("row %d is %q here and %q in the baseline", i+1, rows.id(i), baseRows.id(i))
			}
		}
	}
	out := &paired{m, x, y, nil, rows}
	if sub != "" {
		if err := out.keep(rows.slices[sub]); err != nil {
			return nil, errors.Join(err, out.close())
		}
	}
	if out.x.Rows() == 0 {
		return nil, errors.New("there are no rows")
	}
	return out, nil
}

// keep drops the rows that are not members.
func (p *paired) keep(members *membership) error {
	x, y, row := p.x, p.y, make([]float64, p.x.Width())
	p.x, p.y, p.rows = significance.NewStats(x.Width()), significance.NewStats(x.Width()), members
	if members == nil {
		p.rows = &membership{}
	}
	for i := range x.Rows() {
		if members.has(i) {
			p.x.Append(x.Row(row, i))
			p.y.Append(y.Row(row, i))
		}
	}
	return errors.Join(p.x.Settle(), p.y.Settle())
}
