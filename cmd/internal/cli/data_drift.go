package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/eval/drift"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/model"
)

// dataDriftOptions is what the command line of data drift says, not yet checked.
type dataDriftOptions struct {
	files          []string
	model, adapter string
	reference      []string
	baseline, save string
	season, date   string
	column         string
	limit          int
	output, prom   string
	recipe, job    string
	force          bool
	drift.Options
}

func (o *dataDriftOptions) bind(flags *pflag.FlagSet) {
	d := drift.Options{}.WithDefaults()
	flags.StringVarP(&o.model, "model", "m", "", "`model` whose encoder looks at the inputs: a folder, a run, name@vN or name@channel")
	flags.StringVar(&o.adapter, "adapter", "", "`adapter` on top of it: a PEFT folder or a run")
	flags.StringArrayVar(&o.reference, "reference", nil, "`file` of inputs that the model was made for (repeatable)")
	flags.StringVar(&o.baseline, "baseline", "", "`file` that --save-baseline wrote, or a folder of such files or a version (name@vN, name@channel) that was pushed with some, of which the day's is taken")
	flags.StringVar(&o.save, "save-baseline", "", "`file` to keep the reference in; it holds no texts")
	flags.StringVar(&o.season, "season", "", "days for which the baseline is kept, as `MM-DD:MM-DD` (default: the whole year)")
	flags.StringVar(&o.date, "date", "", "`YYYY-MM-DD` of the inputs, for the choice of the baseline (default: today)")
	flags.StringVar(&o.column, "input-column", "input", "`name` of the column with the inputs")
	flags.IntVar(&o.limit, "limit", 500, "compare a sample of `n` rows, and twice as many of the reference")
	flags.IntVar(&o.Permutations, "permutations", d.Permutations, "`number` of random divisions behind the p-value, at least 500")
	flags.Float64Var(&o.Alpha, "alpha", d.Alpha, "`p-value` below which a distance counts")
	flags.Uint64Var(&o.Seed, "seed", 0, "`seed` of samples and divisions")
	flags.StringVarP(&o.output, "output", "o", "", "`file` for the report as JSON")
	flags.StringVar(&o.prom, "prometheus", "", "`file` for the figures as Prometheus text")
	flags.StringVar(&o.recipe, "recipe", "", "where inputs have drifted, write a job that trains --model on with this `recipe`")
	flags.StringVar(&o.job, "job", "retrain.sh", "`file` for that job, a shell script")
	flags.BoolVar(&o.force, "force", false, "replace the baseline that --save-baseline names")
}

