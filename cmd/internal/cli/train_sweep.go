package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/curves"
	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/internal/runfolder"
	"github.com/t5ctl/t5ctl/internal/sweep"
	"github.com/t5ctl/t5ctl/recipes"
	"github.com/t5ctl/t5ctl/trainer"
)

// Names of what a sweep keeps beside the folders of its runs.
const (
	sweepResult = "sweep.json"
	sweepFile   = "sweep.yaml"
	sweepPNG    = "sweep.png"
	sweepHTML   = "sweep.html"
	shardPrefix = "shard-" // folders of what shards found
)

// How a setting of a sweep stands.
const (
	sweepWaiting = "waiting"
	sweepGivenUp = "given up"
	sweepDone    = "done"
	sweepFailed  = "failed"
)

// sweepReport is sweep.json, and what a sweep shows.
type sweepReport struct {
	Schema      int          `json:"schema"` // 1
	Sweep       string       `json:"sweep"`  // folder
	Recipe      string       `json:"recipe"`
	Fingerprint string       `json:"fingerprint"`     // of the sweep's file and the recipe: what a resumed one must share
	Shard       string       `json:"shard,omitempty"` // i/n: these are the trials of one process of several
	Metric      string       `json:"metric"`
	Higher      bool         `json:"higher_is_better"`
	Trials      []sweepTrial `json:"trials"` // the best first
}

// sweepTrial is one combination of settings with all its seeds.
type sweepTrial struct {
	Number   int             `json:"number"`
	Settings []sweep.Setting `json:"settings"`
	Outcome  string          `json:"outcome"`
	Steps    int             `json:"steps"`            // each of its runs has made
	Score    *float64        `json:"score,omitempty"`  // mean over the runs
	Spread   *float64        `json:"spread,omitempty"` // standard deviation over the runs, where there are several
	Runs     []sweepRun      `json:"runs"`
}

// sweepRun is one run of a trial.
type sweepRun struct {
	Run     string   `json:"run"` // folder
	Seed    string   `json:"seed,omitempty"`
	Score   *float64 `json:"score,omitempty"` // the best of its evaluations so far
	Problem string   `json:"problem,omitempty"`
}

// sweepConflictError says that a folder holds another sweep, or one that nothing said to go on with.
type sweepConflictError struct{ dir, what string }

func (e *sweepConflictError) Error() string {
	return fmt.Sprintf("output folder %s holds %s", e.dir, e.what)
}

// sweeping is a sweep under way.
type sweeping struct {
	app    *App
	opts   trainOptions
	spec   sweep.Spec
	text   []byte
	total  int // steps of a whole run
	report sweepReport
	shard  shard
	kept   string          // folder of the report: the sweep's, or the shard's in it
	lock   *runfolder.Lock // of that folder; nil before it is open
}

func (s *sweeping) close() {
	if s.lock != nil {
		s.lock.Release()
	}
}

// runSweep runs every trial of a sweep, or as far as its rivals let it.
func runSweep(ctx context.Context, app *App, opts trainOptions) (err error) {
	s := &sweeping{app: app, opts: opts}
	defer s.close()
	if s.shard, err = parseShard(opts.shard); err != nil {
		return usageError{err}
	}
	if s.shard.n > 1 && opts.output == "" {
		return usageErrorf("--shard needs --output, the folder that all shards share")
	}
	if err := s.open(); err != nil {
		return err
	}
	alive := make([]int, len(s.report.Trials))
	for i := range alive {
		alive[i] = i
	}
	for _, rung := range append(s.spec.Halving.Rungs(s.total), s.total) {
		for _, i := range alive {
			if err := s.advance(ctx, i, rung); err != nil {
				return errors.Join(err, s.forget())
			}
		}
		if rung < s.total {
			alive = s.giveUp(alive)
		}
	}
	s.rank()
	if err := s.write(); err != nil {
		return err
	}
	if s.shard.n == 1 {
		if err := s.draw(); err != nil {
			return err
		}
	}
	if err := app.show(s.report, s.print); err != nil {
		return err
	}
	if len(s.report.Trials) > 0 && s.report.Trials[0].Outcome != sweepDone {
		return fmt.Errorf("no setting of sweep %s came to its end", s.report.Sweep)
	}
	return nil
}

