package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/eval/exposure"
	"github.com/t5ctl/t5ctl/internal/model"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// exposureExtractOptions is what the command line of exposure extract says, not yet checked.
type exposureExtractOptions struct {
	model, adapter string
	manifest       string
	train, heldout []string
	columns        datasets.Columns
	prefix         string
	limit          int
	beams          []int
	guesses        int
	maxNewTokens   int
	report         reportOptions
	given          func(flag string) bool
}

func (o *exposureExtractOptions) bind(flags *pflag.FlagSet) {
	flags.StringVarP(&o.model, "model", "m", "", "`model`: a folder, a run, name@vN or name@channel")
	flags.StringVar(&o.adapter, "adapter", "", "`adapter` on top of it: a PEFT folder or a run")
	flags.StringArrayVar(&o.train, "train", nil, "`file` of rows that the model was trained on (repeatable)")
	flags.StringArrayVar(&o.heldout, "heldout", nil, "`file` of rows of the same kind that it never saw (repeatable)")
	flags.StringVar(&o.columns.Input, "input-column", "", "`name` of the column with the input")
	flags.StringVar(&o.columns.Target, "target-column", "", "`name` of the column with the target")
	flags.StringVar(&o.prefix, "prefix", "", "`text` before every input (default: the one that the model was trained with)")
	flags.IntVar(&o.limit, "limit", 1000, "try a sample of `n` rows of either side; 0 tries all")
	flags.IntSliceVar(&o.beams, "beams", []int{1, 10}, "search for secrets with so many `beams`")
	flags.IntVar(&o.guesses, "guesses", 1000, "`number` of guesses over a canary's format, likeliest first; 0 for none")
	flags.IntVar(&o.maxNewTokens, "max-new-tokens", 0, "cut outputs on held-out rows after `n` tokens (default: the model's)")
	o.report.bind(flags, "extraction")
	o.given = flags.Changed
}

