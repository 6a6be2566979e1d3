package datasets

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
)

// Task is one of several data sets that a model learns from at the same time.
type Task struct {
	// Name tells the task apart in the records of a run.
	Name string `yaml:"name" json:"name"`
	// Train is the task's file to learn from, or a list of files.
	Train Paths `yaml:"train" json:"train"`
	// Validation is the task's part of what evaluation during training uses.
	Validation Paths `yaml:"validation,omitempty" json:"validation,omitempty"`
	// Prefix is put before every input of the task, as in "summarize: ".
	Prefix string `yaml:"prefix,omitempty" json:"prefix,omitempty"`
	// Columns says under which names the task's files keep what is needed.
	Columns Columns `yaml:"columns,omitempty" json:"columns,omitzero"`
	// Rate is the task's share of the examples beside the other tasks' rates. Without any rate,
	// shares follow the numbers of examples (data.mixing).
	Rate float64 `yaml:"rate,omitempty" json:"rate,omitempty"`
}

// Mixing says how the numbers of examples of tasks become their shares (Raffel et al. 2020, section
// 3.5.2): min(examples, maximum)^(1/temperature).
type Mixing struct {
	// Temperature 1 (the default) mixes in proportion to the examples; larger ones come nearer to
	// equal shares.
	Temperature float64 `yaml:"temperature,omitempty" json:"temperature,omitempty"`
	// Maximum is the size beyond which a data set counts for no more. 0 sets no bound.
	Maximum int64 `yaml:"maximum,omitempty" json:"maximum,omitempty"`
}

// TaskRecord is the lineage of one task of a split.
type TaskRecord struct {
	Name        string  `json:"name"`
	Rows        int64   `json:"rows"`
	Fingerprint string  `json:"fingerprint"`
	Share       float64 `json:"share,omitempty"` // of the examples of a run
}

// Parts are the sources that the tasks are read as; a source without tasks is one part, itself.
func (s Source) Parts() []Source {
	if len(s.Tasks) == 0 {
		return []Source{s}
	}
	var parts []Source
	for _, task := range s.Tasks {
		part := s
		part.Train, part.Validation, part.Test, part.Prefix, part.Columns = task.Train, task.Validation, nil, task.Prefix, task.Columns
		part.Tasks, part.Mixing = nil, Mixing{}
		parts = append(parts, part)
	}
	return parts
}

// validateTasks tells what is wrong with the tasks.
func (s Source) validateTasks() (errs []error) {
	wrong := func(field, format string, args ...any) {
		errs = append(errs, &FieldError{Field: field, Reason: fmt.Sprintf(format, args...)})
	}
	if m := s.Mixing; m != (Mixing{}) {
		switch {
		case len(s.Tasks) == 0:
			wrong("mixing", "needs tasks")
		case m.Temperature != 0 && !(m.Temperature >= 1 && m.Temperature <= 1e6):
			wrong("mixing.temperature", "%g is not between 1 and 1000000", m.Temperature)
		case m.Maximum < 0:
			wrong("mixing.maximum", "%d is negative", m.Maximum)
		case slices.ContainsFunc(s.Tasks, func(t Task) bool { return t.Rate != 0 }):
			wrong("mixing", "cannot stand beside tasks that have a rate")
		}
	}
	if len(s.Tasks) == 0 {
		return errs
	}
	if len(s.Train) > 0 || len(s.Validation) > 0 || s.Prefix != "" || s.Columns != (Columns{}) && s.Columns != (Columns{}).withDefaults() {
		wrong("tasks", "cannot stand beside train, validation, prefix or columns: each task has its own")
	}
	if len(s.Objectives) > 0 {
		wrong("tasks", "cannot stand beside objectives: a task is supervised")
	}
	names := map[string]bool{}
	for i, t := range s.Tasks {
		field := fmt.Sprintf("tasks[%d]", i)
		switch {
		case t.Name == "":
			wrong(field+".name", "is missing")
		case names[t.Name]:
			wrong(field+".name", "%q stands twice", t.Name)
		}
		names[t.Name] = true
		if len(t.Train) == 0 {
			wrong(field+".train", "is missing")
		}
		if slices.Contains(t.Train, "") || slices.Contains(t.Validation, "") {
			wrong(field, "holds an empty path")
		}
		if t.Rate < 0 || t.Rate > 1e6 || math.IsNaN(t.Rate) || (t.Rate == 0) != (s.Tasks[0].Rate == 0) {
			wrong(field+".rate", "%g: all tasks have a positive rate, or none has one", t.Rate)
		}
		errs = append(errs, t.Columns.validate()...)
	}
	return errs
}

// shareOf are the tasks' shares of the examples, which add up to 1.
func (s Source) shareOf(rows []int64) []float64 {
	weights, sum := make([]float64, len(rows)), 0.0
	for i, n := range rows {
		if weights[i] = s.Tasks[i].Rate; weights[i] == 0 {
			if s.Mixing.Maximum > 0 {
				n = min(n, s.Mixing.Maximum)
			}
			weights[i] = math.Pow(float64(n), 1/max(1, s.Mixing.Temperature))
		}
		sum += weights[i]
	}
	for i := range weights {
		weights[i] /= sum
	}
	return weights
}

