// Package t5ctl_test holds the direction of imports: which room of the tree may reach which,
// directly or through others. The linter checks direct imports as they are typed; this test is
// what nobody can get around by an import in between.
package t5ctl_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/t5ctl/t5ctl"

// Outside modules that only some rooms may reach.
const (
	gomlx = "github.com/gomlx/gomlx"
	xla   = "github.com/gomlx/go-xla"
	viper = "github.com/spf13/viper"
	cobra = "github.com/spf13/cobra"
	charm = "github.com/charmbracelet"
)

// rule says what the packages of a room must not import. A room, and what it must not import, is a
// path below the module or that of another module; all packages below it belong to it.
type rule struct {
	room   string
	except []string // rooms in this one to which the rule does not apply
	direct bool     // only imports that its own files name count
	never  []string
}

// rooms are what lies beside internal; they know what is internal, and never the other way round.
func rooms() []string { return []string{"cmd", "recipes", "trainer", "eval", "datasets", "registry"} }

// rules is the table of docs/architecture.md.
func rules() []rule {
	graphs := []string{"internal/t5", "internal/lora", "internal/model", "internal/decode", "internal/device"}
	users := []string{viper, cobra, charm}
	return []rule{
		{room: "cmd/t5ctl", direct: true, never: append(slices.Clone(rooms()[1:]), "internal", gomlx, xla, viper, cobra, charm)},
		{room: "cmd/internal/cli", direct: true, never: []string{gomlx, xla, charm, viper}},
		{room: "cmd/internal/term", direct: true, never: []string{gomlx, xla, viper, "datasets", "recipes", "internal/model"}},
		{room: "cmd/internal/settings", never: append(slices.Clone(rooms()[1:]), gomlx, xla, charm)},
		{room: "recipes", never: append([]string{"registry", "cmd"}, users...)},
		{room: "trainer", never: append([]string{"eval", "datasets", "registry", "recipes", "cmd"}, users...)},
		{room: "eval", never: append([]string{"trainer", "datasets", "registry", "recipes", "cmd", gomlx, xla}, users...)},
		{room: "datasets", never: append([]string{"trainer", "eval", "registry", "recipes", "cmd", gomlx, xla}, users...)},
		{room: "registry", never: append([]string{"trainer", "eval", "datasets", "recipes", "cmd", gomlx, xla}, users...)},
		{room: "internal", never: append(rooms(), users...)},
		{room: "internal", except: graphs, never: []string{gomlx, xla}},
		{room: "internal/t5", never: []string{xla, "internal/device"}},
		{room: "internal/lora", never: []string{xla, "internal/device"}},
		{room: "internal/tensorboard", never: []string{"internal/runfolder", "internal/model"}},
		{room: "internal/mlflow", never: []string{"internal/runfolder", "internal/model"}},
		{room: "internal/sweep", never: []string{"internal/runfolder", "internal/model"}},
		{room: "internal/ctranslate2", never: []string{"internal/t5", "internal/model", "internal/vocab"}},
		{room: "internal/curves", never: []string{"internal/runfolder", "internal/model"}},
		{room: "internal/view", never: []string{"internal/model", "internal/server"}},
		{room: "internal/canary", never: []string{"internal/runfolder", "internal/model", "internal/server"}},
		{room: "internal/emit", never: []string{"internal/runfolder", "internal/model", "internal/server"}},
		{room: "internal/hub", except: []string{"internal/hub/remote", "internal/hub/hubtest"}, never: []string{"internal/hub/remote", "net/http"}},
		{room: "datasets", never: []string{"internal/hub/remote"}},
		{room: "eval", never: []string{"internal/hub/remote"}},
		{room: "internal/server", never: []string{"internal/model", "internal/decode"}},
		{room: "internal/plugin", never: []string{"internal/device"}},
		{room: "", except: []string{"internal/device"}, direct: true, never: []string{xla}},
		{room: "", except: append([]string{"trainer"}, graphs...), direct: true, never: []string{gomlx}},
	}
}

// listed is what `go list` says of a package, tests left out.
type listed struct {
	ImportPath string
	Imports    []string // direct
	Deps       []string // direct and through others
	DepOnly    bool
}

