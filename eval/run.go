package eval

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"iter"
	"math"
	"os"
	"slices"
)

// Pair is one held-out row: what the model is asked and what would be right.
type Pair struct {
	ID, Task      string
	Input, Target string
	References    []string // all acceptable answers; none: the target alone
	Tags          []string // what slices may ask for
	Passages      []string // what the output should rest on, where that is not the input
	Group         string   // rows that are judged together
	Rule          *Rule    // when the answer to a probe passes
}

func (p *Pair) references() []string {
	if len(p.References) > 0 {
		return p.References
	}
	return []string{p.Target}
}

// Predictor turns source texts into target texts, in order. It is all that eval asks of a model.
type Predictor interface {
	Predict(ctx context.Context, sources []string) ([]string, error)
}

// Prediction is one output with how it came about.
type Prediction struct {
	Text    string
	AtLimit bool    // cut at the length limit
	Seconds float64 // that its batch took; 0: not measured
	Share   float64 // of these, what falls to it

	target *TargetScore
}

// DetailedPredictor is a Predictor that can tell how its outputs ended.
type DetailedPredictor interface {
	Predictor
	PredictDetailed(ctx context.Context, sources []string) ([]Prediction, error)
}

// TargetScorer is a Predictor that can tell how likely it finds a right answer. Perplexity needs one.
type TargetScorer interface {
	ScoreTargets(ctx context.Context, sources, targets []string) ([]TargetScore, error)
}

// Scorer gives the natural logarithm of the probability of each whole target, its end included,
// after source. It is all that exposure asks of a model.
type Scorer interface {
	LogProbs(ctx context.Context, source string, targets []string) ([]float64, error)
}

// Runner evaluates a suite. The writers may be nil.
type Runner struct {
	Suite       Suite
	Rows        io.Writer      // JSON lines: per-row scores and statistics, no texts
	Predictions io.Writer      // JSON lines: input, output, references
	Chunk       int            // rows between two calls of the predictor's, 256 if 0
	Done        func(rows int) // told after every chunk
	AllowExec   bool           // metrics may run programs
	// Earlier are the predictions of a run that did not finish, in order. Their rows are not predicted
	// again, nor written again.
	Earlier iter.Seq2[Recorded, error]
}

// Recorded is a prediction read back from its file.
type Recorded struct {
	line predictionLine
}

// ReadPredictions reads the whole lines of a predictions file, and says how many bytes they take: what
// follows was cut off while it was written.
func ReadPredictions(path string) (lines []Recorded, size int64, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, err
	}
	for line := range bytes.Lines(data) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		var r Recorded
		if err := json.Unmarshal(line, &r.line); err != nil {
			return nil, 0, &LineError{path, len(lines) + 1, "is no prediction: " + err.Error()}
		}
		lines = append(lines, r)
		size += int64(len(line))
	}
	return lines, size, nil
}

// ResumeError says that a run cannot go on, since its data are not those that it began with.
type ResumeError struct{ Row int }

func (e *ResumeError) Error() string {
	return fmt.Sprintf("row %d is not the one that was predicted before: the data have changed", e.Row)
}

// Run evaluates a suite on a model. Pairs come task by task; a pair's Task chooses the task of a
// suite that has several.
func Run(ctx context.Context, p Predictor, pairs iter.Seq2[Pair, error], suite Suite) (Report, error) {
	return Runner{Suite: suite}.Run(ctx, p, pairs)
}

// Run is like the function Run, and writes rows and predictions as they come.
func (r Runner) Run(ctx context.Context, p Predictor, pairs iter.Seq2[Pair, error]) (Report, error) {
	s, err := newSession(r)
	if err != nil {
		return Report{}, err
	}
	if r.Earlier == nil {
		r.Earlier = func(func(Recorded, error) bool) {}
	}
	earlier, stop := iter.Pull2(r.Earlier)
	defer stop()
	var chunk []Pair
	var known []Prediction // of the rows in chunk, where they were predicted before
	limits := false        // whether these say that they were cut
	flush := func() error {
		defer func() { chunk, known = chunk[:0], known[:0] }()
		switch {
		case len(chunk) == 0:
			return nil
		case len(known) > 0:
			return s.add(ctx, chunk, known, limits, true)
		}
		return s.predict(ctx, p, chunk)
	}
	rows := 0
	for pair, err := range pairs {
		if err != nil {
			return Report{}, err
		}
		before, err, found := earlier()
		if err != nil {
			return Report{}, err
		}
		if found && !before.answers(&pair) {
			return Report{}, &ResumeError{rows + 1}
		}
		rows++
		if len(chunk) == s.chunk || (len(chunk) > 0 && (chunk[0].Task != pair.Task || found != (len(known) > 0))) {
			if err := flush(); err != nil {
				return Report{}, err
			}
		}
		chunk = append(chunk, pair)
		if found {
			known, limits = append(known, before.prediction()), before.line.AtLimit != nil
		}
	}
	if err := flush(); err != nil {
		return Report{}, err
	}
	if _, _, more := earlier(); more {
		return Report{}, &ResumeError{rows + 1}
	}
	return s.report(ctx)
}