// forget takes away a sweep without any run, so that the same command can be given again.
func (s *sweeping) forget() error {
	for _, t := range s.report.Trials {
		for _, run := range t.Runs {
			if _, err := os.Stat(run.Run); err == nil {
				return nil
			}
		}
	}
	return os.RemoveAll(s.kept)
}

// open reads the file of a sweep, checks every recipe that it makes, and opens its folder.
func (s *sweeping) open() (err error) {
	app, opts := s.app, s.opts
	if s.text, err = os.ReadFile(opts.sweep); err != nil {
		return err
	}
	if s.spec, err = sweep.Parse(opts.sweep, s.text); err != nil {
		return hintedUsageError{usageError{err}, "t5ctl finetune --help shows the form of a sweep's file"}
	}
	base, err := app.loadRecipe(opts.recipe, opts.overrides())
	if err != nil {
		return err
	}
	if err := s.check(base); err != nil {
		return err
	}
	if err := s.openFolder(base); err != nil {
		return err
	}
	for i, trial := range s.spec.All() {
		if !s.shard.has(int64(i)) {
			continue
		}
		t := sweepTrial{Number: trial.Number, Settings: trial.Settings, Outcome: sweepWaiting}
		name := filepath.Join(s.report.Sweep, fmt.Sprintf("trial-%03d", trial.Number))
		for _, seed := range s.spec.Seeds {
			text := strconv.FormatUint(seed, 10)
			t.Runs = append(t.Runs, sweepRun{Run: name + "-seed-" + text, Seed: text})
		}
		if len(t.Runs) == 0 {
			t.Runs = []sweepRun{{Run: name}}
		}
		s.report.Trials = append(s.report.Trials, t)
	}
	for _, t := range s.report.Trials {
		for _, run := range t.Runs {
			if _, err := app.loadRecipe(opts.recipe, s.sets(t, run)); err != nil {
				return fmt.Errorf("trial %d: %w", t.Number, err)
			}
		}
	}
	return s.write()
}

// check says whether the recipe gives what the sweep needs.
func (s *sweeping) check(base recipes.Loaded) error {
	o, h, metric := base.Train, s.spec.Halving, s.spec.Metric
	if s.total = o.Steps; s.total == 0 {
		s.total = math.MaxInt // as many as its epochs make
	}
	every, key := o.EvaluateEvery, "train.evaluate_every"
	if metric == sweep.TrainingLoss {
		every, key = o.LogEvery, "train.log_every"
	} else if len(base.Data.Paths(datasets.Validation)) == 0 {
		return usageErrorf("sweep %s ranks by %s of the validation data, but recipe %s has none; metric: %s needs none", s.opts.sweep, metric, base.Name, sweep.TrainingLoss)
	}
	if measured := []string{sweep.TrainingLoss, "loss", "token_accuracy", "preference_accuracy", o.Metric}; !slices.Contains(measured, metric) {
		return usageErrorf("sweep %s ranks by %s, but the runs measure %s; give train.metric", s.opts.sweep, metric, strings.Join(measured, ", "))
	}
	if h.Factor > 0 && s.shard.n > 1 {
		return usageErrorf("halving of sweep %s compares all its settings, which --shard keeps apart; leave one of them out", s.opts.sweep)
	}
	if h.Factor > 0 && o.Steps == 0 {
		return usageErrorf("sweep %s gives settings up after steps, but recipe %s says train.epochs; give train.steps", s.opts.sweep, base.Name)
	}
	if h.Factor > 0 && (every < 1 || h.First%every != 0) {
		return usageErrorf("halving.first of sweep %s is %d, which must be a multiple of %s, %d", s.opts.sweep, h.First, key, every)
	}
	return nil
}

