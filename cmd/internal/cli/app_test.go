package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
	"github.com/t5ctl/t5ctl/cmd/internal/cli"
	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/plugin"
	"github.com/t5ctl/t5ctl/trainer"
)

// run runs one command line in process and returns what it wrote.
func run(t *testing.T, ctx context.Context, do func(context.Context) error, args ...string) (code int, out, errs string) {
	t.Helper()
	home := t.TempDir()
	for _, name := range []string{"HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"} {
		t.Setenv(name, home)
	}
	var stdout, stderr bytes.Buffer
	app := cli.NewApp(strings.NewReader(""), &stdout, &stderr)
	if do != nil {
		app.WithCommand("act", do)
	}
	code = app.Run(ctx, args)
	return code, stdout.String(), stderr.String()
}

func TestExplain(t *testing.T) {
	tests := map[string]struct {
		err  error
		code int
		hint string
	}{
		"nothing":     {nil, 0, ""},
		"any":         {errors.New("it broke"), 1, ""},
		"interrupted": {fmt.Errorf("training: %w", context.Canceled), 130, ""},
		"saved": {
			fmt.Errorf("x: %w", &trainer.InterruptedError{Step: 7, Checkpoint: filepath.Join("runs", "a-1", "checkpoints", "00000007")}),
			130, "--resume --output " + filepath.Join("runs", "a-1") + " goes on",
		},
		"no plugin": {&device.UnavailableError{Name: "cpu", Err: &plugin.NotInstalledError{Kind: "cpu", Dir: "x"}}, 7, "t5ctl backend install cpu"},
		"old driver": {
			&device.UnavailableError{Name: "cuda", Err: &plugin.DriverError{Kind: "cuda13", Have: "535.104.05", Want: 580}},
			7, "install a newer driver; t5ctl backend install cuda12",
		},
		"no cuDNN": {
			&device.UnavailableError{Name: "cuda", Err: &plugin.LibrariesError{Kind: "cuda13", Dir: "x", Missing: []string{"libcudnn.so.9"}}},
			7, "t5ctl backend install cuda13",
		},
		"no network": {&plugin.NoRouteError{Kind: "cpu", Wheel: "w.whl", Tried: []error{errors.New("refused")}}, 8, "--index-url"},
		"full on the way": {
			&plugin.NoRouteError{Kind: "cpu", Wheel: "w.whl", Tried: []error{fmt.Errorf("writing: %w", syscall.ENOSPC)}}, 1, "free some space",
		},
		"no file":   {fmt.Errorf("reading: %w", &fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}), 4, ""},
		"disk full": {fmt.Errorf("saving: %w", syscall.ENOSPC), 1, "free some space"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			code, hint := cli.Explain(tt.err)
			if code != tt.code || !strings.HasPrefix(hint, tt.hint) {
				t.Errorf("Explain(%v) = %d, %q; want %d, %q…", tt.err, code, hint, tt.code, tt.hint)
			}
		})
	}
}

// TestExitCodes holds the interface that scripts rely on, and that the help documents it.
func TestExitCodes(t *testing.T) {
	want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 130}
	if got := cli.ExitCodes(); !slices.Equal(got, want) {
		t.Errorf("exit codes %v; want %v", got, want)
	}
	_, out, _ := run(t, t.Context(), nil, "help", "exit-codes")
	for _, code := range want {
		if !strings.Contains(out, fmt.Sprintf("\n  %-3d  ", code)) {
			t.Errorf("help exit-codes does not name %d:\n%s", code, out)
		}
	}
}

func TestPanic(t *testing.T) {
	secret := "Jane Roe, 12 Elm Street"
	code, out, errs := run(t, t.Context(), func(context.Context) error { panic("cannot handle " + secret) }, "act")
	if code != 1 || out != "" {
		t.Errorf("code %d, stdout %q; want 1 and nothing", code, out)
	}
	if !strings.Contains(errs, "t5ctl: error: internal error: cannot handle") || strings.Contains(errs, "goroutine") {
		t.Errorf("stderr %q; want one clear error and no stack", errs)
	}
	reports, _ := filepath.Glob(filepath.Join(os.Getenv("XDG_STATE_HOME"), "t5ctl", "crashes", "*.txt"))
	if len(reports) != 1 {
		t.Fatalf("crash reports %v; want one", reports)
	}
	report, err := os.ReadFile(reports[0])
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(report), "Jane") || !strings.Contains(string(report), "TestPanic") {
		t.Errorf("the report must show the stack and no data:\n%s", report)
	}
}