func (r *Recorded) answers(p *Pair) bool {
	l := &r.line
	return l.Task == p.Task && l.Input == p.Input && l.Target == p.Target && slices.Equal(l.References, p.References)
}

func (r *Recorded) prediction() Prediction {
	l := &r.line
	return Prediction{Text: l.Output, AtLimit: l.AtLimit != nil && *l.AtLimit, Seconds: l.Seconds, Share: l.Share, target: l.Likelihood}
}

// Score scores outputs that are there already: outputs[i] answers pairs[i].
func (r Runner) Score(ctx context.Context, answered iter.Seq2[Answered, error]) (Report, error) {
	r.Chunk = max(r.Chunk, 4096)
	s, err := newSession(r)
	if err != nil {
		return Report{}, err
	}
	var pairs []Pair
	var outputs []Prediction
	flush := func() error {
		defer func() { pairs, outputs = pairs[:0], outputs[:0] }()
		return s.add(ctx, pairs, outputs, false, false)
	}
	for a, err := range answered {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return Report{}, err
		}
		pairs, outputs = append(pairs, a.Pair), append(outputs, Prediction{Text: a.Output})
		if len(pairs) == s.chunk {
			if err := flush(); err != nil {
				return Report{}, err
			}
		}
	}
	if err := flush(); err != nil {
		return Report{}, err
	}
	return s.report(ctx)
}

// Answered is a held-out row with an output.
type Answered struct {
	Pair   Pair
	Output string
}

// session is one evaluation under way.
type session struct {
	Runner
	chunk  int
	boot   Bootstrap
	tasks  []*taskRun
	byName map[string]*taskRun
	print  hash.Hash // of the data
	buf    []byte
	n      int
	rows   *rowWriter
	likely bool // some metric needs to know how likely the model finds the answers
}

// taskRun is what a session knows of one task.
type taskRun struct {
	name    string
	prefix  string
	slices  []compiled
	members [][]int32 // by slice: its rows
	table   *table
}

func newSession(r Runner) (*session, error) {
	if err := r.Suite.Validate(); err != nil {
		return nil, err
	}
	s := &session{Runner: r, chunk: r.Chunk, boot: r.Suite.bootstrap(), byName: map[string]*taskRun{}, print: sha256.New()}
	if s.chunk <= 0 {
		s.chunk = 256
	}
	s.print.Write([]byte("t5ctl rows 1\n"))
	parts, err := compileSlices(r.Suite.Slices)
	if err != nil {
		return nil, err
	}
	for i := range parts {
		if err := parts[i].open(); err != nil {
			return nil, err
		}
	}
	for _, t := range r.Suite.TaskList() {
		metrics, err := ParseMetrics(t.Metrics)
		if err != nil {
			return nil, err
		}
		for _, m := range metrics {
			if m.command != "" && !r.AllowExec {
				return nil, &ExecRefusedError{m.Name, m.command}
			}
			if m.prepare == nil {
				continue
			}
			if err := m.prepare(); err != nil {
				return nil, err
			}
		}
		s.likely = s.likely || slices.ContainsFunc(metrics, func(m *Metric) bool { return m.needsTargets })
		run := &taskRun{name: t.Name, prefix: *t.Prefix, slices: parts, members: make([][]int32, len(parts)),
			table: newTable(metrics, s.boot.Samples > 0 || len(parts) > 0)}
		s.tasks = append(s.tasks, run)
		s.byName[t.Name] = run
	}
	if r.Rows != nil {
		s.rows = newRowWriter(r.Rows, s.tasks)
	}
	return s, nil
}

// UnknownTaskError says that a row belongs to a task that the suite does not have.
type UnknownTaskError struct{ ID, Task string }

func (e *UnknownTaskError) Error() string {
	return fmt.Sprintf("row %s belongs to task %q, which the suite does not have", e.ID, e.Task)
}

func (s *session) task(p *Pair) (*taskRun, error) {
	if len(s.Suite.Tasks) == 0 {
		return s.tasks[0], nil
	}
	t, ok := s.byName[p.Task]
	if !ok {
		return nil, &UnknownTaskError{p.ID, p.Task}
	}
	return t, nil
}

