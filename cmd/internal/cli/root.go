package cli

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/t5ctl/t5ctl/cmd/internal/settings"
	"github.com/t5ctl/t5ctl/internal/nearest"
)

// group is a heading of the help under which commands stand.
type group string

const (
	groupTrain    group = "train"
	groupEvaluate group = "evaluate"
	groupData     group = "data"
	groupRegistry group = "registry"
	groupOperate  group = "operate"
	groupDesk     group = "desk"
)

func groups() []*cobra.Group {
	return []*cobra.Group{
		{ID: string(groupTrain), Title: "Train, generate and serve"},
		{ID: string(groupEvaluate), Title: "Evaluate and test"},
		{ID: string(groupData), Title: "Data and tokenizers"},
		{ID: string(groupRegistry), Title: "Models and registry"},
		{ID: string(groupOperate), Title: "Serve and operate"},
		{ID: string(groupDesk), Title: "This machine and this tool"},
	}
}

// entry puts one command under one heading.
type entry struct {
	group group
	make  func(*App) *cobra.Command
}

// commands lists every command, one line each.
func commands() []entry {
	return []entry{
		{groupTrain, newTrainCommand},
		{groupTrain, newFinetuneCommand},
		{groupTrain, newGenerateCommand},
		{groupOperate, newServeCommand},
		{groupRegistry, newModelCommand},
		{groupTrain, newRecipeCommand},
		{groupEvaluate, newEvalCommand},
		{groupEvaluate, newExposureCommand},
		{groupData, newDataCommand},
		{groupData, newTokenizerCommand},
		{groupRegistry, newPushCommand},
		{groupRegistry, newPullCommand},
		{groupRegistry, newPromoteCommand},
		{groupRegistry, newRollbackCommand},
		{groupRegistry, newHistoryCommand},
		{groupRegistry, newVerifyCommand},
		{groupRegistry, newRegistryCommand},
		{groupRegistry, newCardCommand},
		{groupTrain, newInitCommand},
		{groupTrain, newPlanCommand},
		{groupTrain, newRunsCommand},
		{groupOperate, newEmitCommand},
		{groupOperate, newCanaryCommand},
		{groupDesk, newDoctorCommand},
		{groupDesk, newBackendCommand},
		{groupDesk, newBenchCommand},
		{groupDesk, newVersionCommand},
		{groupDesk, newCompletionCommand},
	}
}

// NewRoot makes the whole command tree. It does no work: nothing is opened or read until a
// command runs.
func NewRoot(app *App) *cobra.Command {
	root := &cobra.Command{
		Use:   "t5ctl",
		Short: "Train, evaluate, gate and release T5 models",
		Long: "t5ctl carries a T5 model through its whole life: train it, fine-tune it,\n" +
			"evaluate it, test what it memorized, gate it, and keep its versions so that\n" +
			"you can go back.",
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: app.prepare,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetIn(app.Term.In())
	root.SetOut(app.Term.Out())
	root.SetErr(app.Term.Err())
	root.SetHelpFunc(app.help)
	root.SetFlagErrorFunc(flagError)
	settings.Bind(root.PersistentFlags())
	root.AddGroup(groups()...)
	for _, e := range app.commands() {
		cmd := e.make(app)
		cmd.GroupID = string(e.group)
		root.AddCommand(cmd)
	}
	root.AddCommand(newTopicCommands()...)
	root.SetHelpCommand(newHelpCommand(app))
	app.finish(root)
	app.bindCompletions(root)
	return root
}

// finish gives every command of the tree what all have in common.
func (a *App) finish(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		a.finish(sub)
	}
	switch {
	case cmd.RunE != nil:
		run := cmd.RunE
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			a.started = true
			return run(cmd, args)
		}
	case cmd.HasSubCommands():
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = groupOnly
	}
}

// groupOnly runs where a command was named that only holds others: without arguments it shows
// them, with one it says which was probably meant.
func groupOnly(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	return unknownCommand(cmd, args[0])
}

func unknownCommand(cmd *cobra.Command, name string) error {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, append(sub.Aliases, sub.Name())...)
		}
	}
	alike := nearest.Ranked(name, names)
	for i := range alike {
		alike[i] = cmd.CommandPath() + " " + alike[i]
	}
	return hintedUsageError{
		usageErrorf("unknown command %q for %q", name, cmd.CommandPath()),
		didYouMean(alike[:min(2, len(alike))]...),
	}
}

// flagError says which flag was probably meant.
func flagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	if args := cmd.Flags().Args(); cmd.HasSubCommands() && len(args) > 0 {
		return unknownCommand(cmd, args[0]) // the flag belongs to a command that is not there
	}
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || strings.HasPrefix(err.Error(), "unknown shorthand") {
		return usageError{err}
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	hint := ""
	if near := nearest.Of(unknown.GetSpecifiedName(), names); near != "" {
		hint = didYouMean("--" + near)
	}
	return hintedUsageError{usageErrorf("unknown flag --%s of %q", unknown.GetSpecifiedName(), cmd.CommandPath()), hint}
}
