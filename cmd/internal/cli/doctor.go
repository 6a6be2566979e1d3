package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/settings"
	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/machine"
	"github.com/t5ctl/t5ctl/internal/plugin"
	"github.com/t5ctl/t5ctl/internal/strictyaml"
)

// verdict is what a check comes to.
type verdict string

const (
	verdictOK   verdict = "ok"
	verdictNote verdict = "note" // worth knowing
	verdictBad  verdict = "bad"  // stands in the way
)

// finding is one thing that doctor looked at.
type finding struct {
	Check   string  `json:"check"`
	Verdict verdict `json:"verdict"`
	Found   string  `json:"found"`
	Fix     string  `json:"fix,omitempty"` // the line that mends it
	Layers  []layer `json:"layers,omitempty"`
}

// mending is a setting of the recipe that may be changed without asking: it can cost nothing but what it mends.
type mending struct {
	Key   string `json:"key"`
	Value string `json:"value"` // as YAML
}

// examination collects findings.
type examination struct {
	Findings []finding `json:"findings"`
	Bad      int       `json:"bad"`
	Mended   []mending `json:"mended,omitempty"` // what --fix has changed before these findings
	safe     []mending // what --fix may change
	longest  int       // tokens of the longest target, where outputs would be shorter
}

// mend says that --fix may change a setting of the recipe.
func (x *examination) mend(key, value string) {
	if !slices.ContainsFunc(x.safe, func(m mending) bool { return m.Key == key }) {
		x.safe = append(x.safe, mending{key, value})
	}
}

func (x *examination) add(v verdict, check, fix, format string, args ...any) {
	if v == verdictBad {
		x.Bad++
	}
	if v == verdictOK {
		fix = ""
	}
	x.Findings = append(x.Findings, finding{Check: check, Verdict: v, Found: fmt.Sprintf(format, args...), Fix: fix})
}

// doctorError says that something stands in the way.
type doctorError struct{ bad int }

func (e *doctorError) Error() string {
	if e.bad == 1 {
		return "one check did not pass"
	}
	return fmt.Sprintf("%d checks did not pass", e.bad)
}

// doctorRules maps the failures of doctor to exit codes.
func doctorRules() []rule {
	return []rule{as(exitGate, saying[*doctorError]("each finding stands with the line that fixes it"))}
}

// doctorOptions is what the command line of doctor says, not yet checked.
type doctorOptions struct {
	recipe, model string
	data, sets    []string
	fix           bool
}

func (o *doctorOptions) check() error {
	switch {
	case o.recipe != "" && (o.model != "" || len(o.data) > 0):
		return usageErrorf("--recipe names its model and data itself; --set base=… and --set data.train=… change them")
	case len(o.data) > 0 && o.model == "":
		return usageErrorf("--data needs --model: which tokenizer counts, and how long outputs may be")
	case o.recipe == "" && o.model == "" && len(o.sets) > 0:
		return usageErrorf("--set needs --recipe or --model")
	case o.fix && o.recipe == "":
		return usageErrorf("--fix changes a recipe file, which --recipe names")
	case o.fix && len(o.sets) > 0:
		return usageErrorf("--fix changes the file, --set only what is looked at; give one of them")
	}
	if info, err := os.Stat(o.recipe); o.fix && (err != nil || !info.Mode().IsRegular()) {
		return hintedUsageError{usageErrorf("--fix: %s is no file", o.recipe), "t5ctl recipe copy writes a preset into a file"}
	}
	return nil
}

func newDoctorCommand(app *App) *cobra.Command {
	var opts doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what stands in the way: machine, backend, recipe, model, data",
		Long: "Look at the machine and the compute backend, and with --recipe, or with --model and --data, at the recipe, the model and the data for " +
			"the known traps of T5: outputs cut short, rows cut short, a prefix that is missing or doubled, words the " +
			"vocabulary lacks, test rows in the training data, layers that would overflow in fp16. Each finding stands with the line that fixes it; --fix " +
			"writes into the recipe what can be mended without a loss: an output length below that of the targets, and a prefix that stands " +
			"in every row already. Exit code 3 means that something stands in the way.",
		Example: "  t5ctl doctor\n  t5ctl doctor --recipe recipe.yaml --fix\n  t5ctl doctor --model runs/mine-1 --data train.jsonl",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDoctor(cmd.Context(), app, opts)
		},
	}
	cmd.Flags().StringVar(&opts.recipe, "recipe", "", "`recipe` to look at as well: a file or a preset")
	cmd.Flags().StringVarP(&opts.model, "model", "m", "", "`model` to look at as well, where there is no recipe")
	cmd.Flags().StringSliceVar(&opts.data, "data", nil, "`file` to look at with that model's eyes; repeatable")
	cmd.Flags().BoolVar(&opts.fix, "fix", false, "change in the recipe file what can be mended without a loss, and look again")
	bindSet(cmd.Flags(), &opts.sets)
	return cmd
}

func runDoctor(ctx context.Context, app *App, opts doctorOptions) (err error) {
	if err := opts.check(); err != nil {
		return err
	}
	if opts.model != "" {
		scratch, err := os.MkdirTemp("", "t5ctl-doctor-")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
		resolved, err := resolveModel(ctx, app, opts.model)
		if err != nil {
			return err
		}
		if opts.recipe, err = opts.adHoc(scratch, resolved.Dir); err != nil {
			return err
		}
	}
	x, err := examine(ctx, app, opts)
	if err != nil {
		return err
	}
	if opts.fix && len(x.safe) > 0 {
		mended := x.safe
		if err := app.mendRecipe(opts.recipe, mended); err != nil {
			return err
		}
		if x, err = examine(ctx, app, opts); err != nil {
			return err
		}
		x.Mended = mended
	}
	if err := app.show(x, x.print); err != nil {
		return err
	}
	if x.Bad > 0 {
		return &doctorError{x.Bad}
	}
	return nil
}

