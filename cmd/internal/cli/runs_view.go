package cli

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/runfolder"
	"github.com/t5ctl/t5ctl/internal/view"
)

// runsViewOptions is what the command line of runs view says, not yet checked.
type runsViewOptions struct {
	runs         []string
	dir          string
	port         int
	open, noOpen bool
}

func newRunsViewCommand(app *App) *cobra.Command {
	opts := runsViewOptions{dir: runsRoot}
	cmd := &cobra.Command{
		Use:   "view [run...]",
		Short: "Show runs, curves, reports and the registry in a browser, live",
		Long: "Serve pages to a browser on this machine: runs and how they stand, their curves as they train,\n" +
			"evaluation reports and exposure plots from the run folders, versions and channels of the registry\n" +
			"with their history. Only this machine can reach them, nothing is loaded from elsewhere, and nothing\n" +
			"can be changed there. Without runs, all in runs/ are shown. Ctrl-C ends it.",
		Example:           "  t5ctl runs view\n  t5ctl runs view cmudict-stress-1 --port 8090 --no-open",
		ValidArgsFunction: completeRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.runs = args
			return runRunsView(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.dir, "dir", opts.dir, "`folder` that holds the runs")
	flags.IntVar(&opts.port, "port", 0, "`port` on 127.0.0.1; 0: one that is free")
	flags.BoolVar(&opts.open, "open", false, "open a browser, which is done by itself only on a terminal of a desktop")
	flags.BoolVar(&opts.noOpen, "no-open", false, "open no browser")
	cmd.MarkFlagsMutuallyExclusive("open", "no-open")
	return cmd
}

// listing says which runs are shown, asked anew for every page.
func (o *runsViewOptions) listing() (func() ([]runfolder.Dir, []runfolder.Record, error), error) {
	if o.port < 0 || o.port > 65535 {
		return nil, usageErrorf("--port %d is no port", o.port)
	}
	if len(o.runs) == 0 {
		return func() ([]runfolder.Dir, []runfolder.Record, error) { return runfolder.List(o.dir) }, nil
	}
	var dirs []runfolder.Dir
	for _, name := range o.runs {
		dir, _, err := openRun(name)
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	return func() ([]runfolder.Dir, []runfolder.Record, error) {
		var there []runfolder.Dir
		var records []runfolder.Record
		for _, dir := range dirs {
			if _, record, err := runfolder.Open(string(dir)); err == nil { // else it is gone by now
				there, records = append(there, dir), append(records, record)
			}
		}
		return there, records, nil
	}, nil
}

// where names the place of the runs.
func (o *runsViewOptions) where() string {
	if len(o.runs) > 0 {
		return strings.Join(o.runs, ", ")
	}
	return filepath.Clean(o.dir)
}

func runRunsView(ctx context.Context, app *App, opts runsViewOptions) error {
	runs, err := opts.listing()
	if err != nil {
		return err
	}
	registry, err := app.registry()
	if err != nil {
		return err
	}
	server, err := view.New(view.Options{Runs: runs, Where: opts.where(), Source: viewSource{registry}})
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(opts.port)))
	if err != nil {
		return fmt.Errorf("opening port %d: %w", opts.port, err)
	}
	address := "http://" + listener.Addr().String() + "/"
	err = app.show(map[string]string{"url": address}, func(t *term.Terminal) { t.Println(address) })
	if err != nil {
		return err
	}
	if opts.open || !opts.noOpen && onDesktop(app) {
		if err := openBrowser(ctx, address); err != nil {
			app.Term.Notef("no browser was opened: %v", err)
		}
	}
	app.Term.Notef("only this machine can reach it; Ctrl-C ends it")
	return server.Run(ctx, listener)
}

// onDesktop says whether somebody sits before this machine's own screen.
func onDesktop(app *App) bool {
	screen := runtime.GOOS != "linux" || os.Getenv("DISPLAY")+os.Getenv("WAYLAND_DISPLAY") != ""
	return screen && os.Getenv("SSH_CONNECTION") == "" && app.Term.InIsTerminal() && !app.Term.IsJSON()
}

// openBrowser starts the user's browser and does not wait for it.
func openBrowser(ctx context.Context, address string) error {
	command := []string{"xdg-open", address}
	switch {
	case os.Getenv("BROWSER") != "":
		command[0] = os.Getenv("BROWSER")
	case runtime.GOOS == "darwin":
		command[0] = "open"
	case runtime.GOOS == "windows":
		command = []string{"rundll32", "url.dll,FileProtocolHandler", address}
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), command[0], command[1:]...) // the browser outlives us
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // so that it leaves no zombie
	return nil
}
