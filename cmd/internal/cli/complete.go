package cli

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/settings"
	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/recipes"
)

// completer offers what an argument or a flag may be.
type completer = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective)

// argumentCompleters says by command what its arguments may be; commands that are not here say it themselves, or
// take files.
func (a *App) argumentCompleters() map[string]completer {
	version, reference, name := first(a.completeNames(versionNames)), first(a.completeReference), first(a.completeNames(modelNames))
	channel, key := first(a.completeNames(channelNames)), first(completeKey)
	return map[string]completer{
		"promote": version, "rollback": name, "history": name, "pull": version, "verify": version,
		"push":          second(a.completeNames(modelNames)),
		"registry list": name, "registry show": version, "registry diff": a.completeNames(versionNames), "registry export": version,
		"registry audit": a.completeNames(modelNames), "registry gc": a.completeNames(modelNames), "registry repair": name,
		"registry bundle create": a.completeNames(versionNames), "registry audit export": name,
		"registry key list": name, "registry key rotate": key, "registry key revoke": key,
		"card render": reference, "card lint": reference, "model inspect": reference, "model merge": reference, "model export": reference,
		"emit prometheus": channel, "emit grafana": channel, "emit kubernetes": channel, "emit runbook": channel, "emit postmortem": channel,
		"eval run": completeRecipe, "backend install": first(fixed("cpu", "cuda12", "cuda13")),
	}
}

// flagCompleters says what a flag of a command may be: by the command and the flag, or by the flag alone.
func (a *App) flagCompleters() map[string]completer {
	return map[string]completer{
		"--model": a.completeReference, "--base": a.completeReference, "eval gate --baseline": a.completeReference, "data drift --baseline": a.completeReference,
		"--warm-from":  a.completeNames(versionNames),
		"promote --to": a.completeNames(servingNames), "--channel": a.completeNames(servingNames), "promote --expect": a.completeNames(expectedNames),
		"rollback --to": a.completeNames(numberNames),
		"--set":         completeSet, "init --recipe": completePreset, "doctor --recipe": completePreset, "data drift --recipe": completePreset,
		"--metric": fixed(eval.MetricNames()...), "tokenizer encode --mode": fixed(recipes.TokenizerModes()...), "tokenizer decode --mode": fixed(recipes.TokenizerModes()...),
		"tokenizer stats --mode": fixed(recipes.TokenizerModes()...), "init --ci": fixed(ciSystems()...),
		"t5ctl --backend": fixed(settings.Backends()...), "t5ctl --key": completeKey,
	}
}

// bindCompletions gives every command of the tree its completions.
func (a *App) bindCompletions(root *cobra.Command) {
	arguments, flags := a.argumentCompleters(), a.flagCompleters()
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		path := strings.TrimPrefix(cmd.CommandPath(), root.Name()+" ")
		if c, ok := arguments[path]; ok {
			cmd.ValidArgsFunction = c
		}
		bind := func(f *pflag.Flag) {
			c, ok := flags[path+" --"+f.Name]
			if !ok && cmd != root {
				c, ok = flags["--"+f.Name]
			}
			if ok {
				_ = cmd.RegisterFlagCompletionFunc(f.Name, c) // it fails for a flag that is not there, or was bound before
			}
		}
		cmd.Flags().VisitAll(bind)
		cmd.PersistentFlags().VisitAll(bind)
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(root)
}

// first offers something for the first argument only.
func first(c completer) completer {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return c(cmd, args, toComplete)
	}
}

// second offers files for the first argument and something for the second.
func second(c completer) completer {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		switch len(args) {
		case 0:
			return nil, cobra.ShellCompDirectiveDefault
		case 1:
			return c(cmd, nil, toComplete)
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

func fixed(names ...string) completer {
	return cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp)
}

// entryNames are the names that one model of the registry stands for; args are the arguments before.
type entryNames func(m *known, args []string) []string

// known is a model of the registry as completions see it.
type known struct {
	name     string
	versions []string          // vN
	channels map[string]string // name to the version that serves
}

func modelNames(m *known, _ []string) []string { return []string{m.name} }

func versionNames(m *known, _ []string) (all []string) {
	for _, v := range m.versions {
		all = append(all, m.name+"@"+v)
	}
	return append(all, channelNames(m, nil)...)
}

func channelNames(m *known, _ []string) (all []string) {
	for _, c := range slices.Sorted(maps.Keys(m.channels)) {
		all = append(all, m.name+"@"+c+"\tserves "+m.channels[c])
	}
	return all
}

// of says whether the first argument names the model, or there is none.
func (m *known) of(args []string) bool {
	if len(args) == 0 {
		return true
	}
	name, _, _ := strings.Cut(args[0], "@")
	return name == m.name
}

func servingNames(m *known, args []string) []string {
	if !m.of(args) {
		return nil
	}
	return slices.Sorted(maps.Keys(m.channels))
}

func numberNames(m *known, args []string) []string {
	if !m.of(args) {
		return nil
	}
	return m.versions
}

func expectedNames(m *known, args []string) []string {
	return append(slices.Clone(numberNames(m, args)), "none\tthe channel serves nothing yet")
}

// completeNames offers names of the registry. One behind a server is not asked: a key press must not wait for a network.
func (a *App) completeNames(of entryNames) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		names := a.known(cmd, func(m *known) []string { return of(m, args) })
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeReference offers versions, and folders beside them.
func (a *App) completeReference(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.known(cmd, func(m *known) []string { return versionNames(m, nil) }), cobra.ShellCompDirectiveDefault
}

func (a *App) known(cmd *cobra.Command, of func(m *known) []string) (names []string) {
	s, err := settings.Load(cmd.Flags())
	if err != nil || strings.Contains(s.Registry, "://") {
		return nil
	}
	s.Key, s.Policy = "", ""
	a.Settings = s
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	r, err := a.registry()
	if err != nil {
		return nil
	}
	models, err := r.Models(ctx)
	if err != nil {
		return nil
	}
	for _, name := range models {
		m := known{name: name, channels: map[string]string{}}
		versions, err := r.List(ctx, name)
		if err != nil {
			continue // what is damaged is told by the command itself
		}
		for _, v := range versions {
			_, number, _ := strings.Cut(v.Name, "@")
			m.versions = append(m.versions, number)
			for _, c := range v.Channels {
				m.channels[c] = number
			}
		}
		names = append(names, of(&m)...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func completeKey(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	list, err := keys().List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, k := range list {
		names = append(names, k.Name)
	}
	return names, cobra.ShellCompDirectiveDefault // or the file of a key
}

func completePreset(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	return completeRecipe(cmd, nil, toComplete)
}

// completeSet offers the keys of a recipe and, after the equals sign, the words that a key may be.
func completeSet(_ *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	var all []string
	if key, _, given := strings.Cut(toComplete, "="); given {
		for _, value := range recipes.Enums()[key] {
			all = append(all, key+"="+value)
		}
		return all, cobra.ShellCompDirectiveNoFileComp
	}
	for _, key := range recipes.Keys() {
		all = append(all, key+"=")
	}
	return all, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
}
