package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/exposure"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/internal/runfolder"
	"github.com/t5ctl/t5ctl/recipes"
)

// exposureRunOptions is what the command line of exposure run says, not yet checked.
type exposureRunOptions struct {
	manifest, model, adapter, output, name string
	prefix                                 string
	references                             int
	repetitions                            []int
	extrapolate, force                     bool
	maxInput, maxTarget                    int
	plot                                   string
	given                                  func(flag string) bool
}

func (o *exposureRunOptions) bind(flags *pflag.FlagSet) {
	flags.StringVarP(&o.model, "model", "m", "", "`model`: a folder, a run, name@vN or name@channel")
	flags.StringVar(&o.adapter, "adapter", "", "`adapter` on top of it: a PEFT folder or a run")
	flags.StringVarP(&o.output, "output", "o", "", "`folder` for the report NAME.json")
	flags.StringVar(&o.name, "name", "exposure", "`name` of the report")
	flags.StringVar(&o.prefix, "prefix", "", "`text` before every input (default: the one that the model was trained with)")
	flags.IntVar(&o.references, "references", 0, "`number` of alternatives; 0 is the manifest's")
	flags.IntSliceVar(&o.repetitions, "repetitions", nil, "test only canaries planted so `often`; the control always")
	flags.BoolVar(&o.extrapolate, "extrapolate", false, "estimate exposures beyond the number of alternatives")
	flags.IntVar(&o.maxInput, "max-input", 0, "`tokens` at which training cut inputs (default: what the run's recipe says)")
	flags.IntVar(&o.maxTarget, "max-target", 0, "`tokens` at which training cut targets (default: what the run's recipe says)")
	flags.StringVar(&o.plot, "plot", "", "`file` for exposure against repetitions as PNG")
	flags.BoolVar(&o.force, "force", false, "replace a report of the same name")
	o.given = flags.Changed
}

