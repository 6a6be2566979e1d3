package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/constrain"
	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/jobfile"
	"github.com/t5ctl/t5ctl/internal/model"
)

// generateOptions is what the command line of generate says, not yet checked.
type generateOptions struct {
	model, input, output, prefix   string
	adapters                       []string
	others                         []*model.Model // with the second adapter and on
	column, long, shard, precision string
	texts, badWords                []string
	overlap, maxInput, window      int
	pricePerHour                   float64
	regex, schema, choicesFile     string
	choices                        []string // the lines of choicesFile
	decoding                       decode.Options
	given                          func(flag string) bool
}

func (o *generateOptions) bind(flags *pflag.FlagSet) {
	o.decoding = decode.DefaultOptions()
	d := o.decoding
	flags.StringVarP(&o.model, "model", "m", "", "`model`: a folder, a run, name@vN or name@channel")
	flags.StringArrayVar(&o.adapters, "adapter", nil, "`adapter` on top of it: a PEFT folder, a run or a version; with several, each answers every row")
	flags.StringVarP(&o.input, "input", "i", "", "`file` of rows (.jsonl, .csv, .tsv, .parquet, each also .gz or .zst)")
	flags.StringVarP(&o.output, "output", "o", "", "`file` for the rows with \"output\" added: .jsonl, .csv, .tsv or .parquet (default JSON lines to stdout)")
	flags.StringVar(&o.column, "input-column", "input", "`name` of the column with the texts")
	flags.StringVar(&o.prefix, "prefix", "", "`text` before every input (default: the one that the model was trained with)")
	flags.IntVar(&o.maxInput, "max-input-tokens", 512, "inputs longer than `n` tokens are long")
	flags.StringVar(&o.long, "long", model.Truncate, "long inputs: truncate, error (the row fails) or chunk (pieces that overlap)")
	flags.IntVar(&o.overlap, "overlap", 32, "--long chunk: `tokens` that a piece shares with the one before")
	flags.StringVar(&o.shard, "shard", "", "only the `i/n`-th part of the rows, i from 1 to n; all parts together are the whole")
	flags.IntVar(&o.window, "window", 2048, "read `n` rows at a time, decode them by length, write them in order")
	flags.Float64Var(&o.pricePerHour, "price-per-hour", 0, "what the machine costs, for the cost in progress and summary")
	flags.StringVar(&o.precision, "precision", "fp32", "fp32, bf16 or int8 (on a CPU, of the decoder's weights)")
	flags.StringVar(&o.regex, "regex", "", "write only what matches the whole `expression` (Go's syntax)")
	flags.StringVar(&o.schema, "schema", "", "write only JSON that fits the JSON schema in `file`")
	flags.StringVar(&o.choicesFile, "choices", "", "choose one of the lines of `file`, with its probability among them")
	o.bindSearch(flags)
	o.bindSampling(flags)
	flags.IntVar(&o.decoding.BatchRows, "batch", d.BatchRows, "decode `n` inputs at a time")
	o.given = flags.Changed
}

// bindSearch binds what any search goes by.
func (o *generateOptions) bindSearch(flags *pflag.FlagSet) {
	d := o.decoding
	flags.IntVar(&o.decoding.Beams, "beams", d.Beams, "search with `n` beams")
	flags.IntVar(&o.decoding.NumReturnSequences, "return", d.NumReturnSequences, "`n` outputs for each input, the best first")
	flags.IntVar(&o.decoding.MaxNewTokens, "max-new-tokens", d.MaxNewTokens, "cut outputs after `n` tokens")
	flags.IntVar(&o.decoding.MinNewTokens, "min-new-tokens", d.MinNewTokens, "let no output end before `n` tokens")
	flags.Float64Var(&o.decoding.LengthPenalty, "length-penalty", d.LengthPenalty, "beams: divide a score by the length to this `power`")
	flags.StringVar(&o.decoding.EarlyStopping, "early-stopping", d.EarlyStopping, "beams: stop once there are enough outputs: true, false or never")
	flags.Float64Var(&o.decoding.RepetitionPenalty, "repetition-penalty", d.RepetitionPenalty, "above 1: tokens already written become less likely")
	flags.IntVar(&o.decoding.NoRepeatNGram, "no-repeat-ngram", d.NoRepeatNGram, "write no sequence of `n` tokens twice; 0 off")
	flags.StringArrayVar(&o.badWords, "bad-word", nil, "`text` that must not be written (repeatable)")
	flags.Int32Var(&o.decoding.ForcedFirst, "forced-first", d.ForcedFirst, "`id` of the first token; 0 the model's choice")
	flags.Int32Var(&o.decoding.ForcedLast, "forced-last", d.ForcedLast, "`id` of the token at --max-new-tokens; 0 the model's choice")
}

