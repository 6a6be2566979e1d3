package cli

import (
	"bytes"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/nearest"
)

// shells lists the shells that completions are written for.
func shells() []string { return []string{"bash", "fish", "powershell", "zsh"} }

func newCompletionCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "completion <bash | fish | powershell | zsh>",
		Short: "Write a completion script for a shell",
		Long: "Write a completion script for a shell. Packages install it for you; by hand:\n\n" +
			"  t5ctl completion bash > ~/.local/share/bash-completion/completions/t5ctl\n" +
			"  t5ctl completion zsh > \"${fpath[1]}/_t5ctl\"\n" +
			"  t5ctl completion fish > ~/.config/fish/completions/t5ctl.fish",
		Example:   "  source <(t5ctl completion bash)",
		Args:      cobra.ExactArgs(1),
		ValidArgs: shells(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runCompletion(app, cmd.Root(), args[0])
		},
	}
}

func runCompletion(app *App, root *cobra.Command, shell string) error {
	if !slices.Contains(shells(), shell) {
		return hintedUsageError{
			usageErrorf("no completion for the shell %q: there are %s", shell, strings.Join(shells(), ", ")),
			didYouMean(nearest.Of(shell, shells())),
		}
	}
	var script bytes.Buffer
	write := map[string]func() error{
		"bash":       func() error { return root.GenBashCompletionV2(&script, true) },
		"fish":       func() error { return root.GenFishCompletion(&script, true) },
		"powershell": func() error { return root.GenPowerShellCompletionWithDesc(&script) },
		"zsh":        func() error { return root.GenZshCompletion(&script) },
	}[shell]
	if err := write(); err != nil {
		return err
	}
	result := map[string]string{"shell": shell, "script": script.String()}
	return app.show(result, func(t *term.Terminal) { t.Printf("%s", script.String()) })
}
