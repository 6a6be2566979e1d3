package eval

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// junit is the part of the JUnit format that continuous-integration servers read.
type junit struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Failure *junitMessage `xml:"failure,omitempty"`
	Error   *junitMessage `xml:"error,omitempty"`
	Skipped *junitMessage `xml:"skipped,omitempty"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
}

// JUnit is the result as JUnit XML: a gate that failed is a failure, one that cannot be judged an error.
func (r GateResult) JUnit() ([]byte, error) {
	out := junit{Name: "t5ctl gates " + r.Model, Tests: len(r.Checks)}
	for _, c := range r.Checks {
		tc := junitCase{Class: "gates." + c.Metric, Name: strings.TrimSpace(c.Metric + " " + c.Slice + " " + c.Bound)}
		switch c.Verdict {
		case Fail:
			out.Failures++
			tc.Failure = &junitMessage{c.Reason}
		case Inconclusive:
			out.Errors++
			tc.Error = &junitMessage{c.Reason}
		case Skipped:
			out.Skipped++
			tc.Skipped = &junitMessage{c.Reason}
		case Pass:
		}
		out.Cases = append(out.Cases, tc)
	}
	body, err := xml.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, err
	}
	return append([]byte(xml.Header), append(body, '\n')...), nil
}

// Markdown is the result as a table for a pull request or a job summary.
func (r GateResult) Markdown() string {
	var b strings.Builder
	verdict := "passed"
	if !r.Passed {
		verdict = "did not pass"
	}
	fmt.Fprintf(&b, "### Gates %s\n\n", verdict)
	fmt.Fprintf(&b, "Model `%s`", r.Model)
	if r.Baseline != nil {
		fmt.Fprintf(&b, ", baseline `%s`", r.Baseline.Model)
	}
	b.WriteString("\n\n| metric | value | interval | bound | verdict | why |\n| --- | ---: | --- | --- | --- | --- |\n")
	for _, c := range r.Checks {
		row := c.Cells()
		for i := range row {
			row[i] = strings.NewReplacer("|", "\\|", "\n", " ").Replace(row[i])
		}
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
	}
	return b.String()
}

// Annotations are the checks that did not pass as commands for GitHub's runner, one a line, which it
// shows beside the change.
func (r GateResult) Annotations() string {
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	var b strings.Builder
	for _, c := range r.Checks {
		level := map[Outcome]string{Fail: "error", Inconclusive: "error", Skipped: "notice"}[c.Verdict]
		if level == "" {
			continue
		}
		cells := c.Cells()
		fmt.Fprintf(&b, "::%s title=%s::%s\n", level, property.Replace("gate "+cells[0]+" "+c.Bound), data.Replace(string(c.Verdict)+": "+c.Reason))
	}
	return b.String()
}

// CheckColumns are the headings of Cells.
func CheckColumns() []string {
	return []string{"metric", "value", "interval", "bound", "verdict", "why"}
}

// Cells shows a check as a row of a table.
func (c Check) Cells() []string {
	name := c.Metric
	if c.Slice != "" {
		name += " (" + c.Slice + ")"
	}
	interval := ""
	if c.CI != nil {
		interval = c.CI[0].Format() + " to " + c.CI[1].Format()
	}
	return []string{name, c.Value.Format(), interval, c.Bound, string(c.Verdict), c.Reason}
}