func (s *session) predict(ctx context.Context, p Predictor, pairs []Pair) error {
	t, err := s.task(&pairs[0])
	if err != nil {
		return err
	}
	sources := make([]string, len(pairs))
	for i := range pairs {
		sources[i] = t.prefix + pairs[i].Input
	}
	outputs, detailed, err := predict(ctx, p, sources)
	if err != nil {
		return err
	}
	if len(outputs) != len(sources) {
		return fmt.Errorf("the predictor gave %d outputs for %d sources", len(outputs), len(sources))
	}
	if scorer, ok := p.(TargetScorer); ok && s.likely {
		if err := scoreTargets(ctx, scorer, pairs, sources, outputs); err != nil {
			return err
		}
	}
	return s.add(ctx, pairs, outputs, detailed, false)
}

// scoreTargets asks how likely the first reference of each row is.
func scoreTargets(ctx context.Context, scorer TargetScorer, pairs []Pair, sources []string, outputs []Prediction) error {
	targets := make([]string, len(pairs))
	for i := range pairs {
		targets[i] = pairs[i].references()[0]
	}
	scores, err := scorer.ScoreTargets(ctx, sources, targets)
	if err != nil {
		return err
	}
	if len(scores) != len(targets) {
		return fmt.Errorf("the scorer gave %d scores for %d targets", len(scores), len(targets))
	}
	for i := range scores {
		outputs[i].target = &scores[i]
	}
	return nil
}

func predict(ctx context.Context, p Predictor, sources []string) (outputs []Prediction, detailed bool, err error) {
	if d, ok := p.(DetailedPredictor); ok {
		outputs, err = d.PredictDetailed(ctx, sources)
		return outputs, true, err
	}
	texts, err := p.Predict(ctx, sources)
	for _, t := range texts {
		outputs = append(outputs, Prediction{Text: t})
	}
	return outputs, false, err
}

// add scores rows of one task and writes them down; predictions only unless they stand there.
func (s *session) add(ctx context.Context, pairs []Pair, outputs []Prediction, detailed, written bool) error {
	if len(pairs) == 0 {
		return nil
	}
	t, err := s.task(&pairs[0])
	if err != nil {
		return err
	}
	samples := make([]Sample, len(pairs))
	for i := range pairs {
		p := &pairs[i]
		if p.ID == "" {
			p.ID = fmt.Sprint(s.n + i)
		}
		samples[i] = Sample{ID: p.ID, Task: p.Task, Source: t.prefix + p.Input, Output: outputs[i].Text, References: p.references(),
			Passages: p.Passages, Rule: p.Rule, Group: p.Group, Seconds: outputs[i].Seconds, Share: outputs[i].Share, Target: outputs[i].target}
		if detailed {
			samples[i].AtLimit = &outputs[i].AtLimit
		}
		s.fingerprint(p)
		for k := range t.slices {
			if t.slices[k].holds(p) {
				t.members[k] = append(t.members[k], int32(t.table.rows+i))
			}
		}
	}
	stats, err := t.table.add(ctx, samples)
	if err != nil {
		return err
	}
	s.n += len(pairs)
	if s.rows != nil {
		if err := s.rows.write(t, samples, stats); err != nil {
			return err
		}
	}
	if !written {
		if err := s.writePredictions(pairs, samples); err != nil {
			return err
		}
	}
	if s.Done != nil {
		s.Done(s.n)
	}
	return nil
}

// predictionLine is a line of the predictions file.
type predictionLine struct {
	ID         string   `json:"id"`
	Task       string   `json:"task,omitempty"`
	Group      string   `json:"group,omitempty"`
	Input      string   `json:"input"`
	Output     string   `json:"output"`
	Target     string   `json:"target"`
	References []string `json:"references,omitempty"`
	AtLimit    *bool    `json:"at_limit,omitempty"`

	Seconds    float64      `json:"batch_seconds,omitempty"`
	Share      float64      `json:"seconds,omitempty"`
	Likelihood *TargetScore `json:"likelihood,omitempty"` // of the first reference
}

func (s *session) writePredictions(pairs []Pair, samples []Sample) error {
	if s.Predictions == nil {
		return nil
	}
	enc := json.NewEncoder(s.Predictions)
	enc.SetEscapeHTML(false)
	for i, x := range samples {
		p := &pairs[i]
		if err := enc.Encode(predictionLine{x.ID, x.Task, p.Group, p.Input, x.Output, p.Target, p.References, x.AtLimit, x.Seconds, x.Share, x.Target}); err != nil {
			return fmt.Errorf("writing predictions: %w", err)
		}
	}
	return nil
}