// openTasks opens a split of every task that has it.
func (s Source) openTasks(ctx context.Context, split Split, o OpenOptions) (_ *Data, err error) {
	d := &Data{source: s, tok: o.Tokenizer, Record: SplitRecord{Split: split}}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	var rows []int64
	for i, part := range s.Parts() {
		data, err := part.Open(ctx, split, o)
		if err != nil {
			return nil, fmt.Errorf("task %s: %w", s.Tasks[i].Name, err)
		}
		if data == nil {
			continue
		}
		d.tasks = append(d.tasks, data)
		r := data.Record
		d.Record.Files = append(d.Record.Files, r.Files...)
		d.Record.Stats = d.Record.Stats.plus(r.Stats)
		d.Record.Tasks = append(d.Record.Tasks, TaskRecord{Name: s.Tasks[i].Name, Rows: r.Rows, Fingerprint: r.Fingerprint})
		d.Canaries = append(d.Canaries, data.Canaries...)
		rows = append(rows, data.pairs.Len())
	}
	if len(d.tasks) == 0 {
		return nil, nil
	}
	d.Record.Fingerprint = fingerprintOf(d.Record.Tasks)
	if split == Train {
		for i, share := range s.shareOf(rows) {
			d.Record.Tasks[i].Share = share
		}
	}
	return d, nil
}

// fingerprintOf identifies the rows of all tasks.
func fingerprintOf(tasks []TaskRecord) string {
	text := "t5ctl tasks 1\n"
	for _, t := range tasks {
		text += fmt.Sprintf("%q %s\n", t.Name, t.Fingerprint)
	}
	return digest.Bytes([]byte(text))
}

// plus adds up what became of the rows of two data sets.
func (s Stats) plus(o Stats) Stats {
	return Stats{
		Rows: s.Rows + o.Rows, Skipped: s.Skipped + o.Skipped,
		TruncatedInputs: s.TruncatedInputs + o.TruncatedInputs, TruncatedTargets: s.TruncatedTargets + o.TruncatedTargets,
		InputTokens: s.InputTokens + o.InputTokens, TargetTokens: s.TargetTokens + o.TargetTokens,
		UnknownTokens: s.UnknownTokens + o.UnknownTokens,
		LongestInput:  max(s.LongestInput, o.LongestInput), LongestTarget: max(s.LongestTarget, o.LongestTarget),
	}
}

// joinedRows are the rows of several sets, one set after the other.
type joinedRows []rowSet

func (j joinedRows) len() (n int64) {
	for _, rows := range j {
		n += rows.len()
	}
	return n
}

func (j joinedRows) find(i int64) (rowSet, int64) {
	k := 0
	for i >= j[k].len() {
		i -= j[k].len()
		k++
	}
	return j[k], i
}

func (j joinedRows) lengths(i int64) (input, target int) {
	rows, i := j.find(i)
	return rows.lengths(i)
}

func (j joinedRows) examples(epoch int, i int64) []seq2seq.Example {
	rows, i := j.find(i)
	return rows.examples(epoch, i)
}

// taskBatches mixes the tasks by their shares of the examples. A batch is of one task; all have
// the same shapes. Where rows are to come in order, as in an evaluation, every row of every task
// comes once.
func (d *Data) taskBatches(o BatchOptions) (*Stream, error) {
	var all joinedRows
	for _, task := range d.tasks {
		all = append(all, pairRows{task.pairs})
	}
	together, err := newBucketPlan(all, o, 0)
	if err != nil {
		return nil, err
	}
	if !o.Shuffle {
		return newStream(together, o), nil
	}
	if !o.Packing { // a packed row is as long as its own task asks
		o.Buckets = nil
		for _, b := range together.buckets {
			o.Buckets = append(o.Buckets, b.Bucket)
		}
	}
	if err := together.close(); err != nil {
		return nil, err
	}
	var parts []batchPlan
	var rates []float64
	names := make([]string, len(all))
	for i, rows := range all {
		plan, err := newBucketPlan(rows, o, uint64(i))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("task %s: %w", d.Record.Tasks[i].Name, err), (&mixture{parts: parts}).close())
		}
		parts = append(parts, plan)
		names[i] = d.Record.Tasks[i].Name
		// shares are of examples, the mixture deals out batches
		rates = append(rates, d.Record.Tasks[i].Share*float64(plan.perEpoch())/float64(rows.len()))
	}
	m := newMixture(parts, rates, o.Seed)
	m.names = names
	return &Stream{plan: m}, nil
}

// Taken is how many examples of each task come before a position; nil where there are no tasks.
func (s *Stream) Taken(p seq2seq.Position) map[string]int64 {
	m, ok := s.plan.(*mixture)
	if !ok || m.names == nil {
		return nil
	}
	n := int64(p.Epoch)*m.total + p.Offset
	taken := map[string]int64{}
	for i, part := range m.parts {
		done := m.dealt(n, i)
		plan := part.(*bucketPlan) //nolint:errcheck,forcetypeassert // taskBatches makes no other
		per := plan.perEpoch()
		count := done / per * plan.examplesOf(per, int(done/per))
		taken[m.names[i]] = count + plan.examplesOf(done%per, int(done/per))
	}
	return taken
}

// dealt is how many of the first n batches come from a part.
func (m *mixture) dealt(n int64, part int) int64 {
	m.arrange(n / mixBlock)
	done := n / mixBlock * m.counts[part]
	for _, other := range m.order[:n%mixBlock] {
		if other == part {
			done++
		}
	}
	return done
}

// examplesOf is how many examples the first n batches of a pass have.
func (p *bucketPlan) examplesOf(n int64, epoch int) (total int64) {
	p.arrange(epoch)
	for i := range n {
		b, first := p.bucket(i)
		last := min(first+int64(b.batchRows), b.n)
		if p.packed == nil {
			total += last - first
			continue
		}
		for ; first < last; first++ {
			at := first
			if p.options.Shuffle {
				at = int64(b.order.at(uint64(first)))
			}
			total += p.packed.count(p.members.at(b.from + at))
		}
	}
	return total
}
