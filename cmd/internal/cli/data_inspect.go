package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// dataInspectOptions is what the command line of data inspect says, not yet checked.
type dataInspectOptions struct {
	what      []string // a recipe, or data files
	sets      []string
	split     string
	rows      []int64
	tokenizer tokenizerOptions
	source    datasets.Source
}

func (o *dataInspectOptions) bind(flags *pflag.FlagSet) {
	bindSet(flags, &o.sets)
	flags.StringVar(&o.split, "split", "train", "`split` of the recipe: train, validation or test")
	flags.Int64SliceVar(&o.rows, "row", []int64{1, 2, 3}, "`number` of a row to show in full, from 1; repeatable, 0 for none")
	o.tokenizer.bind(flags)
	flags.StringVar(&o.source.Columns.Input, "input-column", "", "`name` of the column with the input (files only)")
	flags.StringVar(&o.source.Columns.Target, "target-column", "", "`name` of the column with the target (files only)")
	flags.StringVar(&o.source.Prefix, "prefix", "", "`text` before every input (files only)")
	flags.IntVar(&o.source.MaxInput, "max-input", datasets.DefaultMaxLength, "most `tokens` of an input (files only)")
	flags.IntVar(&o.source.MaxTarget, "max-target", datasets.DefaultMaxLength, "most `tokens` of a target (files only)")
	bindOnBadRow(flags, &o.source.OnBadRow)
}

