package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/settings"
	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/nearest"
	"github.com/t5ctl/t5ctl/internal/plugin"
)

func newBackendCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backend",
		Short: "List, install and inspect compute backends",
		Long: "A compute backend runs the model: XLA on an NVIDIA GPU (cuda), XLA on the CPU (cpu), or pure Go (go), " +
			"which needs nothing installed and is slower. The XLA backends need a plugin, which `t5ctl backend install` brings.",
	}
	cmd.AddCommand(newBackendListCommand(app), newBackendInstallCommand(app), newBackendInfoCommand(app))
	return cmd
}

// backendRules maps the failures of backends and their plugins to exit codes.
func backendRules() []rule {
	install := func(kind string) string { return "t5ctl backend install " + kind }
	return []rule{
		as(exitDevice, func(e *plugin.NotInstalledError) string {
			return install(pluginKind(e.Kind)) + " brings it; --backend go needs no plugin"
		}),
		as(exitUsage, func(e *plugin.UnknownKindError) string { return didYouMean(nearest.Of(e.Kind, e.Known)) }),
		as(exitUsage, saying[*plugin.MissingWheelsError]("name these files with --from-wheel too, or the folder that holds all of them")),
		as(exitDevice, saying[*plugin.UnsupportedPlatformError]("--backend go works on every platform")),
		as(exitCorrupt, saying[*plugin.DamagedError]("t5ctl backend install puts a whole one in its place")),
		as(exitCorrupt, saying[*plugin.ChecksumError]("the file is damaged or is not the pinned one; nothing was unpacked")),
		as(exitNetwork, func(e *plugin.NoRouteError) string {
			return "--index-url names a mirror; without a network, fetch " + e.Wheel + " elsewhere and give it with --from-wheel"
		}),
		as(exitUsage, func(e *device.UnknownBackendError) string { return didYouMean(nearest.Of(e.Name, settings.Backends())) }),
		as(exitDevice, func(e *plugin.DriverError) string {
			if e.Kind == plugin.CUDA13 {
				return "install a newer driver; t5ctl backend install cuda12 brings a plugin for drivers from 525 on"
			}
			return "install a newer driver, or compute with --backend cpu"
		}),
		as(exitDevice, func(e *plugin.LibrariesError) string {
			return install(e.Kind) + " brings them; --nvidia-libraries names a folder that has all of them"
		}),
		as(exitFailed, saying[*device.MemoryError]("a smaller batch, --set train.gradient_checkpointing=true, or LoRA; t5ctl plan --alternatives tells what each takes")),
		as(exitDevice, saying[*device.UnavailableError]("t5ctl backend list shows what this machine has; --backend go needs nothing")),
	}
}

// pluginKind is what to install for a backend.
func pluginKind(kind string) string {
	if kind == plugin.CUDA {
		return plugin.CUDA13
	}
	return kind
}

func newBackendListCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the backends and whether they are installed",
		Example: "  t5ctl backend list",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return runBackendList(app) },
	}
}

// backendState is one line of backend list.
type backendState struct {
	plugin.State
	Status string `json:"status"` // installed, not installed, damaged, or not for this machine
}

func runBackendList(app *App) error {
	plugins, err := plugin.List()
	if err != nil {
		return err
	}
	var states []backendState
	for _, p := range plugins {
		states = append(states, backendState{p, pluginStatus(p)})
	}
	states = append(states, backendState{plugin.State{Kind: device.Go, Supported: true}, "built in"})
	return app.show(states, func(t *term.Terminal) {
		tab := term.Table{Header: []string{"BACKEND", "STATUS", "VERSION", "DOWNLOAD", "WHERE"}, Right: []int{3}}
		for _, s := range states {
			version, size, where := s.Version, "", s.Problem
			if s.Download > 0 && s.Installed == nil {
				size = term.Size(s.Download)
			}
			if s.Installed != nil {
				version, where = s.Installed.Version, s.Installed.Path
			}
			tab.Add(s.Kind, s.Status, version, size, where)
		}
		t.Table(tab)
	})
}

func pluginStatus(p plugin.State) string {
	switch {
	case p.Problem != "":
		return "damaged"
	case p.Installed != nil:
		return "installed"
	case !p.Supported:
		return "not for this machine"
	default:
		return "not installed"
	}
}

// backendInstallOptions is what the command line of backend install says, not yet checked.
type backendInstallOptions struct {
	kind      string
	fromWheel []string
	indexURL  string
	libraries string
}

