package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/settings"
	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/machine"
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
}

// examination collects findings.
type examination struct {
	Findings []finding `json:"findings"`
	Bad      int       `json:"bad"`
}

func (x *examination) add(v verdict, check, fix, format string, args ...any) {
	if v == verdictBad {
		x.Bad++
	}
	if v == verdictOK {
		fix = ""
	}
	x.Findings = append(x.Findings, finding{check, v, fmt.Sprintf(format, args...), fix})
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

func newDoctorCommand(app *App) *cobra.Command {
	var recipe string
	var sets []string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what stands in the way: machine, backend, recipe, data",
		Long: "Look at the machine and the compute backend, and with --recipe at the recipe, its base and its data for " +
			"the known traps of T5: outputs cut short, rows cut short, a prefix that is missing or doubled, words the " +
			"vocabulary lacks, test rows in the training data. Each finding stands with the line that fixes it. Exit " +
			"code 3 means that something stands in the way.",
		Example: "  t5ctl doctor\n  t5ctl doctor --recipe recipe.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDoctor(cmd.Context(), app, recipe, sets)
		},
	}
	cmd.Flags().StringVar(&recipe, "recipe", "", "`recipe` to look at as well: a file or a preset")
	bindSet(cmd.Flags(), &sets)
	return cmd
}

func runDoctor(ctx context.Context, app *App, recipe string, sets []string) error {
	if recipe == "" && len(sets) > 0 {
		return usageErrorf("--set needs --recipe")
	}
	x := &examination{Findings: []finding{}}
	x.machine()
	x.backend(app.Settings.Backend)
	x.places(app.Settings)
	if recipe != "" {
		if err := x.recipe(ctx, app, recipe, sets); err != nil {
			return err
		}
	}
	if err := app.show(x, x.print); err != nil {
		return err
	}
	if x.Bad > 0 {
		return &doctorError{x.Bad}
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
		return
	}
	x.add(verdictOK, "backend", "", "%s, %d devices", b.Describe(), b.NumDevices())
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
	if len(fixes) > 0 {
		t.Printf("\nWhat helps:\n%s\n", strings.Join(fixes, "\n"))
	}
}
