package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/curves"
	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/internal/runfolder"
	"github.com/t5ctl/t5ctl/recipes"
	"github.com/t5ctl/t5ctl/trainer"
)

// runsReproOptions is what the command line of runs repro says, not yet checked.
type runsReproOptions struct {
	run, output string
	sets        []string
	steps       int
	tolerance   float64
}

func newRunsReproCommand(app *App) *cobra.Command {
	var opts runsReproOptions
	cmd := &cobra.Command{
		Use:   "repro <run>",
		Short: "Run a recorded run again and name the first step that differs",
		Long: "Run a run again from its record, in a fresh folder, and compare its loss with the log, step by step.\n" +
			"At the first difference the command stops, names the step, and exits with code 3. Where nothing\n" +
			"differs, the finished weights are compared too.\n\n" +
			"On the same machine, backend and number of processors a run repeats bit by bit. Elsewhere give\n" +
			"--tolerance. Paths of the recipe are seen from the current folder, as they were when it ran; data that\n" +
			"has moved can be named by --set, and must be the same data.",
		Example:           "  t5ctl runs repro cmudict-stress-1\n  t5ctl runs repro runs/mine-1 --steps 100 --tolerance 1e-4",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeRun,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.run = args[0]
			return runRunsRepro(cmd.Context(), app, opts)
		},
	}
	bindSet(cmd.Flags(), &opts.sets)
	cmd.Flags().StringVarP(&opts.output, "output", "o", "", "run `folder` (default runs/<name>-repro-<n>)")
	cmd.Flags().IntVar(&opts.steps, "steps", 0, "compare only the first `n` steps")
	cmd.Flags().Float64Var(&opts.tolerance, "tolerance", 0, "largest relative difference of two losses")
	return cmd
}

// reproduction is what runs repro shows.
type reproduction struct {
	Run         string          `json:"run"`
	Again       string          `json:"reproduction"`
	Compared    int             `json:"steps_compared"` // up to this one
	Same        bool            `json:"same"`
	First       *reproDeviation `json:"first_difference,omitempty"`
	Weights     string          `json:"weights"`     // identical, different, or not compared
	Environment []string        `json:"environment"` // in what the two differ
}

// reproDeviation is the first thing that came out differently.
type reproDeviation struct {
	From       int     `json:"from"` // the steps From to To are one line of the log
	To         int     `json:"to"`
	Quantity   string  `json:"quantity"`
	Recorded   float64 `json:"recorded"`
	Reproduced float64 `json:"reproduced"`
}

func (d reproDeviation) String() string {
	where := fmt.Sprintf("step %d", d.To)
	if d.From < d.To {
		where = fmt.Sprintf("steps %d to %d", d.From, d.To)
	}
	return fmt.Sprintf("%s: %s %.9g was %.9g", where, d.Quantity, d.Reproduced, d.Recorded)
}

// Weights as a reproduction found them.
const (
	weightsIdentical = "identical"
	weightsDifferent = "different"
	weightsUnknown   = "not compared"
)

// reproError says that a run did not come out as it is recorded.
type reproError struct{ result reproduction }

func (e *reproError) Error() string {
	if e.result.First == nil {
		return fmt.Sprintf("run %s: every loss came out again, but the weights differ", e.result.Run)
	}
	return fmt.Sprintf("run %s differs first at %s", e.result.Run, e.result.First)
}

// reproInputsError says that a run cannot be repeated because what it was made of has changed.
type reproInputsError struct {
	run     string
	changed []string
}

func (e *reproInputsError) Error() string {
	return fmt.Sprintf("run %s cannot be repeated: %s", e.run, strings.Join(e.changed, "; "))
}

func runRunsRepro(ctx context.Context, app *App, opts runsReproOptions) error {
	r, err := openReproducer(app, opts)
	if err != nil {
		return err
	}
	result, err := r.repeat(ctx)
	if err != nil {
		return err
	}
	if err := app.show(result, result.print); err != nil {
		return err
	}
	if !result.Same {
		return &reproError{result}
	}
	return nil
}

