package datasets

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/t5ctl/t5ctl/internal/mapped"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
)

// BatchOptions says how rows become batches.
type BatchOptions struct {
	Rows       int      // rows of a batch; or
	Tokens     int      // tokens of a batch, input and target, padding included: short buckets take more rows
	Buckets    []Bucket // the shapes; empty: they are chosen from the lengths of the data
	MaxBuckets int      // how many may be chosen; 0 is DefaultMaxBuckets
	Seed       uint64
	Shuffle    bool // a new order each pass, from the seed; without, rows keep the order of the file within their bucket
	DropLast   bool // leave out the batches that would have empty rows
	Packing    bool // several examples a row, all rows of one shape, instead of buckets
	Lot        int  // examples that a step has on average, each taken or not by itself (Poisson sampling); 0: every row once a pass
}

// Shape says what batches of one bucket look like and how many a pass has.
type Shape struct {
	Rows    int   `json:"rows"` // of a batch
	Input   int   `json:"input"`
	Target  int   `json:"target"`
	Batches int64 `json:"batches"`
}

// Stream gives batches without end, pass after pass. The same data, options and seed give the
// same batches, bit for bit, on any machine. It is for one goroutine.
type Stream struct {
	plan batchPlan
	at   seq2seq.Position
	lots *lots           // nil: every row once a pass
	rest []seq2seq.Batch // of the lot at the position, what Next has not given yet
}

// batchPlan can make any batch of any pass.
type batchPlan interface {
	perEpoch() int64
	batch(epoch int, n int64) (seq2seq.Batch, error)
	shapes() []Shape
	tokens() (real, padded int64)
	close() error
}

// Next gives the batch at the stream's position and moves on.
func (s *Stream) Next(ctx context.Context) (seq2seq.Batch, error) {
	if err := ctx.Err(); err != nil {
		return seq2seq.Batch{}, context.Cause(ctx)
	}
	if s.lots != nil {
		return s.nextOfLot(), nil
	}
	b, err := s.plan.batch(s.at.Epoch, s.at.Offset)
	if err != nil {
		return seq2seq.Batch{}, fmt.Errorf("batch %d of pass %d: %w", s.at.Offset, s.at.Epoch, err)
	}
	if s.at.Offset++; s.at.Offset == s.plan.perEpoch() {
		s.at = seq2seq.Position{Epoch: s.at.Epoch + 1}
	}
	return b, nil
}

// Position is that of the batch that Next gives next.
func (s *Stream) Position() seq2seq.Position { return s.at }

// Seek makes the batch at p the next one. It costs no more than making one batch.
func (s *Stream) Seek(p seq2seq.Position) error {
	if p.Epoch < 0 || p.Offset < 0 || p.Offset >= s.PerEpoch() {
		return fmt.Errorf("no batch %d in pass %d: a pass has %d", p.Offset, p.Epoch, s.PerEpoch())
	}
	s.at, s.rest = p, nil
	return nil
}

// PerEpoch is the number of batches in one pass; of lots, as many as have the rows of one pass on
// average.
func (s *Stream) PerEpoch() int64 {
	if s.lots != nil {
		return s.lots.perEpoch()
	}
	return s.plan.perEpoch()
}

// Shapes lists the shapes that batches have. Each is compiled once.
func (s *Stream) Shapes() []Shape { return s.plan.shapes() }

// Padding is the share of a pass's tokens that is padding.
func (s *Stream) Padding() float64 {
	have, padded := s.plan.tokens()
	return max(0, 1-float64(have)/float64(padded))
}

// Close lets go of what the stream holds; the data it came from stays open.
func (s *Stream) Close() error { return s.plan.close() }

// rowSet is numbered rows, whose tokens may differ from pass to pass but never exceed their
// lengths.
type rowSet interface {
	len() int64
	lengths(i int64) (input, target int)
	// examples are those of row i: one, or as many as are packed into it.
	examples(epoch int, i int64) []seq2seq.Example
}

// pairRows are the rows of a corpus as they are.
type pairRows struct{ *Corpus }

func (p pairRows) len() int64                          { return p.Len() }
func (p pairRows) lengths(i int64) (input, target int) { return p.Lengths(i) }
func (p pairRows) examples(_ int, i int64) []seq2seq.Example {
	input, target := p.Tokens(i)
	return []seq2seq.Example{{ID: p.ID(i), Input: input, Target: target}}
}

