package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/eval/golden"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

// evalGoldenOptions is what the command lines of eval golden say, not yet checked.
type evalGoldenOptions struct {
	file, model, adapter string
	input                string // record
	rule                 golden.Rule
	output               string // check
}

func (o *evalGoldenOptions) bindModel(flags *pflag.FlagSet) {
	flags.StringVarP(&o.model, "model", "m", "", "`model`: a folder, a run, name@vN or name@channel")
	flags.StringVar(&o.adapter, "adapter", "", "`adapter` on top of it: a PEFT folder or a run")
}

func newEvalGoldenCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "golden",
		Short: "Keep accepted outputs, and hold models to them",
		Long: "A golden file keeps inputs with the outputs accepted for them and the model that each is from,\n" +
			"so that a new version, or an old one before a rollback, can be held to them.",
	}
	cmd.AddCommand(newEvalGoldenRecordCommand(app), newEvalGoldenCheckCommand(app))
	return cmd
}

func newEvalGoldenRecordCommand(app *App) *cobra.Command {
	var opts evalGoldenOptions
	cmd := &cobra.Command{
		Use:     "record FILE --model <model> --input <rows>",
		Short:   "Accept what a model writes for some inputs",
		Long:    "Outputs are added to FILE beside those that it holds; read them before you commit them.",
		Example: "  t5ctl eval golden record golden.jsonl --model g2p@production --input inputs.jsonl",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.file = args[0]
			return runGoldenRecord(cmd.Context(), app, opts)
		},
	}
	opts.bindModel(cmd.Flags())
	cmd.Flags().StringVarP(&opts.input, "input", "i", "", "`file` of rows with \"input\"")
	return cmd
}

func newEvalGoldenCheckCommand(app *App) *cobra.Command {
	var opts evalGoldenOptions
	cmd := &cobra.Command{
		Use:   "check FILE --model <model>",
		Short: "Pass if a model still writes accepted outputs, else exit with code 3",
		Example: "  t5ctl eval golden check golden.jsonl --model g2p@v3\n" +
			"  t5ctl eval golden check golden.jsonl --model runs/g2p-2 --metric chrf --min 95 --output golden-report.json",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.file = args[0]
			return runGoldenCheck(cmd.Context(), app, opts)
		},
	}
	opts.bindModel(cmd.Flags())
	flags := cmd.Flags()
	flags.StringVar(&opts.rule.Metric, "metric", "", "compare by this `metric`, as name:option=value,… (default: the same text)")
	flags.Float64Var(&opts.rule.Min, "min", 0, "the least `score` of each sample by --metric")
	flags.StringVar(&opts.rule.Model, "from", "", "only outputs accepted from this `model` count")
	flags.StringVarP(&opts.output, "output", "o", "", "write a report for gates (metric golden) to this `file`")
	return cmd
}

func (o *evalGoldenOptions) request(input bool) error {
	err := missing(map[string]bool{"model": o.model != "", "input": o.input != "" || !input}, "model", "input")
	switch {
	case err != nil:
		return err
	case (o.rule.Metric == "") != (o.rule.Min == 0):
		return usageErrorf("--metric and --min go together")
	}
	return nil
}

// answer gives what a model writes for inputs, and what the model is called.
func (o *evalGoldenOptions) answer(ctx context.Context, app *App, inputs []string) (outputs []string, name string, err error) {
	name = o.model
	if o.adapter != "" {
		name = o.adapter
	}
	resolved, err := resolveModel(ctx, app, name)
	if err != nil {
		return nil, "", err
	}
	if resolved.Name != "" {
		name = resolved.Name
	}
	m, closeModel, err := app.openModel(ctx, o.model, o.adapter)
	if err != nil {
		return nil, "", err
	}
	defer closeModel()
	sources := make([]string, len(inputs))
	for i, input := range inputs {
		sources[i] = m.Prefix + input
	}
	m.Generation.NumReturnSequences = 1
	outputs, err = m.Predict(ctx, sources)
	return outputs, name, err
}

func runGoldenRecord(ctx context.Context, app *App, opts evalGoldenOptions) error {
	if err := opts.request(true); err != nil {
		return err
	}
	samples, err := golden.Read(opts.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var inputs []string
	for row, err := range datasets.Read(opts.input, datasets.ReadOptions{Need: datasets.Inputs}) {
		if err != nil {
			return err
		}
		inputs = append(inputs, row.Input)
	}
	if len(inputs) == 0 {
		return usageErrorf("%s holds no row", opts.input)
	}
	outputs, name, err := opts.answer(ctx, app, inputs)
	if err != nil {
		return err
	}
	samples, added := golden.Record(samples, name, inputs, outputs)
	if err := atomicfile.Write(opts.file, func(w io.Writer) error { return golden.Write(w, samples) }); err != nil {
		return err
	}
	result := map[string]any{"file": opts.file, "model": name, "samples": len(samples), "added": added}
	return app.show(result, func(t *term.Terminal) {
		t.Printf("%s: %d samples, %d outputs accepted from %s\n", opts.file, len(samples), added, name)
	})
}

func runGoldenCheck(ctx context.Context, app *App, opts evalGoldenOptions) error {
	if err := opts.request(false); err != nil {
		return err
	}
	samples, err := golden.Read(opts.file)
	if err != nil {
		return err
	}
	inputs := make([]string, len(samples))
	for i, s := range samples {
		inputs[i] = s.Input
	}
	outputs, name, err := opts.answer(ctx, app, inputs)
	if err != nil {
		return err
	}
	result, err := golden.Check(samples, outputs, name, opts.rule)
	if err != nil {
		return err
	}
	if opts.output != "" {
		if err := atomicfile.Write(opts.output, result.Report.Encode); err != nil {
			return err
		}
	}
	if err := app.show(result, func(t *term.Terminal) { showGolden(t, result) }); err != nil {
		return err
	}
	return result.Err()
}

func showGolden(t *term.Terminal, r golden.Result) {
	for _, b := range r.Broken {
		t.Printf("%s: %s\n  now      %s\n", b.ID, term.Clean(b.Input), term.Clean(b.Output))
		for _, a := range b.Accepted {
			t.Printf("  accepted %s\n", term.Clean(a))
		}
	}
	t.Printf("%d of %d golden samples stayed with %s\n", r.Samples-len(r.Broken), r.Samples, r.Model)
}

// goldenRules maps the failures of golden samples to exit codes.
func goldenRules() []rule {
	return []rule{
		as[*golden.BrokenError](exitGate, nil),
		as[*golden.FileError](exitUsage, nil),
		as(exitNotFound, func(e *golden.NoneError) string {
			return fmt.Sprintf("t5ctl eval golden record --model %s adds some", e.Model)
		}),
	}
}
