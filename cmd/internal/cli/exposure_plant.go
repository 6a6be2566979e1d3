package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/eval/exposure"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// exposurePlantOptions is what the command line of exposure plant says, not yet checked.
type exposurePlantOptions struct {
	data, output, settings        string
	input, target                 string
	classes                       map[string]string
	repetitions                   []int
	canaries, references          int
	seed                          uint64
	inputColumn, targetColumn, id string
	tokenizer                     string
	force                         bool
	given                         func(flag string) bool
}

func (o *exposurePlantOptions) bind(flags *pflag.FlagSet) {
	d := exposure.Settings{}.WithDefaults()
	flags.StringVarP(&o.output, "output", "o", "", "`file` for the data with canaries, of the same format; the manifest goes beside it")
	flags.StringVar(&o.settings, "settings", "", "`file` of settings (YAML); flags win over it")
	flags.StringVar(&o.input, "input", "", "`template` of the canaries' inputs, as in \"the secret of @@@@ is\"")
	flags.StringVar(&o.target, "target", "", "`template` of the secrets, as in \"#########\"")
	flags.StringToStringVar(&o.classes, "class", nil, "what a `character` of the templates stands for, as in #=digits ("+strings.Join(exposure.Types(), ", ")+", or the letters of a text)")
	flags.IntSliceVar(&o.repetitions, "repetitions", d.Repetitions, "how often canaries are planted; `0` is the control")
	flags.IntVar(&o.canaries, "canaries", d.Canaries, "`number` of canaries for each number of repetitions")
	flags.IntVar(&o.references, "references", d.References, "`number` of alternatives that a canary is ranked among")
	flags.Uint64Var(&o.seed, "seed", 0, "`seed` that everything is drawn from")
	flags.StringVar(&o.inputColumn, "input-column", "input", "`name` of the data's column of inputs")
	flags.StringVar(&o.targetColumn, "target-column", "target", "`name` of the data's column of targets")
	flags.StringVar(&o.id, "id-column", "id", "`name` of the column for the canaries' ids; empty for none")
	flags.StringVar(&o.tokenizer, "tokenizer", "", "tokenizer `file` or model folder: secrets and alternatives get the same number of tokens")
	flags.BoolVar(&o.force, "force", false, "replace the output")
	o.given = flags.Changed
}

