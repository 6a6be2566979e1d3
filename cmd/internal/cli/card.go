package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/strictyaml"
	"github.com/t5ctl/t5ctl/registry"
	"github.com/t5ctl/t5ctl/registry/card"
)

// cardText is the hand-written part of a card: card.yaml in the folder of a run.
type cardText struct {
	Version     int      `yaml:"version"`
	Title       string   `yaml:"title,omitempty"`
	Summary     string   `yaml:"summary,omitempty"`
	Language    []string `yaml:"language,omitempty"`
	License     string   `yaml:"license,omitempty"`
	LicenseName string   `yaml:"license_name,omitempty"`
	LicenseLink string   `yaml:"license_link,omitempty"`
	Task        string   `yaml:"task,omitempty"`
	Tags        []string `yaml:"tags,omitempty"`
	Intended    string   `yaml:"intended_use,omitempty"`
	OutOfScope  string   `yaml:"out_of_scope,omitempty"`
	Limitations string   `yaml:"limitations,omitempty"`
	Canaries    string   `yaml:"canaries,omitempty"` // why there are some
	Notes       string   `yaml:"notes,omitempty"`    // Markdown for the end
}

// cardTextOptions are the flags that stand in for, or overrule, card.yaml.
type cardTextOptions struct {
	path, title, license string
	languages            []string
}

func (o *cardTextOptions) bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.path, "card-text", "", "`file` with the hand-written part of the card (default DIR/card.yaml)")
	flags.StringVar(&o.title, "title", "", "`heading` of the card")
	flags.StringVar(&o.license, "license", "", "`identifier` of the model's licence, such as apache-2.0")
	flags.StringSliceVar(&o.languages, "language", nil, "`codes` of the model's languages, such as en,de")
}

func (o *cardTextOptions) given() bool {
	return o.path != "" || o.title != "" || o.license != "" || len(o.languages) > 0
}

// load reads the hand-written part and lays the flags over it.
func (o *cardTextOptions) load(source registry.Source) (cardText, error) {
	text := cardText{Version: 1}
	path := cmp.Or(o.path, filepath.Join(source.Dir, "card.yaml"))
	data, err := os.ReadFile(path)
	switch {
	case err == nil:
		text.Version = 0
		if _, err := strictyaml.Unmarshal(path, data, &text); err != nil {
			return text, err
		}
	case o.path != "" || !os.IsNotExist(err):
		return text, err
	}
	if text.Version != 1 {
		return text, usageErrorf("%s: version %d: this version reads 1", path, text.Version)
	}
	text.Title = cmp.Or(o.title, text.Title)
	text.License = cmp.Or(o.license, text.License)
	if len(o.languages) > 0 {
		text.Language = o.languages
	}
	return text, nil
}

func newCardCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "card",
		Short: "Write and check model cards",
		Long:  "Cards are in the format of the Hugging Face hub, with every figure taken from reports.",
	}
	cmd.AddCommand(newCardRenderCommand(app), newCardLintCommand(app))
	return cmd
}

// cardRenderOptions is what the command line of card render says, not yet checked.
type cardRenderOptions struct {
	push   pushOptions
	output string
}

