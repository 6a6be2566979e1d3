package cli

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/settings"
	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/strictyaml"
	"github.com/t5ctl/t5ctl/recipes"
)

// loadRecipe reads the recipe that a command names, a file or a preset, and lays the environment
// and the values of --set over it.
func (a *App) loadRecipe(name string, sets []string) (recipes.Loaded, error) {
	overrides, err := recipes.Environment(os.Environ())
	if err != nil {
		return recipes.Loaded{}, err
	}
	for _, text := range sets {
		o, err := recipes.ParseSet(text)
		if err != nil {
			return recipes.Loaded{}, err
		}
		overrides = append(overrides, o)
	}
	path, err := recipePath(name)
	if err != nil {
		return recipes.Loaded{}, err
	}
	return recipes.Load(path, overrides)
}

// recipePath is the file of a recipe. A preset's name, where no file has it, is unpacked into the
// cache with its data.
func recipePath(name string) (string, error) {
	if _, err := os.Stat(name); err == nil || strings.ContainsAny(name, `/\.`) {
		return name, nil
	}
	preset, err := recipes.FindPreset(name)
	if err != nil {
		return "", err
	}
	digest, err := preset.Digest()
	if err != nil {
		return "", err
	}
	path := filepath.Join(settings.CacheHome(), "t5ctl", "presets", digest[:12], name+".yaml")
	if _, err := preset.Copy(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return path, nil
}

// bindSet adds --set, which may be repeated.
func bindSet(flags *pflag.FlagSet, sets *[]string) {
	flags.StringArrayVar(sets, "set", nil, "give a `key=value` of the recipe, as train.steps=200; repeatable")
}

// completeRecipe offers presets beside files.
func completeRecipe(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	presets, err := recipes.Presets()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, p := range presets {
		names = append(names, p.Name+"\t"+p.Description)
	}
	return names, cobra.ShellCompDirectiveDefault
}

func newRecipeCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "recipe",
		Short: "List, show, copy and check recipes",
		Long: "A recipe is a YAML file that says what a run does: the base model, the data, how it is trained, " +
			"evaluated, and gated. An unknown key is an error, and all problems are told at once. " +
			"Relative paths in the file are seen from its folder.\n\n" +
			"Some recipes come with t5ctl. Name one directly, or copy it and change it:\n\n" +
			"  t5ctl finetune cmudict-stress\n  t5ctl recipe copy cmudict-stress my-recipe.yaml\n\n" +
			"A key can be given without touching the file, on the command line, which wins, or in the environment:\n\n" +
			"  --set train.steps=200\n  T5CTL_TRAIN_STEPS=200",
	}
	cmd.AddCommand(newRecipeListCommand(app), newRecipeShowCommand(app), newRecipeCopyCommand(app),
		newRecipeValidateCommand(app), newRecipeSchemaCommand(app))
	return cmd
}

// recipeRules maps the failures of recipes to exit codes.
func recipeRules() []rule {
	return []rule{
		as(exitUsage, saying[*strictyaml.Error]("t5ctl recipe schema lists every key and what it means")),
		as(exitNotFound, func(e *recipes.UnknownPresetError) string { return didYouMean(e.Nearest) }),
		as(exitNotFound, saying[*missingBaseError]("archives and packages of t5ctl have it, and T5CTL_MODELS says where it is; --base names another model")),
		as(exitNotFound, func(e *recipes.NotFoundError) string { return didYouMean(e.Nearest) }),
	}
}

func newRecipeListCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the recipes that come with t5ctl",
		Example: "  t5ctl recipe list",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			presets, err := recipes.Presets()
			if err != nil {
				return err
			}
			return app.show(presets, func(t *term.Terminal) {
				tab := term.Table{Header: []string{"NAME", "METHOD", "WHAT IT DOES"}}
				for _, p := range presets {
					tab.Add(p.Name, p.Method, p.Description)
				}
				t.Table(tab)
			})
		},
	}
}

// recipeShowOptions is what the command line of recipe show says, not yet checked.
type recipeShowOptions struct {
	name     string
	sets     []string
	resolved bool
}

