package view_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/t5ctl/t5ctl/internal/curves"
	"github.com/t5ctl/t5ctl/internal/runfolder"
	"github.com/t5ctl/t5ctl/internal/view"
)

const hostile = `<script>alert(1)</script>`

// facts is a Source of fixed answers.
type facts struct{}

func (facts) Report(name string, data []byte) (view.Report, error) {
	if string(data) == "broken" {
		return view.Report{}, errors.New("no report: " + hostile)
	}
	svg, err := (curves.Chart{Title: "dose", Points: []curves.XY{{X: 1, Y: 2}}}).SVG()
	return view.Report{
		Kind: "exposure", Title: name + hostile, Page: true, Results: []view.Result{{Name: "mean exposure", Value: "3.10", Interval: "2 to 4", Verdict: "ok"}},
		Figures: []curves.Figure{{Title: "dose", SVG: svg}},
	}, err
}

func (facts) WriteReport(_ context.Context, w io.Writer, path string) error {
	_, err := io.WriteString(w, "<h1>the whole of "+filepath.Base(path)+"</h1>")
	return err
}

func (facts) Models(context.Context) ([]view.Model, error) { return []view.Model{model()}, nil }

func (facts) Model(_ context.Context, name string) (view.Model, error) {
	if name != "team/g2p" {
		return view.Model{}, &view.NotFoundError{What: "no model " + name}
	}
	return model(), nil
}

func model() view.Model {
	day := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return view.Model{
		Name: "team/g2p", Channels: []view.Channel{{Name: "production", Version: "v2"}},
		Versions: []view.Version{{Name: "v1", Registered: day}, {Name: "v2", Registered: day.Add(time.Hour), Channels: []string{"production"}, Reason: hostile, Canaries: true, Evidence: []string{"gate.json"}}},
		History:  []view.Entry{{Seq: 1, Time: day, What: "register", Version: "v1"}, {Seq: 2, Time: day, What: "refuse", Channel: "production", Version: "v2", Veto: "bleu is too low"}},
	}
}

// project is runs as training leaves them: the recorded one that the repository ships, and one that
// is still going on. It gives their folder.
func project(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.CopyFS(filepath.Join(root, "g2p-base"), os.DirFS(filepath.Join("..", "..", "models", "records", "g2p-base"))); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "live", "run.json"), `{"schema": 1, "name": "live", "method": "lora", "outcome": "running", "started": "2026-11-22T20:00:00Z",
 "backend": {"kind": "cuda", "plugin": "0.11.2", "cpus": 16}}`)
	write(t, filepath.Join(root, "live", "events.jsonl"), `{"event":"started","step":0,"total":400,"time":"2026-11-22T20:00:00Z"}
{"event":"step","step":100,"loss":2.5,"learning_rate":0.1,"tokens_per_second":50,"time":"2026-11-22T20:01:00Z"}
{"event":"step","step":200,"loss":1.25,"learning_rate":0.1,"tokens_per_second":60,"time":"2026-11-22T20:02:00Z"}
{"event":"evaluated","step":200,"metrics":{"loss":1.5},"time":"2026-11-22T20:02:10Z"}
{"event":"st`)
	write(t, filepath.Join(root, "live", "reports", "exposure.json"), `{}`)
	write(t, filepath.Join(root, "live", "reports", "worse.json"), `broken`)
	write(t, filepath.Join(root, "live", "reports", "own.html"), hostile)
	write(t, filepath.Join(root, "live", "reports", "dose.png"), "\x89PNG\r\n\x1a\n")
	write(t, filepath.Join(root, "live", "model", "model.safetensors"), "weights")
	write(t, filepath.Join(root, "secret.json"), "secret")
	for link, target := range map[string]string{"out.json": filepath.Join(root, "secret.json"), "up.json": "../../../secret.json"} {
		if err := os.Symlink(target, filepath.Join(root, "live", "reports", link)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// handler shows the runs in a folder, a while after the running one has last logged.
func handler(t *testing.T, root string, after time.Duration) http.Handler {
	t.Helper()
	server, err := view.New(view.Options{
		Runs:  func() ([]runfolder.Dir, []runfolder.Record, error) { return runfolder.List(root) },
		Where: "runs", Source: facts{}, Now: func() time.Time { return time.Date(2026, 11, 22, 20, 2, 10, 0, time.UTC).Add(after) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return server.Handler()
}

func serve(t *testing.T, root string) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler(t, root, 10*time.Second))
	t.Cleanup(server.Close)
	return server
}

// get asks for a page and gives its text.
func get(t *testing.T, server *httptest.Server, path string, change ...func(*http.Request)) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(r)
	}
	response, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(data)
}

// wellFormed reads a page to its end: every element is closed, every table has headers, nothing comes
// from elsewhere, and no text became markup.
func wellFormed(t *testing.T, path, text string) {
	t.Helper()
	if strings.Contains(text, hostile) || regexp.MustCompile(`(?:src|href|action)="(?:https?:|//)|style="|\son\w+=`).MatchString(text) || strings.Contains(text, "%!") {
		t.Errorf("%s: a text is taken for markup, or the page points elsewhere", path)
	}
	d := xml.NewDecoder(strings.NewReader(strings.Replace(text, "<!doctype html>", "", 1)))
	d.Strict, d.AutoClose, d.Entity = false, []string{"meta", "link", "input", "img"}, xml.HTMLEntity
	var stack []string
	found := map[string]int{}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			stack = append(stack, e.Name.Local)
			found[e.Name.Local]++
		case xml.EndElement:
			if len(stack) == 0 || stack[len(stack)-1] != e.Name.Local {
				t.Fatalf("%s: </%s> ends %v", path, e.Name.Local, stack)
			}
			stack = stack[:len(stack)-1]
		}
	}
	if found["h1"] != 1 || found["main"] != 1 || found["caption"] != found["table"] || found["table"] > 0 && found["th"] == 0 || found["desc"] > found["svg"] {
		t.Errorf("%s: elements %v", path, found)
	}
}