func (r reproduction) print(t *term.Terminal) {
	tab := term.Table{Header: []string{"RUN", r.Run}}
	tab.Add("again in", r.Again)
	tab.Add("compared", fmt.Sprintf("steps 1 to %d", r.Compared))
	first := "none"
	if r.First != nil {
		first = r.First.String()
	}
	tab.Add("first difference", first)
	tab.Add("weights", r.Weights)
	for _, line := range r.Environment {
		tab.Add("not the same", line)
	}
	t.Table(tab)
}

// reproducer runs a run again and watches it.
type reproducer struct {
	app    *App
	opts   runsReproOptions
	dir    runfolder.Dir
	record runfolder.Record
	log    curves.Log
	steps  int // to compare

	again  *training
	stop   context.CancelFunc
	losses map[int]trainer.Stepped // of single steps
	result reproduction
}

func openReproducer(app *App, opts runsReproOptions) (*reproducer, error) {
	r := &reproducer{app: app, opts: opts, losses: map[int]trainer.Stepped{}}
	var err error
	if r.dir, r.record, err = openRun(opts.run); err != nil {
		return nil, err
	}
	if r.log, err = readLog(r.dir); err != nil {
		return nil, err
	}
	if len(r.log.Steps) == 0 {
		return nil, usageErrorf("run %s has logged no step to compare with", opts.run)
	}
	if opts.steps < 0 || opts.tolerance < 0 {
		return nil, usageErrorf("--steps and --tolerance must not be negative")
	}
	r.steps = r.log.Steps[len(r.log.Steps)-1].To
	if opts.steps > 0 {
		r.steps = min(r.steps, opts.steps)
	}
	recipe, err := recipes.LoadSettled(r.dir.Path(runfolder.SettledFile), append(slices.Clone(opts.sets), "train.log_every=1"))
	if err != nil {
		return nil, err
	}
	recipe.Tracking = recipes.Tracking{} // no other tool is told twice
	output := opts.output
	if output == "" {
		output = runfolder.Next(runsRoot, recipe.Name+"-repro")
	}
	r.again = &training{app: app, opts: trainOptions{output: output, base: recipe.Base != ""}, recipe: recipe, watch: r.watch, admit: r.admit}
	r.result = reproduction{Run: string(r.dir), Again: output, Weights: weightsUnknown, Environment: []string{}}
	return r, nil
}

// repeat runs the run again up to the first difference.
func (r *reproducer) repeat(ctx context.Context) (reproduction, error) {
	watched, stop := context.WithCancel(ctx)
	defer stop()
	r.stop = stop
	outcome, err := r.again.execute(watched)
	enough := r.result.First != nil || r.result.Compared >= r.steps
	if err != nil && (ctx.Err() != nil || !enough || !errors.Is(err, context.Canceled)) {
		return reproduction{}, err
	}
	if err == nil && r.result.First == nil {
		if r.result.Weights, err = r.weights(outcome); err != nil {
			return reproduction{}, err
		}
	}
	r.result.Same = r.result.First == nil && (r.result.Weights != weightsDifferent || r.opts.tolerance > 0)
	return r.result, nil
}

// admit says whether what the run is made of is what it was made of then.
func (r *reproducer) admit(now runfolder.Record) error {
	changed, err := identity(now.Identity).since(r.record.Identity)
	if err != nil {
		return err
	}
	r.compareEnvironments(r.record, now)
	if len(changed) > 0 {
		return &reproInputsError{string(r.dir), changed}
	}
	for _, line := range r.result.Environment {
		r.app.Term.Warnf("not the same as when %s ran: %s", r.dir, line)
	}
	return nil
}

func (r *reproducer) compareEnvironments(then, now runfolder.Record) {
	differ := func(what string, a, b any) {
		if a != b {
			r.result.Environment = append(r.result.Environment, fmt.Sprintf("%s: %v, was %v", what, b, a))
		}
	}
	differ("backend", then.Backend.Kind, now.Backend.Kind)
	differ("plugin", short(then.Backend.SHA256), short(now.Backend.SHA256))
	differ("devices", max(1, then.Backend.Devices), max(1, now.Backend.Devices))
	differ("processors", then.Backend.CPUs, now.Backend.CPUs)
	differ("t5ctl", then.Tool.Version+" "+then.Tool.Commit, now.Tool.Version+" "+now.Tool.Commit)
	differ("Go", then.Tool.Go, now.Tool.Go)
}

