package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/lora"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
	"github.com/t5ctl/t5ctl/internal/t5"
	"github.com/t5ctl/t5ctl/trainer"
)

// benchOptions is what the command lines of bench say, not yet checked.
type benchOptions struct {
	model, method, precision, targets string
	inputs, outputs                   int
	beams, batches                    []int
	rank, warmup, repeat, limit       int
	alpha, pricePerHour               float64
	data, metric, png                 string
	onDevice                          bool
}

func (o *benchOptions) bind(flags *pflag.FlagSet) {
	flags.StringVarP(&o.model, "model", "m", "", "`folder` of the model")
	flags.IntSliceVar(&o.batches, "batch", []int{8}, "rows of a batch")
	flags.IntVar(&o.inputs, "input-tokens", 128, "tokens of each input")
	flags.StringVar(&o.precision, "precision", "fp32", "fp32 or bf16, of the matrix products; decoding on a CPU takes int8 too")
	flags.IntVar(&o.warmup, "warmup", 1, "repetitions that do not count")
	flags.IntVar(&o.repeat, "repeat", 3, "repetitions that count")
}

func (o *benchOptions) check() error {
	switch {
	case o.model == "":
		return usageError{errors.New("--model is missing")}
	case len(o.batches) == 0 || slices.Min(o.batches) < 1 || len(o.beams) == 0 || slices.Min(o.beams) < 1:
		return usageError{errors.New("batch and beams must be positive")}
	case o.inputs < 1 || o.outputs < 1 || o.warmup < 0 || o.repeat < 1 || o.limit < 1:
		return usageError{errors.New("tokens, rows and repetitions must be positive")}
	case o.data == "" && len(o.batches)*len(o.beams)*len(o.precisions()) > 1:
		return usageError{errors.New("several ways of decoding are compared on --data")}
	}
	for _, p := range o.precisions() {
		if p != "fp32" && p != "bf16" && (p != "int8" || o.method != "") {
			return usageError{fmt.Errorf("--precision is %q; it is fp32 or bf16, or int8 in decoding", p)}
		}
	}
	return nil
}

func (o *benchOptions) precisions() []string { return strings.Split(o.precision, ",") }

func newBenchCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the speed of training and decoding on this machine",
	}
	cmd.AddCommand(newBenchTrainCommand(app), newBenchDecodeCommand(app))
	return cmd
}

func newBenchTrainCommand(app *App) *cobra.Command {
	opts := benchOptions{beams: []int{1}, limit: 1}
	cmd := &cobra.Command{
		Use:     "train --model <folder>",
		Short:   "Time training steps on made-up rows",
		Example: "  t5ctl bench train --model t5-small --method lora --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runBenchTrain(cmd.Context(), app, opts) },
	}
	opts.bind(cmd.Flags())
	cmd.Flags().StringVar(&opts.method, "method", trainer.Full, "full or lora")
	cmd.Flags().IntVar(&opts.outputs, "target-tokens", 64, "tokens of each target")
	cmd.Flags().IntVar(&opts.rank, "rank", 16, "lora: rank")
	cmd.Flags().Float64Var(&opts.alpha, "alpha", 32, "lora: alpha")
	cmd.Flags().StringVar(&opts.targets, "targets", "q,v", "lora: `projections`, with commas between")
	return cmd
}