// Every page says all in its text, without a script.
func TestPages(t *testing.T) {
	server := serve(t, project(t))
	tests := map[string][]string{
		"/": {
			`<a href="/runs/g2p-base">`, `class="state done"`, "9600", `<svg class="spark"`, `class="state running"`, "200 of 400", "2 min left", "1.2500", "1.5000", "cuda 0.11.2, 16 CPUs",
			`<noscript><meta http-equiv="refresh"`, `data-every="2000"`, `aria-current="page"`,
		},
		"/runs/g2p-base":                {"training loss per token", "learning rate", "tokens per second", `data-steps="`, "<th scope=\"row\" class=\"n\">9600</th>", "recipe.yaml", `data-every="10000"`},
		"/runs/live":                    {"mean exposure", `aria-label="dose`, "the whole report", "worse.json", "no report: &lt;script&gt;", `<img src="/runs/live/reports/dose.png"`, "reports/own.html", `data-every="2000"`},
		"/curves?run=g2p-base&run=live": {`data-name="live"`, `data-name="g2p-base"`, `href="/runs/live"`},
		"/curves":                       {"No run was chosen"},
		"/models":                       {`href="/models/team/g2p"`, "production → v2", "v2, 2026-03-01 13:00 UTC"},
		"/models/team/g2p":              {"holds canaries", "bleu is too low", "register", "gate.json"},
	}
	for path, wants := range tests {
		response, text := get(t, server, path)
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, response.Status)
		}
		wellFormed(t, path, text)
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q", path, want)
			}
		}
	}
	if _, text := get(t, server, "/models/team/g2p"); strings.Index(text, "<th scope=\"row\">v2") > strings.Index(text, "<th scope=\"row\">v1") {
		t.Error("the newest version is not the first")
	}
}

