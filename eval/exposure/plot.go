package exposure

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// ink is the color of line i; seven that people of any color vision tell apart (Okabe and Ito).
func ink(i int) color.RGBA {
	list := [][3]uint8{{0, 114, 178}, {213, 94, 0}, {0, 158, 115}, {204, 121, 167}, {230, 159, 0}, {86, 180, 233}, {0, 0, 0}}
	c := list[i%len(list)]
	return color.RGBA{c[0], c[1], c[2], 255}
}

// WritePlot draws exposure against repetitions as PNG: every canary, the mean of each number of repetitions,
// the most that can be shown, and what an unseen secret has on average.
func (d Details) WritePlot(w io.Writer) error {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = "repetitions in the training data", "exposure in bits"
	at := func(repetitions int) float64 { return math.Log2(1 + float64(repetitions)) }
	sums, counts := map[int]float64{}, map[int]float64{}
	var dots, means plotter.XYs
	var ticks plot.ConstantTicks
	for _, f := range d.Canaries {
		dots = append(dots, plotter.XY{X: at(f.Repetitions), Y: f.Exposure})
		sums[f.Repetitions] += f.Exposure
		counts[f.Repetitions]++
	}
	var order []int
	for r := range counts {
		order = append(order, r)
	}
	slices.Sort(order)
	for _, r := range order {
		means = append(means, plotter.XY{X: at(r), Y: sums[r] / counts[r]})
		ticks = append(ticks, plot.Tick{Value: at(r), Label: fmt.Sprint(r)})
	}
	p.X.Tick.Marker = ticks
	if err := layer(p, "mean", means, ink(0), nil); err != nil {
		return err
	}
	scatter, err := plotter.NewScatter(dots)
	if err != nil {
		return err
	}
	scatter.GlyphStyle = draw.GlyphStyle{Color: ink(0), Radius: vg.Points(2), Shape: draw.CircleGlyph{}}
	p.Add(scatter)
	last := at(order[len(order)-1])
	for i, level := range []struct {
		name string
		y    float64
	}{{"most that can be shown", math.Log2(float64(d.References))}, {"mean of the unseen", 1 / math.Ln2}} {
		line := plotter.XYs{{X: 0, Y: level.y}, {X: last, Y: level.y}}
		if err := layer(p, level.name, line, ink(1+i), []vg.Length{4, 3}); err != nil {
			return err
		}
	}
	p.Y.Max = math.Max(p.Y.Max, 1.25*math.Log2(float64(d.References))) // room for the legend
	return png(p, w)
}

// WritePlot draws the curve of each attack on log axes as PNG, where few false alarms are told apart.
func (d MembershipDetails) WritePlot(w io.Writer) error {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = "false positive rate", "true positive rate"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: -1}
	least := 1.0
	for i, a := range d.Attacks {
		floor := 1 / float64(max(a.ROC.Members, a.ROC.Nonmembers))
		least = math.Min(least, floor)
		var line plotter.XYs
		for _, c := range a.Curve {
			line = append(line, plotter.XY{X: math.Max(c[0], floor), Y: math.Max(c[1], floor)})
		}
		if err := layer(p, a.Attack, line, ink(i), nil); err != nil {
			return err
		}
	}
	chance := plotter.XYs{{X: least, Y: least}, {X: 1, Y: 1}}
	if err := layer(p, "chance", chance, color.RGBA{128, 128, 128, 255}, []vg.Length{4, 3}); err != nil {
		return err
	}
	p.X.Min, p.Y.Min, p.X.Max, p.Y.Max = least, least, 1, 1
	return png(p, w)
}

// layer adds a line and its name.
func layer(p *plot.Plot, name string, points plotter.XYs, c color.Color, dashes []vg.Length) error {
	line, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	line.Color, line.Dashes, line.Width = c, dashes, vg.Points(1.2)
	p.Add(line)
	p.Legend.Add(name, line)
	return nil
}

func png(p *plot.Plot, w io.Writer) error {
	p.BackgroundColor = color.White
	p.Legend.Top, p.Legend.Left = true, true
	to, err := p.WriterTo(16*vg.Centimeter, 11*vg.Centimeter, "png")
	if err != nil {
		return err
	}
	_, err = to.WriteTo(w)
	return err
}
