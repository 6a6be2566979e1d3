package plugin_test

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/t5ctl/t5ctl/internal/plugin"
)

// FuzzParsePage: whatever an index answers, reading it ends and gives strings or an error.
func FuzzParsePage(f *testing.F) {
	f.Add("text/html", []byte(`<a href="../x.whl#sha256=0">x</a><A class=y HREF='z'>`))
	f.Add("application/vnd.pypi.simple.v1+json", []byte(`{"files": [{"url": "x"}, {}]}`))
	f.Add("text/html; charset", []byte("<a href=<a href=>"))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		links, err := plugin.ParsePage(contentType, body)
		if err != nil && len(links) > 0 {
			t.Errorf("%d links and an error", len(links))
		}
		base, _ := url.Parse("https://index.example/simple/x/")
		for _, link := range links {
			_, _ = base.Parse(link)
		}
	})
}

// FuzzRecord: a record that is no record is reported as damage, and never leads outside its folder.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"format": 1, "kind": "cpu", "version": "1.0", "library": "x.so", "sha256": "", "size": 0, "sources": []}`))
	f.Add([]byte(`{"format": 1, "library": "../x.so"}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := plugin.Pinned()
		if err != nil {
			t.Fatal(err)
		}
		store := plugin.Store{Dir: t.TempDir(), Table: table, OS: "linux", Arch: "amd64"}
		dir := filepath.Join(store.Dir, "cpu-"+table.Bundles[0].Version)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "plugin.json"), data, 0o644); err != nil {
			t.Fatal(err)
		}
		found, err := store.Find(plugin.CPU)
		if err != nil {
			if !isA[*plugin.DamagedError](err) {
				t.Errorf("Find: %v", err)
			}
			return
		}
		if rel, err := filepath.Rel(dir, found.Path); err != nil || !filepath.IsLocal(rel) {
			t.Errorf("%s is outside the plugin's folder", found.Path)
		}
	})
}