func examine(ctx context.Context, app *App, opts doctorOptions) (*examination, error) {
	x := &examination{Findings: []finding{}}
	x.machine()
	x.backend(app.Settings.Backend)
	x.places(app.Settings)
	x.offline()
	if opts.recipe == "" {
		return x, nil
	}
	return x, x.recipe(ctx, app, opts.recipe, opts.sets)
}

// mendRecipe changes settings in a recipe file, which stays as it was where it would not load afterwards.
func (a *App) mendRecipe(path string, changes []mending) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text := old
	for _, m := range changes {
		if text, err = strictyaml.Edit(path, text, m.Key, m.Value); err != nil {
			return err
		}
	}
	if err := atomicfile.WriteBytes(path, text); err != nil {
		return err
	}
	if _, err := a.loadRecipe(path, nil); err != nil {
		return errors.Join(fmt.Errorf("%s was left as it is: with %v: %w", path, changes, err), atomicfile.WriteBytes(path, old))
	}
	return nil
}

func (x *examination) machine() {
	x.add(verdictOK, "processor", "", "%s/%s, %d threads", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	const little = 2 << 30
	switch total, free := machine.Memory(), machine.FreeMemory(); {
	case total == 0:
		x.add(verdictNote, "memory", "", "the system does not say")
	case free < little:
		x.add(verdictNote, "memory", "close other programs, or train with a smaller train.batch", "%s free of %s", term.Size(free), term.Size(total))
	default:
		x.add(verdictOK, "memory", "", "%s free of %s", term.Size(free), term.Size(total))
	}
}

// backend opens what the settings name, as a run would.
func (x *examination) backend(name string) {
	b, err := device.Open(name)
	if err != nil {
		_, hint := explain(err)
		x.add(verdictBad, "backend", hint, "%v", err)
		return
	}
	defer b.Finalize()
	if b.Fallback != "" {
		x.add(verdictNote, "backend", "t5ctl backend install cpu", "pure Go, which is several times slower than XLA: %s", b.Fallback)
		x.speed(b)
		return
	}
	defer x.speed(b)
	version := ""
	if p, err := plugin.Find(b.Kind); err == nil && b.Plugin != "" {
		version = ", version " + p.Version
	}
	x.add(verdictOK, "backend", "", "%s%s, %d devices", b.Describe(), version, b.NumDevices())
}

// speed measures the backend in one number.
func (x *examination) speed(b *device.Backend) {
	speed, err := b.Speed()
	if err != nil {
		_, hint := explain(err)
		x.add(verdictBad, "speed", hint, "%v", err)
		return
	}
	x.add(verdictOK, "speed", "", "%.0f GFLOP/s in products of fp32 matrices", speed)
}

// places looks at the folders that are written to.
func (x *examination) places(s settings.Settings) {
	const little, none = 5 << 30, 200 << 20
	remote := strings.Contains(s.Registry, "://")
	places := []struct{ name, dir string }{{"disk here", "."}}
	if !remote {
		places = append(places, struct{ name, dir string }{"disk of the registry", existingParent(s.Registry)})
	}
	for _, place := range places {
		switch free := machine.FreeDisk(place.dir); {
		case free == 0:
			x.add(verdictNote, place.name, "", "the system does not say")
		case free < none:
			x.add(verdictBad, place.name, "free some space there", "%s free", term.Size(free))
		case free < little:
			x.add(verdictNote, place.name, "t5ctl registry gc, or remove checkpoints of old runs", "%s free", term.Size(free))
		default:
			x.add(verdictOK, place.name, "", "%s free", term.Size(free))
		}
	}
	if s.Config != "" {
		x.add(verdictOK, "configuration", "", "%s", s.Config)
	}
	if remote {
		return
	}
	if err := writable(existingParent(s.Registry)); err != nil {
		x.add(verdictBad, "registry", "give a folder that you may write to with --registry", "%v", err)
	} else {
		x.add(verdictOK, "registry", "", "%s", s.Registry)
	}
}

// existingParent is the folder itself, or the nearest one above it that is there.
func existingParent(dir string) string {
	for {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return dir
		}
		dir = up
	}
}

func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".t5ctl-doctor-")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

func (x *examination) print(t *term.Terminal) {
	tab := term.Table{Header: []string{"CHECK", "VERDICT", "FOUND"}}
	for _, f := range x.Findings {
		shown := string(f.Verdict)
		if f.Verdict == verdictBad {
			shown = t.Bad(shown)
		}
		tab.Add(f.Check, shown, f.Found)
	}
	t.Table(tab)
	var fixes []string
	for _, f := range x.Findings {
		if f.Fix != "" {
			fixes = append(fixes, fmt.Sprintf("  %s: %s", f.Check, f.Fix))
		}
	}
	for _, m := range x.Mended {
		t.Printf("\nmended in the recipe: %s: %s\n", m.Key, m.Value)
	}
	if len(fixes) > 0 {
		t.Printf("\nWhat helps:\n%s\n", strings.Join(fixes, "\n"))
	}
}
