package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/datasets/selection"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/model"
)

// dataSelectOptions is what the command line of data select says, not yet checked.
type dataSelectOptions struct {
	files, models []string
	output, by    string
	column        string
	rows          int
	force         bool
}

func (o *dataSelectOptions) bind(flags *pflag.FlagSet) {
	flags.StringArrayVarP(&o.models, "model", "m", nil, "`model` that answers the rows; with several, rows on which they differ count (repeatable)")
	flags.StringVarP(&o.output, "output", "o", "", "`file` for the rows, .jsonl, with the outputs of the first model")
	flags.StringVar(&o.by, "by", selection.ByBoth, "`way` to choose: both, uncertainty or disagreement")
	flags.StringVar(&o.column, "input-column", "input", "`name` of the column with the texts")
	flags.IntVarP(&o.rows, "rows", "n", 100, "`rows` to choose")
	flags.BoolVar(&o.force, "force", false, "replace the file")
}

func newDataSelectCommand(app *App) *cobra.Command {
	var opts dataSelectOptions
	cmd := &cobra.Command{
		Use:   "select FILE… --model <model> --output FILE",
		Short: "Choose the rows that are most worth labelling",
		Long: "Uncertainty is the mean surprise of the tokens of a model's own output, disagreement the share of\n" +
			"pairs of models whose outputs differ. The rows chosen can be given to eval review export.",
		Example: "  t5ctl data select samples/*.jsonl --model g2p@production --model g2p@canary --rows 50 --output label.jsonl",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.files = args
			return runDataSelect(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

func (o *dataSelectOptions) check() error {
	if err := missing(map[string]bool{"model": len(o.models) > 0, "output": o.output != ""}, "model", "output"); err != nil {
		return err
	}
	switch {
	case !slices.Contains(selection.Ways(), o.by):
		return usageErrorf("--by %q is none of %s", o.by, strings.Join(selection.Ways(), ", "))
	case o.by == selection.ByDisagreement && len(o.models) < 2:
		return usageErrorf("--by disagreement needs --model twice or more")
	case o.rows < 1:
		return usageErrorf("--rows %d is not positive", o.rows)
	}
	return mayWrite(o.force, o.output)
}

// selectedRow is one row of the output.
type selectedRow struct {
	ID           string   `json:"id"`
	Input        string   `json:"input"`
	Output       string   `json:"output"`
	Outputs      []string `json:"outputs,omitempty"` // of each model, where there are several
	Uncertainty  float64  `json:"uncertainty"`
	Disagreement float64  `json:"disagreement"`
}

func runDataSelect(ctx context.Context, app *App, opts dataSelectOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	var rows []selectedRow
	read := datasets.ReadOptions{Columns: datasets.Columns{Input: opts.column}, Need: datasets.Inputs}
	for e, err := range datasets.ReadFiles(opts.files, read) {
		if err != nil {
			return err
		}
		id := e.ID
		if id == "" {
			id = fmt.Sprintf("row-%d", e.Row)
		}
		rows = append(rows, selectedRow{ID: id, Input: e.Input})
	}
	backend, err := app.decodingBackend()
	if err != nil {
		return err
	}
	defer backend.Finalize()
	for _, ref := range opts.models {
		if err := app.answerRows(ctx, backend, ref, rows); err != nil {
			return err
		}
	}
	candidates := make([]selection.Candidate, len(rows))
	for i := range rows {
		r := &rows[i]
		r.Output, r.Disagreement = r.Outputs[0], selection.Outputs(r.Outputs)
		r.Uncertainty /= float64(len(opts.models))
		if len(opts.models) == 1 {
			r.Outputs = nil
		}
		candidates[i] = selection.Candidate{Input: r.Input, Uncertainty: r.Uncertainty, Disagreement: r.Disagreement}
	}
	var chosen []selectedRow
	for _, i := range selection.Choose(candidates, opts.rows, opts.by) {
		chosen = append(chosen, rows[i])
	}
	if err := atomicfile.Write(opts.output, func(w io.Writer) error { return encodeLines(w, chosen) }); err != nil {
		return err
	}
	lineage := datasets.Lineage{Command: "data select", Tool: versionOf().Version, Options: map[string]any{"models": opts.models, "by": opts.by, "rows": opts.rows}}
	if err := datasets.WriteLineage(opts.output, lineage, opts.files); err != nil {
		return err
	}
	return app.show(map[string]any{"output": opts.output, "rows": len(chosen), "of": len(rows)}, func(t *term.Terminal) {
		t.Printf("%s: %d of %d rows\n", opts.output, len(chosen), len(rows))
	})
}

// answerRows has a model answer all rows, and adds its outputs and how surprising it finds them.
func (a *App) answerRows(ctx context.Context, backend device.Opening, ref string, rows []selectedRow) error {
	resolved, err := resolveModel(ctx, a, ref)
	if err != nil {
		return err
	}
	m, err := model.Open(backend, resolved.Dir, model.Options{Adapter: resolved.Adapter})
	if err != nil {
		return fmt.Errorf("opening %s: %w", ref, err)
	}
	defer m.Close()
	progress := a.Term.Progress("answering with "+ref, int64(len(rows)), "rows")
	defer progress.Done()
	done := 0
	for chunk := range slices.Chunk(rows, max(1, m.Generation.BatchRows)) {
		texts := make([]string, len(chunk))
		for i, r := range chunk {
			texts[i] = m.Prefix + r.Input
		}
		outputs, err := m.Predict(ctx, texts)
		if err != nil {
			return err
		}
		for i, output := range outputs {
			sums, err := m.LogProbs(ctx, texts[i], []string{output})
			if err != nil {
				return err
			}
			chunk[i].Outputs = append(chunk[i].Outputs, output)
			chunk[i].Uncertainty -= sums[0] / float64(len(m.Tokenizer.Sequence(output)))
		}
		done += len(chunk)
		progress.Set(int64(done))
	}
	return nil
}