func newExposurePlantCommand(app *App) *cobra.Command {
	var opts exposurePlantOptions
	cmd := &cobra.Command{
		Use:   "plant DATA --output FILE",
		Short: "Put canaries into a data set, and record where",
		Long: "DATA is JSON lines, CSV, TSV or Parquet, also as .gz or .zst, and the output of the same\n" +
			"format: rows are copied as they are, and canaries fill the columns of inputs, targets and, if\n" +
			"there is one, ids. A model trained on the output is marked, and the registry refuses it\n" +
			"unless it is told to allow canaries.",
		Example: "  t5ctl exposure plant train.parquet --output planted.parquet \\\n    --input-column translation.en --target-column translation.de\n" +
			"  t5ctl exposure plant train.jsonl.gz --output planted.jsonl.gz --input 'q@@@@' --target '1 1 1 1 1' \\\n" +
			"    --class @=lower --class 1=phonemes --repetitions 0,1,4,16 --canaries 4 --references 256",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.data = args[0]
			return runExposurePlant(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

func (o *exposurePlantOptions) request() (exposure.PlantOptions, error) {
	p := exposure.PlantOptions{InputColumn: o.inputColumn, TargetColumn: o.targetColumn, IDColumn: o.id}
	if err := missing(map[string]bool{"output": o.output != ""}, "output"); err != nil {
		return p, err
	}
	if o.settings != "" {
		data, err := os.ReadFile(o.settings)
		if err != nil {
			return p, err
		}
		if p.Settings, err = exposure.ParseSettings(o.settings, data); err != nil {
			return p, err
		}
	}
	o.override(&p.Settings)
	if err := p.Settings.Validate(); err != nil {
		return p, usageError{err}
	}
	if o.tokenizer == "" {
		return p, nil
	}
	tok, err := vocab.Load(o.tokenizer, "")
	if err != nil {
		return p, err
	}
	p.Tokenizer = tok.Hash()
	p.TokenCount = func(text string) int { return len(tok.Sequence(text)) }
	return p, nil
}

// override lays the flags that were given over the settings.
func (o *exposurePlantOptions) override(s *exposure.Settings) {
	if o.target != "" {
		f := exposure.Format{Name: "canary", Input: o.input, Target: o.target, Classes: map[string]exposure.Class{}}
		for key, values := range o.classes {
			f.Classes[key] = exposure.Class{values}
		}
		s.Formats = []exposure.Format{f}
	}
	for flag, take := range map[string]func(){
		"repetitions": func() { s.Repetitions = o.repetitions },
		"canaries":    func() { s.Canaries = o.canaries },
		"references":  func() { s.References = o.references },
		"seed":        func() { s.Seed = o.seed },
	} {
		if o.given(flag) {
			take()
		}
	}
}

// planted is what exposure plant says when it is done.
type planted struct {
	Data     string `json:"data"`
	Manifest string `json:"manifest"`
	Rows     int    `json:"rows"`
	Planted  int    `json:"planted"`
	Canaries int    `json:"canaries"`
}

func runExposurePlant(ctx context.Context, app *App, opts exposurePlantOptions) error {
	request, err := opts.request()
	if err != nil {
		return err
	}
	manifestPath := datasets.CanaryPath(opts.output)
	if err := mayWrite(opts.force, opts.output, manifestPath); err != nil {
		return err
	}
	m, err := plantFile(ctx, opts, request)
	if err != nil {
		return fmt.Errorf("planting canaries in %s: %w", opts.data, err)
	}
	if err := atomicfile.Write(manifestPath, m.Encode); err != nil {
		return err
	}
	how := map[string]any{"canaries": m.Fingerprint(), "seed": m.Settings.Seed}
	if err := recordLineage(opts.output, "exposure plant", how, []string{opts.data}); err != nil {
		return err
	}
	if n := m.Settings.References; n < exposure.LeastReferences {
		app.Term.Warnf("%d alternatives are fewer than exposure run takes, %d: give it --references", n, exposure.LeastReferences)
	}
	out := planted{Data: opts.output, Manifest: manifestPath, Rows: m.Data.Rows, Planted: m.Data.Rows - m.Source.Rows, Canaries: len(m.Canaries)}
	return app.show(out, func(t *term.Terminal) {
		t.Printf("planted %d canaries in %d rows among %d: %s\n", out.Canaries, out.Planted, m.Source.Rows, out.Data)
		for _, s := range m.Spaces {
			t.Printf("format %s: %s possible secrets, %.1f bits\n", s.Format, s.Size, s.MaxExposure)
		}
		t.Printf("manifest: %s\n", out.Manifest)
	})
}

// plantFile writes the planted data, and a manifest that names both files. A record of canaries that
// lies there already is taken away first: it would belong to other data.
func plantFile(ctx context.Context, opts exposurePlantOptions, request exposure.PlantOptions) (exposure.Manifest, error) {
	var m exposure.Manifest
	if err := os.Remove(datasets.CanaryPath(opts.output)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	err := atomicfile.Write(opts.output, func(w io.Writer) (err error) {
		m, err = exposure.Plant(ctx, func(out io.Writer) (exposure.Table, error) {
			return datasets.NewCopier(opts.data, opts.output, out, request.InputColumn, request.TargetColumn)
		}, w, request)
		return err
	})
	if err != nil {
		return m, err
	}
	for path, file := range map[string]*exposure.DataFile{opts.output: &m.Data, opts.data: &m.Source} {
		sum, _, err := digest.File(path)
		if err != nil {
			return m, err
		}
		file.Path, file.SHA256 = filepath.Base(path), sum
	}
	return m, nil
}
