package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/datasets/audit"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

// dataAuditOptions is what the command line of data audit says, not yet checked.
type dataAuditOptions struct {
	what                    []string // a recipe, or data files
	sets                    []string
	train, validation, test []string
	columns                 datasets.Columns
	near                    float64
	ngram                   int
	limits                  []string
	output, markdown, sarif string
	onBadRow                string
}

func (o *dataAuditOptions) bind(flags *pflag.FlagSet) {
	bindSet(flags, &o.sets)
	flags.StringArrayVar(&o.train, "train", nil, "`file` of the training split (repeatable)")
	flags.StringArrayVar(&o.validation, "validation", nil, "`file` of the validation split (repeatable)")
	flags.StringArrayVar(&o.test, "test", nil, "`file` of the test split (repeatable)")
	flags.StringVar(&o.columns.Input, "input-column", "", "`name` of the column with the input (files only)")
	flags.StringVar(&o.columns.Target, "target-column", "", "`name` of the column with the target (files only)")
	flags.Float64Var(&o.near, "near", 0.8, "least Jaccard `similarity` of near duplicates, in runs of three words; 0 looks for none")
	flags.IntVar(&o.ngram, "ngram", 13, "`words` in a row that held-out rows must not share with the training part; 0 looks for none")
	flags.StringArrayVar(&o.limits, "max", nil, "most that may be found, as `name=number` (repeatable): "+strings.Join(audit.Measures(), ", "))
	flags.StringVarP(&o.output, "output", "o", "", "`file` for the report as JSON")
	flags.StringVar(&o.markdown, "markdown", "", "`file` for the report as Markdown")
	flags.StringVar(&o.sarif, "sarif", "", "`file` for the findings as SARIF 2.1.0")
	flags.StringVar(&o.onBadRow, "on-bad-row", datasets.Skip, "`fail|skip`: stop at a row that is no example, or count it")
}