func TestPanicDebug(t *testing.T) {
	_, _, errs := run(t, t.Context(), func(context.Context) error { panic("oh") }, "act", "--debug")
	if !strings.Contains(errs, "goroutine") || !strings.Contains(errs, "TestPanicDebug") {
		t.Errorf("stderr without the stack:\n%s", errs)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	code, out, errs := run(t, ctx, func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return fmt.Errorf("training: %w", ctx.Err())
	}, "act", "--json")
	if code != 130 || out != "" {
		t.Errorf("code %d, stdout %q; want 130 and nothing", code, out)
	}
	var got struct {
		Error struct {
			Code          int
			Message, Hint string
		}
	}
	if err := json.Unmarshal([]byte(errs), &got); err != nil || got.Error.Code != 130 || got.Error.Message != "training: interrupted" {
		t.Errorf("stderr %q (%v); want code 130 and the message as JSON", errs, err)
	}
}

// failingWriter is a disk that is full.
type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestOutputLost(t *testing.T) {
	var stderr bytes.Buffer
	code := cli.NewApp(strings.NewReader(""), failingWriter{}, &stderr).Run(t.Context(), []string{"version"})
	if code != 1 || !strings.Contains(stderr.String(), "writing the result: no space left") {
		t.Errorf("code %d, stderr %q; want 1 and the reason", code, stderr.String())
	}
}

// TestTree holds what every command must have.
func TestTree(t *testing.T) {
	var stdout, stderr bytes.Buffer
	root := cli.NewRoot(cli.NewApp(strings.NewReader(""), &stdout, &stderr))
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		names := map[string]bool{}
		for _, sub := range cmd.Commands() {
			if names[sub.Name()] {
				t.Errorf("%s: there are two of that name", sub.CommandPath())
			}
			names[sub.Name()] = true
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short help %q must be there, without a full stop", cmd.CommandPath(), cmd.Short)
		}
		if cmd != root && (cmd.PersistentPreRunE != nil || cmd.PersistentPreRun != nil) {
			t.Errorf("%s: a hook of its own hides the one that reads the settings", cmd.CommandPath())
		}
		if !cmd.IsAdditionalHelpTopicCommand() && !cmd.HasSubCommands() && cmd.RunE == nil {
			t.Errorf("%s: has no RunE", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(root)
}

// TestHelp holds every page of help to 80 columns, usage lines and examples excepted.
func TestHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	root := cli.NewRoot(cli.NewApp(strings.NewReader(""), &stdout, &stderr))
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		_, out, _ := run(t, t.Context(), nil, append([]string{"help"}, strings.Fields(cmd.CommandPath())[1:]...)...)
		text, _, _ := strings.Cut(out, "\nExamples\n")
		for line := range strings.Lines(text) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > 80 && !strings.HasPrefix(line, "  t5ctl") {
				t.Errorf("%s: %d columns: %s", cmd.CommandPath(), n, line)
			}
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(root)
}

// engineError is a failure of the compute engine, which knows more than it says.
type engineError struct{}

func (engineError) Error() string  { return "shapes differ" }
func (engineError) Detail() string { return "shapes differ\n\tnetwork.go:12" }

func TestDebugShowsWhatTheEngineKnows(t *testing.T) {
	fail := func(context.Context) error { return fmt.Errorf("compiling t5.gradients: %w", engineError{}) }
	if _, _, errs := run(t, t.Context(), fail, "act"); errs != "t5ctl: error: compiling t5.gradients: shapes differ\n" {
		t.Errorf("stderr %q", errs)
	}
	if _, _, errs := run(t, t.Context(), fail, "act", "--debug"); !strings.HasPrefix(errs, "shapes differ\n\tnetwork.go:12\nt5ctl: error: ") {
		t.Errorf("stderr with --debug %q", errs)
	}
}

// What completions are bound to must be there.
func TestCompletionsAreOfCommandsAndFlagsThatExist(t *testing.T) {
	app := cli.NewApp(strings.NewReader(""), io.Discard, io.Discard)
	root := cli.NewRoot(app)
	commands, flags := app.Completed()
	for _, path := range commands {
		if cmd, rest, err := root.Find(strings.Fields(path)); err != nil || len(rest) > 0 || cmd.CommandPath() != "t5ctl "+path {
			t.Errorf("no command %s", path)
		}
	}
	for _, name := range flags {
		path, flag, _ := strings.Cut(name, "--")
		if path = strings.TrimSpace(path); path == "" || path == "t5ctl" {
			continue // of many commands, which the script test looks at, or of all
		}
		if cmd, _, err := root.Find(strings.Fields(path)); err != nil || cmd.CommandPath() != "t5ctl "+path || cmd.Flags().Lookup(flag) == nil {
			t.Errorf("no flag %s", name)
		}
	}
}
