package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/canary"
	"github.com/t5ctl/t5ctl/registry"
)

func newCanaryCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{Use: "canary", Short: "Decide by statistics whether a version may take all the traffic"}
	cmd.AddCommand(newCanaryJudgeCommand(app))
	return cmd
}

// canaryRules maps the failures of judging to exit codes.
func canaryRules() []rule {
	return []rule{
		as(exitGate, func(e *canary.FailedError) string {
			if e.Result.Verdict == canary.Inconclusive {
				return "judge again when there is more traffic: looking again costs nothing"
			}
			return "t5ctl rollback takes the channel back"
		}),
		as(exitUsage, func(e *canary.MissingError) string { return didYouMean(e.Nearest) }),
		as[*canary.SelectorError](exitUsage, nil),
		as[*canary.PlanError](exitUsage, nil),
		as(exitUsage, saying[*canary.LooksError]("give one file of each arm for every look")),
		as[*canary.MetricsError](exitUsage, nil),
		as[*canary.ServerError](exitNetwork, nil),
	}
}

// canaryJudgeOptions is what the command line of canary judge says, not yet checked.
type canaryJudgeOptions struct {
	baseline, canary  []string
	prometheus, since string
	step, wait        time.Duration
	objectives        string
	output, markdown  string
	printObjectives   bool
}

func (o *canaryJudgeOptions) bind(flags *pflag.FlagSet) {
	flags.StringArrayVar(&o.baseline, "baseline", nil, "`arm` that serves now (repeatable: a file for each look)")
	flags.StringArrayVar(&o.canary, "canary", nil, "`arm` that is judged (as often as --baseline)")
	flags.StringVar(&o.prometheus, "prometheus", "", "`URL` of a Prometheus server to ask")
	flags.StringVar(&o.since, "since", "", "`time` at which the canary began, as 2026-03-01T12:00:00Z, or a duration (default: when its channel was moved, else 1h)")
	flags.DurationVar(&o.step, "step", time.Minute, "--prometheus: `duration` of a block")
	flags.DurationVar(&o.wait, "wait", 0, "--prometheus: look again after each block for this `duration`, until there is a verdict")
	flags.StringVar(&o.objectives, "objectives", "", "YAML `file` of what to judge by (default: for the metrics of t5ctl serve)")
	flags.BoolVar(&o.printObjectives, "print-objectives", false, "write the default objectives, and do nothing else")
	flags.StringVarP(&o.output, "output", "o", "", "write the result as JSON to this `file`")
	flags.StringVar(&o.markdown, "markdown", "", "write the verdict as Markdown to this `file`")
}