// Batches makes batches of the corpus's pairs.
func (c *Corpus) Batches(o BatchOptions) (*Stream, error) {
	plan, err := newBucketPlan(pairRows{c}, o, 0)
	if err != nil {
		return nil, err
	}
	return newStream(plan, o), nil
}

// bucketPlan divides rows into buckets and each bucket into batches.
type bucketPlan struct {
	rows    rowSet
	packed  *packedRows // rows, where they are packed
	each    int         // rows of a batch that a row takes: two where it is a pair of preference
	options BatchOptions
	stream  uint64 // tells apart the objectives of a mixture, so that each has its own order
	buckets []bucketRows
	total   int64 // batches of a pass
	real    int64
	members *memberList
	epoch   int // the pass that the orders below are for
	batches *order
}

// bucketRows is one bucket and its rows.
type bucketRows struct {
	Bucket
	batchRows int
	from, n   int64 // of the member list
	batches   int64
	order     *order
}

// batchRows is how many rows a batch of the bucket has.
func (o BatchOptions) batchRows(b Bucket) int {
	if o.Tokens > 0 {
		return max(1, o.Tokens/size(b))
	}
	return o.Rows
}

func newBucketPlan(rows rowSet, o BatchOptions, stream uint64) (*bucketPlan, error) {
	if (o.Rows > 0) == (o.Tokens > 0) {
		return nil, errors.New("a batch needs a number of rows, or of tokens, and not both")
	}
	if rows.len() == 0 {
		return nil, errNoRows
	}
	p := &bucketPlan{rows: rows, options: o, stream: stream, epoch: -1, each: 1}
	if _, ok := rows.(preferenceRows); ok {
		p.each, p.options.Tokens = 2, (o.Tokens+1)/2
	}
	if o.Packing {
		packed, err := pack(rows, o.Seed, stream)
		if err != nil {
			return nil, err
		}
		p.rows, p.packed, p.options.Buckets = packed, packed, []Bucket{packed.shape}
	}
	buckets, err := p.chosen()
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	if err := p.fill(buckets); err != nil {
		return nil, errors.Join(err, p.close())
	}
	if p.total == 0 {
		return nil, errors.Join(errors.New("no batch is full, and those that are not are to be dropped"), p.close())
	}
	return p, nil
}

var errNoRows = errors.New("there is no row to make a batch of")

// chosen gives the buckets in the order in which they are tried.
func (p *bucketPlan) chosen() ([]Bucket, error) {
	longest := Bucket{}
	for i := range p.rows.len() {
		input, target := p.rows.lengths(i)
		longest.Input, longest.Target = max(longest.Input, input), max(longest.Target, target)
		p.real += int64(p.each * (input + target))
		if len(p.options.Buckets) > 0 && !slices.ContainsFunc(p.options.Buckets, func(b Bucket) bool { return b.holds(Bucket{input, target}) }) {
			return nil, &TooLongError{ID: p.rows.examples(0, i)[0].ID, Input: input, Target: target}
		}
	}
	if p.packed != nil {
		p.real = p.packed.real
	}
	if len(p.options.Buckets) > 0 {
		buckets := slices.Clone(p.options.Buckets)
		slices.SortFunc(buckets, compareBuckets)
		return slices.Compact(buckets), nil
	}
	n := p.options.MaxBuckets
	if n <= 0 {
		n = DefaultMaxBuckets
	}
	return countLengths(p.rows, longest).chooseBuckets(n, p.options.batchRows), nil
}

// fill assigns every row to the first bucket that holds it.
func (p *bucketPlan) fill(buckets []Bucket) error {
	w, err := newMembers(p.rows.len())
	if err != nil {
		return err
	}
	p.members = w
	for k, b := range buckets {
		entry := bucketRows{Bucket: b, batchRows: p.options.batchRows(b), from: w.n}
		for i := range p.rows.len() {
			input, target := p.rows.lengths(i)
			mine := slices.IndexFunc(buckets, func(b Bucket) bool { return b.holds(Bucket{input, target}) })
			if mine == k {
				if err := w.add(i); err != nil {
					return err
				}
			}
		}
		entry.n = w.n - entry.from
		entry.batches = (entry.n + int64(entry.batchRows) - 1) / int64(entry.batchRows)
		if p.options.DropLast {
			entry.batches = entry.n / int64(entry.batchRows)
		}
		if entry.batches > 0 {
			p.buckets = append(p.buckets, entry)
			p.total += entry.batches
		}
	}
	return w.done()
}

func (p *bucketPlan) perEpoch() int64 { return p.total }

