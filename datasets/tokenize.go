package datasets

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// row is an example on its way into a corpus.
type row struct {
	file          int
	example       Example
	input, target []int32
	fullInput     int // lengths before truncation
	fullTarget    int
	unknown       int64
}

// chunk is some rows that are tokenized together.
type chunk struct {
	rows  []row
	ready chan struct{} // closed once the tokens are there
}

const (
	chunkRows  = 256
	chunkBytes = 1 << 20
)

// write makes a corpus file: one goroutine reads, several tokenize, and this one writes in the
// order of the rows.
func (o TokenizeOptions) write(ctx context.Context, key string, out io.Writer) error {
	w, err := o.newCorpusWriter(key, out)
	if err != nil {
		return err
	}
	defer w.close()
	group, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	work, order := make(chan *chunk, workers), make(chan *chunk, 2*workers)
	group.Go(func() error {
		defer close(work)
		defer close(order)
		return o.read(ctx, w, func(c *chunk) error {
			for _, to := range []chan *chunk{order, work} {
				select {
				case to <- c:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return nil
		})
	})
	for range workers {
		group.Go(func() error {
			for c := range work {
				for i := range c.rows {
					o.encode(&c.rows[i])
				}
				close(c.ready)
			}
			return nil
		})
	}
	group.Go(func() error {
		for c := range order {
			select {
			case <-c.ready:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if err := w.chunk(c); err != nil {
				return err
			}
			if o.Progress != nil {
				o.Progress(w.head.Count)
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return err
	}
	return w.finish()
}

// read gives the examples of all files in chunks, and counts and fingerprints them.
func (o TokenizeOptions) read(ctx context.Context, w *corpusWriter, emit func(*chunk) error) error {
	c, size := &chunk{ready: make(chan struct{})}, 0
	number := int64(0)
	for file, path := range o.Files {
		read := o.Read
		read.OnSkip = func(e *RowError) {
			w.skip(file, e)
			if o.Read.OnSkip != nil {
				o.Read.OnSkip(e)
			}
		}
		for example, err := range readFile(path, read, &number) {
			if err != nil {
				return err
			}
			whole := example
			if o.Read.Need == Preferences {
				whole.References = []string{example.Rejected}
			}
			w.print.Add(whole)
			for _, e := range o.split(example) {
				c.rows = append(c.rows, row{file: file, example: e})
				size += len(e.Input) + len(e.Target)
			}
			if len(c.rows) >= chunkRows || size >= chunkBytes {
				if err := emit(c); err != nil {
					return err
				}
				c, size = &chunk{ready: make(chan struct{})}, 0
			}
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	return emit(c)
}

// split makes two texts of a pair where plain text is wanted, and two pairs of a preference: the
// chosen text first.
func (o TokenizeOptions) split(e Example) []Example {
	if o.Read.Need == Preferences {
		worse := e
		worse.Target = e.Rejected
		return []Example{e, worse}
	}
	if o.Read.Need != Texts || o.Read.Columns.Text != "" {
		return []Example{e}
	}
	input, target := e, e
	target.Input = e.Target
	input.Target, target.Target = "", ""
	return []Example{input, target}
}

// encode turns the texts of a row into tokens.
func (o TokenizeOptions) encode(r *row) {
	tok := o.Tokenizer
	if o.Read.Need == Texts {
		r.input = tok.Sequence(r.example.Input)
		if n := len(r.input); n > 0 && r.input[n-1] == tok.EOSID() {
			r.input = r.input[:n-1]
		}
		r.fullInput = len(r.input)
		r.example.ID = "" // records of equal heads make running text countable
	} else {
		r.input, r.fullInput = truncate(tok.Sequence(o.Prefix+r.example.Input), o.MaxInput, tok.EOSID())
		if o.Read.Need == Pairs || o.Read.Need == Preferences {
			r.target, r.fullTarget = truncate(tok.Sequence(r.example.Target), o.MaxTarget, tok.EOSID())
		}
	}
	for _, ids := range [][]int32{r.input, r.target} {
		for _, id := range ids {
			if id == tok.UnkID() {
				r.unknown++
			}
		}
	}
	r.example.Input, r.example.Target, r.example.Rejected, r.example.References, r.example.Raw = "", "", "", nil, nil
}

// truncate cuts to length so that </s> stays the last token, as T5's own preprocessing does.
func truncate(ids []int32, length int, eos int32) (cut []int32, full int) {
	if full = len(ids); length <= 0 || full <= length {
		return ids, full
	}
	ids = ids[:length]
	ids[length-1] = eos
	return ids, full
}

// corpusWriter puts rows into a corpus file.
type corpusWriter struct {
	out   *bufio.Writer
	hash  interface{ Sum([]byte) []byte }
	index *os.File // rows are counted only at the end, so the index waits in a file of its own
	lines *bufio.Writer
	print *Fingerprinter
	head  corpusHead
	bytes []byte
}

func (o TokenizeOptions) newCorpusWriter(key string, out io.Writer) (*corpusWriter, error) {
	index, err := os.CreateTemp(o.CacheDir, ".index-")
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	w := &corpusWriter{
		out: bufio.NewWriterSize(io.MultiWriter(out, h), 1<<20), hash: h,
		index: index, lines: bufio.NewWriterSize(index, 1<<18), print: NewFingerprinter(),
		head: corpusHead{Version: corpusVersion, Key: key, Wide: o.Tokenizer.Size() > math.MaxUint16},
	}
	_, err = w.out.WriteString(corpusMagic)
	return w, err
}

// close removes the index file.
func (w *corpusWriter) close() {
	_ = w.index.Close() // of no use any more
	_ = os.Remove(w.index.Name())
}

// skip counts a bad row. It is called by the reading goroutine, which alone touches these
// fields until it has ended.
func (w *corpusWriter) skip(file int, e *RowError) {
	w.head.Stats.Skipped++
	if len(w.head.Skipped) < keepSkipped {
		w.head.Skipped = append(w.head.Skipped, skippedRow{File: file, Line: e.Line, Reason: e.Reason})
	}
}

// chunk writes rows whose tokens are there.
func (w *corpusWriter) chunk(c *chunk) error {
	for i := range c.rows {
		if err := w.row(&c.rows[i]); err != nil {
			return err
		}
	}
	return nil
}

func (w *corpusWriter) row(r *row) error {
	if len(r.input) > math.MaxUint32 || len(r.target) > math.MaxUint32 {
		return fmt.Errorf("row %d has more tokens than can be counted", w.head.Count)
	}
	b := binary.LittleEndian.AppendUint64(w.bytes[:0], uint64(w.head.Records))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.input)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.target)))
	if _, err := w.lines.Write(b); err != nil {
		return err
	}
	b = binary.LittleEndian.AppendUint32(b[:0], uint32(r.file))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.example.Line))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.example.ID)))
	b = append(b, r.example.ID...)
	for _, ids := range [][]int32{r.input, r.target} {
		for _, id := range ids {
			if w.head.Wide {
				b = binary.LittleEndian.AppendUint32(b, uint32(id))
			} else {
				b = binary.LittleEndian.AppendUint16(b, uint16(id))
			}
		}
	}
	w.bytes = b
	w.head.Records += int64(len(b))
	w.count(r)
	_, err := w.out.Write(b)
	return err
}

