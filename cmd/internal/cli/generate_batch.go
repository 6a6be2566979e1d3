package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/internal/jobfile"
	"github.com/t5ctl/t5ctl/internal/model"
)

// shard is one of n equal parts of the rows: those whose number is i−1 modulo n.
type shard struct{ i, n int64 }

func parseShard(text string) (shard, error) {
	s := shard{1, 1}
	if text == "" {
		return s, nil
	}
	var rest string
	if n, _ := fmt.Sscanf(text, "%d/%d%s", &s.i, &s.n, &rest); n != 2 || s.i < 1 || s.i > s.n {
		return s, fmt.Errorf("--shard is %q; it is i/n with i from 1 to n", text)
	}
	return s, nil
}

func (s shard) has(row int64) bool { return row%s.n == s.i-1 }

// generation is a file being generated from.
type generation struct {
	opts     generateOptions
	model    *model.Model
	shard    shard
	settings []byte // of the model, as JSON: in every output row
	job      *jobfile.Job
	counts   map[string]int64
	failed   bytes.Buffer

	lastFailure string
	bad         []*datasets.RowError // rows that are no examples, since the last one that is
	started     time.Time
	rows        int64 // dealt with in this process
	tokens      int64
}

// generationSummary is what generate --input shows.
type generationSummary struct {
	Output    string  `json:"output,omitempty"`
	Rows      int64   `json:"rows"`
	Failed    int64   `json:"failed"`
	FailedIn  string  `json:"failed_in,omitempty"`
	Truncated int64   `json:"truncated"`
	Chunked   int64   `json:"chunked"`
	Cut       int64   `json:"cut"` // outputs that max_new_tokens ended
	Tokens    int64   `json:"tokens"`
	Seconds   float64 `json:"seconds"` // of this process
	RowsPerS  float64 `json:"rows_per_second"`
	TokensPS  float64 `json:"tokens_per_second"`
	Cost      float64 `json:"cost,omitempty"`
	Resumed   int64   `json:"resumed_at,omitempty"` // rows that an earlier process dealt with
}

// file answers the rows of a file, in order, in memory that does not grow with it. With an output
// file the job can be killed at any time: the same command goes on with it.
func (o *generateOptions) file(ctx context.Context, app *App, m *model.Model) error {
	s, err := parseShard(o.shard)
	if err != nil {
		return err
	}
	g := &generation{opts: *o, model: m, shard: s, counts: map[string]int64{}, started: time.Now()}
	if g.settings, err = json.Marshal(m.Generation); err != nil {
		return err
	}
	if o.output == "" {
		err := g.run(ctx, app, func(lines []byte, _ int64) error {
			for failure := range strings.Lines(g.failed.String()) {
				app.Term.Warnf("failed: %s", strings.TrimSpace(failure))
			}
			g.failed.Reset()
			_, err := app.Term.Out().Write(lines)
			return err
		})
		return errors.Join(err, g.nothing())
	}
	if _, err := os.Stat(filepath.Dir(o.output)); err != nil {
		return err
	}
	fingerprint, err := g.fingerprint()
	if err != nil {
		return err
	}
	if g.job, err = jobfile.Open(o.output, fingerprint); err != nil {
		return err
	}
	g.counts = g.job.Progress.Counts
	resumed := g.job.Progress.Rows
	if resumed > 0 {
		app.Term.Notef("going on after row %d of an unfinished job", resumed)
	}
	err = g.run(ctx, app, func(lines []byte, rows int64) error {
		defer g.failed.Reset()
		return g.job.Append(lines, g.failed.Bytes(), rows)
	})
	if err != nil {
		_ = g.job.Close() // what is on disk is what counts
		return err
	}
	if err := g.commit(); err != nil {
		return err
	}
	if err := g.nothing(); err != nil {
		return err
	}
	summary := g.summary(resumed)
	return app.show(summary, summary.show)
}

// nothing is the error of a job of which every row failed.
func (g *generation) nothing() error {
	if g.counts["rows"] > 0 || g.counts["failed"] == 0 {
		return nil
	}
	return usageError{fmt.Errorf("every row failed, the last one: %s", g.lastFailure)}
}

