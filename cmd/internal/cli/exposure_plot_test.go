package cli

import (
	"encoding/json"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/exposure"
)

// exposureReport is one of so many details.
func exposureReport(t *testing.T, details any, metrics ...eval.Result) eval.Report {
	t.Helper()
	data, err := json.Marshal(details)
	if err != nil {
		t.Fatal(err)
	}
	return eval.Report{Kind: eval.KindExposure, Name: "exposure", Details: data, Metrics: metrics}
}

// The chart of exposures has every canary, the mean of each number of repetitions with the report's
// interval, and the cap.
func TestDoseChart(t *testing.T) {
	finding := func(repetitions int, exposed float64) exposure.Finding {
		return exposure.Finding{ID: "c", Repetitions: repetitions, Exposure: exposed, Shown: "x"}
	}
	d := exposure.Details{References: 1024, Canaries: []exposure.Finding{finding(0, 1), finding(0, 2), finding(4, 8), finding(4, 10)}}
	c, err := exposureChart(exposureReport(t, d,
		eval.Result{Name: "exposure_control_mean", CI: &[2]eval.Number{0.5, 2.5}},
		eval.Result{Name: "exposure_mean", Slice: "repetitions=4", CI: &[2]eval.Number{8, 10}}))
	if err != nil || c == nil {
		t.Fatal(c, err)
	}
	mean, at := c.Lines[0].Points, math.Log2(5)
	if len(c.Points) != 4 || len(mean) != 2 || mean[0].Y != 1.5 || mean[1].X != at || mean[1].Y != 9 {
		t.Errorf("dots %v, means %v", c.Points, mean)
	}
	if len(c.Bars) != 2 || c.Bars[0].High != 2.5 || c.Bars[1].X != at || c.Bars[1].Low != 8 {
		t.Errorf("intervals %v", c.Bars)
	}
	if cap := c.Lines[1]; cap.Points[0].Y != 10 || !cap.Level || c.Points[2].X == c.Points[3].X {
		t.Errorf("cap %v; equal dots lie on each other: %v", cap, c.Points)
	}
}

// A membership test draws its curves on log axes; what draws nothing has no chart.
func TestROCChart(t *testing.T) {
	d := exposure.MembershipDetails{Kind: "membership", Attacks: []exposure.AttackResult{
		{Attack: "loss", ROC: exposure.ROC{Members: 100, Nonmembers: 200, AUC: 0.6}, Curve: [][2]float64{{0, 0}, {0.1, 0.4}, {1, 1}}},
	}}
	c, err := exposureChart(exposureReport(t, d))
	if err != nil || c == nil || !c.Log || len(c.Lines) != 2 {
		t.Fatal(c, err)
	}
	if p := c.Lines[0].Points; p[0].X != 1.0/200 || p[0].Y != 1.0/200 || p[1].Y != 0.4 || !strings.Contains(c.Text, "loss: AUC 0.600") {
		t.Errorf("curve %v, %s", p, c.Text)
	}
	for name, r := range map[string]eval.Report{"an evaluation": {Kind: eval.KindEvaluation}, "extraction": exposureReport(t, map[string]any{"kind": "extract"})} {
		if c, err := exposureChart(r); c != nil || err != nil {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	if _, err := exposureChart(eval.Report{Kind: eval.KindExposure, Details: json.RawMessage(`[]`)}); err == nil {
		t.Error("details that are a list were read")
	}
}

// Whatever a report's details hold, drawing them ends, and in numbers.
func FuzzExposureChart(f *testing.F) {
	f.Add(`{"references": 1024, "canaries": [{"id": "a", "repetitions": 0, "exposure": 1}, {"repetitions": 4, "exposure": 1e308}, {"repetitions": -1}]}`)
	f.Add(`{"kind": "membership", "attacks": [{"attack": "loss", "roc": {"members": 100, "nonmembers": -3}, "curve": [[0, 0], [-1, 0.4], [1e308, 1]]}]}`)
	f.Fuzz(func(t *testing.T, details string) {
		c, err := exposureChart(eval.Report{Kind: eval.KindExposure, Details: json.RawMessage(details)})
		if err != nil || c == nil {
			return
		}
		c.Title, c.Text, c.Ticks = "", "", nil
		for i := range c.Lines {
			c.Lines[i].Name = ""
		}
		for i := range c.Points {
			c.Points[i].Name = ""
		}
		svg, err := c.SVG()
		if err != nil || strings.Contains(string(svg), "NaN") || strings.Contains(string(svg), "Inf") {
			t.Errorf("%v: %s", err, svg)
		}
		if err := c.PNG(io.Discard); err != nil {
			t.Error(err)
		}
	})
}