// A page follows the events of a run, and says so by its tag; what has not changed is not sent again.
func TestLive(t *testing.T) {
	root := project(t)
	server := serve(t, root)
	first, _ := get(t, server, "/runs/live")
	known := func(r *http.Request) { r.Header.Set("If-None-Match", first.Header.Get("ETag")) }
	if again, _ := get(t, server, "/runs/live", known); again.StatusCode != http.StatusNotModified {
		t.Errorf("the same page again: %s", again.Status)
	}
	f, err := os.OpenFile(filepath.Join(root, "live", "events.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("\n" + `{"event":"step","step":300,"loss":0.75,"learning_rate":0.1,"tokens_per_second":70,"time":"2026-11-22T20:03:00Z"}` + "\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	again, text := get(t, server, "/runs/live", known)
	if again.StatusCode != http.StatusOK || !strings.Contains(text, "300 of 400") || !strings.Contains(text, `data-steps="100 200 300"`) {
		t.Errorf("after a step: %s", again.Status)
	}
	write(t, filepath.Join(root, "live", "run.json"), `{"schema": 1, "name": "live", "outcome": "failed", "problem": "the loss is not finite"}`)
	if _, text := get(t, server, "/runs/live", known); !strings.Contains(text, "the loss is not finite") || strings.Contains(text, "http-equiv") {
		t.Error("the end of the run is not shown")
	}
}

// A process that was killed leaves a running record; that it is silent is told.
func TestSilent(t *testing.T) {
	root := project(t)
	for after, want := range map[time.Duration]bool{time.Minute: false, 3 * time.Hour: true} {
		server := httptest.NewServer(handler(t, root, after))
		_, text := get(t, server, "/runs/live")
		if strings.Contains(text, "silent for 3 hours") != want || strings.Contains(text, " left</small>") == want {
			t.Errorf("%s after the last event, silent must be %v", after, want)
		}
		server.Close()
	}
}

// Files of a run are shown, never others, and what others wrote runs no script.
func TestFiles(t *testing.T) {
	server := serve(t, project(t))
	shown := map[string]string{
		"/runs/g2p-base/files/recipe.yaml":         "name: g2p-base",
		"/runs/live/files/run.json":                `"method": "lora"`,
		"/runs/live/reports/exposure.json":         "<h1>the whole of exposure.json</h1>",
		"/runs/live/reports/exposure.json?as=json": "{}",
		"/runs/live/reports/worse.json":            "broken",
		"/runs/live/reports/own.html":              hostile,
		"/runs/live/reports/dose.png":              "PNG",
	}
	for path, want := range shown {
		response, text := get(t, server, path)
		policy := response.Header.Get("Content-Security-Policy")
		if response.StatusCode != http.StatusOK || !strings.Contains(text, want) {
			t.Errorf("%s: %s, %q", path, response.Status, text)
		}
		if !strings.Contains(policy, "sandbox") || strings.Contains(policy, "script-src") || response.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s may run scripts: %s", path, policy)
		}
	}
	for _, path := range []string{
		"/runs/live/reports/out.json", "/runs/live/reports/up.json", "/runs/live/reports/..%2Frun.json", "/runs/live/reports/..%2F..%2F..%2Fsecret.json",
		"/runs/live/files/..%2Fsecret.json", "/runs/live/files/model%2Fmodel.safetensors", "/runs/live/files/.", "/runs/..%2Fsecret.json", "/runs/%2E%2E/files/secret.json",
		"/runs/nothing", "/models/nothing", "/assets/runs.html", "/assets/..%2Fview.go", "/nothing", "/curves?run=..", "/runs/live/files/secret.json",
	} {
		response, text := get(t, server, path)
		if response.StatusCode != http.StatusNotFound || strings.Contains(text, "secret\n") || text == "secret" {
			t.Errorf("%s: %s, %q", path, response.Status, text)
		}
	}
}

// Only requests that read, and that name this machine, are answered.
func TestGuard(t *testing.T) {
	server := serve(t, project(t))
	port := server.URL[strings.LastIndex(server.URL, ":"):]
	for host, want := range map[string]int{
		"127.0.0.1" + port: 200, "localhost" + port: 200, "LocalHost" + port: 200, "[::1]" + port: 200,
		"evil.example" + port: 403, "127.0.0.1.evil.example" + port: 403, "localhost": 403, "127.0.0.1:1": 403, "": 403, "192.168.0.1" + port: 403,
	} {
		response, _ := get(t, server, "/", func(r *http.Request) {
			r.Host = host
			if host == "" {
				r.Host = " "
			}
		})
		if response.StatusCode != want && !(host == "" && response.StatusCode == http.StatusBadRequest) {
			t.Errorf("host %q: %s; want %d", host, response.Status, want)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
		response, _ := get(t, server, "/", func(r *http.Request) { r.Method = method })
		if response.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %s", method, response.Status)
		}
	}
	response, _ := get(t, server, "/")
	for name, want := range map[string]string{
		"Content-Security-Policy": "default-src 'none'", "X-Frame-Options": "DENY", "Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "no-referrer",
	} {
		if got := response.Header.Get(name); !strings.Contains(got, want) {
			t.Errorf("%s: %q; want %q", name, got, want)
		}
	}
	for path, kind := range map[string]string{"/assets/style.css": "text/css", "/assets/live.js": "text/javascript", "/assets/pointer.js": "text/javascript", "/assets/icon.svg": "image/svg+xml"} {
		if response, text := get(t, server, path); !strings.HasPrefix(response.Header.Get("Content-Type"), kind) || bytes.TrimSpace([]byte(text)) == nil {
			t.Errorf("%s: %s", path, response.Header.Get("Content-Type"))
		}
	}
}

// Without runs there is advice, and two runs of one name are told apart.
func TestNames(t *testing.T) {
	_, text := get(t, serve(t, t.TempDir()), "/")
	if !strings.Contains(text, "No runs in") {
		t.Error("no word of there being no runs")
	}
	root := project(t)
	server, err := view.New(view.Options{Source: facts{}, Runs: func() ([]runfolder.Dir, []runfolder.Record, error) {
		dir, record, err := runfolder.Open(filepath.Join(root, "live"))
		return []runfolder.Dir{dir, dir}, []runfolder.Record{record, record}, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(server.Handler())
	defer web.Close()
	if err := os.Remove(filepath.Join(root, "g2p-base", "events.jsonl")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "g2p-base", "events.jsonl", "in"), "the way") // a folder is no log
	if response, text := get(t, serve(t, root), "/"); response.StatusCode != http.StatusOK || !strings.Contains(text, "events.jsonl") || !strings.Contains(text, "200 of 400") {
		t.Errorf("a log that cannot be read: %s\n%s", response.Status, text)
	}
	for _, path := range []string{"/runs/live", "/runs/live~2"} {
		if response, _ := get(t, web, path); response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, response.Status)
		}
	}
}