// fingerprint says what the job is made of, so that it is only gone on with by the same.
func (g *generation) fingerprint() (string, error) {
	input, err := os.Stat(g.opts.input)
	if err != nil {
		return "", err
	}
	made, err := json.Marshal(map[string]any{
		"model": g.model.Identity(), "others": g.otherModels(), "settings": json.RawMessage(g.settings), "seed": g.opts.decoding.Seed, "rows": g.opts.rows(),
		"input": g.opts.input, "bytes": input.Size(), "time": input.ModTime().UnixNano(), "column": g.opts.column,
		"regex": g.opts.regex, "schema": g.opts.schema, "choices": g.opts.choices,
		"shard": g.opts.shard, "precision": g.opts.precision, "max_input": g.opts.maxInput,
	})
	sum := sha256.Sum256(made)
	return hex.EncodeToString(sum[:]), err
}

func (g *generation) otherModels() (list []string) {
	for _, m := range g.opts.others {
		list = append(list, m.Identity())
	}
	return list
}

func (g *generation) commit() error {
	format, err := jobfile.Format(g.opts.output)
	if err != nil {
		return err
	}
	if format != "jsonl" {
		if err := jobfile.Convert(g.job.Part(), g.opts.output, format); err != nil {
			return fmt.Errorf("writing %s: %w", g.opts.output, err)
		}
	}
	return g.job.Commit(format != "jsonl")
}

// run reads windows of rows, generates, and gives each window's lines to write, with the number
// of rows of the input that are dealt with then.
func (g *generation) run(ctx context.Context, app *App, write func(lines []byte, rows int64) error) error {
	total, err := g.count(ctx)
	if err != nil {
		return err
	}
	progress := app.Term.Progress("generating", total, "rows")
	defer progress.Done()
	skip := int64(0)
	if g.job != nil {
		skip = g.job.Progress.Rows
	}
	var window []datasets.Example
	flush := func(rows int64) error {
		lines, err := g.window(ctx, window)
		if err != nil {
			return err
		}
		window = window[:0]
		if err := write(lines, rows); err != nil {
			return err
		}
		progress.Detail(g.speed())
		progress.Set(rows)
		return nil
	}
	last := skip
	for example, err := range g.read(func(e *datasets.RowError) { g.bad = append(g.bad, e) }) {
		if err != nil {
			return err
		}
		if example.Row < skip {
			g.bad = g.bad[:0] // recorded when that row was
			continue
		}
		g.fail(g.bad)
		g.bad = g.bad[:0]
		last = example.Row + 1
		if !g.shard.has(example.Row) {
			continue
		}
		if window = append(window, example); len(window) == g.opts.window {
			if err := flush(last); err != nil {
				return err
			}
		}
	}
	g.fail(g.bad)
	return flush(last)
}

func (g *generation) read(onSkip func(*datasets.RowError)) func(func(datasets.Example, error) bool) {
	return datasets.Read(g.opts.input, datasets.ReadOptions{
		Columns: datasets.Columns{Input: g.opts.column}, Need: datasets.Inputs, Raw: true, OnBadRow: datasets.Skip, OnSkip: onSkip,
	})
}

