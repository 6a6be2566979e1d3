package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/exposure"
	"github.com/t5ctl/t5ctl/internal/curves"
)

// exposureChart is what an exposure report draws: exposure against repetitions, or the curves of a
// membership test; nil where a report has neither.
func exposureChart(r eval.Report) (*curves.Chart, error) {
	var kind struct {
		Kind       string            `json:"kind"`
		References int               `json:"references"`
		Canaries   []json.RawMessage `json:"canaries"`
	}
	if r.Kind != eval.KindExposure || len(r.Details) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(r.Details, &kind); err != nil {
		return nil, fmt.Errorf("reading the details of %s: %w", r.Name, err)
	}
	switch {
	case kind.Kind == "membership":
		var d exposure.MembershipDetails
		if err := json.Unmarshal(r.Details, &d); err != nil {
			return nil, fmt.Errorf("reading the details of %s: %w", r.Name, err)
		}
		c := rocChart(d)
		return &c, nil
	case len(kind.Canaries) > 0 && kind.References > 0:
		var d exposure.Details
		if err := json.Unmarshal(r.Details, &d); err != nil {
			return nil, fmt.Errorf("reading the details of %s: %w", r.Name, err)
		}
		c := doseChart(r, d)
		return &c, nil
	}
	return nil, nil
}

// doseChart is exposure against repetitions: every canary, the mean of each number of repetitions with its
// interval, the most that can be shown, and what an unseen secret has on average.
func doseChart(r eval.Report, d exposure.Details) curves.Chart {
	at := func(repetitions int) float64 { return math.Log2(1 + float64(repetitions)) }
	most := math.Log2(float64(d.References))
	c := curves.Chart{
		Title: "Exposure of planted secrets", X: "repetitions in the training data", Y: "exposure in bits", Ticks: map[string]float64{}, Top: 1.1 * most,
	}
	found := map[int][]exposure.Finding{}
	for _, f := range d.Canaries {
		found[f.Repetitions] = append(found[f.Repetitions], f)
	}
	mean, last := curves.ChartLine{Name: "mean, 95 % interval"}, 0.0
	for _, repetitions := range slices.Sorted(maps.Keys(found)) {
		group, x, sum := found[repetitions], at(repetitions), 0.0
		for i, f := range group {
			sum += f.Exposure
			c.Points = append(c.Points, curves.XY{X: x + beside(i, len(group)), Y: f.Exposure, Name: f.ID + ": " + f.Shown + " bits"})
		}
		score := sum / float64(len(group))
		mean.Points = append(mean.Points, curves.XY{X: x, Y: score, Name: fmt.Sprintf("%d repetitions: mean %.2f bits of %d secrets", repetitions, score, len(group))})
		if ci := meanInterval(r, repetitions); ci != nil {
			c.Bars = append(c.Bars, curves.Bar{X: x, Low: float64(ci[0]), High: float64(ci[1])})
		}
		c.Ticks[fmt.Sprint(repetitions)] = x
		c.Text += fmt.Sprintf("%d repetitions: mean %.2f bits. ", repetitions, score)
		last = x
	}
	c.Text += fmt.Sprintf("At most %.2f bits can be shown.", most)
	level := func(name string, y float64) curves.ChartLine {
		return curves.ChartLine{Name: name, Level: true, Points: []curves.XY{{X: 0, Y: y}, {X: last, Y: y}}}
	}
	c.Lines = []curves.ChartLine{mean, level("most that can be shown", most), level("mean of the unseen", 1/math.Ln2)}
	return c
}

// beside spreads n dots a little to both sides, so that equal ones are seen.
func beside(i, n int) float64 {
	const wide = 0.24
	if n < 2 {
		return 0
	}
	return wide * (float64(i)/float64(n-1) - 0.5)
}

// meanInterval is the interval of the mean exposure after so many repetitions; nil where there is none.
func meanInterval(r eval.Report, repetitions int) *[2]eval.Number {
	name, slice := "exposure_mean", fmt.Sprintf("repetitions=%d", repetitions)
	if repetitions == 0 {
		name, slice = "exposure_control_mean", ""
	}
	for _, m := range r.Find(name, slice) {
		if m.CI != nil && m.CI[0].Defined() && m.CI[1].Defined() {
			return m.CI
		}
	}
	return nil
}

// rocChart is the curve of each attack on log axes, where few false alarms are told apart.
func rocChart(d exposure.MembershipDetails) curves.Chart {
	c := curves.Chart{Title: "Membership: true against false positives, log axes", X: "false positive rate", Y: "true positive rate", Log: true}
	least := 1.0
	for _, a := range d.Attacks {
		floor := 1 / float64(max(a.ROC.Members, a.ROC.Nonmembers, 1))
		least = math.Min(least, floor)
		line := curves.ChartLine{Name: a.Attack}
		for _, p := range a.Curve {
			line.Points = append(line.Points, curves.XY{X: math.Max(p[0], floor), Y: math.Max(p[1], floor)})
		}
		c.Lines = append(c.Lines, line)
		c.Text += fmt.Sprintf("%s: AUC %.3f, 95 %% interval %.3f to %.3f. ", a.Attack, a.ROC.AUC, a.ROC.CI[0], a.ROC.CI[1])
	}
	chance := curves.ChartLine{Name: "chance", Level: true, Points: []curves.XY{{X: least, Y: least}, {X: 1, Y: 1}}}
	c.Lines = append(c.Lines, chance)
	return c
}