func newCardRenderCommand(app *App) *cobra.Command {
	var opts cardRenderOptions
	cmd := &cobra.Command{
		Use:   "render DIR|REF [NAME]",
		Short: "Write the card of a run or of a version",
		Long: "Of a folder, the card that push would store; with --output, its pictures beside it. Of a\n" +
			"version, its card with what has happened to it since.",
		Example: "  t5ctl card render runs/summarizer-3 summarizer\n  t5ctl card render summarizer@production --output README.md",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.push.dir, opts.push.name = args[0], "model"
			if len(args) > 1 {
				opts.push.name = args[1]
			}
			return runCardRender(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&opts.push.reports, "report", nil, "`file` of a report, beside those in DIR/reports (repeatable)")
	flags.StringVar(&opts.push.base, "base", "", "`model` that an adapter belongs to")
	flags.StringVar(&opts.output, "output", "", "`file` to write (default: standard output)")
	opts.push.text.bind(flags)
	return cmd
}

func runCardRender(ctx context.Context, app *App, opts cardRenderOptions) error {
	text, pictures, err := app.renderOf(ctx, opts.push)
	if err != nil {
		return err
	}
	if opts.output != "" {
		if err := writeBeside(opts.output, pictures); err != nil {
			return err
		}
		if err := atomicfile.WriteBytes(opts.output, text); err != nil {
			return err
		}
		return app.show(map[string]string{"output": opts.output}, func(t *term.Terminal) { t.Println(opts.output) })
	}
	return app.show(map[string]string{"card": string(text)}, func(t *term.Terminal) { t.Printf("%s", text) })
}

// writeBeside puts the pictures of a card where it looks for them.
func writeBeside(output string, pictures []registry.File) error {
	for _, picture := range pictures {
		path := filepath.Join(filepath.Dir(output), filepath.FromSlash(picture.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := atomicfile.WriteBytes(path, picture.Data); err != nil {
			return err
		}
	}
	return nil
}

// renderOf makes the card of a folder with its pictures, or fetches the card of a version.
func (a *App) renderOf(ctx context.Context, opts pushOptions) ([]byte, []registry.File, error) {
	if info, err := os.Stat(opts.dir); err == nil && info.IsDir() {
		if err := registry.CheckModel(opts.name); err != nil {
			return nil, nil, err
		}
		source, err := opts.source()
		if err != nil {
			return nil, nil, err
		}
		text, err := opts.text.load(source)
		if err != nil {
			return nil, nil, err
		}
		return renderCard(source, opts.name, text)
	}
	ref, err := registry.ParseRef(opts.dir)
	if err != nil {
		return nil, nil, err
	}
	r, err := a.registry()
	if err != nil {
		return nil, nil, err
	}
	text, err := versionCard(ctx, r, ref)
	return text, nil, err
}

// versionCard is the stored card of a version, with the moves that the log tells of it.
func versionCard(ctx context.Context, r *registry.Registry, ref registry.Ref) ([]byte, error) {
	version, err := r.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	text, err := r.ReadFile(ctx, version.Ref, "README.md")
	if err != nil {
		return nil, err
	}
	history, err := r.History(ctx, ref.Model, "", registry.Moment{})
	if err != nil {
		return nil, err
	}
	var changes []card.Change
	for _, e := range slices.Backward(history.Events) {
		if e.To != nil && e.To.Digest == version.Digest {
			what := string(e.Kind)
			if e.Channel != "" {
				what += " " + e.Channel
			}
			changes = append(changes, card.Change{Time: e.Time, What: what, Version: versionName(e.To), Reason: e.Reason})
		}
	}
	return card.WithChanges(text, changes), nil
}

// lintError says that a card has findings.
type lintError struct {
	path     string
	findings int
}

func (e *lintError) Error() string {
	return fmt.Sprintf("%s: %d findings", e.path, e.findings)
}

func newCardLintCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "lint FILE|DIR|REF",
		Short: "Check a card for what the hub or its readers would stumble over",
		Long:  "Exit code 3 if there is a finding.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runCardLint(cmd.Context(), app, args[0])
		},
	}
}

func runCardLint(ctx context.Context, app *App, place string) error {
	text, err := app.cardOf(ctx, place)
	if err != nil {
		return err
	}
	findings := card.Lint(text)
	if findings == nil {
		findings = []card.Finding{}
	}
	err = app.show(map[string]any{"card": place, "findings": findings}, func(t *term.Terminal) {
		for _, f := range findings {
			where := place
			if f.Line > 0 {
				where = fmt.Sprintf("%s:%d", place, f.Line)
			}
			t.Printf("%s: %s: %s\n", where, f.Rule, term.Clean(f.Message))
		}
		if len(findings) == 0 {
			t.Printf("%s: ok\n", place)
		}
	})
	if err == nil && len(findings) > 0 {
		err = &lintError{place, len(findings)}
	}
	return err
}

// cardOf reads a card: a file, the README.md of a folder or of a run's model, or a version's.
func (a *App) cardOf(ctx context.Context, place string) ([]byte, error) {
	info, err := os.Stat(place)
	if err == nil && !info.IsDir() {
		return os.ReadFile(place)
	}
	if err == nil {
		text, err := os.ReadFile(filepath.Join(place, "README.md"))
		if os.IsNotExist(err) {
			text, _, err := a.renderOf(ctx, pushOptions{dir: place, name: "model"})
			return text, err
		}
		return text, err
	}
	ref, refErr := registry.ParseRef(place)
	if refErr != nil {
		return nil, err
	}
	r, err := a.registry()
	if err != nil {
		return nil, err
	}
	return r.ReadFile(ctx, ref, "README.md")
}
