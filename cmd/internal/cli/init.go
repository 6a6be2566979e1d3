package cli

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/nearest"
	"github.com/t5ctl/t5ctl/internal/strictyaml"
	"github.com/t5ctl/t5ctl/recipes"
)

// projectFiles are the files of a project that do not depend on its recipe.
//
//go:embed project
var projectFiles embed.FS //nolint:gochecknoglobals // embedding needs a variable

// initOptions is what the command line of init says, not yet checked.
type initOptions struct {
	dir, preset, name, base, ci string
}

// ciSystems are those that init writes a workflow for, and none.
func ciSystems() []string { return []string{"github", "gitlab", "none"} }

func (o *initOptions) bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.preset, "recipe", "cmudict-stress", "`preset` to start from (t5ctl recipe list)")
	flags.StringVar(&o.name, "name", "", "`name` of runs and model (default: the preset's)")
	flags.StringVar(&o.base, "base", "", "`model` to start from (default: the preset's)")
	flags.StringVar(&o.ci, "ci", "github", "`system` to write a workflow for: github, gitlab or none")
}

func newInitCommand(app *App) *cobra.Command {
	var opts initOptions
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Start a project: a recipe, its data, gates and a CI workflow",
		Long: "Start a project in DIR (default: here): recipe.yaml with its data and base, gates.yaml, exposure.yaml, " +
			".gitignore, and a workflow that trains, evaluates and gates. On a terminal what no flag says is asked. Nothing that is there is overwritten.",
		Example: "  t5ctl init g2p\n  t5ctl init g2p --recipe cmudict-stress --name g2p-stress --ci gitlab",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.dir = append(args, ".")[0]
			if err := opts.ask(app, cmd.Flags().Changed); err != nil {
				return err
			}
			return runInit(app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

// ask puts the questions that no flag has answered, if somebody is there to answer.
func (o *initOptions) ask(app *App, given func(flag string) bool) error {
	if !app.Term.InIsTerminal() || app.Settings.JSON || app.Settings.Quiet {
		return nil
	}
	questions := []struct {
		flag, text string
		answer     *string
	}{{"recipe", "recipe to start from", &o.preset}, {"name", "name of runs and model", &o.name}, {"ci", "CI system (github, gitlab, none)", &o.ci}}
	for _, q := range questions {
		if q.flag == "name" && o.name == "" {
			o.name = o.preset
		}
		if given(q.flag) {
			continue
		}
		answer, err := app.Term.Ask(q.text, *q.answer)
		if err != nil {
			return err
		}
		*q.answer = answer
	}
	return nil
}

// project is a checked request: the files to write beside the recipe and its data.
type project struct {
	preset recipes.Preset
	name   string            // of its runs
	base   string            // models/NAME of a shipped base to copy; "" where the recipe names another
	files  map[string][]byte // by slash-separated path in the project
	recipe string
}

func (o *initOptions) request() (project, error) {
	if !slices.Contains(ciSystems(), o.ci) {
		return project{}, hintedUsageError{
			usageErrorf("--ci %q is none of %s", o.ci, strings.Join(ciSystems(), ", ")), didYouMean(nearest.Of(o.ci, ciSystems())),
		}
	}
	preset, err := recipes.FindPreset(o.preset)
	if err != nil {
		return project{}, err
	}
	if o.name != "" {
		if err := recipes.CheckName(o.name); err != nil {
			return project{}, usageErrorf("--name %w", err)
		}
	}
	preset.Text = o.edit(preset.Text)
	p := project{preset: preset, files: make(map[string][]byte), recipe: filepath.Join(o.dir, "recipe.yaml")}
	if name, ok := shippedBase(preset); ok {
		p.base = name
	}
	if p.name = o.name; p.name == "" {
		p.name = preset.Name
	}
	gates, err := gatesOf(preset)
	if err != nil {
		return project{}, err
	}
	p.files["gates.yaml"] = gates
	from := map[string]string{".gitignore": "gitignore", "ci/evaluate.sh": "evaluate.sh", "exposure.yaml": "exposure.yaml"}
	if bytes.Contains(preset.Text, []byte("cmudict")) { // its targets are phonemes, and so must secrets be
		from["exposure.yaml"] = "exposure-phonemes.yaml"
	}
	switch o.ci {
	case "github":
		from[".github/workflows/evaluate.yml"] = "github.yml"
	case "gitlab":
		from[".gitlab-ci.yml"] = "gitlab.yml"
	default:
		delete(from, "ci/evaluate.sh")
	}
	for name, template := range from {
		if p.files[name], err = projectFiles.ReadFile("project/" + template); err != nil {
			return project{}, err
		}
	}
	return p, nil
}

// shippedBase says which of the models that ship along a preset starts from.
func shippedBase(preset recipes.Preset) (name string, ok bool) {
	r := recipes.Default()
	if _, err := strictyaml.Unmarshal(preset.Name, preset.Text, &r); err != nil {
		return "", false
	}
	name = strings.TrimPrefix(r.Base, "../../")
	return name, strings.HasPrefix(name, "models/")
}

// gatesOf makes the gates file of the preset's own gates, or of its first metric.
func gatesOf(preset recipes.Preset) ([]byte, error) {
	r := recipes.Default()
	if _, err := strictyaml.Unmarshal(preset.Name, preset.Text, &r); err != nil {
		return nil, err
	}
	gates := eval.Gates{Version: 1, Gates: r.Gates}
	if len(gates.Gates) == 0 {
		drop := 0.0
		gates.Gates = []eval.Gate{{Metric: "loss", MaxDrop: &drop}}
		if metrics, err := eval.ParseMetrics(r.Eval.Metrics); err == nil && len(metrics) > 0 {
			gates.Gates[0].Metric = metrics[0].Name
		}
	}
	text, err := strictyaml.Marshal(gates)
	return append([]byte("# Bounds that a report must keep: t5ctl eval gate --report REPORT --gates gates.yaml\n"), text...), err
}

func runInit(app *App, opts initOptions) error {
	p, err := opts.request()
	if err != nil {
		return err
	}
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range p.files {
			if !yield(name) {
				return
			}
		}
	})
	for _, name := range append([]string{"recipe.yaml"}, names...) {
		if err := mayWrite(false, filepath.Join(opts.dir, filepath.FromSlash(name))); err != nil {
			return err
		}
	}
	if p.base != "" && shippedModel(p.base) == "" && !exists(filepath.Join(opts.dir, filepath.FromSlash(p.base))) {
		return &missingBaseError{base: p.base, looked: shippedModels()}
	}
	written, err := p.preset.Copy(p.recipe)
	if err != nil {
		return err
	}
	if p.base != "" {
		base, err := copyShippedModel(opts.dir, p.base)
		if err != nil {
			return err
		}
		written = append(written, base)
	}
	for _, name := range names {
		path := filepath.Join(opts.dir, filepath.FromSlash(name))
		if err := writeProjectFile(path, p.files[name]); err != nil {
			return err
		}
		written = append(written, path)
	}
	result := struct {
		Dir     string   `json:"dir"`
		Recipe  string   `json:"recipe"`
		Written []string `json:"written"`
	}{opts.dir, p.recipe, written}
	return app.show(result, func(t *term.Terminal) {
		for _, path := range written {
			t.Println(path)
		}
		t.Notef("next, in %s:\n  t5ctl finetune recipe.yaml --evaluate\n  t5ctl eval gate --report runs/%s-1/reports --gates gates.yaml", opts.dir, p.name)
	})
}

func writeProjectFile(path string, text []byte) error {
	mode := fs.FileMode(0o644)
	if strings.HasSuffix(path, ".sh") {
		mode = 0o755
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return atomicfile.WriteMode(path, mode, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// edit puts name and base into the preset's text, comments left alone.
func (o *initOptions) edit(text []byte) []byte {
	for key, value := range map[string]string{"name": o.name, "base": o.base} {
		if value != "" {
			line := strings.ReplaceAll(fmt.Sprintf("%s: %q", key, value), "$", "$$")
			text = regexp.MustCompile(`(?m)^`+key+`: .*$`).ReplaceAll(text, []byte(line))
		}
	}
	return text
}
