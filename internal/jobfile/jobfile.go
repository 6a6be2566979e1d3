// Package jobfile is a file that a long job writes piece by piece and that survives the job.
//
// Rows go to NAME.part, what failed to NAME.failed.jsonl; after each piece both are on disk
// before NAME.part.json says how far the job is. A job that was killed at any moment goes on from
// the last piece, and no row is lost or written twice. Commit turns the part into NAME.
package jobfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

// Progress is how far a job is.
type Progress struct {
	Version     int              `json:"version"`     // of this record: 1
	Fingerprint string           `json:"fingerprint"` // of what the job is made of
	Rows        int64            `json:"rows"`        // of the input that are dealt with
	Bytes       int64            `json:"bytes"`       // of the part
	FailedBytes int64            `json:"failed_bytes"`
	Counts      map[string]int64 `json:"counts"` // for the summary
}

// ConflictError says that an unfinished job of other settings is in the way.
type ConflictError struct{ Path string }

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s is the unfinished output of a job with another input or other settings", e.Path)
}

// Job is an open job.
type Job struct {
	Progress Progress
	path     string
	part     *os.File
	failed   *os.File
}

func (j *Job) journal() string { return j.path + ".part.json" }

// FailedPath is where rows that failed are.
func (j *Job) FailedPath() string { return j.path + ".failed.jsonl" }

// Open begins a job that writes path, or goes on with an unfinished one of the same fingerprint.
func Open(path, fingerprint string) (*Job, error) {
	j := &Job{path: path, Progress: Progress{Version: 1, Fingerprint: fingerprint, Counts: map[string]int64{}}}
	data, err := os.ReadFile(j.journal())
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		var p Progress
		if err := json.Unmarshal(data, &p); err != nil {
			return nil, fmt.Errorf("reading %s: %w", j.journal(), err)
		}
		if p.Fingerprint != fingerprint || p.Version != 1 {
			return nil, &ConflictError{Path: path + ".part"}
		}
		j.Progress = p
	}
	if j.part, err = reopen(path+".part", j.Progress.Bytes); err != nil {
		return nil, err
	}
	if j.failed, err = reopen(j.FailedPath(), j.Progress.FailedBytes); err != nil {
		_ = j.part.Close() // nothing was written
		return nil, err
	}
	return j, nil
}

// reopen opens a file behind its first `size` bytes and drops the rest.
func reopen(path string, size int64) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644) //nolint:gosec // results are for everyone whom the umask lets
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() < size {
		err = fmt.Errorf("%s has %d bytes, its job wrote %d", path, info.Size(), size)
	}
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		_, err = f.Seek(size, io.SeekStart)
	}
	if err != nil {
		_ = f.Close() // the other error matters
		return nil, err
	}
	return f, nil
}

// Append writes one piece: lines for the part and for the failures, and how many rows of the
// input are dealt with then. Once it returns nil the piece survives a crash.
func (j *Job) Append(lines, failed []byte, rows int64) error {
	for _, w := range []struct {
		file *os.File
		data []byte
	}{{j.part, lines}, {j.failed, failed}} {
		if len(w.data) == 0 {
			continue
		}
		if _, err := w.file.Write(w.data); err != nil {
			return err
		}
		if err := w.file.Sync(); err != nil {
			return err
		}
	}
	j.Progress.Bytes += int64(len(lines))
	j.Progress.FailedBytes += int64(len(failed))
	j.Progress.Rows = rows
	data, err := json.Marshal(j.Progress)
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(j.journal(), data)
}

// Part is the file that the rows are in until Commit.
func (j *Job) Part() string { return j.path + ".part" }

// Commit ends the job: the part becomes the file itself, unless the caller made that of it
// already, and the job's own files go.
func (j *Job) Commit(made bool) error {
	if err := j.Close(); err != nil {
		return err
	}
	if made {
		if err := os.Remove(j.Part()); err != nil {
			return err
		}
	} else if err := os.Rename(j.Part(), j.path); err != nil {
		return err
	}
	if j.Progress.FailedBytes == 0 {
		if err := os.Remove(j.FailedPath()); err != nil {
			return err
		}
	}
	if err := os.Remove(j.journal()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Close leaves the job as it is, to be gone on with.
func (j *Job) Close() error { return errors.Join(j.part.Close(), j.failed.Close()) }
