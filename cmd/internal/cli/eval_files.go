package cli

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

// evaluationFiles are what an evaluation leaves in a folder: NAME.json, the report, beside
// NAME.rows.jsonl and NAME.predictions.jsonl. The report is written last, so a folder that has one
// has the rest.
type evaluationFiles struct {
	dir, name string
	staging   string
	partial   string // where predictions stay if the run is interrupted; empty where there are none
	complete  bool
	open      []openFile
}

// openFile is a file that grows while the evaluation runs.
type openFile struct {
	name string
	file *os.File
	buf  *bufio.Writer
}

// newEvaluationFiles prepares the folder. A report of that name there is a conflict unless force.
func newEvaluationFiles(dir, name string, force bool) (*evaluationFiles, error) {
	name = strings.Map(func(r rune) rune {
		if r == '/' || r == '\\' || r == 0 {
			return '-'
		}
		return r
	}, name)
	f := &evaluationFiles{dir: dir, name: name}
	if err := mayWrite(force, f.reportPath()); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	f.staging, err = os.MkdirTemp(dir, ".evaluation-")
	return f, err
}

// partialRun names what an interrupted run was, beside the predictions that it left.
const partialRun = "run"

// resumeConflictError says that an interrupted run of that name asked something else.
type resumeConflictError struct{ dir string }

func (e *resumeConflictError) Error() string {
	return e.dir + " holds predictions of an interrupted run with another model, suite or setting"
}

// resume prepares a place for predictions that outlives an interruption, and gives those that a run of
// the same identity left there.
func (f *evaluationFiles) resume(identity string, force bool) ([]eval.Recorded, error) {
	f.partial = filepath.Join(f.dir, "."+f.name+".partial")
	if force {
		if err := os.RemoveAll(f.partial); err != nil {
			return nil, err
		}
	}
	was, err := os.ReadFile(filepath.Join(f.partial, partialRun))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(f.partial, 0o755); err != nil {
			return nil, err
		}
		return nil, atomicfile.WriteBytes(filepath.Join(f.partial, partialRun), []byte(identity))
	case err != nil:
		return nil, err
	case string(was) != identity:
		return nil, &resumeConflictError{f.partial}
	}
	path := filepath.Join(f.partial, f.name+".predictions.jsonl")
	earlier, size, err := eval.ReadPredictions(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return earlier, os.Truncate(path, size)
}

func (f *evaluationFiles) reportPath() string { return filepath.Join(f.dir, f.name+".json") }

// create opens NAME.<suffix> in a folder, behind what is there.
func (f *evaluationFiles) create(dir, suffix string) (*bufio.Writer, error) {
	name := f.name + "." + suffix
	file, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriterSize(file, 1<<16)
	f.open = append(f.open, openFile{name, file, w})
	return w, nil
}

// runner writes rows, and predictions if wanted.
func (f *evaluationFiles) runner(predictions bool) (r eval.Runner, err error) {
	if r.Rows, err = f.create(f.staging, "rows.jsonl"); err != nil || !predictions {
		return r, err
	}
	out, err := f.create(f.partial, "predictions.jsonl")
	r.Predictions = out
	r.Done = func(int) { _ = out.Flush() } // an error stays and is told at the end
	return r, err
}

// finish moves everything into place, the report last.
func (f *evaluationFiles) finish(report *eval.Report) error {
	for _, o := range f.open {
		if err := errors.Join(o.buf.Flush(), o.file.Sync()); err != nil {
			return err
		}
		if err := os.Rename(o.file.Name(), filepath.Join(f.dir, o.name)); err != nil {
			return err
		}
	}
	if report.Rows != nil {
		report.Rows.Path = f.name + ".rows.jsonl"
	}
	f.complete = true
	return atomicfile.Write(f.reportPath(), report.Encode)
}

// close takes away what is left of a run, but for the predictions of one that did not finish.
func (f *evaluationFiles) close() {
	for _, o := range f.open {
		_ = o.buf.Flush()  // what was predicted, if the run was interrupted
		_ = o.file.Close() // synced before, or of no use
	}
	_ = os.RemoveAll(f.staging) // only temporary files
	if f.complete && f.partial != "" {
		_ = os.RemoveAll(f.partial) // all of it was moved
	}
}
