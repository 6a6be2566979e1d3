package strictyaml_test

import (
	"bytes"
	"testing"

	"github.com/t5ctl/t5ctl/internal/strictyaml"
)

func TestEdit(t *testing.T) {
	for name, c := range map[string]struct{ in, key, text, want string }{
		"a number":       {"a: 1\ng:\n  # why\n  n: 20 # tokens\n  m: 3\n", "g.n", "80", "a: 1\ng:\n  # why\n  n: 80 # tokens\n  m: 3\n"},
		"quoted":         {"d:\n  p: \"say: \"   # é\n", "d.p", `""`, "d:\n  p: \"\"   # é\n"},
		"single quotes":  {"d:\n  p: 'it''s'\n", "d.p", "x", "d:\n  p: x\n"},
		"flow":           {"g: {é: 1, n: 20, m: 3} # here\n", "g.n", "80", "g: {é: 1, n: 80, m: 3} # here\n"},
		"new in flow":    {"g: {m: 3}\n", "g.n", "80", "g: {n: 80, m: 3}\n"},
		"new in empty":   {"g: {}\n", "g.n", "80", "g: {n: 80}\n"},
		"new in a block": {"g: # of all\n\n    # three\n    m: 3\n", "g.n", "80", "g: # of all\n\n    # three\n    n: 80\n    m: 3\n"},
		"new section":    {"a: 1", "g.n", "80", "a: 1\ng:\n  n: 80\n"},
		"a list":         {"g:\n  n: [1]\n", "g.n", "80", ""},
		"an anchor":      {"a: &x 1\ng: *x\n", "g.n", "80", ""},
		"no mapping":     {"g: 3\n", "g.n", "80", ""},
		"not YAML":       {"g: [\n", "g.n", "80", ""},
		"too deep":       {"a: 1\n", "a.b.c", "80", ""},
	} {
		got, err := strictyaml.Edit("file", []byte(c.in), c.key, c.text)
		if (c.want == "") != (err != nil) || (err == nil && string(got) != c.want) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

// What is edited says the new value, and every line but one or two is as it was.
func FuzzEdit(f *testing.F) {
	f.Add([]byte("a: 1\ng:\n  n: 20 # tokens\n"))
	f.Add([]byte("g: {n: \"x\", m: |\n  y\n}\n"))
	f.Add([]byte("g:\n  ? n\n  : 3\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := strictyaml.Edit("file", data, "g.n", "80")
		if err != nil {
			return
		}
		before, after := bytes.Count(data, []byte("\n")), bytes.Count(got, []byte("\n"))
		if after < before || after > before+3 {
			t.Errorf("%q became %q", data, got)
		}
	})
}
