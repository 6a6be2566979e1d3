package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/model"
)

// generateOptions is what the command line of generate says, not yet checked.
type generateOptions struct {
	model, adapter, input, output, prefix string
	column                                string
	texts                                 []string
	decoding                              decode.Options
	given                                 func(flag string) bool
}

func (o *generateOptions) bind(flags *pflag.FlagSet) {
	o.decoding = decode.DefaultOptions()
	d := o.decoding
	flags.StringVarP(&o.model, "model", "m", "", "`model`: a folder, a run, name@vN or name@channel")
	flags.StringVar(&o.adapter, "adapter", "", "`adapter` on top of it: a PEFT folder or a run")
	flags.StringVarP(&o.input, "input", "i", "", "`file` of rows (.jsonl, .csv, .tsv, .parquet, each also .gz or .zst)")
	flags.StringVarP(&o.output, "output", "o", "", "`file` for the rows with \"output\" added, JSON lines (default stdout)")
	flags.StringVar(&o.column, "input-column", "input", "`name` of the column with the texts")
	flags.StringVar(&o.prefix, "prefix", "", "`text` before every input (default: the one that the model was trained with)")
	flags.IntVar(&o.decoding.Beams, "beams", d.Beams, "search with `n` beams")
	flags.IntVar(&o.decoding.MaxNewTokens, "max-new-tokens", d.MaxNewTokens, "cut outputs after `n` tokens")
	flags.Float64Var(&o.decoding.LengthPenalty, "length-penalty", d.LengthPenalty, "beams: divide a score by the length to this `power`")
	flags.BoolVar(&o.decoding.Sample, "sample", false, "draw tokens instead of taking the best")
	flags.Float64Var(&o.decoding.Temperature, "temperature", d.Temperature, "sampling: divide the logits by it")
	flags.IntVar(&o.decoding.TopK, "top-k", d.TopK, "sampling: only the `k` likeliest tokens; 0 all")
	flags.Float64Var(&o.decoding.TopP, "top-p", d.TopP, "sampling: only the likeliest tokens that reach this probability")
	flags.Uint64Var(&o.decoding.Seed, "seed", 0, "sampling: same seed, same text")
	flags.IntVar(&o.decoding.BatchRows, "batch", d.BatchRows, "decode `n` inputs at a time")
	o.given = flags.Changed
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
	if err := o.decoding.Validate(); err != nil {
		return usageError{err}
	}
	return nil
}

// settle lays the flags that were given over the model's own settings.
func (o *generateOptions) settle(m *model.Model) {
	own := m.Generation
	for flag, take := range map[string]func(){
		"beams":          func() { own.Beams = o.decoding.Beams },
		"max-new-tokens": func() { own.MaxNewTokens = o.decoding.MaxNewTokens },
		"length-penalty": func() { own.LengthPenalty = o.decoding.LengthPenalty },
		"sample":         func() { own.Sample = o.decoding.Sample },
		"temperature":    func() { own.Temperature = o.decoding.Temperature },
		"top-k":          func() { own.TopK = o.decoding.TopK },
		"top-p":          func() { own.TopP = o.decoding.TopP },
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
}

func runGenerate(ctx context.Context, app *App, opts generateOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	m, closeModel, err := app.openModel(ctx, opts.model, opts.adapter)
	if err != nil {
		return err
	}
	defer closeModel()
	opts.settle(m)
	if opts.input != "" {
		err = opts.file(ctx, app, m)
	} else {
		err = opts.lines(ctx, app, m)
	}
	if m.Truncated > 0 {
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
	resolved, err := a.withAdapter(ctx, ref, adapter)
	if err != nil {
		return nil, nil, err
	}
	backend, err := a.openBackend()
	if err != nil {
		return nil, nil, err
	}
	m, err := model.Open(backend, resolved.Dir, model.Options{Adapter: resolved.Adapter})
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
	err := chunks(o.sources(app.Term.In()), m.Generation.BatchRows, func(texts []string) error {
		prefixed := make([]string, len(texts))
		for i, text := range texts {
			prefixed[i] = o.prefix + text
		}
		found, err := m.Generate(ctx, prefixed)
		if err != nil {
			return err
		}
		for i, outputs := range found {
			g := resultOf(texts[i], outputs)
			if app.Settings.JSON {
				all = append(all, g)
				continue
			}
			app.Term.Println(term.Clean(g.Output))
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

// windowRows is how many rows of a file are decoded between two writes; within it rows of like
// length are put together.
const windowRows = 2048

// file answers the rows of a file, in order, in memory that does not grow with it.
func (o *generateOptions) file(ctx context.Context, app *App, m *model.Model) error {
	rows := datasets.Read(o.input, datasets.ReadOptions{
		Columns: datasets.Columns{Input: o.column}, Need: datasets.Inputs, Raw: true,
	})
	done := 0
	progress := app.Term.Progress("generating", 0, "rows")
	defer progress.Done()
	write := func(w io.Writer) error {
		out := bufio.NewWriter(w)
		err := chunks(rows, windowRows, func(window []datasets.Example) error {
			if err := o.window(ctx, m, window, out); err != nil {
				return err
			}
			done += len(window)
			progress.Set(int64(done))
			return nil
		})
		return errors.Join(err, out.Flush())
	}
	if o.output == "" {
		return write(app.Term.Out())
	}
	if _, err := os.Stat(filepath.Dir(o.output)); err != nil {
		return err
	}
	if err := atomicfile.Write(o.output, write); err != nil {
		return err
	}
	return app.show(map[string]any{"output": o.output, "rows": done}, func(t *term.Terminal) {
		t.Notef("%d rows in %s", done, o.output)
	})
}

func (o *generateOptions) window(ctx context.Context, m *model.Model, window []datasets.Example, out io.Writer) error {
	texts := make([]string, len(window))
	for i, example := range window {
		texts[i] = o.prefix + example.Input
	}
	found, err := m.Generate(ctx, texts)
	if err != nil {
		return err
	}
	for i, outputs := range found {
		line, err := withOutput(window[i].Raw, outputs)
		if err != nil {
			return err
		}
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
	return nil
}

// withOutput adds "output" at the end of a row's JSON object; what the row had stays as it was.
func withOutput(row []byte, outputs []model.Output) ([]byte, error) {
	added := map[string]any{"output": outputs[0].Text}
	if len(outputs) > 1 {
		added["outputs"] = outputs
	}
	extra, err := json.Marshal(added)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(row, &fields); err != nil {
		return nil, err
	}
	for key := range added {
		if _, taken := fields[key]; taken {
			return nil, usageError{fmt.Errorf("the rows have a column %q already", key)}
		}
	}
	row = []byte(strings.TrimRight(string(row), " \t\r\n"))
	line := append(row[:len(row)-1:len(row)-1], ',')
	if len(fields) == 0 {
		line = line[:len(line)-1]
	}
	return append(append(line, extra[1:]...), '\n'), nil
}
