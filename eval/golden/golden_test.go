package golden_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/t5ctl/t5ctl/eval/golden"
)

func TestRecordAndCheck(t *testing.T) {
	samples, added := golden.Record(nil, "m@v1", []string{"a", "b"}, []string{"A", "B"})
	if added != 2 {
		t.Fatalf("%d added", added)
	}
	samples, added = golden.Record(samples, "m@v2", []string{"b", "c"}, []string{"B2 is longer", "C"})
	if added != 2 || len(samples) != 3 || len(samples[1].References) != 2 {
		t.Fatalf("%+v, %d added", samples, added)
	}
	if _, added = golden.Record(samples, "m@v2", []string{"c"}, []string{"C"}); added != 0 {
		t.Errorf("the same again: %d added", added)
	}
	var file bytes.Buffer
	if err := golden.Write(&file, samples); err != nil {
		t.Fatal(err)
	}
	again, err := golden.Parse("g", file.Bytes())
	if err != nil || len(again) != 3 || again[1].Models[1] != "m@v2" {
		t.Fatalf("%+v, %v", again, err)
	}
	for name, tt := range map[string]struct {
		outputs []string
		rule    golden.Rule
		broken  int
		of      int
	}{
		"all as accepted":           {[]string{"A", "B", "C"}, golden.Rule{}, 0, 3},
		"either version will do":    {[]string{"A", "B2 is longer", "C"}, golden.Rule{}, 0, 3},
		"one version alone":         {[]string{"A", "B2 is longer", "C"}, golden.Rule{Model: "m@v1"}, 1, 2},
		"a text that is new":        {[]string{"A", "other", "C"}, golden.Rule{}, 1, 3},
		"alike enough by a metric":  {[]string{"A", "B2 is longest", "C"}, golden.Rule{Metric: "chrf", Min: 60}, 0, 3},
		"not alike enough":          {[]string{"A", "B2 is longest", "C"}, golden.Rule{Metric: "chrf", Min: 99}, 1, 3},
		"an error rate is no score": {[]string{"A", "B", "C"}, golden.Rule{Metric: "exact_match", Min: 100}, 0, 3},
	} {
		t.Run(name, func(t *testing.T) {
			res, err := golden.Check(again, tt.outputs, "m@v3", tt.rule)
			if err != nil || len(res.Broken) != tt.broken || res.Samples != tt.of || (res.Err() == nil) != (tt.broken == 0) {
				t.Errorf("%+v, %v; want %d broken of %d", res, err, tt.broken, tt.of)
			}
			want := 100 * float64(tt.of-tt.broken) / float64(tt.of)
			if m := res.Report.Metrics[0]; m.Name != "golden" || float64(m.Score) != want || m.N != tt.of {
				t.Errorf("report %+v", m)
			}
		})
	}
	var none *golden.NoneError
	if _, err := golden.Check(again, []string{"", "", ""}, "m", golden.Rule{Model: "m@v9"}); !errors.As(err, &none) {
		t.Errorf("an unknown model: %v", err)
	}
	for _, spec := range []string{"blue", "mcc:labels=a|b", "ter", "perplexity", "exec:true"} {
		if _, err := golden.Check(again, []string{"", "", ""}, "m", golden.Rule{Metric: spec}); err == nil {
			t.Errorf("%s must be refused", spec)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "no JSON": "x\n", "unknown key": `{"id": "1", "input": "a", "references": ["b"], "models": ["m"], "x": 1}`,
		"no id": `{"input": "a", "references": ["b"], "models": ["m"]}`, "no output": `{"id": "1", "input": "a", "references": [], "models": []}`,
		"uneven": `{"id": "1", "input": "a", "references": ["b"], "models": []}`,
		"twice":  `{"id": "1", "input": "a", "references": ["b"], "models": ["m"]}` + "\n" + `{"id": "1", "input": "c", "references": ["b"], "models": ["m"]}`,
	} {
		var e *golden.FileError
		if _, err := golden.Parse("g", []byte(text)); !errors.As(err, &e) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"id": "1", "input": "a", "references": ["b"], "models": ["m"]}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		samples, err := golden.Parse("g", data)
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := golden.Write(&b, samples); err != nil {
			t.Fatal(err)
		}
		if _, err := golden.Parse("g", b.Bytes()); err != nil {
			t.Errorf("what was written does not read: %v", err)
		}
	})
}
