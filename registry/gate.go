package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// gateResult is what the registry reads of the result that a gate run has left behind.
type gateResult struct {
	Verdict string `json:"verdict"`
	Passed  *bool  `json:"passed"`
	Gates   []struct {
		Metric  string `json:"metric"`
		Slice   string `json:"slice"`
		Verdict string `json:"verdict"`
		Reason  string `json:"reason"`
	} `json:"gates"`
}

// judge lists the reasons why a version may not serve: no gate was run on it, or one did not
// pass. Nothing missing or unclear counts as passed.
func (r *Registry) judge(ctx context.Context, model string, v *version, _ Model) ([]string, error) {
	var reasons []string
	gates := 0
	for _, e := range v.current() {
		if e.Kind != EvidenceGate {
			continue
		}
		gates++
		files, err := r.evidenceFiles(ctx, model, v.target, e)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			reasons = append(reasons, judgeGate(file)...)
		}
	}
	if gates == 0 {
		reasons = append(reasons, "no gate result is stored with it")
	}
	return reasons, nil
}

// judgeGate lists what a gate result says against a version.
func judgeGate(file File) []string {
	var result gateResult
	if err := json.Unmarshal(file.Data, &result); err != nil {
		return []string{fmt.Sprintf("%s cannot be read: %v", file.Name, err)}
	}
	passed := strings.EqualFold(result.Verdict, "pass") || result.Verdict == "" && result.Passed != nil && *result.Passed
	if result.Passed != nil && !*result.Passed {
		passed = false
	}
	var reasons []string
	for _, gate := range result.Gates {
		if gate.Verdict == "pass" || gate.Verdict == "" {
			continue
		}
		reason := fmt.Sprintf("%s: %s is %s", file.Name, named(gate.Metric, gate.Slice), gate.Verdict)
		if gate.Reason != "" {
			reason += " (" + gate.Reason + ")"
		}
		reasons = append(reasons, reason)
	}
	if !passed && len(reasons) == 0 {
		reasons = append(reasons, fmt.Sprintf("%s did not pass", file.Name))
	}
	return reasons
}

func named(metric, slice string) string {
	if slice == "" {
		return metric
	}
	return metric + " on " + slice
}