func newRecipeShowCommand(app *App) *cobra.Command {
	var opts recipeShowOptions
	cmd := &cobra.Command{
		Use:   "show <recipe>",
		Short: "Show a recipe: the file, or with every key resolved",
		Long: "Show a recipe, a preset or a file. With --resolved every key is shown as a run would\n" +
			"use it: defaults, the file, T5CTL_* variables and --set, in this order.",
		Example:           "  t5ctl recipe show cmudict-stress\n  t5ctl recipe show my.yaml --resolved --set train.steps=200",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeRecipe,
		RunE: func(_ *cobra.Command, args []string) error {
			opts.name = args[0]
			return runRecipeShow(app, opts)
		},
	}
	cmd.Flags().BoolVar(&opts.resolved, "resolved", false, "show every key as a run would use it")
	bindSet(cmd.Flags(), &opts.sets)
	return cmd
}

func runRecipeShow(app *App, opts recipeShowOptions) error {
	opts.resolved = opts.resolved || len(opts.sets) > 0
	loaded, err := app.loadRecipe(opts.name, opts.sets)
	if err != nil {
		return err
	}
	text := loaded.Text
	if opts.resolved {
		if text, err = loaded.YAML(); err != nil {
			return err
		}
	}
	result := map[string]string{"name": loaded.Name, "path": loaded.Path, "text": string(text)}
	return app.show(result, func(t *term.Terminal) { t.Printf("%s", text) })
}

func newRecipeCopyCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:               "copy <preset> [FILE or FOLDER]",
		Short:             "Copy a preset and its data to a place where you can change it",
		Long:              "Copy a preset to FILE (default PRESET.yaml here), and the data that it names to data/\nbeside it. Files that are there already are never overwritten.",
		Example:           "  t5ctl recipe copy cmudict-stress my-recipe.yaml",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: completeRecipe,
		RunE: func(_ *cobra.Command, args []string) error {
			target := args[0] + ".yaml"
			if len(args) == 2 {
				if info, err := os.Stat(args[1]); err == nil && info.IsDir() {
					target = filepath.Join(args[1], target)
				} else {
					target = args[1]
				}
			}
			return runRecipeCopy(app, args[0], target)
		},
	}
}

func runRecipeCopy(app *App, name, target string) error {
	preset, err := recipes.FindPreset(name)
	if err != nil {
		return err
	}
	written, err := preset.Copy(target)
	if err != nil {
		return err
	}
	result := struct {
		Recipe  string   `json:"recipe"`
		Written []string `json:"written"`
	}{target, written}
	return app.show(result, func(t *term.Terminal) {
		for _, path := range written {
			t.Println(path)
		}
	})
}

func newRecipeValidateCommand(app *App) *cobra.Command {
	var sets []string
	cmd := &cobra.Command{
		Use:               "validate <recipe>",
		Short:             "Check a recipe and tell all problems at once",
		Long:              "Check a recipe: every key is known, every value is possible, and the data files are\nthere. All problems are told at once, each with its line.",
		Example:           "  t5ctl recipe validate my-recipe.yaml",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeRecipe,
		RunE: func(_ *cobra.Command, args []string) error {
			return runRecipeValidate(app, args[0], sets)
		},
	}
	bindSet(cmd.Flags(), &sets)
	return cmd
}

func runRecipeValidate(app *App, name string, sets []string) error {
	loaded, err := app.loadRecipe(name, sets)
	if err != nil {
		return err
	}
	if err := loaded.CheckFiles(); err != nil {
		return err
	}
	result := struct {
		Recipe string `json:"recipe"`
		Name   string `json:"name"`
		Valid  bool   `json:"valid"`
	}{loaded.Path, loaded.Name, true}
	return app.show(result, func(t *term.Terminal) { t.Printf("%s: ok\n", loaded.Path) })
}

func newRecipeSchemaCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Write the JSON schema of a recipe: every key and what it means",
		Long: "Write the JSON schema of a recipe. Editors use it to complete and check:\n" +
			"save it and begin the recipe with\n\n  # yaml-language-server: $schema=recipe.schema.json",
		Example: "  t5ctl recipe schema > recipe.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return app.show(json.RawMessage(recipes.Schema()), func(t *term.Terminal) { t.Printf("%s", recipes.Schema()) })
		},
	}
}
