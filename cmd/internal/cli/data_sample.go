package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
)

// dataSampleOptions is what the command line of data sample says, not yet checked.
type dataSampleOptions struct {
	output string
	force  bool
	datasets.SampleOptions
}

func (o *dataSampleOptions) bind(flags *pflag.FlagSet) {
	flags.StringVarP(&o.output, "output", "o", "", "`file` for the rows; its name says the format")
	flags.Int64VarP(&o.Rows, "rows", "n", 0, "take so many `rows`, every choice as likely as any other")
	flags.Float64Var(&o.Share, "share", 0, "take this `share` of the rows, each by a hash of its place")
	flags.StringVar(&o.Key, "key", "", "`column` that decides instead of the place, with --share: rows with the same key stay together")
	flags.Uint64Var(&o.Seed, "seed", 0, "`seed`; another one takes other rows")
	flags.BoolVar(&o.force, "force", false, "replace the file")
	bindOnBadRow(flags, &o.OnBadRow)
}

func (o *dataSampleOptions) request() (datasets.SampleOptions, error) {
	if err := missing(map[string]bool{"output": o.output != ""}, "output"); err != nil {
		return o.SampleOptions, err
	}
	switch {
	case o.Rows < 0:
		return o.SampleOptions, usageErrorf("--rows %d is not positive", o.Rows)
	case !(o.Share >= 0 && o.Share <= 1):
		return o.SampleOptions, usageErrorf("--share %g is not between 0 and 1", o.Share)
	case (o.Rows > 0) == (o.Share > 0):
		return o.SampleOptions, usageErrorf("either --rows or --share says how much is taken")
	case o.Key != "" && o.Rows > 0:
		return o.SampleOptions, usageErrorf("--key goes with --share: a number of rows is drawn row by row")
	}
	return o.SampleOptions, checkOnBadRow(o.OnBadRow)
}

func newDataSampleCommand(app *App) *cobra.Command {
	var opts dataSampleOptions
	cmd := &cobra.Command{
		Use:   "sample <file …> --output FILE",
		Short: "Take rows by chance, a number or a share",
		Long: "Rows stay as they are and in their order. The same files, flags and seed give the same bytes.\n" +
			"With --key a row's fate depends on its key and --seed alone. CSV, TSV and Parquet get the columns\n" +
			"of the first row.",
		Example: "  t5ctl data sample 'train/*.jsonl.zst' --rows 10000 --seed 1 --output small.jsonl\n" +
			"  t5ctl data sample all.parquet --share 0.01 --key document --output part.parquet",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.Files = args
			return runDataSample(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

// sampledData is what data sample shows.
type sampledData struct {
	Output string `json:"output"`
	datasets.Taken
}

func runDataSample(ctx context.Context, app *App, opts dataSampleOptions) error {
	request, err := opts.request()
	if err != nil {
		return err
	}
	if request.Files, err = app.dataFiles(ctx, opts.Files); err != nil {
		return err
	}
	if err := mayReplace(opts.force, opts.output, request.Files); err != nil {
		return err
	}
	out := sampledData{Output: opts.output}
	if out.Taken, err = request.WriteTo(ctx, opts.output); err != nil {
		return fmt.Errorf("sampling into %s: %w", opts.output, err)
	}
	made := map[string]any{"rows": out.Rows, "of": out.Of, "share": request.Share, "key": request.Key, "seed": request.Seed}
	if err := recordMade(opts.output, "data sample", made, request.Files); err != nil {
		return err
	}
	if out.Skipped > 0 {
		app.Term.Warnf("%d bad rows were left out", out.Skipped)
	}
	return app.show(out, func(t *term.Terminal) { t.Printf("%s: %d of %d rows\n", out.Output, out.Rows, out.Of) })
}

// dataFiles brings what is on the hub and expands patterns.
func (a *App) dataFiles(ctx context.Context, paths []string) ([]string, error) {
	if err := a.fetchData(ctx, paths); err != nil {
		return nil, err
	}
	return datasets.Paths(paths).Files()
}

// mayReplace refuses an output that is there unless force, and one that is read from in any case.
func mayReplace(force bool, output string, inputs []string) error {
	if slices.Contains(inputs, output) {
		return usageErrorf("%s is both read and written", output)
	}
	return mayWrite(force, output)
}

// recordMade records how a command made a data file, and marks it where canaries were planted in what
// it was made of.
func recordMade(path, command string, options map[string]any, parents []string) error {
	if err := datasets.CarryCanaries(parents, path); err != nil {
		return err
	}
	return recordLineage(path, command, options, parents)
}
