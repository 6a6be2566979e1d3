package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
)

// dataMixOptions is what the command line of data mix says, not yet checked.
type dataMixOptions struct {
	sources []string
	output  string
	force   bool
	datasets.MixOptions
}

func (o *dataMixOptions) bind(flags *pflag.FlagSet) {
	flags.StringVarP(&o.output, "output", "o", "", "`file` for the rows; its name says the format")
	flags.Int64VarP(&o.Rows, "rows", "n", 0, "write so many `rows`; sources begin anew when they end")
	flags.StringVar(&o.Until, "until", datasets.UntilFirst, "`first|last`, without --rows: stop at the end of the first source, or when all were read once")
	flags.Uint64Var(&o.Seed, "seed", 0, "`seed` of the order")
	flags.BoolVar(&o.force, "force", false, "replace the file")
	bindOnBadRow(flags, &o.OnBadRow)
}

func (o *dataMixOptions) request() (datasets.MixOptions, error) {
	if err := missing(map[string]bool{"output": o.output != ""}, "output"); err != nil {
		return o.MixOptions, err
	}
	o.Sources = nil
	for _, source := range o.sources {
		at := strings.LastIndexByte(source, '=')
		if at < 1 {
			return o.MixOptions, usageErrorf("%s has no rate, as in %s=0.5", source, source)
		}
		rate, err := strconv.ParseFloat(source[at+1:], 64)
		if err != nil {
			return o.MixOptions, usageErrorf("%s: rate %q is not a number", source[:at], source[at+1:])
		}
		o.Sources = append(o.Sources, datasets.MixSource{Files: []string{source[:at]}, Rate: rate})
	}
	switch {
	case o.Rows < 0:
		return o.MixOptions, usageErrorf("--rows %d is not positive", o.Rows)
	case !slices.Contains([]string{datasets.UntilFirst, datasets.UntilLast}, o.Until):
		return o.MixOptions, usageErrorf("--until is %q, not %s or %s", o.Until, datasets.UntilFirst, datasets.UntilLast)
	}
	if err := o.Validate(); err != nil {
		return o.MixOptions, usageError{err}
	}
	return o.MixOptions, checkOnBadRow(o.OnBadRow)
}

func newDataMixCommand(app *App) *cobra.Command {
	var opts dataMixOptions
	cmd := &cobra.Command{
		Use:   "mix <file>=<rate> <file>=<rate> … --output FILE",
		Short: "Mix several data sets by rate",
		Long: "Every 1,000 rows hold each source as often as its rate says, of the sum of all rates, in an\n" +
			"order drawn by --seed; the rows of a source keep their own order. The same files, flags and seed\n" +
			"give the same bytes. CSV, TSV and Parquet get the columns of the first rows of all sources.",
		Example: "  t5ctl data mix news.jsonl=3 'chat/*.parquet=1' --rows 100000 --output mixed.jsonl.zst\n" +
			"  t5ctl data mix new.csv=0.8 hf:owner/name/data/train.parquet=0.2 --until last --output mixed.csv",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.sources = args
			return runDataMix(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

// mixedData is what data mix shows.
type mixedData struct {
	Output  string        `json:"output"`
	Rows    int64         `json:"rows"`
	Sources []mixedSource `json:"sources"`
}

// mixedSource is what a mixture took of a source.
type mixedSource struct {
	Source string  `json:"source"`
	Rate   float64 `json:"rate"`
	datasets.Mixed
}

func runDataMix(ctx context.Context, app *App, opts dataMixOptions) error {
	request, err := opts.request()
	if err != nil {
		return err
	}
	var files []string
	out := mixedData{Output: opts.output}
	for i := range request.Sources {
		s := &request.Sources[i]
		out.Sources = append(out.Sources, mixedSource{Source: s.Files[0], Rate: s.Rate})
		if s.Files, err = app.dataFiles(ctx, s.Files); err != nil {
			return err
		}
		files = append(files, s.Files...)
	}
	if err := mayReplace(opts.force, opts.output, files); err != nil {
		return err
	}
	mixed, err := request.WriteTo(ctx, opts.output)
	if err != nil {
		return fmt.Errorf("mixing into %s: %w", opts.output, err)
	}
	skipped := int64(0)
	for i, m := range mixed {
		out.Sources[i].Mixed = m
		out.Rows += m.Rows
		skipped += m.Skipped
	}
	made := map[string]any{"sources": out.Sources, "rows": out.Rows, "until": request.Until, "seed": request.Seed}
	slices.Sort(files)
	if err := recordMade(opts.output, "data mix", made, slices.Compact(files)); err != nil {
		return err
	}
	if skipped > 0 {
		app.Term.Warnf("%d bad rows were left out", skipped)
	}
	return app.show(out, func(t *term.Terminal) { showMixed(t, out) })
}

func showMixed(t *term.Terminal, out mixedData) {
	tab := term.Table{Header: []string{"SOURCE", "RATE", "ROWS", "SHARE", "PASSES"}, Right: []int{1, 2, 3, 4}}
	for _, s := range out.Sources {
		tab.Add(s.Source, strconv.FormatFloat(s.Rate, 'g', -1, 64), fmt.Sprint(s.Rows), fmt.Sprintf("%.1f %%", 100*float64(s.Rows)/float64(out.Rows)), fmt.Sprint(s.Passes))
	}
	t.Table(tab)
	t.Printf("%s: %d rows\n", out.Output, out.Rows)
}
