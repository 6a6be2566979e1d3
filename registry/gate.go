package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/t5ctl/t5ctl/internal/digest"
)

// gateResult is what the registry reads of the result of gates. It counts only with the digests
// of the reports that were judged, which must be stored with the version too.
type gateResult struct {
	Model  string `json:"model_digest"` // of the model that was judged, where it says so
	Passed *bool  `json:"passed"`
	Checks []struct {
		Metric  string `json:"metric"`
		Slice   string `json:"slice"`
		Verdict string `json:"verdict"`
		Reason  string `json:"reason"`
	} `json:"checks"`
	Reports []struct {
		Name   string `json:"name"`
		SHA256 string `json:"sha256"`
	} `json:"reports"`
}

// stored is a report of a version, read back.
type stored struct {
	file      File
	modelHash string // of the model that it is about, where it says so
}

// judge lists the reasons why a version may not serve: no gate was run on it, one did not pass,
// or one judged something else. Nothing missing or unclear counts as passed.
func (r *Registry) judge(ctx context.Context, model string, v *version, m Model) ([]string, error) {
	reports := map[string]stored{}
	var gates []File
	for _, e := range v.current() {
		if e.Kind == EvidenceRun || e.Kind == EvidenceSignature {
			continue
		}
		files, err := r.evidenceFiles(ctx, model, v.target, e)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			if e.Kind == EvidenceGate {
				gates = append(gates, file)
				continue
			}
			reports[digest.Bytes(file.Data)] = stored{file, subjectOf(file)}
		}
	}
	if len(gates) == 0 {
		return []string{"no gate result is stored with it"}, nil
	}
	var reasons []string
	for _, gate := range gates {
		reasons = append(reasons, judgeGate(gate, reports, m.Tree)...)
	}
	return reasons, nil
}

// subjectOf reads the digest of the model that a report is about.
func subjectOf(file File) string {
	var report struct {
		Model string `json:"model_digest"`
	}
	if json.Unmarshal(file.Data, &report) != nil {
		return ""
	}
	return report.Model
}

// judgeGate lists what a gate result says against a version, or why it says nothing for it.
func judgeGate(file File, reports map[string]stored, tree string) []string {
	var result gateResult
	if err := json.Unmarshal(file.Data, &result); err != nil {
		return []string{fmt.Sprintf("%s cannot be read: %v", file.Name, err)}
	}
	var reasons []string
	note := func(format string, a ...any) {
		reasons = append(reasons, file.Name+": "+fmt.Sprintf(format, a...))
	}
	for _, check := range result.Checks {
		if check.Verdict == "pass" || check.Verdict == "skipped" {
			continue
		}
		note("%s is %s%s", named(check.Metric, check.Slice), orNone(check.Verdict), inBrackets(check.Reason))
	}
	if len(result.Checks) == 0 {
		note("nothing was checked")
	}
	if len(reasons) == 0 && (result.Passed == nil || !*result.Passed) {
		note("it did not pass")
	}
	if result.Model != "" && result.Model != tree {
		note("it judged another model (%s)", result.Model)
	}
	if len(result.Reports) == 0 {
		note("it does not say which reports it judged")
	}
	for _, judged := range result.Reports {
		report, found := reports[judged.SHA256]
		switch {
		case !found:
			note("it judged %s (%s), which is not stored with the version", judged.Name, judged.SHA256)
		case report.modelHash != "" && report.modelHash != tree:
			note("it judged %s, a report on another model (%s)", judged.Name, report.modelHash)
		}
	}
	return reasons
}

func named(metric, slice string) string {
	if slice == "" {
		return metric
	}
	return metric + " on " + slice
}

func inBrackets(s string) string {
	if s == "" {
		return ""
	}
	return " (" + strings.TrimSpace(s) + ")"
}
