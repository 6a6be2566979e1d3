package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/exposure"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/model"
	"github.com/t5ctl/t5ctl/internal/runfolder"
)

// exposureMembershipOptions is what the command line of exposure membership says, not yet checked.
type exposureMembershipOptions struct {
	model, adapter, reference string
	members, nonmembers       []string
	columns                   datasets.Columns
	prefix                    string
	prefixed                  bool // prefix is settled
	limit                     int
	shadows                   int
	recipe, shadowDir         string
	sets                      []string
	plot                      string
	report                    reportOptions
	given                     func(flag string) bool
}

// noReference is the word for a test without a reference model.
const noReference = "none"

func (o *exposureMembershipOptions) bind(flags *pflag.FlagSet) {
	flags.StringVarP(&o.model, "model", "m", "", "`model`: a folder, a run, name@vN or name@channel")
	flags.StringVar(&o.adapter, "adapter", "", "`adapter` on top of it: a PEFT folder or a run")
	flags.StringVar(&o.reference, "reference", "", "`model` that saw neither; default: the base below the adapter; none for none")
	flags.StringArrayVar(&o.members, "members", nil, "`file` of rows that the model was trained on (repeatable)")
	flags.StringArrayVar(&o.nonmembers, "nonmembers", nil, "`file` of rows of the same kind that it never saw (repeatable)")
	flags.StringVar(&o.columns.Input, "input-column", "", "`name` of the column with the input")
	flags.StringVar(&o.columns.Target, "target-column", "", "`name` of the column with the target")
	flags.StringVar(&o.prefix, "prefix", "", "`text` before every input (default: the one that the model was trained with)")
	flags.IntVar(&o.limit, "limit", 2000, "test a sample of `n` members and as many others; 0 tests all")
	flags.IntVar(&o.shadows, "shadows", 0, "train `n` shadow models, each on a random half of all rows, for LiRA")
	flags.StringVar(&o.recipe, "shadow-recipe", "", "`recipe` that shadow models are trained by; their data takes the place of its own")
	flags.StringVar(&o.shadowDir, "shadow-dir", "", "`folder` for the shadow models; what is done there is not done again")
	flags.StringArrayVar(&o.sets, "set", nil, "change a key of the shadows' recipe, as in train.steps=200 (repeatable)")
	flags.StringVar(&o.plot, "plot", "", "`file` for the attacks' curves as PNG, on log axes")
	o.report.bind(flags, "membership")
	o.given = flags.Changed
}