func newDataInspectCommand(app *App) *cobra.Command {
	var opts dataInspectOptions
	cmd := &cobra.Command{
		Use:   "inspect <recipe | file …>",
		Short: "Show what a model sees of the data",
		Long: "Tokenize data as training does, and show what becomes of it: the length of the texts in\n" +
			"tokens, what is cut at the limits, what the vocabulary cannot spell, and some rows with\n" +
			"prefix, ids, and what those say. A recipe brings data, limits, prefix, tokenizer and\n" +
			"objectives; files take them from flags.",
		Example: "  t5ctl data inspect cmudict-stress --split validation\n" +
			"  t5ctl data inspect recipe.yaml --row 17 --set data.max_input=64\n" +
			"  t5ctl data inspect train.jsonl --model name@production --max-input 128",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeRecipe,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.what = args
			return runDataInspect(cmd, app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

func runDataInspect(cmd *cobra.Command, app *App, opts dataInspectOptions) error {
	ctx := cmd.Context()
	source, split, request, err := opts.request(ctx, cmd.Flags(), app)
	if err != nil {
		return err
	}
	progress := app.Term.Progress("reading", 0, "row")
	defer progress.Done()
	done := int64(0)
	request.Progress = func(rows int64) {
		progress.Add(rows - done)
		done = rows
	}
	if err := app.fetchData(ctx, source.Paths(split)); err != nil {
		return err
	}
	seen, err := source.Inspect(ctx, split, request)
	if err != nil {
		return err
	}
	progress.Done()
	if seen.Stats.Skipped > 0 {
		app.Term.Warnf("%d bad rows were left out, the first %s", seen.Stats.Skipped, seen.Skipped[0])
	}
	for _, row := range opts.rows {
		if row > seen.Stats.Rows && cmd.Flags().Changed("row") {
			app.Term.Warnf("there is no row %d: %s has %d", row, split, seen.Stats.Rows)
		}
	}
	return app.show(seen, func(t *term.Terminal) { showInspection(t, seen) })
}

// request finds out what is inspected, with which tokenizer.
func (o *dataInspectOptions) request(ctx context.Context, flags *pflag.FlagSet, app *App) (s datasets.Source, split datasets.Split, r datasets.InspectOptions, err error) {
	split, r.Rows = datasets.Split(o.split), o.rows
	if !slices.Contains(datasets.Splits(), split) {
		return s, split, r, usageErrorf("--split is %q, not one of %v", o.split, datasets.Splits())
	}
	if err := checkOnBadRow(o.source.OnBadRow); err != nil {
		return s, split, r, err
	}
	if isTable(o.what[0]) {
		s = o.source
		s.Train, split = o.what, datasets.Train
		if len(o.sets) > 0 || flags.Changed("split") {
			return s, split, r, usageError{errors.New("--set and --split are for recipes; these are data files")}
		}
		if err = s.Validate(); err == nil {
			r.Tokenizer, err = o.tokenizer.open(ctx, app)
		}
		return s, split, r, err
	}
	for _, name := range []string{"input-column", "target-column", "prefix", "max-input", "max-target"} {
		if flags.Changed(name) {
			return s, split, r, hintedUsageError{usageErrorf("--%s is for data files", name), "a recipe says that itself; --set changes it"}
		}
	}
	if len(o.what) > 1 {
		return s, split, r, usageErrorf("%s is a recipe, and there is more: %s", o.what[0], strings.Join(o.what[1:], " "))
	}
	loaded, err := app.loadRecipe(o.what[0], o.sets)
	if err != nil {
		return s, split, r, err
	}
	s, r.Seed = loaded.Data, loaded.Train.Seed
	if flags.Changed("on-bad-row") {
		s.OnBadRow = o.source.OnBadRow
	}
	r.Tokenizer, err = o.recipeTokenizer(ctx, app)
	return s, split, r, err
}

// recipeTokenizer is the one that training would use, unless another is asked for.
func (o *dataInspectOptions) recipeTokenizer(ctx context.Context, app *App) (*vocab.Tokenizer, error) {
	if o.tokenizer.model != "" || o.tokenizer.mode != "" {
		return o.tokenizer.open(ctx, app)
	}
	t := &training{app: app}
	defer t.close()
	var err error
	if t.recipe, err = app.loadRecipe(o.what[0], o.sets); err != nil {
		return nil, err
	}
	if err := t.openBase(ctx); err != nil {
		return nil, err
	}
	if err := t.openTokenizer(); err != nil {
		return nil, err
	}
	return t.tokenizer, nil
}

// showInspection writes counts, histograms and rows.
func showInspection(t *term.Terminal, seen *datasets.Inspection) {
	s := seen.Stats
	tab := term.Table{Header: []string{"WHAT", "INPUT", "TARGET"}, Right: []int{1, 2}}
	add := func(what string, input, target any) { tab.Add(what, fmt.Sprint(input), fmt.Sprint(target)) }
	add("tokens, after cutting", s.InputTokens, s.TargetTokens)
	tab.Add("tokens a row, mean", fmt.Sprintf("%.1f", seen.Input.Mean), fmt.Sprintf("%.1f", seen.Target.Mean))
	add("median", seen.Input.P50, seen.Target.P50)
	add("90 % have at most", seen.Input.P90, seen.Target.P90)
	add("99 % have at most", seen.Input.P99, seen.Target.P99)
	add("longest", seen.Input.Max, seen.Target.Max)
	add("limit", seen.Input.Limit, seen.Target.Limit)
	add("rows cut at the limit", s.TruncatedInputs, s.TruncatedTargets)
	t.Printf("%s %s\n%d rows, %d left out, %.2f %% of the tokens unknown\ndata %s\n",
		seen.Split, strings.Join(seen.Files, " "), s.Rows, s.Skipped, 100*seen.UnknownShare, seen.Fingerprint)
	for _, c := range seen.Canaries {
		t.Printf("canaries were planted: %s\n", c.Path)
	}
	t.Println()
	t.Table(tab)
	showHistogram(t, "input", seen.Input)
	showHistogram(t, "target", seen.Target)
	for _, row := range seen.Rows {
		showSeen(t, row)
	}
}

// histogramWidth is the length of the longest bar.
const histogramWidth = 40

func showHistogram(t *term.Terminal, what string, l datasets.Lengths) {
	most := int64(1)
	for _, bin := range l.Histogram {
		most = max(most, bin.Rows)
	}
	tab := term.Table{Header: []string{"TOKENS OF THE " + strings.ToUpper(what), "ROWS", ""}, Right: []int{0, 1}}
	for _, bin := range l.Histogram {
		span := fmt.Sprintf("%d–%d", bin.From, bin.To)
		if bin.From == bin.To {
			span = fmt.Sprint(bin.From)
		}
		bar := int((bin.Rows*histogramWidth + most - 1) / most)
		tab.Add(span, fmt.Sprint(bin.Rows), strings.Repeat("#", bar))
	}
	t.Println()
	t.Table(tab)
}

// showSeen writes one row as the model sees it.
func showSeen(t *term.Terminal, row datasets.Seen) {
	t.Printf("\nrow %d, %s (%s)\n", row.Row, row.ID, row.Objective)
	for _, part := range []struct {
		name string
		text datasets.SeenText
	}{{"input", row.Input}, {"target", row.Target}} {
		t.Printf("  %-7s %q\n  ids     %s\n  decoded %q\n", part.name, part.text.Text, strings.Trim(fmt.Sprint(part.text.IDs), "[]"), part.text.Decoded)
		if part.text.Cut != "" {
			t.Printf("  cut off %q\n", part.text.Cut)
		}
		if part.text.Unknown > 0 {
			t.Printf("  unknown %d tokens\n", part.text.Unknown)
		}
	}
	if len(row.References) > 0 {
		t.Printf("  also right: %q\n", row.References)
	}
}
