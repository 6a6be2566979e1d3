package cli_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/t5ctl/t5ctl/cmd/internal/cli"
	"github.com/t5ctl/t5ctl/internal/runfolder"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"t5ctl": func() {
			if os.Getenv("T5CTL_TEST_NO_SOCKETS") != "" {
				forbidSockets()
			}
			os.Exit(cli.Main(os.Args[1:]))
		},
	})
}

// TestScript runs testdata/script/*.txtar: the binary as a user meets it, in an empty home.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireUniqueNames:  true,
		Setup:               isolate,
		UpdateScripts:       os.Getenv("T5CTL_UPDATE_SCRIPTS") != "",
		RequireExplicitExec: false,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":   exits,
			"damage":  damage,
			"replace": replace,
			"serve":   serve,
			"hub":     hubServer,
			"receive": receive,
			"hold":    hold,
			"address": address,
			"ask":     ask,
		},
	})
}

// isolate gives a script its own home, so that nothing of the developer's machine is seen. A
// compute plugin may be borrowed by setting T5CTL_PLUGIN_DIR.
func isolate(env *testscript.Env) error {
	home := filepath.Join(env.WorkDir, "home")
	for _, dir := range []string{home, filepath.Join(home, "data"), filepath.Join(home, "config"), filepath.Join(home, "state")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	env.Setenv("HOME", home)
	env.Setenv("XDG_DATA_HOME", filepath.Join(home, "data"))
	env.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "config"))
	env.Setenv("XDG_STATE_HOME", filepath.Join(home, "state"))
	env.Setenv("XDG_CACHE_HOME", filepath.Join(home, "cache"))
	env.Setenv("T5CTL_PLUGIN_DIR", os.Getenv("T5CTL_PLUGIN_DIR"))
	for name, folder := range map[string]string{"SCRIPTS": "scripts", "T5CTL_MODELS": "models"} {
		path, err := filepath.Abs(filepath.Join("..", "..", "..", folder))
		if err != nil {
			return err
		}
		env.Setenv(name, path)
	}
	env.Setenv("LC_ALL", "C.UTF-8")
	env.Setenv("TZ", "UTC")
	return nil
}

// hold keeps a run folder locked until the script ends, as a process that trains in it does: hold DIR.
func hold(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hold DIR")
	}
	lock, err := runfolder.LockDir(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Defer(lock.Release)
}

// exits runs a command and compares its exit code: exits 4 t5ctl verify nothing@v1.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARGUMENTS]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("running %s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d; want %d", got, want)
	}
}
