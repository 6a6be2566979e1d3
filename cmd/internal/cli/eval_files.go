package cli

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"

	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

// Names of the files in an evaluation's folder.
const (
	reportFile      = "report.json"
	rowsFile        = "rows.jsonl"
	predictionsFile = "predictions.jsonl"
)

// evaluationFiles are what an evaluation writes while it runs.
type evaluationFiles struct {
	dir         string
	predictions bool
	files       []*os.File
	buffers     []*bufio.Writer
}

func newEvaluationFiles(dir string, predictions bool) *evaluationFiles {
	return &evaluationFiles{dir: dir, predictions: predictions}
}

// open creates the files and a runner that writes to them.
func (f *evaluationFiles) open() (eval.Runner, error) {
	var r eval.Runner
	rows, err := f.create(rowsFile)
	if err != nil {
		return r, err
	}
	r.Rows = rows
	if f.predictions {
		p, err := f.create(predictionsFile)
		if err != nil {
			return r, err
		}
		r.Predictions = p
	}
	return r, nil
}

func (f *evaluationFiles) create(name string) (*bufio.Writer, error) {
	file, err := os.Create(filepath.Join(f.dir, name))
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriterSize(file, 1<<16)
	f.files, f.buffers = append(f.files, file), append(f.buffers, w)
	return w, nil
}

// close flushes and closes everything; err is what went wrong before.
func (f *evaluationFiles) close(err error) error {
	for i, w := range f.buffers {
		if err == nil {
			err = w.Flush()
		}
		err = errors.Join(err, f.files[i].Close())
	}
	return err
}

// report writes the report beside the rows that it names.
func (f *evaluationFiles) report(r *eval.Report) error {
	r.Rows.Path = rowsFile
	return atomicfile.Write(filepath.Join(f.dir, reportFile), r.Encode)
}