// watch compares as the events come, and ends the run once there is no more to learn.
func (r *reproducer) watch(e trainer.Event) {
	if r.result.First != nil {
		return
	}
	if e, ok := e.(trainer.Stepped); ok {
		r.losses[e.Step] = e
		r.compareLoss(e.Step)
		r.result.Compared = min(e.Step, r.steps)
	}
	if e, ok := e.(trainer.Evaluated); ok {
		r.compareEvaluation(e)
	}
	// The last step of the run is let through: it writes the weights.
	if r.result.First != nil || (r.result.Compared >= r.steps && r.steps < r.total()) {
		r.stop()
	}
}

// total is how many steps the whole run has, where it came to its end.
func (r *reproducer) total() int { return r.record.Steps }

// compareLoss compares the line of the log that ends with a step, if there is one, with the steps
// that it tells of.
func (r *reproducer) compareLoss(step int) {
	i := slices.IndexFunc(r.log.Steps, func(s curves.Step) bool { return s.To == step })
	if i < 0 || step > r.steps {
		return
	}
	recorded, sum, tokens := r.log.Steps[i], 0.0, 0
	for n := recorded.From + 1; n <= recorded.To; n++ {
		sum += r.losses[n].Loss * float64(r.losses[n].Tokens)
		tokens += r.losses[n].Tokens
		delete(r.losses, n)
	}
	if recorded.Tokens > 0 && tokens != recorded.Tokens {
		r.differs(recorded, "labels", float64(recorded.Tokens), float64(tokens))
		return
	}
	tolerance := r.opts.tolerance
	if recorded.To-recorded.From > 1 {
		tolerance = max(tolerance, 1e-12) // the mean of several steps is put together in another order
	}
	if loss := sum / float64(tokens); !alike(recorded.Loss, loss, tolerance) {
		r.differs(recorded, "loss", recorded.Loss, loss)
	}
}

func (r *reproducer) compareEvaluation(e trainer.Evaluated) {
	i := slices.IndexFunc(r.log.Evaluations, func(s curves.Evaluation) bool { return s.Step == e.Step })
	if i < 0 || e.Step > r.steps {
		return
	}
	recorded := r.log.Evaluations[i].Metrics
	for _, name := range slices.Sorted(maps.Keys(recorded)) {
		if now, ok := e.Metrics[name]; r.result.First == nil && (!ok || !alike(recorded[name], now, r.opts.tolerance)) {
			r.differs(curves.Step{From: e.Step - 1, To: e.Step}, "validation "+name, recorded[name], now)
		}
	}
}

func (r *reproducer) differs(at curves.Step, quantity string, recorded, now float64) {
	r.result.First = &reproDeviation{From: at.From + 1, To: at.To, Quantity: quantity, Recorded: recorded, Reproduced: now}
}

// alike says whether two numbers differ by no more than a share of the larger one.
func alike(a, b, share float64) bool {
	if a == b || math.IsNaN(a) && math.IsNaN(b) {
		return true
	}
	return math.Abs(a-b) <= share*max(math.Abs(a), math.Abs(b))
}

// weights compares the finished weights of both runs.
func (r *reproducer) weights(now trainResult) (string, error) {
	then, _, err := r.dir.Model()
	if errors.Is(err, fs.ErrNotExist) || r.record.Outcome != runfolder.Done {
		return weightsUnknown, nil
	}
	if err != nil {
		return "", err
	}
	paths, err := filepath.Glob(filepath.Join(then, "*.safetensors"))
	if err != nil || len(paths) == 0 {
		return weightsUnknown, err
	}
	for _, path := range paths {
		a, _, err := digest.File(path)
		if err != nil {
			return "", err
		}
		b, _, err := digest.File(filepath.Join(now.Model, filepath.Base(path)))
		if err != nil {
			return "", err
		}
		if a != b {
			return weightsDifferent, nil
		}
	}
	return weightsIdentical, nil
}