func newDataAuditCommand(app *App) *cobra.Command {
	var opts dataAuditOptions
	cmd := &cobra.Command{
		Use:   "audit [recipe | file …]",
		Short: "Look for leakage, duplicates and damage in data",
		Long: "Count rows that repeat or nearly repeat others, within a part and across parts, held-out\n" +
			"rows that share runs of words with the training part, empty, copied and damaged texts,\n" +
			"languages and labels. A recipe brings its splits; files are a part each, the first the\n" +
			"training part. Exit code 3 where more is found than --max allows; unless it says\n" +
			"otherwise, no input may be in two parts, and none empty, damaged or unreadable.",
		Example: "  t5ctl data audit bible-simplify\n" +
			"  t5ctl data audit --train train.jsonl.gz --test test.jsonl --max repeated_inputs=100 --sarif audit.sarif",
		ValidArgsFunction: completeRecipe,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.what = args
			return runDataAudit(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

// auditError says that data did not pass its audit.
type auditError struct{ failed []audit.Check }

func (e *auditError) Error() string {
	var parts []string
	for _, c := range e.failed {
		parts = append(parts, fmt.Sprintf("%s is %g, at most %g may be", c.Name, c.Value, c.Limit))
	}
	return "data audit: " + strings.Join(parts, "; ")
}

// request finds the parts and limits.
func (o *dataAuditOptions) request(ctx context.Context, app *App) (audit.Options, audit.Limits, error) {
	a := audit.Options{Columns: o.columns, OnBadRow: o.onBadRow, Near: o.near, Ngram: o.ngram}
	if o.near < 0 || o.near > 1 || o.ngram < 0 || o.ngram > 1000 {
		return a, nil, usageErrorf("--near %g must be between 0 and 1, --ngram %d between 0 and 1000", o.near, o.ngram)
	}
	if err := checkOnBadRow(o.onBadRow); err != nil {
		return a, nil, err
	}
	limits, err := o.limitsOf()
	if err != nil {
		return a, nil, err
	}
	if err := app.fetchData(ctx, o.train, o.validation, o.test, o.what); err != nil {
		return a, nil, err
	}
	flagged := len(o.train)+len(o.validation)+len(o.test) > 0
	switch {
	case flagged && len(o.what) > 0:
		return a, nil, usageError{errors.New("give a recipe or files, or --train, --validation and --test, not both")}
	case flagged:
		err = addSplits(&a, map[datasets.Split]datasets.Paths{datasets.Train: o.train, datasets.Validation: o.validation, datasets.Test: o.test})
		return a, limits, err
	case len(o.what) == 0:
		return a, nil, usageError{errors.New("there is nothing to audit: give a recipe, files, or --train and --test")}
	case isTable(o.what[0]):
		err = addFiles(&a, o.what)
		return a, limits, err
	case len(o.what) > 1:
		return a, nil, usageErrorf("%s is a recipe, and there is more: %s", o.what[0], strings.Join(o.what[1:], " "))
	}
	loaded, err := app.loadRecipe(o.what[0], o.sets)
	if err != nil {
		return a, nil, err
	}
	if err := app.fetchData(ctx, loaded.Data.Paths(datasets.Train), loaded.Data.Paths(datasets.Validation), loaded.Data.Test); err != nil {
		return a, limits, err
	}
	a.Columns = loaded.Data.Columns
	err = addSplits(&a, map[datasets.Split]datasets.Paths{datasets.Train: loaded.Data.Paths(datasets.Train), datasets.Validation: loaded.Data.Paths(datasets.Validation), datasets.Test: loaded.Data.Test})
	return a, limits, err
}

// limitsOf lays the limits that were given over the defaults.
func (o *dataAuditOptions) limitsOf() (audit.Limits, error) {
	limits := audit.DefaultLimits()
	for _, text := range o.limits {
		name, value, _ := strings.Cut(text, "=")
		limit, err := strconv.ParseFloat(value, 64)
		if err != nil || !(limit >= 0) {
			return nil, usageErrorf("--max %s: it must be name=number, the number 0 or more", text)
		}
		limits[name] = limit
	}
	return limits, (&audit.Report{Parts: make([]audit.PartReport, 1)}).Judge(limits) // are the names right?
}

// addSplits makes a part of each split that has files, the training split first.
func addSplits(a *audit.Options, splits map[datasets.Split]datasets.Paths) error {
	for _, split := range datasets.Splits() {
		files, err := splits[split].Files()
		if err != nil {
			return err
		}
		if len(files) > 0 {
			a.Parts = append(a.Parts, audit.Part{Name: string(split), Files: files})
		}
	}
	return nil
}

// addFiles makes a part of each file, named after it.
func addFiles(a *audit.Options, patterns []string) error {
	files, err := datasets.Paths(patterns).Files()
	if err != nil {
		return err
	}
	for _, path := range files {
		name, _, _ := strings.Cut(filepath.Base(path), ".")
		for _, p := range a.Parts {
			if p.Name == name {
				name = path
			}
		}
		a.Parts = append(a.Parts, audit.Part{Name: name, Files: []string{path}})
	}
	return nil
}

func runDataAudit(ctx context.Context, app *App, opts dataAuditOptions) error {
	request, limits, err := opts.request(ctx, app)
	if err != nil {
		return err
	}
	progress := app.Term.Progress("auditing", 0, "rows")
	defer progress.Done()
	request.Progress = func(pass string, rows int64) {
		progress.Detail(pass)
		progress.Add(rows)
	}
	report, err := audit.Run(ctx, request)
	if err != nil {
		return err
	}
	progress.Done()
	if err := report.Judge(limits); err != nil {
		return err
	}
	for path, write := range map[string]func(io.Writer) error{opts.output: report.WriteJSON, opts.markdown: report.WriteMarkdown, opts.sarif: report.WriteSARIF} {
		if path == "" {
			continue
		}
		if err := atomicfile.Write(path, write); err != nil {
			return err
		}
	}
	if err := app.show(report, func(t *term.Terminal) { showAudit(t, report) }); err != nil || report.Passed {
		return err
	}
	failed := &auditError{}
	for _, c := range report.Checks {
		if !c.Passed {
			failed.failed = append(failed.failed, c)
		}
	}
	return failed
}

// showAudit writes a table of parts, one of pairs of parts, and the checks.
func showAudit(t *term.Terminal, r *audit.Report) {
	parts := term.Table{Header: []string{""}}
	rows := [][]string{{"rows"}, {"bad rows"}, {"repeated inputs, surplus rows"}, {"repeated inputs, distinct"}, {"repeated rows, surplus"}, {"inputs with several targets"},
		{"near duplicates, rows"}, {"empty inputs"}, {"empty targets"}, {"targets that copy the input"}, {"damaged texts"}}
	for i, p := range r.Parts {
		parts.Header, parts.Right = append(parts.Header, p.Name), append(parts.Right, i+1)
		for k, n := range []int64{p.Rows, p.BadRows, p.Inputs.Surplus, p.Inputs.Distinct, p.Pairs.Surplus, p.Conflicting, p.NearRows, p.EmptyInputs, p.EmptyTargets, p.Copied, p.Damaged} {
			rows[k] = append(rows[k], fmt.Sprint(n))
		}
	}
	for _, row := range rows {
		parts.Add(row...)
	}
	t.Table(parts)
	if len(r.Cross) > 0 {
		t.Println()
		cross := term.Table{Header: []string{"parts", "shared inputs", "shared rows", "near pairs", "contaminated"}, Right: []int{1, 2, 3, 4}}
		for _, c := range r.Cross {
			cross.Add(c.A+", "+c.B, fmt.Sprint(c.Inputs), fmt.Sprint(c.Pairs), fmt.Sprint(c.NearPairs), fmt.Sprint(c.Contaminated))
		}
		t.Table(cross)
	}
	t.Println()
	checks := term.Table{Header: []string{"check", "found", "limit", ""}, Right: []int{1, 2}}
	for _, c := range r.Checks {
		checks.Add(c.Name, fmt.Sprintf("%g", c.Value), fmt.Sprintf("%g", c.Limit), map[bool]string{true: "pass", false: "FAIL"}[c.Passed])
	}
	t.Table(checks)
	if r.NearCut {
		t.Warnf("there are more candidates for near duplicates than are compared: what is told of them is the least there is")
	}
	showFindings(t, r.Findings)
}

// showFindings writes a few findings of each rule, those that spoil an evaluation first.
func showFindings(t *term.Terminal, findings []audit.Finding) {
	for _, rule := range []string{"shared-input", "contamination", "empty-input", "empty-target", "damaged-text", "copied-target"} {
		shown := 0
		for _, f := range findings {
			if f.Rule == rule && shown < 3 {
				t.Printf("%s:%d: %s: %s\n", f.File, f.Line, f.Rule, f.Note)
				shown++
			}
		}
	}
	if len(findings) > 0 {
		t.Printf("--output, --markdown and --sarif keep up to 100 of each kind\n")
	}
}
