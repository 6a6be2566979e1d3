package canary

import (
	"fmt"
	"strings"
)

// Columns are the headings of a table of outcomes.
func Columns() []string {
	return []string{"objective", "baseline", "canary", "burn", "verdict"}
}

// Cells are an outcome's line in it.
func (o Outcome) Cells() []string {
	figure := func(e Estimate) string {
		if e.N == 0 {
			return "–"
		}
		return fmt.Sprintf("%.4g (n %.0f)", e.Value, e.N)
	}
	burn := "–"
	if o.Burn != nil {
		burn = fmt.Sprintf("%.2g (%.2g to %.2g)", o.Burn[0], o.Burn[1], o.Burn[2])
	}
	return []string{o.Name, figure(o.Baseline), figure(o.Canary), burn, string(o.Verdict)}
}

// Markdown is the verdict for people, as a comment on a change request holds it.
func (r Result) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## Canary `%s` against `%s`: %s\n\n", r.Canary, r.Baseline, r.Verdict)
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(Columns(), " | "), strings.Repeat(" --- |", len(Columns())))
	for _, o := range r.Objectives {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(o.Cells(), " | "))
	}
	b.WriteString("\n")
	for _, o := range r.Objectives {
		fmt.Fprintf(&b, "- %s %s", o.Name, o.Reason)
		if o.Needed > 0 {
			fmt.Fprintf(&b, " (evidence that it is worse %.3g, that it is not %.3g; %.0f is needed)", o.Worse, o.Within, o.Needed)
		}
		if d := o.Difference; d != nil {
			fmt.Fprintf(&b, " (difference %.4f, %.4f to %.4f)", d[0], d[1], d[2])
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "- the error budget is spent at %.3g times its rate (%.3g to %.3g; at most %g is allowed): %s\n",
		r.Budget.Burn, r.Budget.Low, r.Budget.High, r.Budget.Max, r.Budget.Verdict)
	fmt.Fprintf(&b, "\nBurn is the share of bad events over the share that the budget allows. %d blocks; a wrong pass or fail has a\nchance of at most %g over all looks together. %s\n", r.Blocks, r.Alpha, r.Method)
	return b.String()
}