// openFolder makes the sweep's folder, or opens the one that is to go on.
func (s *sweeping) openFolder(base recipes.Loaded) error {
	resolved, err := base.YAML()
	if err != nil {
		return err
	}
	s.report = sweepReport{
		Schema: 1, Sweep: s.opts.output, Recipe: base.Name, Metric: s.spec.Metric, Higher: s.spec.Higher,
		Fingerprint: digest.Bytes(append(append([]byte{}, s.text...), resolved...)),
	}
	if s.opts.output == "" {
		if s.opts.resume {
			return usageError{errors.New("--resume needs --output, the folder of the sweep to go on with")}
		}
		s.report.Sweep = runfolder.Next(runsRoot, base.Name+"-sweep")
	}
	s.kept = s.report.Sweep
	if s.shard.n > 1 {
		s.report.Shard = s.opts.shard
		s.kept = filepath.Join(s.report.Sweep, fmt.Sprintf("%s%d-of-%d", shardPrefix, s.shard.i, s.shard.n))
	}
	if err := s.checkFolder(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.kept, 0o755); err != nil {
		return err
	}
	if s.lock, err = runfolder.LockDir(s.kept); err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(s.kept, sweepFile), s.text)
}

// checkFolder says whether the folder holds nothing, or what of this sweep may go on. Shards begin
// at once: of another one there may be no more than an empty folder.
func (s *sweeping) checkFolder() error {
	dir := s.report.Sweep
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	reports := []string{filepath.Join(dir, sweepResult)}
	foreign := false
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), shardPrefix) {
			reports = append(reports, filepath.Join(dir, e.Name(), sweepResult))
		} else {
			foreign = true
		}
	}
	found := false
	for _, path := range reports {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		found = true
		var have sweepReport
		switch own := filepath.Dir(path) == s.kept || s.shard.n == 1; {
		case err != nil || json.Unmarshal(data, &have) != nil:
			return &sweepConflictError{dir, "something else than a sweep"}
		case own && !s.opts.resume:
			return &sweepConflictError{dir, "a sweep"}
		case have.Fingerprint != s.report.Fingerprint:
			return &sweepConflictError{dir, "a sweep of another file or recipe"}
		}
	}
	if foreign && !found {
		return &sweepConflictError{dir, "something else than a sweep"}
	}
	return nil
}

// sets is what a run lays over the recipe.
func (s *sweeping) sets(t sweepTrial, run sweepRun) []string {
	sets := s.opts.overrides()
	for _, setting := range t.Settings {
		sets = append(sets, setting.Key+"="+setting.Value)
	}
	if run.Seed != "" {
		sets = append(sets, "train.seed="+run.Seed)
	}
	return sets
}

// advance brings every run of a trial to a rung.
func (s *sweeping) advance(ctx context.Context, i, rung int) error {
	t := &s.report.Trials[i]
	for j := range t.Runs {
		run := &t.Runs[j]
		if run.Problem != "" {
			continue
		}
		s.app.Term.Notef("%s: %s", filepath.Base(run.Run), describe(t.Settings, run.Seed))
		if began, err := s.runTo(ctx, *t, *run, rung); err != nil {
			if !began || ctx.Err() != nil || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
				return &sweepStoppedError{s.report.Sweep, err}
			}
			run.Problem = err.Error()
			s.app.Term.Warnf("%s failed, the sweep goes on: %v", filepath.Base(run.Run), err)
		}
		if err := s.score(run, t); err != nil {
			return err
		}
	}
	t.settle()
	return s.write()
}

// sweepStoppedError says why a sweep ended early, and where it can go on. It hides its cause, whose
// hint would be to go on with the one run.
type sweepStoppedError struct {
	dir   string
	cause error
}

func (e *sweepStoppedError) Error() string { return "sweep stopped: " + e.cause.Error() }

// sweepStopped is the rule for a sweep that ended early: the code of its cause, and how it goes on.
func sweepStopped(err error) (exitCode, string, bool) {
	e, ok := errors.AsType[*sweepStoppedError](err)
	if !ok {
		return exitFailed, "", false
	}
	code, hint := explain(e.cause)
	if code == exitInterrupted || hint == "" {
		hint = "--resume --output " + e.dir + " goes on from there"
	}
	return code, hint, true
}

