package strictyaml_test

import (
	"maps"
	"testing"

	"github.com/t5ctl/t5ctl/internal/strictyaml"
)

func TestFlatten(t *testing.T) {
	got, err := strictyaml.Flatten("r.yaml", []byte("a: 1\nb:\n  c: [x, 2]\n  d: {e: true}\nf:\n  - {g: 1.5}\n  - {g: null}\nh: []\ni: \"two words\"\n"))
	want := map[string]string{"a": "1", "b.c": "[x, 2]", "b.d.e": "true", "f.0.g": "1.5", "f.1.g": "", "h": "[]", "i": "two words"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if _, err := strictyaml.Flatten("r.yaml", []byte("a: [")); err == nil {
		t.Error("broken YAML was taken")
	}
}

func FuzzFlatten(f *testing.F) {
	f.Add("a: [x, {b: 1}]\nc: {d: [[1]]}")
	f.Add("&a a: *a")
	f.Add("- - - x")
	f.Fuzz(func(_ *testing.T, in string) {
		_, _ = strictyaml.Flatten("r.yaml", []byte(in)) // it must return
	})
}