func (p *bucketPlan) shapes() []Shape {
	var out []Shape
	for _, b := range p.buckets {
		out = append(out, Shape{Rows: p.each * b.batchRows, Input: b.Input, Target: b.Target, Batches: b.batches})
	}
	return out
}

func (p *bucketPlan) tokens() (have, padded int64) {
	for _, b := range p.buckets {
		padded += b.batches * int64(p.each*b.batchRows) * int64(size(b.Bucket))
	}
	return p.real, padded
}

func (p *bucketPlan) close() error {
	var errs []error
	if p.members != nil {
		errs = append(errs, p.members.close())
	}
	if p.packed != nil {
		errs = append(errs, p.packed.close())
	}
	return errors.Join(errs...)
}

// arrange draws the orders of a pass.
func (p *bucketPlan) arrange(epoch int) {
	if p.epoch == epoch || !p.options.Shuffle {
		return
	}
	p.epoch = epoch
	for i := range p.buckets {
		b := &p.buckets[i]
		b.order = newOrder(uint64(b.n), newRandom(forRows, p.options.Seed, p.stream, uint64(epoch), uint64(i)))
	}
	p.batches = newOrder(uint64(p.total), newRandom(forBatches, p.options.Seed, p.stream, uint64(epoch)))
}

// bucket finds a batch of the arranged pass: its bucket, and the first of its rows there.
func (p *bucketPlan) bucket(n int64) (b *bucketRows, first int64) {
	if p.options.Shuffle {
		n = int64(p.batches.at(uint64(n)))
	}
	k := 0
	for n >= p.buckets[k].batches {
		n -= p.buckets[k].batches
		k++
	}
	return &p.buckets[k], n * int64(p.buckets[k].batchRows)
}

func (p *bucketPlan) batch(epoch int, n int64) (seq2seq.Batch, error) {
	p.arrange(epoch)
	b, first := p.bucket(n)
	empty := seq2seq.New
	if p.packed != nil {
		empty = seq2seq.NewPacked
	}
	batch := empty(p.each*b.batchRows, b.Input, b.Target)
	for i := first; i < min(first+int64(b.batchRows), b.n); i++ {
		at := i
		if p.options.Shuffle {
			at = int64(b.order.at(uint64(i)))
		}
		examples := p.rows.examples(epoch, p.members.at(b.from+at))
		if p.each > 1 { // both sides of a pair are as long as lengths has said, or shorter
			for _, e := range examples {
				batch.Append(e)
			}
			continue
		}
		var need Bucket
		for _, e := range examples {
			need.Input, need.Target = need.Input+len(e.Input), need.Target+len(e.Target)
		}
		if !b.holds(need) {
			return seq2seq.Batch{}, &TooLongError{ID: examples[0].ID, Input: need.Input, Target: need.Target}
		}
		batch.Append(examples...)
	}
	return batch, nil
}

// memberList lists the rows bucket by bucket: in memory while there are few, in a mapped file
// that has no name when there are many.
type memberList struct {
	n    int64
	few  []int64
	temp *os.File
	out  *bufio.Writer
	file *mapped.File
}

// fewRows is how many rows are listed in memory.
const fewRows = 1 << 18

func newMembers(n int64) (*memberList, error) {
	if n <= fewRows {
		return &memberList{few: make([]int64, 0, n)}, nil
	}
	temp, err := os.CreateTemp("", "t5ctl-buckets-")
	if err != nil {
		return nil, err
	}
	return &memberList{temp: temp, out: bufio.NewWriterSize(temp, 1<<18)}, nil
}

func (m *memberList) add(row int64) error {
	m.n++
	if m.out == nil {
		m.few = append(m.few, row)
		return nil
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(row))
	_, err := m.out.Write(b[:])
	return err
}

// done ends the adding.
func (m *memberList) done() (err error) {
	if m.out == nil {
		return nil
	}
	if err := m.out.Flush(); err != nil {
		return err
	}
	m.file, err = mapped.Open(m.temp.Name())
	return err
}

func (m *memberList) at(i int64) int64 {
	if m.out == nil {
		return m.few[i]
	}
	return int64(binary.LittleEndian.Uint64(m.file.Bytes()[8*i:]))
}

func (m *memberList) close() error {
	if m.temp == nil {
		return nil
	}
	var err error
	if m.file != nil {
		err = m.file.Close()
	}
	err = errors.Join(err, m.temp.Close(), ignoreMissing(os.Remove(m.temp.Name())))
	m.temp = nil
	return err
}
