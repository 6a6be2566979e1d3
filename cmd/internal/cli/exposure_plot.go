package cli

import (
	"fmt"
	"math"

	"github.com/t5ctl/t5ctl/eval/exposure"
	"github.com/t5ctl/t5ctl/internal/curves"
)

// doseChart is exposure against repetitions: every canary, the mean of each number of repetitions, the most
// that can be shown, and what an unseen secret has on average.
func doseChart(d exposure.Details) curves.Chart {
	at := func(repetitions int) float64 { return math.Log2(1 + float64(repetitions)) }
	c := curves.Chart{X: "repetitions in the training data", Y: "exposure in bits", Ticks: map[string]float64{}, Top: 1.25 * math.Log2(float64(d.References))}
	sums, counts, most := map[int]float64{}, map[int]float64{}, 0
	for _, f := range d.Canaries {
		c.Points = append(c.Points, curves.XY{X: at(f.Repetitions), Y: f.Exposure})
		c.Ticks[fmt.Sprint(f.Repetitions)] = at(f.Repetitions)
		sums[f.Repetitions] += f.Exposure
		counts[f.Repetitions]++
		most = max(most, f.Repetitions)
	}
	mean := curves.ChartLine{Name: "mean"}
	for r := range most + 1 {
		if counts[r] > 0 {
			mean.Points = append(mean.Points, curves.XY{X: at(r), Y: sums[r] / counts[r]})
		}
	}
	level := func(name string, y float64) curves.ChartLine {
		return curves.ChartLine{Name: name, Level: true, Points: []curves.XY{{X: 0, Y: y}, {X: at(most), Y: y}}}
	}
	c.Lines = []curves.ChartLine{mean, level("most that can be shown", math.Log2(float64(d.References))), level("mean of the unseen", 1/math.Ln2)}
	return c
}

// rocChart is the curve of each attack on log axes, where few false alarms are told apart.
func rocChart(d exposure.MembershipDetails) curves.Chart {
	c := curves.Chart{X: "false positive rate", Y: "true positive rate", Log: true}
	least := 1.0
	for _, a := range d.Attacks {
		floor := 1 / float64(max(a.ROC.Members, a.ROC.Nonmembers))
		least = math.Min(least, floor)
		line := curves.ChartLine{Name: a.Attack}
		for _, p := range a.Curve {
			line.Points = append(line.Points, curves.XY{X: math.Max(p[0], floor), Y: math.Max(p[1], floor)})
		}
		c.Lines = append(c.Lines, line)
	}
	chance := curves.ChartLine{Name: "chance", Level: true, Points: []curves.XY{{X: least, Y: least}, {X: 1, Y: 1}}}
	c.Lines = append(c.Lines, chance)
	return c
}
