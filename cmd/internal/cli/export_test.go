package cli

import (
	"context"

	"github.com/spf13/cobra"
)

// Explain shows the mapping of errors to tests.
func Explain(err error) (code int, hint string) {
	c, hint := explain(err)
	return int(c), hint
}

// ExitCodes lists the documented codes.
func ExitCodes() []int {
	var codes []int
	for _, d := range exitTable() {
		codes = append(codes, int(d.Code))
	}
	return codes
}

// WithCommand adds a command that exists in tests only.
func (a *App) WithCommand(name string, run func(context.Context) error) *App {
	all := a.commands
	a.commands = func() []entry {
		return append(all(), entry{groupDesk, func(*App) *cobra.Command {
			return &cobra.Command{
				Use:   name,
				Short: "do what a test wants",
				RunE:  func(cmd *cobra.Command, _ []string) error { return run(cmd.Context()) },
			}
		}})
	}
	return a
}

// Completed lists the commands, and the flags of single commands, that have completions of their own.
func (a *App) Completed() (commands, flags []string) {
	for path := range a.argumentCompleters() {
		commands = append(commands, path)
	}
	for name := range a.flagCompleters() {
		flags = append(flags, name)
	}
	return commands, flags
}
