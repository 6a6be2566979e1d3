package cli

import (
	"bufio"
	"errors"
	"fmt"
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
	if _, err := os.Stat(f.reportPath()); err == nil && !force {
		return nil, fmt.Errorf("%s: %w", f.reportPath(), fs.ErrExist)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	f.staging, err = os.MkdirTemp(dir, ".evaluation-")
	return f, err
}

func (f *evaluationFiles) reportPath() string { return filepath.Join(f.dir, f.name+".json") }

// create opens NAME.<suffix>.
func (f *evaluationFiles) create(suffix string) (*bufio.Writer, error) {
	name := f.name + "." + suffix
	file, err := os.Create(filepath.Join(f.staging, name))
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriterSize(file, 1<<16)
	f.open = append(f.open, openFile{name, file, w})
	return w, nil
}

// runner writes rows, and predictions if wanted.
func (f *evaluationFiles) runner(predictions bool) (r eval.Runner, err error) {
	if r.Rows, err = f.create("rows.jsonl"); err != nil || !predictions {
		return r, err
	}
	r.Predictions, err = f.create("predictions.jsonl")
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
	return atomicfile.Write(f.reportPath(), report.Encode)
}

// close takes away what is left of a run that did not finish.
func (f *evaluationFiles) close() {
	for _, o := range f.open {
		_ = o.file.Close() // synced before, or of no use
	}
	_ = os.RemoveAll(f.staging) // only temporary files
}
