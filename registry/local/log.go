package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/registry"
)

// logFile holds one record a line. What follows the last line end is what a writer left that
// died or had no room: it never counted.
const logFile = "log.jsonl"

// Log reads the records. A log that is shorter than the index has seen is damaged.
func (s *Store) Log(ctx context.Context, model string) ([][]byte, error) {
	repository, err := s.repository(model)
	if err != nil {
		return nil, err
	}
	seen, err := s.Head(ctx, model) // before the log, which may grow meanwhile
	if err != nil {
		seen = registry.Head{} // a damaged index: the log is the truth
	}
	data, err := os.ReadFile(filepath.Join(repository, logFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	lines := split(data)
	damaged := func(reason string) error {
		return &registry.CorruptError{Model: model, What: "log", Reason: reason}
	}
	if n := int64(len(lines)); n < seen.Seq {
		return nil, damaged(fmt.Sprintf("it has %d records, the index has seen %d", n, seen.Seq))
	}
	if seen.Seq > 0 {
		if got := digest.Bytes(lines[seen.Seq-1]); got != seen.Digest {
			return nil, damaged(fmt.Sprintf("record %d is %s, the index has seen %s", seen.Seq, got, seen.Digest))
		}
	}
	return lines, nil
}

// split cuts a log into records, without what follows the last line end.
func split(data []byte) [][]byte {
	var lines [][]byte
	for {
		line, rest, found := bytes.Cut(data, []byte("\n"))
		if !found {
			return lines
		}
		lines, data = append(lines, line), rest
	}
}

// Append adds a record if prev is the last one's digest.
func (s *Store) Append(_ context.Context, model string, seq int64, prev string, record []byte) error {
	if bytes.IndexByte(record, '\n') >= 0 {
		return fmt.Errorf("a record of the log cannot hold a line end")
	}
	repository, err := s.repository(model)
	if err != nil {
		return err
	}
	if err := s.create(repository); err != nil {
		return err
	}
	unlock, err := lock(repository)
	if err != nil {
		return err
	}
	defer unlock()
	s.step("append.locked")
	log, err := os.OpenFile(filepath.Join(repository, logFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // synced before it counts
	last, end, err := tail(log)
	if err != nil {
		return err
	}
	if head := digestOf(last); head != prev || (prev == "") != (seq == 1) {
		return &registry.SlotTakenError{Model: model, Seq: seq}
	}
	// The record is a blob as well: by its digest and those it names the log can be rebuilt.
	if err := s.put(repository, digest.Bytes(record), int64(len(record)), bytes.NewReader(record)); err != nil {
		return err
	}
	s.step("append.blob")
	return s.write(log, end, record)
}

func digestOf(line []byte) string {
	if line == nil {
		return ""
	}
	return digest.Bytes(line)
}

// tail finds the last record and where the next one starts.
func tail(log *os.File) (last []byte, end int64, err error) {
	size, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, 0, err
	}
	var window []byte
	for start := size; start > 0; {
		step := min(start, 1<<16)
		chunk := make([]byte, step, int(step)+len(window))
		start -= step
		if _, err := log.ReadAt(chunk, start); err != nil {
			return nil, 0, err
		}
		window = append(chunk, window...)
		stop := bytes.LastIndexByte(window, '\n')
		if stop < 0 {
			continue
		}
		end = start + int64(stop) + 1
		if before := bytes.LastIndexByte(window[:stop], '\n'); before >= 0 || start == 0 {
			return window[before+1 : stop], end, nil
		}
	}
	return nil, 0, nil
}

// write puts a record at end and makes it durable. What a dead writer left there goes first;
// when there is no room, the log is left as it was.
func (s *Store) write(log *os.File, end int64, record []byte) error {
	if err := log.Truncate(end); err != nil {
		return err
	}
	line := append(bytes.Clone(record), '\n')
	half := len(line) / 2
	_, err := log.WriteAt(line[:half], end)
	s.step("append.half")
	if err == nil {
		_, err = log.WriteAt(line[half:], end+int64(half))
	}
	s.step("append.written")
	if err == nil {
		err = log.Sync()
	}
	if err != nil {
		return errors.Join(err, log.Truncate(end))
	}
	s.step("append.synced")
	return nil
}

// Restore replaces a damaged log. The damaged one stays beside it.
func (s *Store) Restore(_ context.Context, model string, records [][]byte) error {
	repository, err := s.repository(model)
	if err != nil {
		return err
	}
	unlock, err := lock(repository)
	if err != nil {
		return err
	}
	defer unlock()
	path := filepath.Join(repository, logFile)
	if data, err := os.ReadFile(path); err == nil {
		if err := atomicfile.WriteBytes(path+".damaged", data); err != nil {
			return err
		}
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		for _, record := range records {
			if _, err := w.Write(append(bytes.Clone(record), '\n')); err != nil {
				return err
			}
		}
		return nil
	})
}