func newBenchDecodeCommand(app *App) *cobra.Command {
	opts := benchOptions{}
	cmd := &cobra.Command{
		Use:   "decode --model <folder>",
		Short: "Time generation from made-up rows, or speed against quality on real ones",
		Long: "Time generation from made-up rows. With --data, decode the rows of a file in every combination of --beams,\n" +
			"--batch and --precision (lists with commas), score the outputs, and mark those ways that none beats in both\n" +
			"speed and quality.",
		Example: "  t5ctl bench decode --model t5-small --beams 4 --json\n" +
			"  t5ctl bench decode --model runs/mine --data test.jsonl --beams 1,3,5 --batch 1,16 --precision fp32,int8 --png speed.png",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.data == "" {
				return runBenchDecode(cmd.Context(), app, opts)
			}
			if err := opts.check(); err != nil {
				return err
			}
			return runTradeOffs(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	cmd.Flags().IntSliceVar(&opts.beams, "beams", []int{1}, "beams of the search")
	cmd.Flags().BoolVar(&opts.onDevice, "on-device", false, "run the steps on the backend too, where a CPU's own kernels would")
	cmd.Flags().StringVar(&opts.data, "data", "", "`file` of rows with input and target")
	cmd.Flags().IntVar(&opts.limit, "limit", 500, "--data: the first `n` rows")
	cmd.Flags().StringVar(&opts.metric, "metric", "exact_match", "--data: `metric` of the quality, as in eval score")
	cmd.Flags().StringVar(&opts.png, "png", "", "--data: draw quality and speed into this `file`")
	cmd.Flags().Float64Var(&opts.pricePerHour, "price-per-hour", 0, "--data: what the machine costs, for the cost of 1,000 rows")
	cmd.Flags().IntVar(&opts.outputs, "new-tokens", 64, "tokens to generate")
	return cmd
}

// repetition is one timed piece of work.
type repetition struct {
	Work    string  `json:"work"`
	Seconds float64 `json:"seconds"`
	Tokens  int     `json:"tokens"`
	PeakRSS float64 `json:"peak_rss_mib"` // of the process so far
	Warmup  bool    `json:"warmup"`
	Since   float64 `json:"since_start,omitempty"` // seconds from the start of the process to its end
	Loss    float64 `json:"loss,omitempty"`
	Output  string  `json:"output,omitempty"` // digest of the token ids
}

// benchResult is what bench shows.
type benchResult struct {
	Work        string       `json:"work"`
	Backend     string       `json:"backend"`
	Median      float64      `json:"median_seconds"`
	Tokens      float64      `json:"tokens_per_second"`
	Repetitions []repetition `json:"repetitions"`
}

func (a *App) showBench(r benchResult) error {
	var counted []float64
	for _, rep := range r.Repetitions {
		if !rep.Warmup {
			counted = append(counted, rep.Seconds)
		}
	}
	slices.Sort(counted)
	r.Median = (counted[(len(counted)-1)/2] + counted[len(counted)/2]) / 2
	last := r.Repetitions[len(r.Repetitions)-1]
	r.Tokens = float64(last.Tokens) / r.Median
	return a.show(r, func(t *term.Terminal) {
		t.Printf("%s on %s: %.3f s (median of %d), %s tokens/s, peak memory %.0f MiB\n",
			r.Work, r.Backend, r.Median, len(counted), term.Count(int(r.Tokens)), last.PeakRSS)
	})
}

// madeUpIDs are the same on every machine and in the peer programs under bench/.
func madeUpIDs(rows, columns, offset, vocab int) []int32 {
	ids := make([]int32, rows*columns)
	for i := range ids {
		ids[i] = int32(3 + (7919*i+offset)%(vocab-128))
	}
	return ids
}

// Offsets of the made-up inputs and targets.
const (
	inputOffset  = 101
	targetOffset = 20011
)

// sameBatch gives one batch for ever.
type sameBatch struct {
	batch seq2seq.Batch
	at    seq2seq.Position
}

func (s *sameBatch) Next(context.Context) (seq2seq.Batch, error) {
	s.at.Epoch++
	return s.batch, nil
}

func (s *sameBatch) Position() seq2seq.Position    { return s.at }
func (s *sameBatch) Seek(p seq2seq.Position) error { s.at = p; return nil }
func (s *sameBatch) PerEpoch() int64               { return 1 }

func runBenchTrain(ctx context.Context, app *App, opts benchOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	base, err := t5.Open(opts.model)
	if err != nil {
		return err
	}
	defer func() { _ = base.Close() }() // opened for reading
	backend, err := app.openBackend()
	if err != nil {
		return err
	}
	defer backend.Finalize()
	dir, err := os.MkdirTemp("", "t5ctl-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // nothing of it is wanted
	o := trainer.DefaultOptions()
	zero := 0.0
	o.Method, o.Steps, o.LogEvery, o.Dropout, o.Precision = opts.method, opts.warmup+opts.repeat, 1, &zero, opts.precision
	o.LoRA = lora.Options{Rank: opts.rank, Alpha: opts.alpha, Targets: strings.Split(opts.targets, ",")}
	o.Optimizer.LearningRate, o.Schedule = 1e-4, trainer.Schedule{Name: "constant"}
	if err := o.Validate(); err != nil {
		return usageError{err}
	}
	vocab := base.Config.VocabSize
	batch := seq2seq.Batch{
		Rows: opts.batches[0], InputLen: opts.inputs, TargetLen: opts.outputs, IDs: make([]string, opts.batches[0]),
		Inputs: madeUpIDs(opts.batches[0], opts.inputs, inputOffset, vocab),
		Labels: madeUpIDs(opts.batches[0], opts.outputs, targetOffset, vocab),
	}
	result := benchResult{Work: "train-" + opts.method, Backend: backend.Describe()}
	_, err = trainer.Run(ctx, trainer.Job{
		Options: o, Config: base.Config, Base: base, Train: &sameBatch{batch: batch}, Backend: backend, Dir: dir,
		Fingerprint: "bench", Sink: result.timeSteps(opts),
	})
	if err != nil {
		return err
	}
	return app.showBench(result)
}

// timeSteps takes the time from one step to the next; compiling falls into the warm-up.
func (r *benchResult) timeSteps(opts benchOptions) trainer.Sink {
	last := time.Now()
	return func(e trainer.Event) {
		step, ok := e.(trainer.Stepped)
		if !ok {
			return
		}
		now := time.Now()
		r.Repetitions = append(r.Repetitions, repetition{
			Work: r.Work, Seconds: now.Sub(last).Seconds(), Tokens: opts.batches[0] * (opts.inputs + opts.outputs),
			PeakRSS: peakRSS(), Warmup: step.Step <= opts.warmup, Loss: step.Loss, Since: sinceStart(),
		})
		last = now
	}
}

func runBenchDecode(ctx context.Context, app *App, opts benchOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	base, err := t5.Open(opts.model)
	if err != nil {
		return err
	}
	defer func() { _ = base.Close() }() // opened for reading
	backend, err := app.decodingBackend()
	if err != nil {
		return err
	}
	defer backend.Finalize()
	weights := decode.Weights{Config: base.Config, Base: decode.InFolder(backend, base)}.In(opts.precision)
	defer weights.Close()
	engine := decode.New(backend, weights)
	defer engine.Close()
	engine.OnDevice = opts.onDevice
	o := decode.DefaultOptions()
	o.Beams, o.MaxNewTokens, o.BatchRows = opts.beams[0], opts.outputs, opts.batches[0]
	ids := madeUpIDs(opts.batches[0], opts.inputs, inputOffset, base.Config.VocabSize)
	var sources []decode.Source
	for row := range slices.Chunk(ids, opts.inputs) {
		sources = append(sources, decode.Source{Tokens: row})
	}
	result := benchResult{Work: "decode-greedy"}
	if opts.beams[0] > 1 {
		result.Work = fmt.Sprintf("decode-beam%d", opts.beams[0])
	}
	for i := range opts.warmup + opts.repeat {
		start := time.Now()
		found, err := engine.Generate(ctx, sources, o)
		if err != nil {
			return err
		}
		rep := repetition{Work: result.Work, Seconds: time.Since(start).Seconds(), PeakRSS: peakRSS(), Warmup: i < opts.warmup, Since: sinceStart()}
		if rep.Tokens, rep.Output, err = digestOf(found); err != nil {
			return err
		}
		result.Repetitions = append(result.Repetitions, rep)
	}
	result.Backend = backend.Describe()
	return app.showBench(result)
}

// digestOf counts the best outputs' tokens and identifies them.
func digestOf(found [][]decode.Sequence) (tokens int, digest string, err error) {
	best := make([][]int32, len(found))
	for i, sequences := range found {
		best[i] = sequences[0].Tokens
		tokens += len(best[i])
	}
	data, err := json.Marshal(best)
	sum := sha256.Sum256(data)
	return tokens, hex.EncodeToString(sum[:])[:16], err
}
