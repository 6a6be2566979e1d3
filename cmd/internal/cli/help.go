package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/t5ctl/t5ctl/cmd/internal/settings"
	"github.com/t5ctl/t5ctl/internal/nearest"
)

// helpColumns is the width that help is wrapped to, whatever the terminal.
const helpColumns = 79

// topic is a page of help that belongs to no command.
type topic struct{ name, short, text string }

func topics() []topic {
	return []topic{
		{"environment", "variables that t5ctl reads", environmentText()},
		{"exit-codes", "what the exit code of a command means", exitCodesText()},
		{"references", "how a model is named", referencesText()},
	}
}

// newTopicCommands makes the pages reachable as cobra's additional help topics.
func newTopicCommands() []*cobra.Command {
	var cmds []*cobra.Command
	for _, t := range topics() {
		cmds = append(cmds, &cobra.Command{Use: t.name, Short: t.short, Long: t.text})
	}
	return cmds
}

func newHelpCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:     "help [command | topic]",
		Short:   "Help about a command or a topic",
		Example: "  t5ctl help finetune\n  t5ctl help exit-codes",
		GroupID: string(groupDesk),
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return helpNames(cmd.Root()), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			at := cmd.Root()
			for _, arg := range args {
				next := child(at, arg)
				if next == nil {
					return hintedUsageError{
						usageErrorf("no command and no help topic %q", strings.Join(args, " ")),
						didYouMean(nearest.Of(arg, helpNames(at))),
					}
				}
				at = next
			}
			app.help(at, nil)
			return nil
		},
	}
}

func child(cmd *cobra.Command, name string) *cobra.Command {
	for _, sub := range cmd.Commands() {
		if sub.Name() == name || sub.HasAlias(name) {
			return sub
		}
	}
	return nil
}

func helpNames(cmd *cobra.Command) []string {
	var names []string
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			names = append(names, sub.Name())
		}
	}
	return names
}

// help shows the page of a command or topic on stdout; it was asked for, so it is the result.
func (a *App) help(cmd *cobra.Command, _ []string) {
	text := helpText(cmd, a.Term.Strong)
	if a.Term.IsJSON() {
		_ = a.Term.JSON(map[string]string{"command": cmd.CommandPath(), "help": text}) // kept by the stream
		return
	}
	a.Term.Printf("%s", text)
}

// helpText is the page of a command: what it is for, how it is called, what it takes.
func helpText(cmd *cobra.Command, heading func(string) string) string {
	var b strings.Builder
	if cmd.IsAdditionalHelpTopicCommand() {
		return cmd.Long
	}
	b.WriteString(paragraphs(orElse(cmd.Long, cmd.Short)))
	section := func(title, text string) {
		if text = strings.TrimRight(text, "\n"); text != "" {
			fmt.Fprintf(&b, "\n%s\n%s\n", heading(title), text)
		}
	}
	usage := "  " + cmd.UseLine()
	if cmd.HasAvailableSubCommands() {
		usage = "  " + cmd.CommandPath() + " <command> [flags]"
	}
	section("Usage", usage)
	for _, g := range cmd.Groups() {
		section(g.Title, commandList(cmd, g.ID))
	}
	title := "Commands"
	if !cmd.HasParent() {
		title = "More"
	}
	section(title, commandList(cmd, ""))
	section("Flags", cmd.LocalNonPersistentFlags().FlagUsagesWrapped(helpColumns))
	section("Global flags", cmd.Root().PersistentFlags().FlagUsagesWrapped(helpColumns))
	section("Examples", cmd.Example)
	if !cmd.HasParent() {
		section("Help topics", topicList(cmd))
		section("Learn more", "  t5ctl help <command | topic>")
	}
	return b.String()
}

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

func commandList(cmd *cobra.Command, groupID string) string {
	var rows [][2]string
	for _, sub := range cmd.Commands() {
		if sub.GroupID == groupID && sub.IsAvailableCommand() {
			rows = append(rows, [2]string{sub.Name(), sub.Short})
		}
	}
	return definitionList(rows)
}

func topicList(cmd *cobra.Command) string {
	var rows [][2]string
	for _, sub := range cmd.Commands() {
		if sub.IsAdditionalHelpTopicCommand() {
			rows = append(rows, [2]string{sub.Name(), sub.Short})
		}
	}
	return definitionList(rows)
}

// definitionList aligns names and wraps what they mean, indented by two.
func definitionList(rows [][2]string) string {
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	var b strings.Builder
	for _, r := range rows {
		lines := wrapped(r[1], helpColumns-width-4)
		fmt.Fprintf(&b, "  %-*s  %s\n", width, r[0], strings.Join(lines, "\n"+strings.Repeat(" ", width+4)))
	}
	return b.String()
}