// count reads the file once, so that the time left can be told, and a file that is wrong as a
// whole is refused before anything is generated.
func (g *generation) count(ctx context.Context) (total int64, err error) {
	for example, err := range g.read(nil) {
		if err != nil {
			return 0, err
		}
		if total = example.Row + 1; total%4096 == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
	return total, nil
}

// fail records rows of the input that are no examples.
func (g *generation) fail(rows []*datasets.RowError) {
	if g.shard.i != 1 {
		return // the first shard records them
	}
	for _, e := range rows {
		g.record(map[string]any{"line": e.Line, "error": e.Reason})
	}
}

func (g *generation) record(failure map[string]any) {
	line, err := json.Marshal(failure)
	if err != nil {
		return // there is nothing in it that cannot be written
	}
	g.failed.Write(append(line, '\n'))
	g.counts["failed"]++
	g.lastFailure = fmt.Sprint(failure["error"])
}

// window generates from rows and gives their output lines, in order.
func (g *generation) window(ctx context.Context, window []datasets.Example) ([]byte, error) {
	rows := make([]model.Row, len(window))
	for i, example := range window {
		rows[i] = model.Row{Text: example.Input, Number: uint64(example.Row)}
	}
	found, err := g.opts.answer(ctx, g.model, rows)
	if err != nil {
		return nil, err
	}
	var lines bytes.Buffer
	for i, result := range found {
		example := window[i]
		if result.Err == nil {
			var line []byte
			if line, result.Err = g.line(example, result); result.Err == nil {
				lines.Write(line)
			}
		}
		if result.Err != nil {
			failure := map[string]any{"row": example.Row, "error": result.Err.Error(), "input": example.Input}
			if example.ID != "" {
				failure["id"] = example.ID
			}
			g.record(failure)
		}
		g.tally(result)
	}
	return lines.Bytes(), nil
}

func (g *generation) tally(r model.RowResult) {
	for key, yes := range map[string]bool{
		"rows": r.Err == nil, "truncated": r.Cut, "chunked": r.Pieces > 1, "cut": len(r.Outputs) > 0 && r.Outputs[0].Cut,
	} {
		if yes {
			g.counts[key]++
		}
	}
	g.counts["tokens"] += int64(r.Tokens)
	g.tokens += int64(r.Tokens)
	g.rows++
}

// line is a row with what was generated, and how, at its end; what the row had stays as it was.
func (g *generation) line(example datasets.Example, result model.RowResult) ([]byte, error) {
	added := []struct {
		key   string
		value any
		where bool
	}{
		{"row", example.Row, g.shard.n > 1},
		{"output", result.Outputs[0].Text, true},
		{"outputs", result.Outputs, len(result.Outputs) > 1},
		{"adapters", result.Adapters, result.Adapters != nil},
		{"cut", true, result.Outputs[0].Cut},
		{"generation", json.RawMessage(g.settings), true},
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(example.Raw, &fields); err != nil {
		return nil, err
	}
	row := bytes.TrimRight(example.Raw, " \t\r\n")
	line := append([]byte{}, row[:len(row)-1]...)
	comma := len(fields) > 0
	for _, a := range added {
		if !a.where {
			continue
		}
		if _, taken := fields[a.key]; taken {
			return nil, fmt.Errorf("the row has a column %q already", a.key)
		}
		value, err := json.Marshal(a.value)
		if err != nil {
			return nil, err
		}
		if comma {
			line = append(line, ',')
		}
		comma = true
		line = append(append(line, `"`+a.key+`":`...), value...)
	}
	return append(line, '}', '\n'), nil
}

// speed is what progress tells beside the rows.
func (g *generation) speed() string {
	hours := time.Since(g.started).Hours()
	parts := []string{fmt.Sprintf("%.0f tokens/s", float64(g.tokens)/(hours*3600))}
	if n := g.counts["failed"]; n > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", n))
	}
	if g.opts.pricePerHour > 0 {
		parts = append(parts, fmt.Sprintf("cost %.2f", hours*g.opts.pricePerHour))
	}
	return strings.Join(parts, "  ")
}

func (g *generation) summary(resumed int64) generationSummary {
	seconds := time.Since(g.started).Seconds()
	s := generationSummary{
		Output: g.opts.output, Rows: g.counts["rows"], Failed: g.counts["failed"], Truncated: g.counts["truncated"],
		Chunked: g.counts["chunked"], Cut: g.counts["cut"], Tokens: g.counts["tokens"], Seconds: seconds,
		RowsPerS: float64(g.rows) / seconds, TokensPS: float64(g.tokens) / seconds, Cost: seconds / 3600 * g.opts.pricePerHour, Resumed: resumed,
	}
	if s.Failed > 0 {
		s.FailedIn = g.job.FailedPath()
	}
	return s
}

func (s generationSummary) show(t *term.Terminal) {
	t.Notef("%d rows in %s, %.1f rows/s, %.0f tokens/s", s.Rows, s.Output, s.RowsPerS, s.TokensPS)
	for _, part := range []struct {
		n    int64
		what string
	}{{s.Truncated, "inputs were longer than the model takes and were cut"}, {s.Chunked, "inputs were divided into pieces"}, {s.Cut, "outputs were cut by --max-new-tokens"}} {
		if part.n > 0 {
			t.Notef("%d %s", part.n, part.what)
		}
	}
	if s.Failed > 0 {
		t.Warnf("%d rows failed, see %s", s.Failed, s.FailedIn)
	}
	if s.Cost > 0 {
		t.Notef("cost %.4f", s.Cost)
	}
}

// generateRules are the failures of generate.
func generateRules() []rule {
	return []rule{as(exitConflict, func(e *jobfile.ConflictError) string {
		return "give the same command to go on with it, or remove " + e.Path + " and " + e.Path + ".json to begin anew"
	})}
}