func (o *backendInstallOptions) bind(flags *pflag.FlagSet) {
	flags.StringArrayVar(&o.fromWheel, "from-wheel", nil, "install from this `file` or folder, without a network; a .so is taken as it is; repeatable")
	flags.StringVar(&o.indexURL, "index-url", "", "package `index` to ask (default: the one that pip uses)")
	flags.StringVar(&o.libraries, "nvidia-libraries", "", "use NVIDIA's libraries in this `folder` instead of fetching them")
}

func newBackendInstallCommand(app *App) *cobra.Command {
	var opts backendInstallOptions
	cmd := &cobra.Command{
		Use:   "install [cpu | cuda12 | cuda13]",
		Short: "Install the plugin of a backend (default cpu)",
		Long: "Install the plugin of a backend. It is pinned and checked by its digest, wherever it comes from: " +
			"pip where there is one (with its mirror, proxy and certificates), the package index itself, or files " +
			"that you bring. A plugin that is there and whole is left alone.",
		Example: "  t5ctl backend install\n  t5ctl backend install cuda13\n" +
			"  t5ctl backend install cpu --from-wheel ./wheels   # without a network",
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: []string{plugin.CPU, plugin.CUDA12, plugin.CUDA13},
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.kind = strings.Join(append(args, plugin.CPU)[:1], "")
			return runBackendInstall(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

func runBackendInstall(ctx context.Context, app *App, opts backendInstallOptions) error {
	show := installProgress{term: app.Term}
	installed, err := plugin.Install(ctx, plugin.Options{
		Kind: opts.kind, FromWheel: opts.fromWheel, IndexURL: opts.indexURL, Libraries: opts.libraries, Progress: show.tell,
	})
	show.done()
	if err != nil {
		return fmt.Errorf("installing backend %s: %w", opts.kind, err)
	}
	return app.show(installed, func(t *term.Terminal) {
		t.Printf("%s %s is installed: %s\n", installed.Kind, installed.Version, installed.Path)
	})
}

// installProgress shows each step of an installation in its turn.
type installProgress struct {
	term    *term.Terminal
	now     plugin.Progress
	current *term.Progress
}

func (p *installProgress) tell(at plugin.Progress) {
	if p.current == nil || at.Step != p.now.Step || at.Name != p.now.Name {
		p.done()
		p.current = p.term.Progress(stepTitle(at), at.Total, term.Bytes)
	}
	p.now = at
	p.current.Set(at.Done)
}

func (p *installProgress) done() {
	if p.current != nil {
		p.current.Done()
		p.current = nil
	}
}

func stepTitle(at plugin.Progress) string {
	switch at.Step {
	case plugin.StepWait:
		return "waiting for another installation"
	case plugin.StepCheck:
		return "checking " + at.Name
	case plugin.StepFetch:
		return "fetching " + at.Name
	case plugin.StepUnpack:
		return "unpacking " + at.Name
	default:
		return string(at.Step)
	}
}

func newBackendInfoCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:     "info [auto | cuda | cpu | go]",
		Short:   "Open a backend and say what it is (default: the one set)",
		Example: "  t5ctl backend info\n  t5ctl backend info go",
		Args:    cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return settings.Backends(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return runBackendInfo(app, append(args, app.Settings.Backend)[0])
		},
	}
}

// backendInfo says what an open backend is.
type backendInfo struct {
	Backend     string `json:"backend"`
	Description string `json:"description"`
	Plugin      string `json:"plugin,omitempty"`
	Version     string `json:"plugin_version,omitempty"`
	Devices     int    `json:"devices"`
	Fallback    string `json:"fallback,omitempty"`
}

func runBackendInfo(app *App, name string) error {
	b, err := device.Open(name)
	if err != nil {
		return err
	}
	defer b.Finalize()
	info := backendInfo{
		Backend: b.Kind, Description: b.Description(), Plugin: b.Plugin, Devices: b.NumDevices(), Fallback: b.Fallback,
	}
	if installed, err := plugin.Find(b.Kind); err == nil && installed.Path == b.Plugin {
		info.Version = installed.Version
	}
	return app.show(info, func(t *term.Terminal) {
		tab := term.Table{Header: []string{"BACKEND", info.Backend}}
		tab.Add("description", info.Description)
		tab.Add("devices", fmt.Sprint(info.Devices))
		if info.Plugin != "" {
			tab.Add("plugin", strings.TrimSpace(info.Version+" "+info.Plugin))
		}
		if info.Fallback != "" {
			tab.Add("instead of", info.Fallback)
		}
		t.Table(tab)
	})
}