func newDataDriftCommand(app *App) *cobra.Command {
	var opts dataDriftOptions
	cmd := &cobra.Command{
		Use:   "drift [file …] --model <model>",
		Short: "Test whether inputs still look like those of a reference",
		Long: "Compare inputs with a reference by the model's own encodings (maximum mean discrepancy with\n" +
			"a permutation test, Fréchet distance, nearest neighbours) and by lengths and unknown\n" +
			"tokens. Thresholds are how far random halves of the reference lie from each other. A\n" +
			"baseline is for one encoder: another is refused. Exit code 3 where inputs have drifted; with\n" +
			"--recipe, a job that trains on from what serves has been written by then.",
		Example: "  t5ctl data drift --model name@production --reference train.jsonl --save-baseline drift.json\n" +
			"  t5ctl push runs/mine name --report drift.json\n" +
			"  t5ctl data drift today.jsonl --model name@production --baseline name@production --prometheus drift.prom",
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.files = args
			return runDataDrift(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

// driftError says that inputs have drifted.
type driftError struct{ results []drift.Result }

func (e *driftError) Error() string {
	var parts []string
	for _, r := range e.results {
		parts = append(parts, fmt.Sprintf("%s %.4g is beyond %.4g", r.Name, r.Value, r.Fail))
	}
	return "inputs have drifted: " + strings.Join(parts, ", ")
}

func (o *dataDriftOptions) check() (season *drift.Season, day time.Time, err error) {
	if err := missing(map[string]bool{"model": o.model != ""}, "model"); err != nil {
		return nil, day, err
	}
	switch {
	case (o.baseline != "") == (len(o.reference) > 0):
		return nil, day, usageError{errors.New("give --reference or --baseline, one of them")}
	case len(o.files) == 0 && o.save == "":
		return nil, day, usageError{errors.New("there is nothing to compare: give files, or --save-baseline")}
	case o.save != "" && o.baseline != "":
		return nil, day, usageError{errors.New("--save-baseline keeps a --reference; there is a baseline already")}
	case o.limit < 20 || o.limit > 5000:
		return nil, day, usageErrorf("--limit %d is not between 20 and 5000", o.limit)
	case o.Permutations < 500:
		return nil, day, usageErrorf("--permutations %d: fewer than 500 cannot show a small p-value", o.Permutations)
	case !(o.Alpha > 0 && o.Alpha < 1):
		return nil, day, usageErrorf("--alpha %g is not between 0 and 1", o.Alpha)
	}
	day = time.Now()
	if o.date != "" {
		if day, err = time.Parse(time.DateOnly, o.date); err != nil {
			return nil, day, usageErrorf("--date %q is not YYYY-MM-DD", o.date)
		}
	}
	if o.season != "" {
		if season, err = drift.ParseSeason(o.season); err != nil {
			return nil, day, usageError{err}
		}
	}
	if err := mayWrite(o.force || o.save == "", o.save); err != nil {
		return nil, day, err
	}
	if o.recipe != "" && !strings.Contains(o.model, "@") {
		return nil, day, usageErrorf("--recipe trains on a version of the registry: give --model as name@production, not %s", o.model)
	}
	return season, day, nil
}

func runDataDrift(ctx context.Context, app *App, opts dataDriftOptions) error {
	season, day, err := opts.check()
	if err != nil {
		return err
	}
	resolved, err := app.withAdapter(ctx, opts.model, opts.adapter)
	if err != nil {
		return err
	}
	name := opts.model
	if resolved.Name != "" {
		name = resolved.Name
	}
	var reference drift.Sample
	var baseline string
	if opts.baseline != "" { // before the model is opened, which takes longer
		files, err := app.baselineFiles(ctx, opts.baseline)
		if err != nil {
			return err
		}
		if baseline, reference, err = chooseBaseline(opts.baseline, files, resolved.Tree, day); err != nil {
			return err
		}
	}
	m, closeModel, err := app.openModel(ctx, opts.model, opts.adapter)
	if err != nil {
		return err
	}
	defer closeModel()
	if opts.baseline == "" {
		print := datasets.NewFingerprinter()
		if reference, err = opts.embed(ctx, app, m, opts.reference, 2*opts.limit, print); err != nil {
			return err
		}
		if opts.save != "" {
			b := reference.Keep()
			b.Model, b.Encoder, b.Data, b.Made, b.Season = name, resolved.Tree, print.Sum(), time.Now().UTC().Truncate(time.Second), season
			if err := atomicfile.Write(opts.save, b.Encode); err != nil {
				return err
			}
			app.Term.Notef("baseline: %s, %d rows", opts.save, reference.Size())
		}
	}
	if len(opts.files) == 0 {
		return app.show(map[string]any{"baseline": opts.save, "rows": reference.Size()}, func(*term.Terminal) {})
	}
	current, err := opts.embed(ctx, app, m, opts.files, opts.limit, datasets.NewFingerprinter())
	if err != nil {
		return err
	}
	report, err := drift.Compare(reference, current, opts.Options)
	if err != nil {
		return err
	}
	report.Model, report.Encoder, report.Baseline = name, resolved.Tree, baseline
	if opts.recipe != "" && report.Drifted {
		if err := opts.writeJob(app, resolved.Name, report, day); err != nil {
			return err
		}
	}
	return opts.finish(app, report)
}

// writeJob writes the job that trains on from what serves: fine-tuning, an evaluation where the
// recipe has test data, and the push of a version that nothing serves yet.
func (o *dataDriftOptions) writeJob(app *App, version string, report drift.Report, day time.Time) error {
	recipe, err := app.loadRecipe(o.recipe, nil)
	if err != nil {
		return err
	}
	var why []string
	for _, r := range report.Results {
		if r.Judged && r.State == drift.Fail {
			why = append(why, fmt.Sprintf("%s %.4g beyond %.4g", r.Name, r.Value, r.Fail))
		}
	}
	name, _, _ := strings.Cut(o.model, "@")
	reason := fmt.Sprintf("inputs of %s drifted on %s: %s", version, day.Format(time.DateOnly), strings.Join(why, ", "))
	quoted := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	var b strings.Builder
	fmt.Fprintf(&b, "#!/bin/sh\n# Written by t5ctl data drift: %s.\n", reason)
	fmt.Fprintf(&b, "# Arguments go to finetune: --set data.train=new.jsonl. The run is kept in $RUN.\nset -eu\nRUN=${RUN:-%s}\n",
		quoted(fmt.Sprintf("runs/%s-%s", recipe.Name, day.Format(time.DateOnly))))
	fmt.Fprintf(&b, "t5ctl finetune %s --warm-from %s --output \"$RUN\" \"$@\"\n", quoted(o.recipe), quoted(o.model))
	if len(recipe.Data.Test) > 0 {
		fmt.Fprintf(&b, "t5ctl eval run %s --model \"$RUN\" --name test --output \"$RUN/reports\"\n", quoted(o.recipe))
		fmt.Fprintf(&b, "[ -z \"${GATES:-}\" ] || t5ctl eval gate --report \"$RUN/reports/test.json\" --gates \"$GATES\" --output \"$RUN/reports/gate.json\"\n")
	}
	fmt.Fprintf(&b, "t5ctl push \"$RUN\" %s --reason %s\n", quoted(name), quoted(reason))
	err = atomicfile.Write(o.job, func(w io.Writer) error {
		_, err := io.WriteString(w, b.String())
		return err
	})
	if err == nil {
		err = os.Chmod(o.job, 0o755)
	}
	if err == nil {
		app.Term.Notef("job: %s", o.job)
	}
	return err
}

// finish writes, shows and judges.
func (o *dataDriftOptions) finish(app *App, report drift.Report) error {
	if o.prom != "" {
		if err := atomicfile.Write(o.prom, report.WritePrometheus); err != nil {
			return err
		}
	}
	if o.output != "" {
		if err := atomicfile.Write(o.output, func(w io.Writer) error { return encodeIndented(w, report) }); err != nil {
			return err
		}
	}
	err := app.show(report, func(t *term.Terminal) {
		tab := term.Table{Header: []string{"figure", "value", "95 % below", "99 % below", "p", ""}, Right: []int{1, 2, 3, 4}}
		for _, r := range report.Results {
			p := ""
			if r.P != nil {
				p = fmt.Sprintf("%.3g", *r.P)
			}
			tab.Add(r.Name, fmt.Sprintf("%.4g", r.Value), fmt.Sprintf("%.4g", r.Warn), fmt.Sprintf("%.4g", r.Fail), p, r.State)
		}
		t.Table(tab)
		t.Printf("%d rows against %d of the reference\n", report.Current, report.Reference)
	})
	if err != nil || !report.Drifted {
		return err
	}
	failed := &driftError{}
	for _, r := range report.Results {
		if r.Judged && r.State == drift.Fail {
			failed.results = append(failed.results, r)
		}
	}
	return failed
}

// namedFile is the content of a file, wherever it lies.
type namedFile struct {
	name string
	data []byte
}

// baselineFiles are the baselines in a file or a folder, or those that are kept with a version in the
// registry.
func (a *App) baselineFiles(ctx context.Context, path string) ([]namedFile, error) {
	info, err := os.Stat(path)
	if err != nil && strings.Contains(path, "@") {
		return a.keptBaselines(ctx, path)
	}
	if err != nil {
		return nil, err
	}
	files := []string{path}
	if info.IsDir() {
		if files, err = filepath.Glob(filepath.Join(globEscape(path), "*.json")); err != nil {
			return nil, err
		}
	}
	var out []namedFile
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		out = append(out, namedFile{file, data})
	}
	return out, nil
}

// keptBaselines are those among the evidence of a version.
func (a *App) keptBaselines(ctx context.Context, ref string) ([]namedFile, error) {
	files, err := a.evidence(ctx, ref)
	if err != nil {
		return nil, err
	}
	var out []namedFile
	for _, f := range files {
		if drift.IsBaseline(f.Data) {
			out = append(out, namedFile{ref + "/" + f.Name, f.Data})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no drift baseline is kept with %s: %w", ref, fs.ErrNotExist)
	}
	return out, nil
}

// chooseBaseline takes the baseline for a day: one whose season holds it before one of the whole year,
// and of these the newest that was made by then. A single file is taken whatever its season.
func chooseBaseline(path string, files []namedFile, encoder string, day time.Time) (string, drift.Sample, error) {
	var name string
	var chosen drift.Baseline
	var sample drift.Sample
	for _, file := range files {
		b, s, err := drift.ParseBaseline(file.name, file.data)
		if err != nil {
			return "", sample, err
		}
		if len(files) > 1 && b.Season != nil && !b.Season.Holds(day) {
			continue
		}
		if b.Encoder != encoder {
			return "", sample, &drift.BaselineError{Path: file.name, Reason: fmt.Sprintf("is for the encoder %.19s of %s, not %.19s: figures of two encoders cannot be compared", b.Encoder, b.Model, encoder)}
		}
		if name == "" || b.Before(chosen, day) {
			name, chosen, sample = file.name, b, s
		}
	}
	if name == "" {
		return "", sample, &drift.BaselineError{Path: path, Reason: "holds no baseline for " + day.Format(time.DateOnly)}
	}
	return name, sample, nil
}

// embed reads a sample of inputs and encodes them.
func (o *dataDriftOptions) embed(ctx context.Context, app *App, m *model.Model, paths []string, limit int, print *datasets.Fingerprinter) (drift.Sample, error) {
	s := drift.Sample{Scalars: map[string][]float64{}}
	if err := app.fetchData(ctx, paths); err != nil {
		return s, err
	}
	files, err := datasets.Paths(paths).Files()
	if err != nil {
		return s, err
	}
	var texts []string
	rows := datasets.ReadFiles(files, datasets.ReadOptions{Columns: datasets.Columns{Input: o.column}, Need: datasets.Inputs})
	for e, err := range datasets.Sample(rows, limit, sampleSeed+o.Seed) {
		if err != nil {
			return s, err
		}
		print.Add(e)
		texts = append(texts, m.Prefix+e.Input)
		ids := m.Tokenizer.Sequence(e.Input)
		unknown := 0
		for _, id := range ids {
			if id == m.Tokenizer.UnkID() {
				unknown++
			}
		}
		for name, v := range map[string]float64{"characters": float64(utf8.RuneCountInString(e.Input)), "tokens": float64(len(ids)), "unknown_share": float64(unknown) / float64(len(ids))} {
			s.Scalars[name] = append(s.Scalars[name], v)
		}
	}
	progress := app.Term.Progress("encoding", int64(len(texts)), "rows")
	defer progress.Done()
	for len(s.Embeddings) < len(texts) {
		chunk := texts[len(s.Embeddings):min(len(s.Embeddings)+256, len(texts))]
		found, err := m.Embed(ctx, chunk)
		if err != nil {
			return s, err
		}
		for _, row := range found {
			wide := make([]float64, len(row))
			for k, v := range row {
				wide[k] = float64(v)
			}
			s.Embeddings = append(s.Embeddings, wide)
		}
		progress.Set(int64(len(s.Embeddings)))
	}
	return s, nil
}