// runTo brings one run to a rung, from where it is; began says whether it came to its first step.
func (s *sweeping) runTo(ctx context.Context, t sweepTrial, run sweepRun, rung int) (began bool, err error) {
	resume := false
	if dir, record, err := runfolder.Open(run.Run); err == nil {
		reached, err := s.reached(dir)
		if err != nil || record.Outcome == runfolder.Done || reached >= rung {
			return true, err
		}
		resume = true
	} else if err := os.RemoveAll(run.Run); err != nil { // what a killed process had only begun to make
		return false, err
	}
	recipe, err := s.app.loadRecipe(s.opts.recipe, s.sets(t, run))
	if err != nil {
		return false, err
	}
	watched, stop := context.WithCancel(ctx)
	defer stop()
	stopped := false
	one := &training{app: s.app, recipe: recipe, opts: trainOptions{output: run.Run, resume: resume, base: s.opts.base}}
	one.watch = func(e trainer.Event) {
		if at, ok := s.measures(e); ok && at >= rung && rung < s.total {
			stopped = true
			stop()
		}
	}
	_, err = one.execute(watched)
	if stopped && ctx.Err() == nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	return !one.started.IsZero(), err
}

// measures says whether an event gives the sweep's metric, and at which step.
func (s *sweeping) measures(e trainer.Event) (step int, ok bool) {
	if s.spec.Metric == sweep.TrainingLoss {
		stepped, ok := e.(trainer.Stepped)
		return stepped.Step, ok
	}
	evaluated, ok := e.(trainer.Evaluated)
	return evaluated.Step, ok
}

// reached is the last step at which a run's log has the metric.
func (s *sweeping) reached(dir runfolder.Dir) (int, error) {
	log, err := readLog(dir)
	last := 0
	if s.spec.Metric == sweep.TrainingLoss {
		for _, step := range log.Steps {
			last = max(last, step.To)
		}
		return last, err
	}
	for _, e := range log.Evaluations {
		last = max(last, e.Step)
	}
	return last, err
}

// score reads the best value of the metric from a run's log; of the training loss the last counts.
func (s *sweeping) score(run *sweepRun, t *sweepTrial) error {
	log, err := readLog(runfolder.Dir(run.Run))
	if err != nil {
		return err
	}
	if n := len(log.Steps); n > 0 {
		t.Steps = max(t.Steps, log.Steps[n-1].To)
	}
	run.Score = nil
	take := func(v float64) {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			run.Score = &v
		}
	}
	if run.Problem != "" {
		return nil
	}
	if s.spec.Metric == sweep.TrainingLoss {
		if n := len(log.Steps); n > 0 {
			take(log.Steps[n-1].Loss)
		}
		return nil
	}
	for _, e := range log.Evaluations {
		v, ok := e.Metrics[s.spec.Metric]
		if !ok {
			return &trainer.UnknownMetricError{Name: s.spec.Metric, Have: e.Metrics}
		}
		if run.Score == nil || (s.spec.Higher && v > *run.Score) || (!s.spec.Higher && v < *run.Score) {
			take(v)
		}
	}
	return nil
}

// settle sums the runs of a trial up; one that failed fails the trial.
func (t *sweepTrial) settle() {
	t.Outcome, t.Score, t.Spread = sweepDone, nil, nil
	sum, squares, n := 0.0, 0.0, float64(len(t.Runs))
	for _, run := range t.Runs {
		if run.Score == nil {
			t.Outcome = sweepFailed
			return
		}
		sum += *run.Score
	}
	mean := sum / n
	for _, run := range t.Runs {
		squares += (*run.Score - mean) * (*run.Score - mean)
	}
	t.Score = &mean
	if n > 1 {
		spread := math.Sqrt(squares / (n - 1))
		t.Spread = &spread
	}
}

// giveUp keeps the best trials of those that are left.
func (s *sweeping) giveUp(alive []int) []int {
	scores := make([]float64, len(alive))
	for i, at := range alive {
		scores[i] = s.report.Trials[at].ranked()
		if s.report.Trials[at].Outcome == sweepDone {
			s.report.Trials[at].Outcome = sweepGivenUp
		}
	}
	var kept []int
	for _, i := range s.spec.Halving.Survivors(scores, s.spec.Higher) {
		kept = append(kept, alive[i])
		s.report.Trials[alive[i]].Outcome = sweepWaiting
	}
	s.app.Term.Notef("%d of %d settings go on", len(kept), len(alive))
	return kept
}

func (t sweepTrial) ranked() float64 {
	if t.Score == nil {
		return math.NaN()
	}
	return *t.Score
}