func (o *generateOptions) bindSampling(flags *pflag.FlagSet) {
	d := o.decoding
	flags.BoolVar(&o.decoding.Sample, "sample", false, "draw tokens instead of taking the best")
	flags.Float64Var(&o.decoding.Temperature, "temperature", d.Temperature, "sampling: divide the logits by it")
	flags.IntVar(&o.decoding.TopK, "top-k", d.TopK, "sampling: only the `k` likeliest tokens; 0 all")
	flags.Float64Var(&o.decoding.TopP, "top-p", d.TopP, "sampling: only the likeliest tokens that reach this probability")
	flags.Float64Var(&o.decoding.MinP, "min-p", d.MinP, "sampling: only tokens this `share` as likely as the likeliest; 0 all")
	flags.Float64Var(&o.decoding.TypicalP, "typical-p", d.TypicalP, "sampling: only the most typical tokens that reach this probability")
	flags.Uint64Var(&o.decoding.Seed, "seed", 0, "sampling: same seed, same text")
}

func newGenerateCommand(app *App) *cobra.Command {
	opts := generateOptions{}
	cmd := &cobra.Command{
		Use:   "generate --model <model> [text …]",
		Short: "Write text from text: arguments, stdin, or a file of rows",
		Long: "Generate text. Arguments, or else the lines of stdin, give one line of output each;\n" +
			"--input gives the file's rows, in order, with \"output\" added.",
		Example: "  t5ctl generate --model g2p@production tomato\n" +
			"  t5ctl generate --model runs/mine --input test.jsonl --output out.jsonl --beams 4",
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.texts = args
			return runGenerate(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

func (o *generateOptions) check() error {
	switch {
	case o.model == "":
		return usageError{errors.New("--model is missing")}
	case o.input != "" && len(o.texts) > 0:
		return usageError{errors.New("give texts or --input, not both")}
	case o.output != "" && o.input == "":
		return usageError{errors.New("--output goes with --input")}
	}
	held := slices.DeleteFunc([]string{o.regex, o.schema, o.choicesFile}, func(s string) bool { return s == "" })
	if len(held) > 1 {
		return usageError{errors.New("give one of --regex, --schema and --choices")}
	}
	if o.output != "" {
		if _, err := jobfile.Format(o.output); err != nil {
			return usageError{err}
		}
	}
	switch o.precision {
	case "fp32", "bf16", "int8":
	default:
		return usageError{fmt.Errorf("--precision is %q; it is fp32, bf16 or int8", o.precision)}
	}
	if o.window < 1 || o.maxInput < 2 {
		return usageError{errors.New("--window must be positive, --max-input-tokens at least 2")}
	}
	if _, err := parseShard(o.shard); err != nil {
		return usageError{err}
	}
	if err := o.rows().Validate(); err != nil {
		return usageError{err}
	}
	return nil
}

func (o *generateOptions) rows() model.Rows {
	return model.Rows{Prefix: o.prefix, Long: o.long, Overlap: o.overlap}
}

// settle lays the flags that were given over the model's own settings.
func (o *generateOptions) settle(m *model.Model) error {
	own := m.Generation
	given := o.decoding
	for flag, take := range map[string]func(){
		"beams":              func() { own.Beams = given.Beams },
		"return":             func() { own.NumReturnSequences = given.NumReturnSequences },
		"max-new-tokens":     func() { own.MaxNewTokens = given.MaxNewTokens },
		"min-new-tokens":     func() { own.MinNewTokens = given.MinNewTokens },
		"length-penalty":     func() { own.LengthPenalty = given.LengthPenalty },
		"early-stopping":     func() { own.EarlyStopping = given.EarlyStopping },
		"repetition-penalty": func() { own.RepetitionPenalty = given.RepetitionPenalty },
		"no-repeat-ngram":    func() { own.NoRepeatNGram = given.NoRepeatNGram },
		"bad-word":           func() { own.BadWords = m.BadWords(o.badWords) },
		"forced-first":       func() { own.ForcedFirst = given.ForcedFirst },
		"forced-last":        func() { own.ForcedLast = given.ForcedLast },
		"sample":             func() { own.Sample = given.Sample },
		"temperature":        func() { own.Temperature = given.Temperature },
		"top-k":              func() { own.TopK = given.TopK },
		"top-p":              func() { own.TopP = given.TopP },
		"min-p":              func() { own.MinP = given.MinP },
		"typical-p":          func() { own.TypicalP = given.TypicalP },
	} {
		if o.given(flag) {
			take()
		}
	}
	own.Seed, own.BatchRows = o.decoding.Seed, o.decoding.BatchRows
	m.Generation = own
	if !o.given("prefix") {
		o.prefix = m.Prefix
	}
	if err := own.ValidateFor(m.Config); err != nil { // of the model's settings and the flags together
		return usageError{err}
	}
	return o.constrain(m)
}

// constrain holds the model to what outputs must be.
func (o *generateOptions) constrain(m *model.Model) error {
	expression := o.regex
	switch {
	case o.schema != "":
		data, err := os.ReadFile(o.schema)
		if err != nil {
			return err
		}
		if expression, err = constrain.Schema(data); err != nil {
			return usageError{fmt.Errorf("%s: %w", o.schema, err)}
		}
	case o.choicesFile != "":
		data, err := os.ReadFile(o.choicesFile)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			if text := strings.TrimRight(line, "\r\n"); text != "" && !slices.Contains(o.choices, text) {
				o.choices = append(o.choices, text)
			}
		}
		if len(o.choices) == 0 {
			return usageError{fmt.Errorf("%s has no lines to choose from", o.choicesFile)}
		}
	}
	if expression == "" {
		return nil
	}
	if err := m.Constrain(expression); err != nil {
		return usageError{err}
	}
	return nil
}

// answer generates from rows, or chooses, with every adapter.
func (o *generateOptions) answer(ctx context.Context, m *model.Model, rows []model.Row) ([]model.RowResult, error) {
	results, err := o.answerOne(ctx, m, rows)
	for i, other := range o.others {
		if err != nil {
			break
		}
		var more []model.RowResult
		more, err = o.answerOne(ctx, other, rows)
		for j := range more {
			r := &results[j]
			if more[j].Err != nil || r.Err != nil {
				r.Err = errors.Join(r.Err, more[j].Err)
				continue
			}
			if i == 0 {
				r.Adapters = []model.AdapterOutput{{Adapter: o.adapters[0], Output: r.Outputs[0].Text}}
			}
			r.Adapters = append(r.Adapters, model.AdapterOutput{Adapter: o.adapters[i+1], Output: more[j].Outputs[0].Text})
			r.Tokens += more[j].Tokens
		}
	}
	return results, err
}

func (o *generateOptions) answerOne(ctx context.Context, m *model.Model, rows []model.Row) ([]model.RowResult, error) {
	if o.choices != nil {
		return m.Choose(ctx, rows, o.rows(), o.choices)
	}
	return m.GenerateRows(ctx, rows, o.rows())
}

func runGenerate(ctx context.Context, app *App, opts generateOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	adapter := ""
	if len(opts.adapters) > 0 {
		adapter = opts.adapters[0]
	}
	m, closeModel, err := app.openModelWith(ctx, opts.model, adapter, model.Options{MaxInput: opts.maxInput, Precision: opts.precision})
	if err != nil {
		return err
	}
	defer closeModel()
	if err := opts.settle(m); err != nil {
		return err
	}
	for _, adapter := range opts.adapters[min(1, len(opts.adapters)):] {
		resolved, err := app.withAdapter(ctx, opts.model, adapter)
		if err != nil {
			return err
		}
		other, err := m.With(resolved.Adapter)
		if err != nil {
			return fmt.Errorf("opening %s: %w", adapter, err)
		}
		defer other.Close()
		opts.others = append(opts.others, other)
	}
	if opts.input != "" {
		err = opts.file(ctx, app, m)
	} else {
		err = opts.lines(ctx, app, m)
	}
	if m.Truncated > 0 && opts.input == "" {
		app.Term.Warnf("%d inputs were longer than the model takes and were cut", m.Truncated)
	}
	return err
}

// withAdapter resolves a model, and puts on it the adapter that is named beside it, if any.
func (a *App) withAdapter(ctx context.Context, ref, adapter string) (resolvedModel, error) {
	resolved, err := resolveModel(ctx, a, ref)
	if err != nil || adapter == "" {
		return resolved, err
	}
	if resolved.Adapter != "" {
		return resolved, usageError{fmt.Errorf("%s is an adapter already", ref)}
	}
	over, err := resolveModel(ctx, a, adapter)
	if err != nil {
		return resolved, err
	}
	if over.Adapter == "" {
		return resolved, usageError{fmt.Errorf("%s is no adapter", adapter)}
	}
	resolved.Adapter = over.Adapter
	return resolved, nil
}

// openModel opens a model by reference with what it needs; the caller calls the function it
// gives when done.
func (a *App) openModel(ctx context.Context, ref, adapter string) (*model.Model, func(), error) {
	return a.openModelWith(ctx, ref, adapter, model.Options{})
}

func (a *App) openModelWith(ctx context.Context, ref, adapter string, o model.Options) (*model.Model, func(), error) {
	resolved, err := a.withAdapter(ctx, ref, adapter)
	if err != nil {
		return nil, nil, err
	}
	backend, err := a.decodingBackend()
	if err != nil {
		return nil, nil, err
	}
	o.Adapter = resolved.Adapter
	m, err := model.Open(backend, resolved.Dir, o)
	if err != nil {
		backend.Finalize()
		return nil, nil, fmt.Errorf("opening %s: %w", ref, err)
	}
	return m, func() { m.Close(); backend.Finalize() }, nil
}

// generated is one input with its outputs.
type generated struct {
	Input   string         `json:"input"`
	Output  string         `json:"output"`
	Outputs []model.Output `json:"outputs,omitempty"` // all, where more than one was asked for
	Cut     bool           `json:"cut,omitempty"`

	Adapters []model.AdapterOutput `json:"adapters,omitempty"` // where there are several
	Settings decode.Options        `json:"generation"`
}

func resultOf(input string, outputs []model.Output) generated {
	g := generated{Input: input, Output: outputs[0].Text, Cut: outputs[0].Cut}
	if len(outputs) > 1 {
		g.Outputs = outputs
	}
	return g
}

// lines answers arguments, or the lines of stdin as they come.
func (o *generateOptions) lines(ctx context.Context, app *App, m *model.Model) error {
	var all []generated
	number := uint64(0)
	err := chunks(o.sources(app.Term.In()), m.Generation.BatchRows, func(texts []string) error {
		rows := make([]model.Row, len(texts))
		for i, text := range texts {
			rows[i] = model.Row{Text: text, Number: number}
			number++
		}
		found, err := o.answer(ctx, m, rows)
		if err != nil {
			return err
		}
		for i, result := range found {
			if result.Err != nil {
				return usageError{fmt.Errorf("input %d: %w", rows[i].Number+1, result.Err)}
			}
			g := resultOf(texts[i], result.Outputs)
			if app.Settings.JSON {
				g.Settings, g.Adapters = m.Generation, result.Adapters
				all = append(all, g)
				continue
			}
			if result.Adapters != nil {
				for _, a := range result.Adapters {
					app.Term.Println(a.Adapter + "\t" + term.Clean(a.Output))
				}
				continue
			}
			if o.choices != nil {
				result.Outputs = result.Outputs[:1]
			}
			for _, output := range result.Outputs {
				app.Term.Println(term.Clean(output.Text))
			}
		}
		return nil
	})
	if err != nil || !app.Settings.JSON {
		return err
	}
	return app.Term.JSON(all)
}

func (o *generateOptions) sources(stdin io.Reader) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if len(o.texts) > 0 {
			for _, text := range o.texts {
				if !yield(text, nil) {
					return
				}
			}
			return
		}
		lines := bufio.NewScanner(stdin)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			if !yield(strings.TrimSuffix(lines.Text(), "\r"), nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield("", usageError{fmt.Errorf("reading stdin: %w", err)})
		}
	}
}

// chunks gathers a stream into slices of at most size.
func chunks[T any](stream iter.Seq2[T, error], size int, each func([]T) error) error {
	var chunk []T
	for item, err := range stream {
		if err != nil {
			return err
		}
		if chunk = append(chunk, item); len(chunk) == size {
			if err := each(chunk); err != nil {
				return err
			}
			chunk = chunk[:0]
		}
	}
	if len(chunk) == 0 {
		return nil
	}
	return each(chunk)
}
