package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/eval"
)

// newEvalCommand groups what concerns the quality of outputs.
func newEvalCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "eval",
		Short: "Score outputs, compare models, and gate on the result",
		Long: "Scores are those of sacreBLEU 2.6.0 and rouge-score 0.1.2 to the last digit, with their\n" +
			"signatures. A report can be gated and compared later without the texts.",
	}
	cmd.AddCommand(newEvalRunCommand(app), newEvalScoreCommand(app), newEvalCompareCommand(app), newEvalGateCommand(app),
		newEvalGoldenCommand(app), newEvalReviewCommand(app), newEvalReportCommand(app), newEvalSafetyCommand(app), newEvalReplayCommand(app))
	return cmd
}

// evalRules maps the failures of evaluation to exit codes.
func evalRules() []rule {
	return append(slices.Concat(exposureRules(), goldenRules(), reviewRules()),
		as[*eval.NoRowScoreError](exitUsage, nil),
		as(exitGate, saying[*eval.GateError]("t5ctl eval gate with the same files shows every check")),
		as(exitUsage, func(e *eval.UnknownMetricError) string { return didYouMean(e.Nearest) }),
		as(exitUsage, func(e *eval.UnknownOptionError) string { return didYouMean(e.Nearest) }),
		as[*eval.OptionValueError](exitUsage, nil),
		as[*eval.DuplicateMetricError](exitUsage, nil),
		as(exitUsage, saying[*eval.LengthError]("every line of one file must answer the same line of the other; look for a missing or an extra line")),
		as[*eval.EmptyFileError](exitUsage, nil),
		as[*eval.LineError](exitUsage, nil),
		as(exitUsage, saying[*eval.OrderError]("--join-ids joins the files by their ids")),
		as[*eval.NoReferenceError](exitUsage, nil),
		as[*eval.UnknownTaskError](exitUsage, nil),
		as[*eval.SuiteError](exitUsage, nil),
		as(exitUsage, saying[*eval.ExecRefusedError]("--allow-exec lets metrics run programs")),
		as[*eval.ExecError](exitFailed, nil),
		as(exitConflict, saying[*eval.ResumeError]("--force begins anew")),
		as(exitConflict, saying[*resumeConflictError]("--force begins anew")),
		as[*eval.GatesError](exitUsage, nil),
		as(exitUsage, saying[*eval.MismatchError]("score both on the same rows")),
		as[*eval.ReportError](exitCorrupt, nil),
		as[*eval.RowsError](exitCorrupt, nil),
	)
}

// resultsTable shows results, one row each.
func resultsTable(results []eval.Result) term.Table {
	tab := term.Table{Header: []string{"metric", "score", "interval", "rows", "signature"}, Right: []int{1, 3}}
	for _, r := range results {
		name := r.Name
		if r.Slice != "" {
			name += " (" + r.Slice + ")"
		}
		interval := ""
		if r.CI != nil {
			interval = r.CI[0].Format() + " to " + r.CI[1].Format()
		}
		signature := r.Signature
		if r.Verdict != eval.VerdictOK {
			signature = r.Verdict + ": " + r.Note
		}
		tab.Add(name, r.Score.Format(), interval, strconv.Itoa(r.N), signature)
	}
	return tab
}

// readEvidence reads the report in a file, or all those in a folder.
func readEvidence(path string) ([]eval.Evidence, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		e, err := eval.ReadEvidence(path)
		return []eval.Evidence{e}, err
	}
	names, err := filepath.Glob(filepath.Join(globEscape(path), "*.json"))
	if err != nil {
		return nil, err
	}
	var found []eval.Evidence
	for _, name := range names { // in the order of names
		kind, err := eval.KindOf(name)
		if err != nil {
			return nil, err
		}
		if kind != eval.KindEvaluation && kind != eval.KindExposure {
			continue
		}
		e, err := eval.ReadEvidence(name)
		if err != nil {
			return nil, err
		}
		found = append(found, e)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no report in folder %s: %w", path, fs.ErrNotExist)
	}
	return found, nil
}

// globEscape takes the meaning of patterns from a folder's name.
func globEscape(dir string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(dir)
}

// mayWrite says whether files may be written: what is there already stays, unless it is to be replaced.
func mayWrite(force bool, paths ...string) error {
	for _, path := range paths {
		if !force && exists(path) {
			return &fs.PathError{Op: "writing", Path: path, Err: fs.ErrExist}
		}
	}
	return nil
}

// missing names required flags that were not given.
func missing(flags map[string]bool, order ...string) error {
	var absent []string
	for _, name := range order {
		if !flags[name] {
			absent = append(absent, "--"+name)
		}
	}
	switch len(absent) {
	case 0:
		return nil
	case 1:
		return usageError{errors.New(absent[0] + " is missing")}
	}
	return usageError{errors.New(strings.Join(absent, ", ") + " are missing")}
}