// fingerprint takes a row into the digest of the data: input, target and references, each with its
// length before it, as data manifests do.
func (s *session) fingerprint(p *Pair) {
	b := s.buf[:0]
	text := func(t string) {
		b = binary.AppendUvarint(b, uint64(len(t)))
		b = append(b, t...)
	}
	text(p.Input)
	text(p.Target)
	b = binary.AppendUvarint(b, uint64(len(p.References)))
	for _, r := range p.References {
		text(r)
	}
	s.print.Write(b)
	s.buf = b
}

// report closes the session.
func (s *session) report(ctx context.Context) (Report, error) {
	out := Report{
		Schema: ReportSchema, Kind: KindEvaluation, Name: s.Suite.Name, Decoding: s.Suite.Decoding.decodingJSON(),
		Data:    DataFacts{digestOf(s.print), s.n},
		Metrics: []Result{},
	}
	if s.boot.Samples > 0 {
		out.Bootstrap = &s.boot
	}
	for _, t := range s.tasks {
		results, err := t.results(ctx, s.boot)
		if err != nil {
			return Report{}, err
		}
		out.Metrics = append(out.Metrics, results...)
	}
	if s.rows != nil {
		digest, err := s.rows.close()
		if err != nil {
			return Report{}, err
		}
		out.Rows = &RowsFacts{SHA256: digest}
	}
	return out, nil
}

// sliceName is how a report calls a slice of a task.
func sliceName(task, slice string) string {
	if task == "" || slice == "" {
		return task + slice
	}
	return task + "/" + slice
}

// results scores a task and its slices, and how far apart the slices are.
func (t *taskRun) results(ctx context.Context, b Bootstrap) ([]Result, error) {
	out, err := t.scored(ctx, b, t.name, nil, t.table.rows)
	if err != nil {
		return nil, err
	}
	var parts [][]Result
	for k := range t.slices {
		members := t.members[k]
		if members == nil {
			members = []int32{}
		}
		part, err := t.scored(ctx, b, sliceName(t.name, t.slices[k].Name), members, len(members))
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
		out = append(out, part...)
	}
	if len(parts) < 2 {
		return out, nil
	}
	for m := range t.table.metrics {
		out = append(out, gap(t, m, parts))
	}
	return out, nil
}

// scored gives the results over some rows; pick nil means all.
func (t *taskRun) scored(ctx context.Context, b Bootstrap, slice string, pick []int32, n int) ([]Result, error) {
	intervals, err := t.table.intervals(ctx, b, pick)
	if err != nil {
		return nil, err
	}
	out := make([]Result, len(t.table.metrics))
	for m, metric := range t.table.metrics {
		score := Number(t.table.score(m, pick))
		sig := metric.signature(t.table.refs)
		r := Result{Name: metric.Name, Label: metric.Label, Spec: metric.Spec, Score: score, N: n, Slice: slice,
			Signature: sig.String(), short: sig.Short(), HigherIsBetter: metric.HigherIsBetter, Verdict: VerdictOK}
		if ci := intervals[m]; !math.IsNaN(ci[0]) && !math.IsNaN(ci[1]) {
			r.CI = &[2]Number{Number(ci[0]), Number(ci[1])}
		}
		switch {
		case n == 0:
			r.Verdict, r.Note = VerdictUndefined, "there are no rows"
		case t.table.unknown[m]:
			r.Verdict, r.Note = VerdictUndefined, "not known of every row"
		case !score.Defined():
			r.Verdict, r.Note = VerdictUndefined, "the score is not a number"
		}
		if metric.detail != nil && r.Verdict == VerdictOK {
			r.Detail = metric.detail(t.table.sum(m, pick))
		}
		out[m] = r
	}
	return out, t.compat(b, pick, out)
}

// gap is the distance between the best and the worst slice, which gates can bound.
func gap(t *taskRun, m int, parts [][]Result) Result {
	metric := t.table.metrics[m]
	r := Result{Name: metric.Name + "_gap", Label: metric.Label + " gap between slices", Spec: metric.Spec, N: t.table.rows,
		Slice: t.name, Signature: metric.Signature(t.table.refs), Verdict: VerdictOK}
	r.Spec = "" // found by its name only
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, p := range parts {
		lo, hi = math.Min(lo, float64(p[m].Score)), math.Max(hi, float64(p[m].Score))
	}
	r.Score = Number(hi - lo)
	if !r.Score.Defined() {
		r.Score, r.Verdict, r.Note = Number(math.NaN()), VerdictUndefined, "a slice has no score"
	}
	return r
}
