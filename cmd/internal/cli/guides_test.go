package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestGuides runs every command of docs/guides, in pure Go and an empty home. In a guide's console blocks each line after "$ "
// is a command. A comment <!-- test: … --> before a block says how the test differs from what a reader does: "env K=V …" makes
// training short, "exits N" is the code of the block's last command, "replace FILE OLD NEW" loosens a gate.
func TestGuides(t *testing.T) {
	guides, err := filepath.Glob(filepath.Join("..", "..", "..", "docs", "guides", "*.md"))
	if err != nil || len(guides) < 7 {
		t.Fatalf("%d guides, %v", len(guides), err)
	}
	dir := t.TempDir()
	for _, path := range guides {
		if filepath.Base(path) == "README.md" {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		script, commands := guideScript(string(text))
		if commands == 0 {
			t.Logf("%s has no command", path)
			continue
		}
		name := strings.TrimSuffix(filepath.Base(path), ".md") + ".txtar"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir: dir, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("T5CTL_BACKEND", "go")
			return isolate(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "replace": replace},
	})
}

// guideScript makes a script of a guide's blocks, and counts its commands.
func guideScript(guide string) (script string, commands int) {
	var b strings.Builder
	code := "0"
	for _, m := range regexp.MustCompile("(?s)<!-- test: (.*?) -->|```console\n(.*?)```").FindAllStringSubmatch(guide, -1) {
		if verb, rest, _ := strings.Cut(m[1], " "); verb == "exits" {
			code = rest
			continue
		} else if verb == "env" {
			for word := range strings.FieldsSeq(rest) {
				fmt.Fprintf(&b, "env %s\n", word)
			}
			continue
		} else if verb != "" {
			fmt.Fprintln(&b, m[1])
			continue
		}
		lines := strings.Split(strings.TrimSpace(m[2]), "\n")
		for i, line := range lines {
			command := strings.TrimPrefix(line, "$ ")
			switch {
			case !strings.HasPrefix(command, "t5ctl "):
				fmt.Fprintln(&b, command)
			case i == len(lines)-1:
				fmt.Fprintf(&b, "exits %s %s\n", code, command)
			default:
				fmt.Fprintf(&b, "exits 0 %s\n", command)
			}
			commands++
		}
		code = "0"
	}
	return b.String(), commands
}
