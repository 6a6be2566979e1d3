package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
)

// dataSplitOptions is what the command line of data split says, not yet checked.
type dataSplitOptions struct {
	output, column string
	datasets.SplitOptions
}

func (o *dataSplitOptions) bind(flags *pflag.FlagSet) {
	flags.StringVarP(&o.output, "output", "o", "", "new `folder` for train, validation and test")
	flags.StringVar(&o.Key, "key", "", "`column` that decides where a row goes, as an id of a document (default: the input)")
	flags.StringVar(&o.column, "column", "", "`name` of the column with the input, if the input decides (default input)")
	flags.Float64Var(&o.Validation, "validation", 0.05, "`share` of the keys for validation, 0 for none")
	flags.Float64Var(&o.Test, "test", 0.1, "`share` of the keys for test, 0 for none")
	flags.StringVar(&o.Salt, "salt", "", "any `text`; another one divides otherwise")
	flags.BoolVar(&o.Gzip, "gzip", false, "pack the files")
	bindOnBadRow(flags, &o.OnBadRow)
}

func (o *dataSplitOptions) request() (datasets.SplitOptions, error) {
	if o.output == "" {
		return o.SplitOptions, usageError{errors.New("--output is missing")}
	}
	if o.Key != "" && o.column != "" {
		return o.SplitOptions, usageError{errors.New("--key and --column both say what decides")}
	}
	if err := o.Validate(); err != nil {
		return o.SplitOptions, usageError{err}
	}
	o.Columns.Input = o.column
	return o.SplitOptions, checkOnBadRow(o.OnBadRow)
}

func newDataSplitCommand(app *App) *cobra.Command {
	var opts dataSplitOptions
	cmd := &cobra.Command{
		Use:   "split <file …>",
		Short: "Divide data into train, validation and test",
		Long: "Divide rows by a hash of their key. A row's place depends on its key and --salt alone: it\n" +
			"stays when rows are added or removed, and rows with the same key are never torn apart.\n" +
			"Rows are written as they are, as JSON lines.",
		Example: "  t5ctl data split all.jsonl --output data\n" +
			"  t5ctl data split all.csv.gz --key document --validation 0.02 --test 0.02 --output data",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.Files = args
			return runDataSplit(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

// dividedData is what data split shows.
type dividedData struct {
	Output  string                `json:"output"`
	Splits  []datasets.SplitShare `json:"splits"`
	Skipped int64                 `json:"skipped"`
}

func runDataSplit(ctx context.Context, app *App, opts dataSplitOptions) error {
	request, err := opts.request()
	if err != nil {
		return err
	}
	if err := app.fetchData(ctx, opts.Files); err != nil {
		return err
	}
	if request.Files, err = datasets.Paths(opts.Files).Files(); err != nil {
		return err
	}
	out := dividedData{Output: opts.output}
	if out.Splits, out.Skipped, err = request.DivideInto(ctx, opts.output); err != nil {
		return fmt.Errorf("dividing into %s: %w", opts.output, err)
	}
	for _, part := range out.Splits {
		made := map[string]any{"split": part.Split, "key": request.Key, "salt": request.Salt, "validation": request.Validation, "test": request.Test}
		if err := recordLineage(part.Path, "data split", made, request.Files); err != nil {
			return err
		}
	}
	if out.Skipped > 0 {
		app.Term.Warnf("%d bad rows were left out", out.Skipped)
	}
	return app.show(out, func(t *term.Terminal) {
		tab := term.Table{Header: []string{"SPLIT", "ROWS", "SHARE", "FILE"}, Right: []int{1, 2}}
		total := int64(0)
		for _, s := range out.Splits {
			total += s.Rows
		}
		for _, s := range out.Splits {
			tab.Add(string(s.Split), fmt.Sprint(s.Rows), fmt.Sprintf("%.1f %%", 100*float64(s.Rows)/float64(total)), s.Path)
		}
		t.Table(tab)
	})
}