func TestImportDirections(t *testing.T) {
	packages := list(t)
	for _, r := range rules() {
		if r.room != "" && !slices.ContainsFunc(packages, func(p listed) bool { return in(local(p.ImportPath), r.room) }) {
			t.Errorf("rule for %s: there is no such package", r.room)
		}
		for _, p := range packages {
			if !r.applies(p) {
				continue
			}
			reached := p.Deps
			if r.direct {
				reached = p.Imports
			}
			told := map[string]bool{}
			for _, dep := range reached {
				if room := forbidden(r, p, dep); room != "" && !told[room] {
					told[room] = true
					t.Errorf("%s must not reach %s, but imports %s%s", local(p.ImportPath), room, dep, through(packages, p, dep))
				}
			}
		}
	}
}

// applies says whether the rule is about a package.
func (r rule) applies(p listed) bool {
	name := local(p.ImportPath)
	return in(name, r.room) && !slices.ContainsFunc(r.except, func(room string) bool { return in(name, room) })
}

// forbidden is the room that dep belongs to and p must not reach, if any. A room may always reach
// itself.
func forbidden(r rule, p listed, dep string) string {
	for _, room := range r.never {
		if in(local(dep), room) && !in(local(p.ImportPath), room) {
			return room
		}
	}
	return ""
}

// through names the import of p that leads to dep.
func through(packages []listed, p listed, dep string) string {
	if slices.Contains(p.Imports, dep) {
		return ""
	}
	for _, q := range packages {
		if slices.Contains(p.Imports, q.ImportPath) && slices.Contains(q.Deps, dep) {
			return " through " + q.ImportPath
		}
	}
	return " through others"
}

// local is a path below this module; other paths stay as they are.
func local(path string) string { return strings.TrimPrefix(path, module+"/") }

// in says whether a package lies in a room. Every package of this module lies in "".
func in(name, room string) bool {
	return room == "" || name == room || strings.HasPrefix(name, room+"/")
}

// list asks the Go tool for all packages of the module but those that are run by hand.
func list(t *testing.T) []listed {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps,DepOnly", "./...").Output()
	if err != nil {
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("go list: %v\n%s", err, e.Stderr)
		}
		t.Fatal(err)
	}
	var packages []listed
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		if err := dec.Decode(&p); err == io.EOF {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		if !p.DepOnly && !in(local(p.ImportPath), "bench") {
			packages = append(packages, p)
		}
	}
}

// The rules find what they are for: a tree that breaks them is reported.
func TestRulesBite(t *testing.T) {
	tests := map[string]struct {
		name string
		imps []string
		deps []string
		want bool
	}{
		"eval reaches gomlx through another": {name: "eval/bleu", deps: []string{gomlx + "/core/graph"}, want: true},
		"eval reaches itself":                {name: "eval/bleu", deps: []string{module + "/eval/ngram"}},
		"cli reaches gomlx through others":   {name: "cmd/internal/cli", deps: []string{gomlx + "/core/graph"}},
		"cli imports gomlx":                  {name: "cmd/internal/cli", imps: []string{gomlx + "/core/graph"}, want: true},
		"internal reaches cmd":               {name: "internal/digest", deps: []string{module + "/cmd/internal/term"}, want: true},
		"t5 reaches XLA":                     {name: "internal/t5", deps: []string{xla + "/pjrt"}, want: true},
		"device imports XLA":                 {name: "internal/device", imps: []string{xla + "/pjrt"}, deps: []string{xla + "/pjrt"}},
		"a name that only begins alike":      {name: "evaluate", deps: []string{module + "/trainer"}},
		"a new room imports gomlx":           {name: "serve", imps: []string{gomlx + "/core/graph"}, want: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := listed{ImportPath: module + "/" + tt.name, Imports: tt.imps, Deps: tt.deps}
			got := false
			for _, r := range rules() {
				reached := p.Deps
				if r.direct {
					reached = p.Imports
				}
				got = got || r.applies(p) && slices.ContainsFunc(reached, func(dep string) bool { return forbidden(r, p, dep) != "" })
			}
			if got != tt.want {
				t.Errorf("broken: %v, want %v", got, tt.want)
			}
		})
	}
}