func newExposureRunCommand(app *App) *cobra.Command {
	var opts exposureRunOptions
	cmd := &cobra.Command{
		Use:   "run DATA|MANIFEST --model <model>",
		Short: "Measure how far a model memorized planted canaries",
		Long: "DATA is what exposure plant wrote, MANIFEST the record beside it. The report has the form of\n" +
			"an evaluation's, so gates read it. A capped exposure is shown as ≥: more alternatives or\n" +
			"--extrapolate tell how far above it lies.",
		Example: "  t5ctl exposure run planted.jsonl --model runs/g2p-1 --output runs/g2p-1/reports",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.manifest = args[0]
			return runExposureRun(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

// request reads the manifest.
func (o *exposureRunOptions) request() (exposure.Manifest, error) {
	if err := missing(map[string]bool{"model": o.model != ""}, "model"); err != nil {
		return exposure.Manifest{}, err
	}
	if o.references < 0 {
		return exposure.Manifest{}, usageErrorf("--references %d is negative", o.references)
	}
	return readManifest(o.manifest)
}

// readManifest reads the record of canaries, itself or beside the data that is named, and makes sure
// that it belongs to the data, if that is there.
func readManifest(name string) (exposure.Manifest, error) {
	var m exposure.Manifest
	path := name
	if !strings.HasSuffix(path, exposure.ManifestSuffix) {
		path = datasets.CanaryPath(path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return m, err
	}
	if m, err = exposure.ParseManifest(path, data); err != nil {
		return m, err
	}
	beside := filepath.Join(filepath.Dir(path), filepath.Base(m.Data.Path))
	if path != name {
		beside = name
	}
	if _, err := os.Stat(beside); err != nil && path == name {
		return m, nil // the manifest alone is enough
	}
	sum, _, err := digest.File(beside)
	if err == nil && sum != m.Data.SHA256 {
		err = &exposure.ManifestError{Path: path, Reason: "is about data with another digest than " + beside}
	}
	return m, err
}

func runExposureRun(ctx context.Context, app *App, opts exposureRunOptions) error {
	manifest, err := opts.request()
	if err != nil {
		return err
	}
	ref := opts.model
	if opts.adapter != "" {
		ref = opts.adapter
	}
	resolved, err := resolveModel(ctx, app, ref)
	if err != nil {
		return err
	}
	m, closeModel, err := app.openModel(ctx, opts.model, opts.adapter)
	if err != nil {
		return err
	}
	defer closeModel()
	prefix := m.Prefix
	if opts.given("prefix") {
		prefix = opts.prefix
	}
	opts.lengths(ref)
	progress := app.Term.Progress("testing canaries", int64(len(manifest.Canaries)), "canaries")
	defer progress.Done()
	report, err := exposure.Run(ctx, m, manifest, exposure.Options{
		References: opts.references, Repetitions: opts.repetitions, Prefix: prefix, Extrapolate: opts.extrapolate,
		MaxInput: opts.maxInput, MaxTarget: opts.maxTarget,
		TokenCount: func(text string) int { return len(m.Tokenizer.Sequence(text)) },
		Done:       func(done, _ int) { progress.Set(int64(done)) },
	})
	if err != nil {
		return err
	}
	report.Name, report.Model, report.ModelHash = opts.name, ref, resolved.Tree
	if resolved.Name != "" {
		report.Model = resolved.Name
	}
	if err := keepReport(&report, opts.output, opts.name, opts.force); err != nil {
		return err
	}
	return showExposure(app, report, opts)
}

// lengths fills in where training cut texts, if the model is a run that says so.
func (o *exposureRunOptions) lengths(ref string) {
	dir, _, err := runfolder.Open(ref)
	if err != nil {
		return
	}
	loaded, err := recipes.Load(dir.Path(runfolder.SettledFile), nil)
	if err != nil {
		return // of another version; the flags say it then
	}
	data := loaded.Data.WithDefaults()
	if !o.given("max-input") {
		o.maxInput = data.MaxInput
	}
	if !o.given("max-target") {
		o.maxTarget = data.MaxTarget
	}
}

// keepReport writes a report that has no rows into a folder; an empty one is none.
func keepReport(report *eval.Report, output, name string, force bool) error {
	if output == "" {
		return nil
	}
	files, err := newEvaluationFiles(output, name, force)
	if err != nil {
		return err
	}
	defer files.close()
	return files.finish(report)
}

func showExposure(app *App, report eval.Report, opts exposureRunOptions) error {
	var d exposure.Details
	if err := json.Unmarshal(report.Details, &d); err != nil {
		return fmt.Errorf("showing the report: %w", err)
	}
	if opts.plot != "" {
		if err := atomicfile.Write(opts.plot, doseChart(report, d).PNG); err != nil {
			return err
		}
	}
	return app.show(report, func(t *term.Terminal) {
		tab := term.Table{Header: []string{"canary", "repetitions", "bits", "rank", "exposure", "interval"}, Right: []int{1, 2, 3, 4}}
		for _, f := range d.Canaries {
			tab.Add(f.ID, strconv.Itoa(f.Repetitions), fmt.Sprintf("%.1f", f.Bits), strconv.Itoa(f.Rank), f.Shown, f.CI[0].Format()+" to "+f.CI[1].Format())
		}
		t.Table(tab)
		t.Println()
		t.Table(resultsTable(report.Metrics))
		for i, c := range d.Cut {
			if i == 5 {
				t.Warnf("%d more canaries were cut", len(d.Cut)-i)
				break
			}
			t.Warnf("not scored: %s %s", c.ID, c.Reason)
		}
		for _, r := range report.Metrics {
			if r.Verdict == eval.VerdictVoid {
				t.Warnf("void: %s", r.Note)
				break
			}
		}
		if opts.output != "" {
			t.Notef("report: %s", filepath.Join(opts.output, opts.name+".json"))
		}
	})
}