func newExposureMembershipCommand(app *App) *cobra.Command {
	var opts exposureMembershipOptions
	cmd := &cobra.Command{
		Use:   "membership --model <model> --members FILE --nonmembers FILE",
		Short: "Test whether a model gives away what it was trained on",
		Long: "Score rows that the model was trained on and others, and see how well the scores tell them\n" +
			"apart: loss, ratio to a reference model, Min-K%, Min-K%++, zlib, and with --shadows the\n" +
			"likelihood-ratio attack LiRA. Members and others must be a random split of one data set;\n" +
			"where the reference model can tell them apart too, the test is void.",
		Example: "  t5ctl exposure membership --model runs/summarizer-1 --members train.jsonl --nonmembers test.jsonl\n" +
			"  t5ctl exposure membership --model runs/mine --members train.jsonl --nonmembers test.jsonl \\\n" +
			"    --shadows 16 --shadow-recipe recipe.yaml --shadow-dir shadows --output runs/mine/reports",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := app.fetchData(cmd.Context(), opts.members, opts.nonmembers); err != nil {
				return err
			}
			return runExposureMembership(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

func (o *exposureMembershipOptions) check() error {
	if err := missing(map[string]bool{"model": o.model != "", "members": len(o.members) > 0, "nonmembers": len(o.nonmembers) > 0}, "model", "members", "nonmembers"); err != nil {
		return err
	}
	switch {
	case o.limit < 0 || o.shadows < 0:
		return usageErrorf("--limit %d and --shadows %d must not be negative", o.limit, o.shadows)
	case o.shadows > 0 && (o.recipe == "" || o.shadowDir == ""):
		return usageError{errors.New("--shadows needs --shadow-recipe and --shadow-dir")}
	case o.shadows > 0 && o.shadows < 4:
		return &exposure.TooFewError{What: "shadow models", Have: o.shadows, Need: 4}
	}
	return nil
}

// sides reads the rows that are tested.
func (o *exposureMembershipOptions) sides() (members, nonmembers []exposure.Row, fingerprint string, err error) {
	print := datasets.NewFingerprinter()
	if members, err = exposureRows(o.members, o.columns, o.limit, print); err != nil {
		return nil, nil, "", err
	}
	nonmembers, err = exposureRows(o.nonmembers, o.columns, o.limit, print)
	return members, nonmembers, print.Sum(), err
}

// exposureRows reads a sample of files, always the same.
func exposureRows(paths []string, columns datasets.Columns, limit int, print *datasets.Fingerprinter) ([]exposure.Row, error) {
	files, err := datasets.Paths(paths).Files()
	if err != nil {
		return nil, err
	}
	var rows []exposure.Row
	for e, err := range datasets.Sample(datasets.ReadFiles(files, datasets.ReadOptions{Columns: columns}), limit, sampleSeed) {
		if err != nil {
			return nil, err
		}
		print.Add(e)
		id := e.ID
		if id == "" {
			id = strconv.FormatInt(e.Row, 10)
		}
		rows = append(rows, exposure.Row{ID: id, Input: e.Input, Target: e.Target})
	}
	return rows, nil
}

func runExposureMembership(ctx context.Context, app *App, opts exposureMembershipOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	var test exposure.Membership
	var err error
	if test.Members, test.Nonmembers, test.Fingerprint, err = opts.sides(); err != nil {
		return err
	}
	resolved, err := app.withAdapter(ctx, opts.model, opts.adapter)
	if err != nil {
		return err
	}
	reference, err := opts.referenceOf(resolved)
	if err != nil {
		return err
	}
	if test.Target, err = opts.score(ctx, app, opts.model, opts.adapter, test, "scoring the model"); err != nil {
		return err
	}
	if reference != "" {
		sides, err := opts.score(ctx, app, reference, "", test, "scoring the reference")
		if err != nil {
			return err
		}
		test.Reference = &sides
	}
	if opts.shadows > 0 {
		s := &shadowModels{app: app, opts: opts, test: test}
		if test.Shadow, err = s.statistics(ctx); err != nil {
			return err
		}
		test.ShadowModels = opts.shadows
	}
	report, err := test.Report()
	if err != nil {
		return err
	}
	if err := opts.report.keep(&report, opts.model, opts.adapter, resolved); err != nil {
		return err
	}
	return showMembership(app, report, opts)
}

// referenceOf is the model to compare with: an adapter's base is free.
func (o *exposureMembershipOptions) referenceOf(m resolvedModel) (string, error) {
	switch {
	case o.reference == noReference:
		return "", nil
	case o.reference != "":
		return o.reference, nil
	case m.Adapter != "":
		return m.Dir, nil
	}
	if _, record, err := runfolder.Open(o.model); err == nil && record.Base != "" {
		return record.Base, nil
	}
	return "", hintedUsageError{usageErrorf("nothing says which base %s comes from, to compare with", o.model),
		"--reference names a model that saw neither side; --reference none compares the texts alone"}
}

// score opens a model and scores both sides.
func (o *exposureMembershipOptions) score(ctx context.Context, app *App, ref, adapter string, test exposure.Membership, title string) (exposure.Sides, error) {
	var sides exposure.Sides
	m, closeModel, err := app.openModel(ctx, ref, adapter)
	if err != nil {
		return sides, err
	}
	defer closeModel()
	if !o.given("prefix") && !o.prefixed {
		o.prefix = m.Prefix // of the model under test, which is scored first: all are asked alike
	}
	o.prefixed = true
	progress := app.Term.Progress(title, int64(len(test.Members)+len(test.Nonmembers)), "rows")
	defer progress.Done()
	done := func(rows int) { progress.Add(int64(rows)) }
	if sides.Members, err = exposure.ScoreRows(ctx, tokenScorer{m}, o.prefix, test.Members, done); err != nil {
		return sides, err
	}
	sides.Nonmembers, err = exposure.ScoreRows(ctx, tokenScorer{m}, o.prefix, test.Nonmembers, done)
	return sides, err
}

// tokenScorer makes a model an exposure.TokenScorer.
type tokenScorer struct{ *model.Model }

// ScoreTokens scores each target after its source.
func (s tokenScorer) ScoreTokens(ctx context.Context, sources, targets []string) ([]exposure.TokenScores, error) {
	scores, err := s.ScorePairs(ctx, sources, targets)
	if err != nil {
		return nil, err
	}
	wide := func(x []float32) []float64 {
		out := make([]float64, len(x))
		for i, v := range x {
			out[i] = float64(v)
		}
		return out
	}
	out := make([]exposure.TokenScores, len(scores))
	for i, p := range scores {
		out[i] = exposure.TokenScores{LogProbs: wide(p.LogProbs), Mean: wide(p.Mean), Variance: wide(p.Variance), Best: p.Best}
	}
	return out, nil
}

// reportOptions say where a report goes.
type reportOptions struct {
	output, name string
	force        bool
}

func (o *reportOptions) bind(flags *pflag.FlagSet, name string) {
	flags.StringVarP(&o.output, "output", "o", "", "`folder` for the report NAME.json")
	flags.StringVar(&o.name, "name", name, "`name` of the report")
	flags.BoolVar(&o.force, "force", false, "replace a report of the same name")
}

// keep says in the report which model it is about, and writes it where that is wanted.
func (o *reportOptions) keep(report *eval.Report, ref, adapter string, m resolvedModel) error {
	report.Name, report.Model, report.ModelHash = o.name, ref, m.Tree
	if adapter != "" {
		report.Model = adapter
	}
	if m.Name != "" {
		report.Model = m.Name
	}
	return keepReport(report, o.output, o.name, o.force)
}

// showMembership writes a line for each attack.
func showMembership(app *App, report eval.Report, o exposureMembershipOptions) error {
	var d exposure.MembershipDetails
	if err := json.Unmarshal(report.Details, &d); err != nil {
		return fmt.Errorf("showing the report: %w", err)
	}
	if o.plot != "" {
		if err := atomicfile.Write(o.plot, rocChart(d).PNG); err != nil {
			return err
		}
	}
	return app.show(report, func(t *term.Terminal) {
		tab := term.Table{Header: []string{"attack", "AUC", "95 %", "TPR@1%", "TPR@0.1%", "acc.", "ε ≥"}, Right: []int{1, 3, 4, 5, 6}}
		for _, a := range d.Attacks {
			at := func(o exposure.Operating) string {
				if !o.Resolvable {
					return "–"
				}
				return fmt.Sprintf("%.1f %%", 100*o.TPR)
			}
			name := a.Attack
			if name == d.Headline {
				name += " *"
			}
			tab.Add(name, fmt.Sprintf("%.3f", a.ROC.AUC), fmt.Sprintf("%.3f to %.3f", a.ROC.CI[0], a.ROC.CI[1]),
				at(a.ROC.At[1]), at(a.ROC.At[2]), fmt.Sprintf("%.1f %%", 100*a.ROC.Balanced), fmt.Sprintf("%.2f", a.Epsilon))
		}
		t.Table(tab)
		t.Printf("\n* the headline: what gates read as membership_auc\ncontrol, %s: AUC %.3f, %.3f to %.3f\n", d.Control.What, d.Control.AUC, d.Control.CI[0], d.Control.CI[1])
		if slices.ContainsFunc(report.Metrics, func(r eval.Result) bool { return r.Verdict == eval.VerdictUndefined }) {
			t.Println("–: too few non-members to tell")
		}
		o.report.told(t, report)
	})
}

// told ends what is shown of a report: what makes it void, and where it is.
func (o reportOptions) told(t *term.Terminal, report eval.Report) {
	for _, r := range report.Metrics {
		if r.Verdict == eval.VerdictVoid {
			t.Warnf("void: %s", r.Note)
			break
		}
	}
	if o.output != "" {
		t.Notef("report: %s/%s.json", o.output, o.name)
	}
}