func (w *corpusWriter) count(r *row) {
	s := &w.head.Stats
	w.head.Count++
	s.InputTokens += int64(len(r.input))
	s.TargetTokens += int64(len(r.target))
	s.UnknownTokens += r.unknown
	if len(r.input) < r.fullInput {
		s.TruncatedInputs++
	}
	if len(r.target) < r.fullTarget {
		s.TruncatedTargets++
	}
	s.LongestInput = max(s.LongestInput, r.fullInput)
	s.LongestTarget = max(s.LongestTarget, r.fullTarget)
}

// finish writes index, head and checksum.
func (w *corpusWriter) finish() error {
	w.head.Fingerprint, w.head.Stats.Rows = w.print.Sum(), w.print.Rows()
	head, err := json.Marshal(w.head)
	if err != nil {
		return err
	}
	if err := w.lines.Flush(); err != nil {
		return err
	}
	if _, err := w.index.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.Copy(w.out, w.index); err != nil {
		return err
	}
	_, err = w.out.Write(binary.LittleEndian.AppendUint64(head, uint64(len(head))))
	if err := errors.Join(err, w.out.Flush()); err != nil {
		return err
	}
	_, err = w.out.Write(append(w.hash.Sum(nil), corpusMagic...))
	return errors.Join(err, w.out.Flush())
}
