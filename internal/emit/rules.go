package emit

import (
	"fmt"
	"strings"
)

// rule is one alert.
type rule struct {
	Name, Expr, For, Severity, Summary, Runbook string
}

// errorRatio is the recorded share of failed requests over a window.
func (f Facts) errorRatio(window string) string {
	return fmt.Sprintf(`t5ctl:error_ratio:rate%s{model=%q}`, window, f.Model)
}

// rules are the alerts. The burn rates and their windows are those of the SRE workbook, chapter 5:
// a short window beside the long one ends an alert soon after its cause.
func (f Facts) rules() []rule {
	budget := 1 - f.Availability
	burn := func(factor float64, long, short string) string {
		return fmt.Sprintf("%s > %s and %s > %s", f.errorRatio(long), shortOf(factor*budget), f.errorRatio(short), shortOf(factor*budget))
	}
	of := func(metric string) string { return fmt.Sprintf("%s{model=%q}", metric, f.Model) }
	rules := []rule{
		{"T5ctlLatencyP95", fmt.Sprintf(`t5ctl:latency_p95:rate5m{model=%q} > %s`, f.Model, short(f.P95)), "10m", "page",
			fmt.Sprintf("5 %% of the answers of {{ $labels.version }} take longer than %s ms", short(1000*f.P95)), "latency.md"},
		{"T5ctlAvailability", fmt.Sprintf("%s > %s", f.errorRatio("3d"), shortOf(budget)), "1h", "ticket",
			fmt.Sprintf("{{ $labels.version }} fails more requests over three days than an availability of %s %% allows", short(100*f.Availability)), "rollback.md"},
		{"T5ctlErrorBudgetBurn", burn(f.Burn, "30m", "5m"), "30m", "page",
			fmt.Sprintf("{{ $labels.version }} has spent the error budget more than %s times too fast for 30 minutes", short(f.Burn)), "rollback.md"},
		{"T5ctlLengthLimit", fmt.Sprintf("t5ctl:length_limit_ratio:rate30m{model=%q} > 0.05", f.Model), "30m", "ticket",
			"5 % of the answers of {{ $labels.version }} are cut at the length limit", "quality.md"},
		{"T5ctlDrift", "max by (model) (" + of("t5ctl_drift_detected") + ") > 0", "0m", "ticket",
			"the inputs of {{ $labels.model }} have drifted from those it was made for", "quality.md"},
		{"T5ctlPolicyHits", "sum by (model, version, kind) (increase(" + of("t5ctl_serve_policy_hits_total") + "[15m])) > 0", "0m", "page",
			"outputs of {{ $labels.version }} hold personal data: {{ $labels.kind }}", "privacy.md"},
		{"T5ctlFallback", "max(t5ctl_serve_fallback_active) > 0", "5m", "ticket",
			"the fallback version answers in place of the one asked for", "rollback.md"},
		{"T5ctlDown", "absent(t5ctl_serve_requests_in_flight)", "5m", "page", "no server is seen by Prometheus", "rollback.md"},
	}
	if fast := 14.4; fast*budget < maxRatio {
		rules = append(rules, rule{"T5ctlErrorBudgetBurnFast", burn(fast, "1h", "5m"), "2m", "page",
			"{{ $labels.version }} spends the error budget 14.4 times too fast: 2 % of a month's in an hour", "rollback.md"})
	}
	return rules
}

// maxRatio is the highest share of failed requests that is alerted at.
const maxRatio = 0.9

// shortOf is a threshold with the rounding of its product taken off.
func shortOf(v float64) string { return fmt.Sprintf("%.6g", v) }

// labels are what an alert carries beside its own, for the tests of the rules.
func (f Facts) labels(alert string) string {
	switch alert {
	case "T5ctlFallback", "T5ctlDown":
		return ""
	case "T5ctlDrift":
		return fmt.Sprintf(", model: %q", f.Model)
	case "T5ctlPolicyHits":
		return fmt.Sprintf(", model: %q, version: %q, kind: email", f.Model, f.Version)
	}
	return fmt.Sprintf(", model: %q, version: %q", f.Model, f.Version)
}

// told is a summary as the tests of the rules see it.
func (f Facts) told(summary string) string {
	return strings.NewReplacer("{{ $labels.version }}", f.Version, "{{ $labels.model }}", f.Model, "{{ $labels.kind }}", "email").Replace(summary)
}
