// Package cli is the command line of t5ctl: one file a command, joined in root.go.
//
// A command is thin. Its flags fill an options struct, request() turns that into domain types or
// says what is wrong, one call does the work, one call shows the result. Results go to stdout,
// everything else to stderr; explain.go alone knows exit codes, hints and command names.
package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/t5ctl/t5ctl/cmd/internal/settings"
	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/machine"
)

// App is what every command is given: where to speak, what is set, where to log.
type App struct {
	Term     *term.Terminal
	Settings settings.Settings // valid once a command runs
	Log      *slog.Logger      // discards unless --debug

	commands func() []entry // the tree below the root
	started  bool           // the command's own code was reached: what fails now is no usage error
}

// Main runs t5ctl with the process's streams and signals and returns the exit code. The first
// SIGINT or SIGTERM cancels the command's context, so that it can save; the second one kills.
func Main(args []string) int {
	if computes(args) {
		machine.UseHugePages()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return NewApp(os.Stdin, os.Stdout, os.Stderr).Run(ctx, args)
}

// computes says whether the command line is one that runs a model, by its first word.
func computes(args []string) bool {
	first := slices.IndexFunc(args, func(arg string) bool { return !strings.HasPrefix(arg, "-") })
	return first >= 0 && slices.Contains([]string{"train", "finetune", "generate", "serve", "eval", "exposure", "bench"}, args[first])
}

// NewApp makes an App that speaks on the given streams.
func NewApp(in io.Reader, out, err io.Writer) *App {
	return &App{
		Term:     term.New(in, out, err, os.Getenv),
		Log:      slog.New(slog.DiscardHandler),
		commands: commands,
	}
}

// Run runs one command line and returns the exit code; all errors have been told by then.
func (a *App) Run(ctx context.Context, args []string) int {
	a.started = false
	a.Term.SetMode(wantsJSON(args), false) // until the settings are read, which may fail
	root := NewRoot(a)
	root.SetArgs(args)
	cmd, err := a.execute(ctx, root, wantsDebug(args))
	if err == nil && a.Term.Failure() != nil {
		err = &outputError{a.Term.Failure()}
	}
	if err == nil {
		return int(exitDone)
	}
	return int(a.tell(cmd, err))
}

// execute runs the command line; a panic becomes an error, and a report without data on disk.
func (a *App) execute(ctx context.Context, root *cobra.Command, debug bool) (cmd *cobra.Command, err error) {
	defer func() {
		if value := recover(); value != nil {
			err = newCrash(root, value, debug || a.Settings.Debug)
		}
	}()
	return root.ExecuteContextC(ctx)
}

// tell writes the error to stderr and returns the exit code it stands for.
func (a *App) tell(cmd *cobra.Command, err error) exitCode {
	code, hint := explain(err)
	if !a.started && code == exitFailed {
		code = exitUsage // cobra's own errors carry no type
	}
	if code == exitUsage && hint == "" && cmd != nil {
		hint = cmd.CommandPath() + " --help shows how it is used"
	}
	if crash, ok := errors.AsType[*crashError](err); ok && crash.stack != "" {
		_, _ = io.WriteString(a.Term.Err(), crash.stack) // nowhere left to tell
	}
	if engine, ok := errors.AsType[interface {
		error
		Detail() string
	}](err); ok && a.Settings.Debug {
		_, _ = io.WriteString(a.Term.Err(), engine.Detail()+"\n") // nowhere left to tell
	}
	a.Term.Failed(int(code), message(err), hint)
	return code
}

// message is the error's text; what was interrupted is called so.
func message(err error) string {
	return strings.ReplaceAll(err.Error(), context.Canceled.Error(), "interrupted")
}

// show writes a result: value as JSON under --json, else what human writes.
func (a *App) show(value any, human func(t *term.Terminal)) error {
	if a.Settings.JSON {
		return a.Term.JSON(value)
	}
	human(a.Term)
	return nil
}

// prepare reads the settings; it runs before every command.
func (a *App) prepare(cmd *cobra.Command, _ []string) error {
	s, err := settings.Load(cmd.Flags())
	if err != nil {
		return err
	}
	a.Settings = s
	a.Term.SetMode(s.JSON, s.Quiet)
	if s.Debug {
		a.Log = slog.New(slog.NewTextHandler(a.Term.Err(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return nil
}

// wantsJSON looks for --json before the command line is understood, so that even a wrong one is
// answered in the form that was asked for.
func wantsJSON(args []string) bool { return wantsFlag(args, "json") }

func wantsDebug(args []string) bool { return wantsFlag(args, "debug") }

func wantsFlag(args []string, name string) bool {
	on, _ := strconv.ParseBool(os.Getenv("T5CTL_" + strings.ToUpper(name)))
	for _, arg := range args {
		switch {
		case arg == "--":
			return on
		case arg == "--"+name:
			on = true
		case strings.HasPrefix(arg, "--"+name+"="):
			on, _ = strconv.ParseBool(strings.TrimPrefix(arg, "--"+name+"="))
		}
	}
	return on
}
