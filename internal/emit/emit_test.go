package emit_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/t5ctl/t5ctl/internal/emit"
)

func example() emit.Facts {
	return emit.Facts{
		Model: "team/g2p", Channel: "production", Version: "v3", Digest: "sha256:00", Previous: "v2", Evidence: []string{"test.json"},
		History: []emit.Change{{Seq: 4, Time: time.Unix(0, 0), Kind: "promote", To: "v3", From: "v2", Who: "a|b", Reason: "x\ny"}},
		P95:     0.5, Price: 0.4, Availability: 0.999, Burn: 4, Image: "t5ctl:1", Namespace: "models", Replicas: 2, Maximum: 8, Shards: 4, Share: 10,
		Input: "in.jsonl", Recipe: "recipe.yaml", Sweep: "sweep.yaml", Registry: "oci://registry/models",
	}
}

// written writes the documents of a kind into a folder and returns their paths.
func written(t *testing.T, kind string, f emit.Facts) (dir string, paths []string) {
	t.Helper()
	if err := f.Check(); err != nil {
		t.Fatal(err)
	}
	files, err := emit.Write(kind, f)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for _, file := range files {
		path := filepath.Join(dir, file.Name)
		if err := os.WriteFile(path, file.Data, 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return dir, paths
}

// tool finds a program that `make check-tools` brings, or says that the test is skipped.
func tool(t *testing.T, name string) string {
	t.Helper()
	if path, err := filepath.Abs("../../build/tools/" + name); err == nil {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		if name == "k8scheck" && os.Getenv("T5CTL_REQUIRE_TOOLS") != "" {
			t.Fatal("build/tools/k8scheck is not built: make test does it")
		}
		t.Skipf("SKIPPED: %s is not here; make check-tools brings it", name)
	}
	return path
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
}

// The rules and their tests hold before the real promtool, for several objectives.
func TestPromtool(t *testing.T) {
	promtool := tool(t, "promtool")
	other := example()
	other.Model, other.Version, other.P95, other.Availability, other.Burn = "x", "v12", 0.05, 0.99, 6
	loose := other
	loose.Availability, loose.Burn = 0.9, 2
	for name, f := range map[string]emit.Facts{"default": example(), "other": other, "loose": loose} {
		t.Run(name, func(t *testing.T) {
			dir, _ := written(t, "prometheus", f)
			run(t, promtool, "check", "rules", filepath.Join(dir, "rules.yaml"))
			run(t, promtool, "test", "rules", filepath.Join(dir, "rules_test.yaml"))
		})
	}
}

// A rule whose threshold is wrong does not pass its test.
func TestPromtoolBites(t *testing.T) {
	promtool := tool(t, "promtool")
	dir, _ := written(t, "prometheus", example())
	path := filepath.Join(dir, "rules.yaml")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{{"> 0.004 and", "> 0.999 and"}, {`code!~"4.."`, `code!=""`}, {"histogram_quantile(0.95", "histogram_quantile(0.0"}} {
		wrong := strings.Replace(string(data), change[0], change[1], 1)
		if wrong == string(data) {
			t.Fatalf("there is no %q in the rules", change[0])
		}
		if err := os.WriteFile(path, []byte(wrong), 0o644); err != nil {
			t.Fatal(err)
		}
		if exec.CommandContext(t.Context(), promtool, "test", "rules", filepath.Join(dir, "rules_test.yaml")).Run() == nil {
			t.Errorf("with %q in place of %q the rules still pass their tests", change[1], change[0])
		}
	}
}

// The manifests are what the Go types of Kubernetes and Argo Rollouts say, with no field beside.
func TestKubernetes(t *testing.T) {
	check := tool(t, "k8scheck")
	_, paths := written(t, "kubernetes", example())
	run(t, check, paths...)
	for field, file := range map[string]string{
		"maxReplicas:": "deployment.yaml", "completionMode:": "job.yaml", "setWeight:": "rollout.yaml", "failureLimit:": "rollout.yaml",
	} {
		at := slices.IndexFunc(paths, func(path string) bool { return filepath.Base(path) == file })
		if at < 0 {
			t.Fatalf("no %s in %v", file, paths)
		}
		data, err := os.ReadFile(paths[at])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(data, []byte(field)) {
			t.Fatalf("%s has no field %s", file, field)
		}
		wrong := filepath.Join(t.TempDir(), "wrong.yaml")
		if err := os.WriteFile(wrong, bytes.Replace(data, []byte(field), []byte("x"+field), 1), 0o644); err != nil {
			t.Fatal(err)
		}
		if exec.CommandContext(t.Context(), check, wrong).Run() == nil {
			t.Errorf("%s: the field x%s is let through", file, field)
		}
	}
}

// The dashboards have the structure that Grafana reads: panels with numbers of their own that do not
// lie over each other, each with a query; and every query is one that Prometheus understands.
func TestDashboards(t *testing.T) {
	_, paths := written(t, "grafana", example())
	if len(paths) != 3 {
		t.Fatalf("%d dashboards", len(paths))
	}
	var rules strings.Builder
	rules.WriteString("groups:\n- name: panels\n  rules:\n")
	titles := map[string]bool{}
	for _, path := range paths {
		var board struct {
			UID, Title    string
			SchemaVersion int
			Templating    struct {
				List []struct{ Name, Type, Query string }
			}
			Panels []struct {
				ID          int
				Type, Title string
				GridPos     struct{ X, Y, W, H int }
				Targets     []struct{ Expr, RefID string }
			}
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &board); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if titles[board.Title] || board.Title == "" || len(board.UID) > 40+20 || board.SchemaVersion != 39 {
			t.Errorf("%s: title %q, uid %q, schema %d", path, board.Title, board.UID, board.SchemaVersion)
		}
		titles[board.Title] = true
		known := map[string]string{"$__rate_interval": "5m", "$__range": "1h", "$datasource": "x"}
		for _, v := range board.Templating.List {
			known["$"+v.Name] = "a"
		}
		cells := map[[2]int]int{}
		seen := map[int]bool{}
		for _, p := range board.Panels {
			if seen[p.ID] || p.GridPos.W < 1 || p.GridPos.X+p.GridPos.W > 24 {
				t.Errorf("%s: panel %d %q: doubled or outside: %+v", path, p.ID, p.Title, p.GridPos)
			}
			seen[p.ID] = true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other := cells[[2]int{x, y}]; other != 0 {
						t.Fatalf("%s: panels %d and %d overlap", path, other, p.ID)
					}
					cells[[2]int{x, y}] = p.ID
				}
			}
			if p.Type != "text" && len(p.Targets) == 0 {
				t.Errorf("%s: panel %q asks nothing", path, p.Title)
			}
			for _, target := range p.Targets {
				expr := target.Expr
				for name, value := range known {
					expr = strings.ReplaceAll(expr, name, value)
				}
				if strings.Contains(expr, "$") {
					t.Errorf("%s: panel %q: a variable that is not defined: %s", path, p.Title, expr)
				}
				fmt.Fprintf(&rules, "  - record: panel\n    labels: {n: '%s %d %s'}\n    expr: %q\n", filepath.Base(path), p.ID, target.RefID, expr)
			}
		}
	}
	path := filepath.Join(t.TempDir(), "panels.yaml")
	if err := os.WriteFile(path, []byte(rules.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, tool(t, "promtool"), "check", "rules", path)
}

// Runbooks and postmortem are filled: the names stand in them, no mark of the template is left, and
// foreign text cannot break a table.
func TestRunbooks(t *testing.T) {
	for _, kind := range []string{"runbook", "postmortem"} {
		_, paths := written(t, kind, example())
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text := string(data)
			for _, want := range []string{"team/g2p@production", "v3"} {
				if !strings.Contains(text, want) {
					t.Errorf("%s: no %s in it", filepath.Base(path), want)
				}
			}
			for _, wrong := range []string{"<<", ">>", "<no value>", "x\ny"} {
				if strings.Contains(text, wrong) {
					t.Errorf("%s: %q in it", filepath.Base(path), wrong)
				}
			}
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	for name, change := range map[string]func(*emit.Facts){
		"latency between buckets": func(f *emit.Facts) { f.P95 = 0.3 },
		"availability of 1":       func(f *emit.Facts) { f.Availability = 1 },
		"burn beyond all":         func(f *emit.Facts) { f.Burn = 1000 },
		"no replica":              func(f *emit.Facts) { f.Replicas = 0 },
		"fewer than the fewest":   func(f *emit.Facts) { f.Maximum = 1 },
		"no shard":                func(f *emit.Facts) { f.Shards = 0 },
		"all of the traffic":      func(f *emit.Facts) { f.Share = 100 },
	} {
		f := example()
		if change(&f); f.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
