package registry_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/registry"
	"github.com/t5ctl/t5ctl/registry/local"
	"github.com/t5ctl/t5ctl/registry/registrytest"
)

const (
	weightType = "application/vnd.cncf.model.weight.v1.raw"
	modelType  = "application/vnd.cncf.model.manifest.v1+json"
	configType = "application/vnd.cncf.model.config.v1+json"
)

// manifest is a version's manifest with layers at these paths.
func manifest(paths ...string) string {
	type descriptor map[string]any
	var layers []descriptor
	for _, path := range paths {
		layers = append(layers, descriptor{
			"mediaType": weightType, "digest": someDigest, "size": 3,
			"annotations": map[string]string{"org.cncf.model.filepath": path, "org.opencontainers.image.title": path},
		})
	}
	data, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": modelType,
		"config": descriptor{"mediaType": configType, "digest": someDigest, "size": 3}, "layers": layers,
	})
	if err != nil {
		panic(err) // plain values
	}
	return string(data)
}

func TestParseModel(t *testing.T) {
	good := manifest("model.safetensors", "sub/config.json")
	if m, err := registry.ParseModel([]byte(good)); err != nil || len(m.Layers) != 2 || m.Tree == "" {
		t.Fatalf("a good manifest: %+v, %v", m, err)
	}
	refused := map[string]string{
		"up":                 manifest("../x"),
		"up in the middle":   manifest("a/../../x"),
		"not clean":          manifest("a//b"),
		"a dot":              manifest("./a"),
		"only dots":          manifest(".."),
		"absolute":           manifest("/etc/passwd"),
		"another system's":   manifest(`..\x`),
		"a drive":            manifest("C:x"),
		"a line end":         manifest("a\nb"),
		"a zero byte":        manifest("a\x00b"),
		"empty":              manifest(""),
		"too long":           manifest(strings.Repeat("a", 600)),
		"one file twice":     manifest("a", "a"),
		"one but for case":   manifest("README.md", "readme.md"),
		"a file as a folder": manifest("a", "a/b"),
		"another title":      strings.Replace(good, `"org.opencontainers.image.title":"model.safetensors"`, `"org.opencontainers.image.title":"other"`, 1),
		"packed layers":      strings.Replace(good, weightType, "application/vnd.cncf.model.weight.v1.tar", 1),
		"another artifact":   strings.Replace(good, modelType, "application/vnd.example", 1),
		"another config":     strings.Replace(good, configType, "application/vnd.oci.image.config.v1+json", 1),
		"an index":           strings.Replace(good, "image.manifest", "image.index", 1),
		"a short digest":     strings.Replace(good, someDigest, "sha256:11", 1),
		"a digest as a path": strings.Replace(good, someDigest, "sha256:../../../../../etc/passwd", 1),
		"negative size":      strings.Replace(good, `"size":3`, `"size":-3`, 1),
		"a key twice":        strings.Replace(good, `"schemaVersion":2`, `"schemaVersion":2,"schemaVersion":2`, 1),
		"something after":    good + "{}",
		"another tree":       strings.Replace(good, `"schemaVersion":2`, `"schemaVersion":2,"annotations":{"dev.t5ctl.tree":"`+someDigest+`"}`, 1),
		"a wrong time":       strings.Replace(good, `"schemaVersion":2`, `"schemaVersion":2,"annotations":{"org.opencontainers.image.created":"yesterday"}`, 1),
		"too large":          strings.Repeat(" ", 5<<20) + good,
		"nested":             strings.Repeat("[", 5000),
		"nothing":            "",
	}
	for name, text := range refused {
		if m, err := registry.ParseModel([]byte(text)); err == nil {
			t.Errorf("%s: accepted as %+v", name, m.Layers)
		}
	}
}

// FuzzParseModel holds that no accepted path leads out of a folder.
func FuzzParseModel(f *testing.F) {
	f.Add([]byte(manifest("model.safetensors", "sub/config.json")))
	f.Add([]byte(manifest("../x")))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := registry.ParseModel(data)
		if err != nil {
			return
		}
		for _, layer := range m.Layers {
			if !filepath.IsLocal(filepath.FromSlash(layer.Path)) {
				t.Errorf("path %q was accepted", layer.Path)
			}
		}
	})
}

// TestFolderWithLinks follows links to files, as the hub's cache has them, and not those to
// folders.
func TestFolderWithLinks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need rights there")
	}
	real, dir := registrytest.WriteModel(t, t.TempDir(), 1), t.TempDir()
	for _, name := range []string{"config.json", "model.safetensors"} {
		if err := os.Symlink(filepath.Join(real, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(real, "sub"), filepath.Join(dir, "sub")); err != nil {
		t.Fatal(err)
	}
	r := registry.New(local.Open(t.TempDir()), registry.Options{})
	result, err := r.Push(t.Context(), registry.PushRequest{Model: "m", Dir: dir})
	if err != nil || !slices.Equal(result.Skipped, []string{"sub"}) {
		t.Fatalf("skipped %v, %v", result.Skipped, err)
	}
	detail, err := r.Show(t.Context(), result.Ref)
	if err != nil || len(detail.Layers) != 2 {
		t.Errorf("layers %v, %v", detail.Layers, err)
	}
	if err := os.Remove(filepath.Join(real, "config.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Push(t.Context(), registry.PushRequest{Model: "m", Dir: dir}); err == nil {
		t.Error("a link to nothing was pushed")
	}
}

// TestSource reads the folder of a run, and the model folder in it as the same run.
func TestSource(t *testing.T) {
	write := func(dir, name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := t.TempDir()
	registrytest.WriteAdapter(t, filepath.Join(run, "adapter"), "from-peft", 1)
	write(run, "run.json", `{"base":"models/base","started":"2026-01-01T00:00:00Z","finished":"2026-01-02T00:00:00Z"}`)
	write(run, "reports/test.json", string(registrytest.Report("x", 1).Data))
	write(run, "reports/test/report.json", string(registrytest.Report("x", 2).Data))
	write(run, "reports/rows.jsonl", "{}")
	write(run, "reports/plot.json", `{"x":1}`)
	for canaries, planted := range map[string]bool{
		`{}`: false, `{"canaries":null}`: false, `{"canaries":[]}`: false, `{"canaries":{}}`: false, `{"canaries":0}`: false, `{"canaries":false}`: false,
		`{"canaries":[{}]}`: true, `{"canaries":{"n":1}}`: true, `{"canaries":3}`: true, `{"canaries":true}`: true, `{"canaries":"x.json"}`: true,
	} {
		write(run, "data.json", canaries)
		for _, dir := range []string{run, filepath.Join(run, "adapter")} {
			s, err := registry.OpenSource(dir)
			if err != nil {
				t.Fatal(err)
			}
			if (s.Canaries != "") != planted {
				t.Errorf("%s in %s: canaries %q", canaries, dir, s.Canaries)
			}
			if len(s.Reports) != 2 || len(s.Records) != 2 || s.Base != "models/base" || s.Created.Day() != 2 || !slices.Equal(s.Ignored, []string{"plot.json"}) {
				t.Errorf("source of %s: %d reports, %d records, base %q, created %v, ignored %v", dir, len(s.Reports), len(s.Records), s.Base, s.Created, s.Ignored)
			}
		}
	}
	write(run, "data.json", `{`)
	if _, err := registry.OpenSource(run); err == nil {
		t.Error("a broken data manifest was passed over")
	}
}