// rank puts the best trial first. One that was given up comes after all that were not.
func (s *sweeping) rank() {
	scores := make([]float64, len(s.report.Trials))
	var last, others []int
	for i, t := range s.report.Trials {
		scores[i] = t.ranked()
		if t.Outcome == sweepDone {
			last = append(last, i)
		} else {
			others = append(others, i)
		}
	}
	sweep.Rank(last, scores, s.spec.Higher)
	sweep.Rank(others, scores, s.spec.Higher)
	var sorted []sweepTrial
	for _, i := range append(last, others...) {
		sorted = append(sorted, s.report.Trials[i])
	}
	s.report.Trials = sorted
}

func (s *sweeping) write() error {
	data, err := json.MarshalIndent(s.report, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(s.kept, sweepResult), append(data, '\n'))
}

// logs reads the runs of the sweep, the best first.
func (s *sweeping) logs() ([]curves.Run, error) {
	var runs []curves.Run
	for _, t := range s.report.Trials {
		for _, run := range t.Runs {
			log, err := readLog(runfolder.Dir(run.Run))
			if err != nil {
				return nil, err
			}
			runs = append(runs, curves.Run{Name: filepath.Base(run.Run) + "  " + describe(t.Settings, ""), Log: log})
		}
	}
	return runs, nil
}

// draw writes the curves of all runs as a picture and as a page.
func (s *sweeping) draw() error {
	runs, err := s.logs()
	if err != nil {
		return err
	}
	panels, err := curves.Panels(runs, curvesOf(runs, nil)...)
	if s.spec.Metric != sweep.TrainingLoss && s.spec.Metric != "loss" && err == nil {
		var more []curves.Panel
		more, err = curves.Panels(runs, "validation/"+s.spec.Metric)
		panels = append(more, panels...)
	}
	if err != nil {
		return err
	}
	for name, write := range map[string]func(io.Writer) error{
		sweepPNG:  func(w io.Writer) error { return curves.PNG(w, panels) },
		sweepHTML: func(w io.Writer) error { return curves.HTML(w, "t5ctl: sweep "+s.report.Sweep, panels) },
	} {
		if err := atomicfile.Write(filepath.Join(s.report.Sweep, name), write); err != nil {
			return err
		}
	}
	return nil
}

// describe names settings by the last part of their keys.
func describe(settings []sweep.Setting, seed string) string {
	var parts []string
	for _, setting := range settings {
		parts = append(parts, setting.Key[strings.LastIndex(setting.Key, ".")+1:]+"="+setting.Value)
	}
	if seed != "" {
		parts = append(parts, "seed="+seed)
	}
	return strings.Join(parts, " ")
}

// scored shows a number that may not be there.
func scored(v *float64) string {
	if v == nil {
		return ""
	}
	return strconv.FormatFloat(*v, 'f', 4, 64)
}

func (s *sweeping) print(t *term.Terminal) {
	tab := term.Table{Header: []string{"TRIAL", strings.ToUpper(s.report.Metric), "±", "STEPS", "OUTCOME", "SETTINGS"}, Right: []int{0, 1, 2, 3}}
	for _, trial := range s.report.Trials {
		tab.Add(strconv.Itoa(trial.Number), scored(trial.Score), scored(trial.Spread), count(trial.Steps), trial.Outcome, describe(trial.Settings, ""))
	}
	t.Table(tab)
	t.Println()
	if len(s.report.Trials) > 0 && s.report.Trials[0].Outcome == sweepDone {
		t.Printf("best: %s\n", s.bestRun(s.report.Trials[0]))
	}
	if s.shard.n > 1 {
		t.Println(filepath.Join(s.kept, sweepResult))
		return
	}
	for _, name := range []string{sweepResult, sweepPNG, sweepHTML} {
		t.Println(filepath.Join(s.report.Sweep, name))
	}
}

// bestRun is the folder of the best seed of a trial.
func (s *sweeping) bestRun(t sweepTrial) string {
	scores, places := make([]float64, len(t.Runs)), make([]int, len(t.Runs))
	for i, run := range t.Runs {
		scores[i], places[i] = *run.Score, i
	}
	sweep.Rank(places, scores, s.spec.Higher)
	return t.Runs[places[0]].Run
}