func newExposureExtractCommand(app *App) *cobra.Command {
	var opts exposureExtractOptions
	cmd := &cobra.Command{
		Use:   "extract [DATA|MANIFEST] --model <model>",
		Short: "Try to get secrets and training targets out of a model",
		Long: "With what exposure plant wrote: look for each secret by greedy and beam search, and through\n" +
			"its format, likeliest first, counting guesses. With --train and --heldout: how often targets\n" +
			"come back word for word, how much of the outputs on held-out rows stands in the training\n" +
			"data and not in the input, and whether personal data comes out.",
		Example: "  t5ctl exposure extract planted.jsonl --model runs/mine --guesses 10000\n" +
			"  t5ctl exposure extract --model runs/mine --train train.jsonl --heldout test.jsonl --output runs/mine/reports",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				opts.manifest = args[0]
			}
			return runExposureExtract(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

func (o *exposureExtractOptions) check() error {
	if err := missing(map[string]bool{"model": o.model != ""}, "model"); err != nil {
		return err
	}
	switch {
	case o.manifest == "" && len(o.train) == 0:
		return usageErrorf("there is nothing to extract: give planted data, or --train and --heldout")
	case (len(o.train) > 0) != (len(o.heldout) > 0):
		return usageErrorf("--train and --heldout go together: one says what memory is, the other what skill is")
	case o.limit < 0 || o.guesses < 0 || o.maxNewTokens < 0:
		return usageErrorf("--limit, --guesses and --max-new-tokens must not be negative")
	}
	for _, b := range o.beams {
		if b < 1 || b > 1000 {
			return usageErrorf("--beams %d is not between 1 and 1000", b)
		}
	}
	if !slices.Contains(o.beams, 1) {
		o.beams = append([]int{1}, o.beams...)
	}
	slices.Sort(o.beams)
	o.beams = slices.Compact(o.beams)
	return nil
}

// extraction is one attempt under way.
type extraction struct {
	app    *App
	opts   exposureExtractOptions
	model  *model.Model
	prefix string
	result exposure.Extraction
	print  *datasets.Fingerprinter
	rows   int
}

func runExposureExtract(ctx context.Context, app *App, opts exposureExtractOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	var manifest exposure.Manifest
	if opts.manifest != "" {
		var err error
		if manifest, err = readManifest(opts.manifest); err != nil {
			return err
		}
	}
	resolved, err := app.withAdapter(ctx, opts.model, opts.adapter)
	if err != nil {
		return err
	}
	m, closeModel, err := app.openModel(ctx, opts.model, opts.adapter)
	if err != nil {
		return err
	}
	defer closeModel()
	x := &extraction{app: app, opts: opts, model: m, prefix: m.Prefix, print: datasets.NewFingerprinter()}
	x.result.Beams, x.result.Budget = opts.beams, opts.guesses
	if opts.given("prefix") {
		x.prefix = opts.prefix
	}
	fingerprint := ""
	if opts.manifest != "" {
		if err := x.canaries(ctx, manifest); err != nil {
			return err
		}
		fingerprint = manifest.Fingerprint()
	}
	if len(opts.train) > 0 {
		if err := x.fromRows(ctx); err != nil {
			return err
		}
		fingerprint = x.print.Sum()
	}
	report, err := x.result.Report(fingerprint, x.rows)
	if err != nil {
		return err
	}
	if err := opts.report.keep(&report, opts.model, opts.adapter, resolved); err != nil {
		return err
	}
	return app.show(report, func(t *term.Terminal) {
		x.show(t)
		t.Table(resultsTable(report.Metrics))
		opts.report.told(t, report)
	})
}

func (x *extraction) canaries(ctx context.Context, m exposure.Manifest) error {
	attack := exposure.CanaryAttack{
		Scorer: tokenScorer{x.model}, Writer: searcher{x.model}, Tokens: x.model.Tokenizer.Sequence, Beams: x.opts.beams, Prefix: x.prefix,
	}
	if x.opts.guesses > 0 {
		continuer := x.model.Continuer()
		defer continuer.Close()
		attack.Guesser = &exposure.Guesser{Model: continuer, Pieces: pieceTexts(x.model.Tokenizer), EOS: x.model.Tokenizer.EOSID(), Budget: x.opts.guesses}
	}
	progress := x.app.Term.Progress("extracting canaries", int64(len(m.Canaries)), "canaries")
	defer progress.Done()
	attack.Done = func(done, _ int) { progress.Set(int64(done)) }
	var err error
	x.result.Canaries, err = m.ExtractCanaries(ctx, attack)
	x.rows += len(m.Canaries)
	return err
}

// pieceTexts is what each token writes.
func pieceTexts(tok *vocab.Tokenizer) []string {
	texts := make([]string, tok.Size())
	for id := range texts {
		special := tok.Decode([]int32{int32(id)}, true) == "" && tok.Mode() != vocab.ModeBytes
		piece, ok := tok.Piece(int32(id))
		switch {
		case tok.Mode() == vocab.ModeBytes && id >= 3 && id < 3+256:
			texts[id] = string([]byte{byte(id - 3)})
		case ok && tok.Mode() != vocab.ModeBytes && (!special || strings.Trim(piece, "▁") == ""):
			texts[id] = strings.ReplaceAll(piece, "▁", " ")
		}
	}
	return texts
}

// searcher writes outputs by greedy or beam search.
type searcher struct{ *model.Model }

// Write gives the outputs of a search with so many beams, best first; tokens of 0 leave the limit as it
// is.
func (s searcher) Write(ctx context.Context, sources []string, beams, tokens int) ([][]string, error) {
	own := s.Generation
	defer func() { s.Generation = own }()
	s.Generation.Sample, s.Generation.Beams, s.Generation.NumReturnSequences = false, beams, beams
	if tokens > 0 {
		s.Generation.MaxNewTokens = (tokens + 7) / 8 * 8 // few limits, few programs
	}
	if beams > 1 {
		s.Generation.BatchRows = max(1, s.Generation.BatchRows/beams)
	}
	found, err := s.Generate(ctx, sources)
	if err != nil {
		return nil, err
	}
	texts := make([][]string, len(found))
	for i, outputs := range found {
		for _, o := range outputs {
			texts[i] = append(texts[i], o.Text)
		}
	}
	return texts, nil
}

// fromRows compares training rows with held-out ones.
func (x *extraction) fromRows(ctx context.Context) error {
	train, err := exposureRows(x.opts.train, x.opts.columns, x.opts.limit, x.print)
	if err != nil {
		return err
	}
	heldout, err := exposureRows(x.opts.heldout, x.opts.columns, x.opts.limit, x.print)
	if err != nil {
		return err
	}
	x.rows += len(train) + len(heldout)
	progress := x.app.Term.Progress("scoring rows", int64(len(train)+len(heldout)), "rows")
	defer progress.Done()
	done := func(rows int) { progress.Add(int64(rows)) }
	seen, err := exposure.ScoreRows(ctx, tokenScorer{x.model}, x.prefix, train, done)
	if err != nil {
		return err
	}
	fresh, err := exposure.ScoreRows(ctx, tokenScorer{x.model}, x.prefix, heldout, done)
	if err != nil {
		return err
	}
	progress.Done()
	r := exposure.NewRowExtraction(seen, fresh)
	x.result.Rows = &r
	outputs, err := x.outputs(ctx, heldout)
	if err != nil {
		return err
	}
	if err := x.overlap(ctx, heldout, outputs); err != nil {
		return err
	}
	probe := exposure.PIIProbe{Writer: searcher{x.model}, Prefix: x.prefix, Key: make([]byte, 32), Tokens: x.opts.maxNewTokens}
	if _, err := rand.Read(probe.Key); err != nil { // thrown away: hashes tell values apart in this report alone
		return err
	}
	x.result.PII, err = probe.Run(ctx, train, heldout)
	return err
}

// outputs writes the best output of each row.
func (x *extraction) outputs(ctx context.Context, rows []exposure.Row) ([]string, error) {
	progress := x.app.Term.Progress("generating", int64(len(rows)), "rows")
	defer progress.Done()
	var out []string
	for chunk := range slices.Chunk(rows, 256) {
		sources := make([]string, len(chunk))
		for i, r := range chunk {
			sources[i] = x.prefix + r.Input
		}
		found, err := searcher{x.model}.Write(ctx, sources, 1, x.opts.maxNewTokens)
		if err != nil {
			return nil, err
		}
		for _, texts := range found {
			out = append(out, texts[0])
		}
		progress.Add(int64(len(chunk)))
	}
	return out, nil
}

// overlap reads all training data past the outputs.
func (x *extraction) overlap(ctx context.Context, rows []exposure.Row, outputs []string) error {
	tok := x.model.Tokenizer
	tokens := func(text string) []int32 {
		ids := tok.Sequence(text)
		return ids[:len(ids)-1]
	}
	o := exposure.NewOverlap()
	for i, r := range rows {
		o.Add(r.ID, tokens(outputs[i]), tokens(x.prefix+r.Input))
	}
	if err := x.app.fetchData(ctx, x.opts.train); err != nil {
		return err
	}
	files, err := datasets.Paths(x.opts.train).Files()
	if err != nil {
		return err
	}
	progress := x.app.Term.Progress("comparing with the training data", 0, "rows")
	defer progress.Done()
	for e, err := range datasets.ReadFiles(files, datasets.ReadOptions{Columns: x.opts.columns}) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		o.Feed(tokens(e.Input))
		o.Feed(tokens(e.Target))
		progress.Add(1)
	}
	result := o.Result()
	x.result.Overlap = &result
	return nil
}

// show writes a line for each canary.
func (x *extraction) show(t *term.Terminal) {
	if len(x.result.Canaries) == 0 {
		return
	}
	tab := term.Table{Header: []string{"canary", "repetitions", "greedy", "beams", "guesses"}, Right: []int{1, 4}}
	for _, c := range x.result.Canaries {
		greedy := fmt.Sprintf("%d of %d tokens", c.Greedy.Prefix, c.Tokens)
		if c.Greedy.Exact {
			greedy = "found"
		}
		beams := "–"
		for _, b := range x.opts.beams {
			if c.Beams[b] && b > 1 {
				beams = fmt.Sprintf("found by %d", b)
				break
			}
		}
		guesses := "–"
		if c.Guess != nil {
			guesses = fmt.Sprintf("> %d", c.Guess.Guesses)
			if c.Guess.Found {
				guesses = fmt.Sprint(c.Guess.Guesses)
			}
		}
		tab.Add(c.ID, fmt.Sprint(c.Repetitions), greedy, beams, guesses)
	}
	t.Table(tab)
	t.Println()
}
