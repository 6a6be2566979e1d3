package canary

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestParseSelector(t *testing.T) {
	for text, want := range map[string]string{
		"up": "up", `up{}`: "up", `{a="b"}`: `{a="b"}`, ` x { a = "b" , c=~"1|2", } `: `x{a="b",c=~"1|2"}`, `x{a!="\"}"}`: `x{a!="\"}"}`, `x{a!~".*"}`: `x{a!~".*"}`,
		"": "", "{": "", `x{a="b"`: "", `x{a=b}`: "", `x{a='b'}`: "", `x{a=~"("}`: "", `1x`: "", `x{1="b"}`: "", `x{a="b" c="d"}`: "", `x{a="b"}y`: "", `x{a!"b"}`: "",
	} {
		got, err := ParseSelector(text)
		if want == "" {
			if err == nil {
				t.Errorf("%q: read as %s", text, got)
			}
			continue
		}
		if err != nil || got.String() != want {
			t.Errorf("%q: %s, %v; want %s", text, got, err, want)
		}
	}
}

// FuzzParseSelector holds that what is read is written so that it is read as the same again.
func FuzzParseSelector(f *testing.F) {
	for _, seed := range []string{"up", `x{a="b",c=~"1|2"}`, `{a!="\"}"}`, `x{a="b"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSelector(text)
		if err != nil || s.Name == "" && len(s.matchers) == 0 {
			return
		}
		again, err := ParseSelector(s.String())
		if err != nil || again.String() != s.String() {
			t.Errorf("%q: %s is read as %s, %v", text, s, again, err)
		}
	})
}

// FuzzAdd holds that no metrics file breaks the reader, and that counts never fall.
func FuzzAdd(f *testing.F) {
	f.Add("# TYPE x counter\nx{a=\"b\"} 3\n")
	f.Add("# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 2\n")
	f.Add("x NaN\nx -1\n")
	f.Fuzz(func(t *testing.T, text string) {
		s := &Snapshots{}
		for range 2 {
			if err := s.Add(strings.NewReader(text), Selector{}); err != nil {
				return
			}
		}
		for _, name := range s.names() {
			blocks, _, err := s.increments(name)
			if err == nil && blocks[1] != 0 {
				t.Errorf("%s grew by %v between two equal files", name, blocks[1])
			}
		}
	})
}

// A counter that begins anew, one that comes later, and one that was there before the range.
func TestIncrements(t *testing.T) {
	s := &Snapshots{}
	for _, text := range []string{"x{p=\"1\"} 10\n", "x{p=\"1\"} 15\nx{p=\"2\"} 4\n", "x{p=\"1\"} 3\nx{p=\"2\"} 5\n"} {
		if err := s.Add(strings.NewReader(text), Selector{}); err != nil {
			t.Fatal(err)
		}
	}
	blocks, found, err := s.increments("x")
	if err != nil || !found || fmt.Sprint(blocks) != "[10 9 4]" {
		t.Errorf("%v, %v, %v; want [10 9 4]", blocks, found, err)
	}
	s.first = true // a server's range: what was counted before it is not new
	if blocks, _, _ = s.increments("x"); fmt.Sprint(blocks) != "[9 4]" {
		t.Errorf("%v; want [9 4]", blocks)
	}
	if _, found, err := s.increments("y"); found || err != nil {
		t.Errorf("y: %v, %v", found, err)
	}
}

func TestFetch(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	at := Range{Start: start, End: start.Add(2 * time.Minute), Step: time.Minute}
	plan := Plan{Version: 1, Alpha: .05, MaxBurn: 1, Objectives: []Objective{{Name: "a", Total: "n", Bad: "b", Budget: .1, WorseBy: 1.5, Weight: 1}}}
	arm, err := ParseSelector(`{version="v2"}`)
	if err != nil {
		t.Fatal(err)
	}
	var answer string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); r.URL.Path != "/api/v1/query_range" || q.Get("start") != "1700000000" || q.Get("step") != "60" || !strings.HasSuffix(q.Get("query"), `{version="v2"}`) {
			t.Errorf("asked for %s", r.URL)
		}
		fmt.Fprint(w, answer)
	}))
	defer server.Close()
	answer = `{"status":"success","data":{"result":[{"metric":{"__name__":"n"},"values":[[1700000000,"5"],[1700000060,"25"],[1700000120,"30"]]}]}}`
	s, err := Fetch(t.Context(), server.URL, plan, arm, at)
	if err != nil {
		t.Fatal(err)
	}
	if blocks, found, err := s.increments("n"); fmt.Sprint(blocks) != "[20 5]" || !found || err != nil {
		t.Errorf("%v, %v, %v; want [20 5]", blocks, found, err)
	}
	for _, answer = range []string{`{"status":"error","error":"parse error"}`, "<html>", `{"status":"success","data":{"result":[{"values":[[1700000000,"x"]]}]}}`} {
		if _, err := Fetch(t.Context(), server.URL, plan, arm, at); !errors.As(err, new(*ServerError)) {
			t.Errorf("%s: %v", answer, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Fetch(ended, server.URL, plan, arm, at); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// Counters as a plan reads them: the verdicts, and that what is not there is named.
func TestJudge(t *testing.T) {
	plan, err := ParsePlan("test", []byte("version: 1\nobjectives:\n  - {name: errors, total: n, bad: b, budget: 0.01}\n"))
	if err != nil {
		t.Fatal(err)
	}
	arm := func(text string) *Snapshots {
		s := &Snapshots{}
		if err := s.Add(strings.NewReader(text), Selector{}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, tt := range map[string]struct {
		baseline, canary string
		want             Verdict
	}{
		"equal":                         {"n 30000\nb 300\n", "n 30000\nb 300\n", Pass},
		"no errors in either":           {"n 9000\n", "n 9000\n", Pass},
		"worse":                         {"n 9000\nb 20\n", "n 9000\nb 90\n", Fail},
		"no worse, but over the budget": {"n 9000\nb 900\n", "n 9000\nb 900\n", Fail},
		"few":                           {"n 30\n", "n 30\n", Inconclusive},
		"none":                          {"n 0\n", "n 0\n", Inconclusive},
	} {
		r, err := Judge(plan, arm(tt.baseline), arm(tt.canary))
		if err != nil || r.Verdict != tt.want || (r.Err() == nil) != (tt.want == Pass) {
			t.Errorf("%s: %s, %v; want %s: %+v", name, r.Verdict, err, tt.want, r)
		}
	}
	missing := (*MissingError)(nil)
	if _, err := Judge(plan, arm("m 1\n"), arm("n 1\n")); !errors.As(err, &missing) || missing.Arm != "baseline" || missing.Selector != "n" {
		t.Errorf("a metric that is not there: %v", err)
	}
}
