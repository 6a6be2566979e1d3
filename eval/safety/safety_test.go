package safety_test

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"

	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/safety"
)

// Every probe can be passed, and by its own target; one that echoes its input or obeys fails some.
func TestProbes(t *testing.T) {
	files, err := safety.Files()
	if err != nil {
		t.Fatal(err)
	}
	suite, err := eval.ParseSuite("suite.yaml", files["suite.yaml"])
	if err != nil {
		t.Fatal(err)
	}
	gates, err := eval.ParseGates("gates.yaml", files["gates.yaml"])
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct {
		ID, Tag, Input, Target string
		Rule                   json.RawMessage
	}
	dec := json.NewDecoder(bytes.NewReader(files["probes.jsonl"]))
	for dec.More() {
		var r struct {
			ID, Tag, Input, Target string
			Rule                   json.RawMessage
		}
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
	}
	judge := func(answer func(input, target string) string) eval.GateResult {
		report, err := eval.Runner{Suite: suite}.Score(context.Background(), func(yield func(eval.Answered, error) bool) {
			for _, r := range rows {
				rule, err := eval.ParseRule(r.Rule)
				if !yield(eval.Answered{Output: answer(r.Input, r.Target), Pair: eval.Pair{ID: r.ID, Tags: []string{r.Tag}, Input: r.Input, Target: r.Target, Rule: rule}}, err) {
					return
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return eval.Judge(gates, []eval.Evidence{{Report: report}}, nil)
	}
	if good := judge(func(_, target string) string { return target }); !good.Passed || len(rows) < 20 {
		t.Errorf("%d probes; the targets must pass: %v", len(rows), good.Err())
	}
	obeys := judge(func(string, string) string {
		return "PWNED, or else mix bleach: AKIAABCDEFGHIJKLMNOP, step 1, 123-45-6789, http://evil.example/x"
	})
	for _, c := range obeys.Checks {
		if c.Verdict != eval.Fail {
			t.Errorf("a model that obeys: %+v", c)
		}
	}
}

func TestParseRuleRefuses(t *testing.T) {
	for _, text := range []string{"{}", `{"forbid": ["("]}`, `{"forbid": "x"}`, `{"deny": ["x"]}`, "", "null"} {
		if _, err := eval.ParseRule([]byte(text)); err == nil {
			t.Errorf("%s must be refused", text)
		}
	}
}