func newCanaryJudgeCommand(app *App) *cobra.Command {
	var opts canaryJudgeOptions
	cmd := &cobra.Command{
		Use:   "judge --baseline <arm> --canary <arm>",
		Short: "Pass, or exit with code 3: the canary failed, or it is too early to say",
		Long: "An arm is a file of metrics as /metrics answers them, with a selector where the file holds\n" +
			"several versions: scrape.prom{version=\"v3\"}. Several files, oldest first, are several looks\n" +
			"(a pattern such as 'canary-*.prom' gives them by name). With --prometheus, an arm is a\n" +
			"selector, or a version such as g2p@v3 or g2p@canary.\n\n" +
			"Errors, slow and bad answers are compared with the baseline's by sequential tests, and with\n" +
			"one error budget. One may look as often as one likes: a wrong verdict has a chance of at most\n" +
			"alpha over all looks. Verdicts: pass (exit code 0), fail and inconclusive (3).",
		Example: "  t5ctl canary judge --baseline 'scrape.prom{version=\"v2\"}' --canary 'scrape.prom{version=\"v3\"}'\n" +
			"  t5ctl canary judge --prometheus http://127.0.0.1:9090 --baseline g2p@production --canary g2p@canary --wait 1h",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runCanaryJudge(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

// check refuses what does not go together.
func (o *canaryJudgeOptions) check() error {
	if err := missing(map[string]bool{"baseline": len(o.baseline) > 0, "canary": len(o.canary) > 0}, "baseline", "canary"); err != nil {
		return err
	}
	switch {
	case o.prometheus == "" && o.wait != 0:
		return usageErrorf("--wait looks at a server again; it needs --prometheus")
	case o.prometheus == "" && o.since != "":
		return usageErrorf("--since is for --prometheus; files hold what they hold")
	case o.prometheus != "" && (len(o.baseline) > 1 || len(o.canary) > 1):
		return usageErrorf("--prometheus takes one --baseline and one --canary")
	case o.prometheus != "" && o.step < time.Second:
		return usageErrorf("--step %s is below a second", o.step)
	case o.wait < 0:
		return usageErrorf("--wait %s is negative", o.wait)
	}
	return nil
}

func (o *canaryJudgeOptions) plan() (canary.Plan, error) {
	name, text := "default", canary.DefaultPlan()
	if o.objectives != "" {
		var err error
		if text, err = os.ReadFile(o.objectives); err != nil {
			return canary.Plan{}, err
		}
		name = o.objectives
	}
	return canary.ParsePlan(name, text)
}

func runCanaryJudge(ctx context.Context, app *App, opts canaryJudgeOptions) error {
	if opts.printObjectives {
		text := string(canary.DefaultPlan())
		return app.show(map[string]string{"objectives": text}, func(t *term.Terminal) { t.Printf("%s", text) })
	}
	if err := opts.check(); err != nil {
		return err
	}
	plan, err := opts.plan()
	if err != nil {
		return err
	}
	var result canary.Result
	if opts.prometheus != "" {
		result, err = opts.askServer(ctx, app, plan)
	} else {
		result, err = opts.readFiles(plan)
	}
	if err != nil {
		return err
	}
	if err := opts.finish(app, result); err != nil {
		return err
	}
	return result.Err()
}

// finish writes and shows the result.
func (o *canaryJudgeOptions) finish(app *App, result canary.Result) error {
	if o.output != "" {
		if err := atomicfile.Write(o.output, func(w io.Writer) error { return encodeIndented(w, result) }); err != nil {
			return err
		}
	}
	if o.markdown != "" {
		if err := atomicfile.WriteBytes(o.markdown, []byte(result.Markdown())); err != nil {
			return err
		}
	}
	return app.show(result, func(t *term.Terminal) {
		tab := term.Table{Header: canary.Columns()}
		for _, o := range result.Objectives {
			tab.Add(o.Cells()...)
		}
		t.Table(tab)
		for _, o := range result.Objectives {
			t.Printf("%s %s\n", o.Name, o.Reason)
		}
		b := result.Budget
		t.Printf("error budget: spent at %.3g times its rate (%.3g to %.3g), at most %g: %s\n", b.Burn, b.Low, b.High, b.Max, b.Verdict)
		t.Printf("verdict after %d blocks: %s\n", result.Blocks, result.Verdict)
	})
}

// readFiles judges by metrics files.
func (o *canaryJudgeOptions) readFiles(plan canary.Plan) (canary.Result, error) {
	baseline, err := readArm("--baseline", o.baseline)
	if err != nil {
		return canary.Result{}, err
	}
	arm, err := readArm("--canary", o.canary)
	if err != nil {
		return canary.Result{}, err
	}
	result, err := canary.Judge(plan, baseline, arm)
	result.Baseline, result.Canary = strings.Join(o.baseline, " "), strings.Join(o.canary, " ")
	return result, err
}

// readArm reads the metrics files of an arm, each a look.
func readArm(flag string, arms []string) (*canary.Snapshots, error) {
	s := &canary.Snapshots{}
	for _, arm := range arms {
		pattern, labels, braces := strings.Cut(arm, "{")
		selector := canary.Selector{}
		if braces {
			var err error
			if selector, err = canary.ParseSelector("{" + labels); err != nil {
				return nil, fmt.Errorf("%s: %w", flag, err)
			}
		}
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return nil, usageErrorf("%s %q: %v", flag, arm, err)
		}
		if len(paths) == 0 {
			return nil, fmt.Errorf("%s: no metrics file %s: %w", flag, pattern, fs.ErrNotExist)
		}
		slices.Sort(paths)
		for _, path := range paths {
			if err := addFile(s, path, selector); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

func addFile(s *canary.Snapshots, path string, selector canary.Selector) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // opened for reading
	if err := s.Add(f, selector); err != nil {
		return &canary.MetricsError{Path: path, Err: err}
	}
	return nil
}

// askServer judges by what a Prometheus server has kept, again and again while there is time and
// no verdict.
func (o *canaryJudgeOptions) askServer(ctx context.Context, app *App, plan canary.Plan) (canary.Result, error) {
	baseline, err := armOf(ctx, app, "--baseline", o.baseline[0])
	if err != nil {
		return canary.Result{}, err
	}
	arm, err := armOf(ctx, app, "--canary", o.canary[0])
	if err != nil {
		return canary.Result{}, err
	}
	now := time.Now()
	start, err := o.begun(now, arm.moved)
	if err != nil {
		return canary.Result{}, err
	}
	for until := now.Add(o.wait); ; now = time.Now() {
		result, err := o.look(ctx, plan, [2]canary.Selector{baseline.selector, arm.selector}, canary.Range{Start: start, End: now, Step: o.step})
		if err != nil {
			return result, err
		}
		result.Baseline, result.Canary = baseline.name, arm.name
		if result.Verdict != canary.Inconclusive || !now.Add(o.step).Before(until) {
			return result, nil
		}
		app.Term.Notef("block %d: inconclusive", result.Blocks)
		select {
		case <-ctx.Done():
			return result, ctx.Err()
		case <-time.After(o.step):
		}
	}
}

func (o *canaryJudgeOptions) look(ctx context.Context, plan canary.Plan, arms [2]canary.Selector, at canary.Range) (canary.Result, error) {
	baseline, err := canary.Fetch(ctx, o.prometheus, plan, arms[0], at)
	if err != nil {
		return canary.Result{}, err
	}
	other, err := canary.Fetch(ctx, o.prometheus, plan, arms[1], at)
	if err != nil {
		return canary.Result{}, err
	}
	return canary.Judge(plan, baseline, other)
}

// maxBlocks is how many blocks a server answers with at once.
const maxBlocks = 10_000

// begun is when the canary began.
func (o *canaryJudgeOptions) begun(now, moved time.Time) (time.Time, error) {
	start := moved
	switch {
	case o.since != "":
		if d, err := time.ParseDuration(o.since); err == nil && d > 0 {
			start = now.Add(-d)
		} else if start, err = time.Parse(time.RFC3339, o.since); err != nil {
			return start, usageErrorf("--since %q is neither a time such as 2026-03-01T12:00:00Z nor a duration such as 2h", o.since)
		}
	case moved.IsZero():
		start = now.Add(-time.Hour)
	}
	switch blocks := now.Sub(start) / o.step; {
	case start.After(now):
		return start, usageErrorf("--since %s lies in the future", start.UTC().Format(time.RFC3339))
	case blocks+o.wait/o.step > maxBlocks:
		return start, usageErrorf("%d blocks of %s since %s: %d can be asked for; give a longer --step", blocks, o.step, start.UTC().Format(time.RFC3339), maxBlocks)
	}
	return start, nil
}

// serverArm is an arm as a Prometheus server is asked for it.
type serverArm struct {
	selector canary.Selector
	name     string
	moved    time.Time // when its channel was moved to it; zero where no channel was named
}

// armOf reads a selector, or the name of a version of the registry.
func armOf(ctx context.Context, app *App, flag, text string) (serverArm, error) {
	if !strings.Contains(text, "@") || strings.Contains(text, "{") {
		selector, err := canary.ParseSelector(text)
		if err == nil && selector.Name != "" {
			err = errors.New("with --prometheus, an arm is labels in braces, or a version such as g2p@v3")
		}
		if err != nil {
			return serverArm{}, usageError{fmt.Errorf("%s %s: %w", flag, text, err)}
		}
		return serverArm{selector: selector, name: text}, nil
	}
	ref, err := registry.ParseRef(text)
	if err != nil {
		return serverArm{}, err
	}
	arm := serverArm{name: text}
	if ref.Version == 0 {
		if arm.moved, ref, err = servedBy(ctx, app, ref); err != nil {
			return serverArm{}, fmt.Errorf("%s: %w", flag, err)
		}
		arm.name = ref.String()
	}
	arm.selector, err = canary.ParseSelector("{model=" + strconv.Quote(ref.Model) + ",version=" + strconv.Quote("v"+strconv.Itoa(ref.Version)) + "}")
	return arm, err
}

// servedBy is the version that a channel or digest names, and since when the channel serves it.
func servedBy(ctx context.Context, app *App, ref registry.Ref) (time.Time, registry.Ref, error) {
	r, err := app.registry()
	if err != nil {
		return time.Time{}, ref, err
	}
	version, err := r.Resolve(ctx, ref)
	if err != nil || ref.Channel == "" {
		return time.Time{}, version.Ref, err
	}
	history, err := r.History(ctx, ref.Model, ref.Channel, registry.Moment{})
	var moved time.Time
	for _, e := range history.Events {
		if e.Kind == registry.KindPromote || e.Kind == registry.KindRollback {
			moved = e.Time
		}
	}
	return moved, version.Ref, err
}
