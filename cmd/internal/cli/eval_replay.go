package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"math/bits"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/internal/model"
	"github.com/t5ctl/t5ctl/internal/server"
)

// evalReplayOptions is what the command line of eval replay says, not yet checked.
type evalReplayOptions struct {
	files        []string
	a, b, output string
	limit        int
	pricePerHour float64
	precision    string
	force        bool
	compare      evalCompareOptions
}

func (o *evalReplayOptions) bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.a, "a", "", "`model` that served: a folder, name@vN or name@channel")
	flags.StringVar(&o.b, "b", "", "`model` that might")
	flags.StringVarP(&o.output, "output", "o", "", "`folder` for both reports, a.json and b.json, with their rows")
	flags.IntVar(&o.limit, "limit", 0, "only the first `n` requests; 0 all")
	flags.Float64Var(&o.pricePerHour, "price-per-hour", 0, "what the machine costs, for the cost of 1,000 requests")
	flags.StringVar(&o.precision, "precision", "fp32", "fp32, bf16 or int8 (on a CPU, of the decoder's weights)")
	flags.BoolVar(&o.force, "force", false, "replace reports in the folder")
	o.compare.bind(flags)
}

func newEvalReplayCommand(app *App) *cobra.Command {
	var opts evalReplayOptions
	cmd := &cobra.Command{
		Use:   "replay REQUESTS… --output DIR",
		Short: "Compare two versions on requests that were captured",
		Long: "REQUESTS are files that serve --sample-rate keeps, which both versions answer again, one\n" +
			"request after the other; or files of serve --shadow-output, which hold both answers. Where\n" +
			"every request has a target, outputs are scored against it, else against those of A: the\n" +
			"scores then say how far the two agree. Latency is the 95th percentile in ms.",
		Example: "  t5ctl eval replay samples/*.jsonl --a g2p@production --b g2p@v8 --output replay\n" +
			"  t5ctl eval replay shadow.jsonl --output replay",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.files = args
			return runEvalReplay(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

// capturedRequest is a line of a file that serve kept: a sample, or a pair of answers.
type capturedRequest struct {
	ID       string          `json:"id"`
	Input    string          `json:"input"`
	Target   *string         `json:"target"`
	Settings server.Settings `json:"settings"`
	Main     *server.Side    `json:"main"`
	Shadow   *server.Side    `json:"shadow"`
}

func (o *evalReplayOptions) check() error {
	if err := missing(map[string]bool{"output": o.output != ""}, "output"); err != nil {
		return err
	}
	c := o.compare.compare
	if o.limit < 0 || o.pricePerHour < 0 || c.Samples < 1 || c.Trials < 1 || c.Margin < 0 || c.Moved < 0 {
		return usageErrorf("--limit, --price-per-hour, --margin and --moved must not be negative, --bootstrap and --trials be positive")
	}
	return nil
}

// read gives the requests of all files.
func (o *evalReplayOptions) read() (list []capturedRequest, err error) {
	for _, path := range o.files {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		number := 0
		for line := range bytes.Lines(data) {
			number++
			var r capturedRequest
			if err := json.Unmarshal(line, &r); err != nil {
				return nil, &eval.LineError{Path: path, Line: number, Reason: "is no request: " + err.Error()}
			}
			switch {
			case r.Input == "" || r.ID == "":
				return nil, &eval.LineError{Path: path, Line: number, Reason: `needs "id" and "input"`}
			case (r.Main == nil) != (r.Shadow == nil) || len(list) > 0 && (r.Main == nil) != (list[0].Main == nil):
				return nil, &eval.LineError{Path: path, Line: number, Reason: "has the answers of both versions, or not, unlike the line before"}
			}
			if o.limit == 0 || len(list) < o.limit {
				list = append(list, r)
			}
		}
	}
	if len(list) == 0 {
		return nil, usageError{errors.New("there is no request in these files")}
	}
	if mirrored := list[0].Main != nil; mirrored != (o.a == "" && o.b == "") || !mirrored && (o.a == "" || o.b == "") {
		return nil, usageErrorf("--a and --b name the versions that answer samples; a file with both answers needs none")
	}
	return list, nil
}

// replayed is what one version made of the requests.
type replayed struct {
	model   string
	outputs []eval.Prediction
}

// PredictDetailed gives the next outputs: they are there already.
func (r *replayed) PredictDetailed(_ context.Context, sources []string) ([]eval.Prediction, error) {
	out := r.outputs[:len(sources)]
	r.outputs = r.outputs[len(sources):]
	return out, nil
}

// Predict is PredictDetailed without the details.
func (r *replayed) Predict(ctx context.Context, sources []string) ([]string, error) {
	found, err := r.PredictDetailed(ctx, sources)
	texts := make([]string, len(found))
	for i, p := range found {
		texts[i] = p.Text
	}
	return texts, err
}

// mirrored takes the answers that a server recorded.
func mirrored(list []capturedRequest) (a, b *replayed) {
	a, b = &replayed{model: list[0].Main.Model}, &replayed{model: list[0].Shadow.Model}
	for _, r := range list {
		for _, side := range []struct {
			of   *replayed
			made *server.Side
		}{{a, r.Main}, {b, r.Shadow}} {
			seconds := side.made.MS / 1000
			side.of.outputs = append(side.of.outputs, eval.Prediction{Text: side.made.Output, Seconds: seconds, Share: seconds})
		}
	}
	return a, b
}

// replay has a version answer the requests, one after the other.
func (s *servedModels) replay(ctx context.Context, ref string, list []capturedRequest, progress *term.Progress) (*replayed, error) {
	version, loaded, err := s.Load(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer loaded.Close()
	served, ok := loaded.(*servedModel)
	if !ok {
		return nil, errors.New("a model of another kind")
	}
	m, warm := served.model, map[int]bool{}
	r := &replayed{model: version.String()}
	for i, request := range list {
		o, _, err := served.settings(request.Settings)
		if err != nil {
			return nil, usageError{err}
		}
		m.Generation = o
		answer := func() ([]model.RowResult, error) {
			if choices := request.Settings.Choices; len(choices) > 0 {
				return m.Choose(ctx, []model.Row{{Text: m.Prefix + request.Input}}, model.Rows{Long: model.Truncate}, choices)
			}
			return m.GenerateRows(ctx, []model.Row{{Text: request.Input}}, model.Rows{Prefix: m.Prefix, Long: model.Truncate})
		}
		if length := bits.Len(uint(len(request.Input))); !warm[length] {
			warm[length] = true
			if _, err := answer(); err != nil { // compiling is no part of the latency
				return nil, err
			}
		}
		began := time.Now()
		found, err := answer()
		if err != nil {
			return nil, err
		}
		seconds := time.Since(began).Seconds()
		one := eval.Prediction{Seconds: seconds, Share: seconds}
		if found[0].Err == nil {
			one.Text, one.AtLimit = found[0].Outputs[0].Text, found[0].Outputs[0].Cut
		}
		r.outputs = append(r.outputs, one)
		progress.Set(int64(i + 1))
	}
	return r, nil
}

// replayResult is what eval replay shows.
type replayResult struct {
	Requests   int             `json:"requests"`
	Same       int             `json:"same"`    // requests that both answered alike
	Against    string          `json:"against"` // what outputs were scored against: targets, or the outputs of A
	A          string          `json:"a"`
	B          string          `json:"b"`
	Comparison eval.Comparison `json:"comparison"`
}

func runEvalReplay(ctx context.Context, app *App, opts evalReplayOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	list, err := opts.read()
	if err != nil {
		return err
	}
	a, b, err := opts.answers(ctx, app, list)
	if err != nil {
		return err
	}
	result := replayResult{Requests: len(list), Against: "targets", A: a.model, B: b.model}
	pairs := make([]eval.Pair, len(list))
	for i, r := range list {
		if a.outputs[i].Text == b.outputs[i].Text {
			result.Same++
		}
		if pairs[i] = (eval.Pair{ID: r.ID, Input: r.Input}); r.Target != nil {
			pairs[i].Target = *r.Target
			continue
		}
		result.Against = "the outputs of A"
	}
	if result.Against != "targets" {
		for i := range pairs {
			pairs[i].Target = a.outputs[i].Text
		}
	}
	var evidence []eval.Evidence
	for _, side := range []struct {
		name string
		made *replayed
	}{{"a", a}, {"b", b}} {
		e, err := opts.score(ctx, side.name, side.made, pairs)
		if err != nil {
			return err
		}
		evidence = append(evidence, e)
	}
	if result.Comparison, err = eval.Compare(ctx, evidence[0], evidence[1], opts.compare.compare); err != nil {
		return err
	}
	return app.show(result, func(t *term.Terminal) {
		t.Printf("A is %s, B is %s: %d of %d requests answered alike; scored against %s\n",
			term.Clean(result.A), term.Clean(result.B), result.Same, result.Requests, result.Against)
		showComparison(t, result.Comparison)
	})
}

// answers gives what both versions made of the requests.
func (o *evalReplayOptions) answers(ctx context.Context, app *App, list []capturedRequest) (a, b *replayed, err error) {
	if list[0].Main != nil {
		a, b = mirrored(list)
		return a, b, nil
	}
	backend, err := app.decodingBackend()
	if err != nil {
		return nil, nil, err
	}
	defer backend.Finalize()
	store := &servedModels{app: app, backend: backend, opts: serveOptions{precision: o.precision, maxInput: 512, maxBeams: 64, rows: 1, maxNewTokens: 1024}}
	for ref, to := range map[string]**replayed{o.a: &a, o.b: &b} {
		progress := app.Term.Progress("replaying on "+ref, int64(len(list)), "requests")
		*to, err = store.replay(ctx, ref, list, progress)
		progress.Done()
		if err != nil {
			return nil, nil, err
		}
	}
	if a == nil { // both are the same reference
		a = &replayed{model: b.model, outputs: b.outputs}
	}
	if b == nil {
		b = &replayed{model: a.model, outputs: a.outputs}
	}
	return a, b, nil
}

// score makes a report of one version's outputs, in the folder.
func (o *evalReplayOptions) score(ctx context.Context, name string, made *replayed, pairs []eval.Pair) (none eval.Evidence, err error) {
	suite := eval.Suite{Name: name, Metrics: []string{"exact_match", "chrf", "latency"}}
	if o.pricePerHour > 0 {
		price, err := json.Marshal(o.pricePerHour)
		if err != nil {
			return none, err
		}
		suite.Metrics = append(suite.Metrics, "cost:per_hour="+string(price))
	}
	files, err := newEvaluationFiles(o.output, name, o.force)
	if err != nil {
		return none, err
	}
	defer files.close()
	runner, err := files.runner(false)
	if err != nil {
		return none, err
	}
	runner.Suite = suite
	report, err := runner.Run(ctx, &replayed{model: made.model, outputs: made.outputs}, every(pairs))
	if err != nil {
		return none, err
	}
	report.Model = made.model
	if err := files.finish(&report); err != nil {
		return none, err
	}
	return eval.ReadEvidence(files.reportPath())
}

// every gives all pairs.
func every(pairs []eval.Pair) iter.Seq2[eval.Pair, error] {
	return func(yield func(eval.Pair, error) bool) {
		for _, p := range pairs {
			if !yield(p, nil) {
				return
			}
		}
	}
}