// paragraphs fills running text to the width of help; indented lines stay as they are.
func paragraphs(text string) string {
	var b, running strings.Builder
	flush := func() {
		if running.Len() > 0 {
			b.WriteString(strings.Join(wrapped(running.String(), helpColumns), "\n") + "\n")
			running.Reset()
		}
	}
	for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		if line == "" || strings.HasPrefix(line, " ") {
			flush()
			b.WriteString(line + "\n")
		} else {
			running.WriteString(line + " ")
		}
	}
	flush()
	return b.String()
}

// wrapped breaks text at spaces into lines of at most width columns where words allow it.
func wrapped(text string, width int) []string {
	lines := []string{""}
	for word := range strings.FieldsSeq(text) {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = word
		case len(*last)+1+len(word) <= width:
			*last += " " + word
		default:
			lines = append(lines, word)
		}
	}
	return lines
}

func exitCodesText() string {
	rows := [][2]string{}
	for _, d := range exitTable() {
		text := d.Meaning
		if d.Detail != "" {
			text += " (" + d.Detail + ")"
		}
		rows = append(rows, [2]string{fmt.Sprint(int(d.Code)), text})
	}
	return "Exit codes are an interface: scripts may rely on them. They mean the same with\n" +
		"--json, where an error is {\"error\": {\"code\", \"message\", \"hint\"}} on stderr.\n\n" +
		definitionList(rows)
}

func environmentText() string {
	var rows [][2]string
	for _, k := range settings.Keys() {
		rows = append(rows, [2]string{k.Env(), strings.ReplaceAll(k.Doc, "`", "")})
	}
	rows = append(rows,
		[2]string{"T5CTL_CONFIG", "configuration file (default $XDG_CONFIG_HOME/t5ctl/config.yaml)"},
		[2]string{"T5CTL_PROGRAM_CACHE", "where compiled programs are kept for later runs; empty keeps none (default $XDG_CACHE_HOME/t5ctl/programs)"},
		[2]string{"T5CTL_PLUGIN_DIR", "where compute plugins are kept (default $XDG_DATA_HOME/t5ctl/plugins)"},
		[2]string{"T5CTL_MODELS", "where the models that ship along are (default: models beside the program)"},
		[2]string{"PIP_INDEX_URL", "package index that `backend install` asks"},
		[2]string{"HF_HOME", "folder of the Hugging Face tools, whose cache t5ctl shares (default ~/.cache/huggingface); HF_HUB_CACHE names the cache alone"},
		[2]string{"HF_TOKEN", "who you are on the Hugging Face hub; else what `hf auth login` kept"},
		[2]string{"HF_ENDPOINT", "another hub or a mirror (default https://huggingface.co)"},
		[2]string{"HF_HUB_OFFLINE", "1: open no connection to the hub, use what its cache holds"},
		[2]string{"MLFLOW_TRACKING_USERNAME", "user at the server of --mlflow, with MLFLOW_TRACKING_PASSWORD; or MLFLOW_TRACKING_TOKEN"},
		[2]string{"NO_COLOR", "no color, even on a terminal"},
		[2]string{"COLUMNS", "width of tables where the terminal does not tell it"},
		[2]string{"XDG_CONFIG_HOME", "where the configuration is kept (default ~/.config)"},
		[2]string{"XDG_DATA_HOME", "where registry and plugins are kept (default ~/.local/share)"},
		[2]string{"XDG_CACHE_HOME", "where unpacked presets are kept (default ~/.cache)"},
		[2]string{"XDG_STATE_HOME", "where crash reports are kept (default ~/.local/state)"},
	)
	return "A setting is taken from the flag, else from the environment, else from the\n" +
		"configuration file (same names, as YAML), else it has its default.\n\n" + definitionList(rows)
}

func referencesText() string {
	return "A model is named in one of these ways, wherever a command takes a model:\n\n" + definitionList([][2]string{
		{"models/my-model", "a local folder in the Hugging Face layout, or a run folder"},
		{"name@v7", "version 7 in the registry; it never changes"},
		{"name@production", "the version that the channel serves now"},
		{"name@sha256:…", "the version with this digest"},
		{"hf:owner/name@revision", "a model of the Hugging Face hub, at a branch, tag or commit (default main)"},
	}) + "\nA model of the hub is fetched once into the cache that the hub's tools share,\nand used from there without a connection; `t5ctl pull hf:...` asks again. Data\nis named hf:owner/name@revision/data/train-*.parquet.\n" + "\nThe registry is --registry DIR or --registry oci://host/prefix; by default it is\n" +
		"$XDG_DATA_HOME/t5ctl/registry.\n"
}
