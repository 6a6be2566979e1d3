package curves

import (
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// XY is a point of a chart.
type XY struct{ X, Y float64 }

// ChartLine is one named line; Level lines, which mark what others are compared with, are dashed.
type ChartLine struct {
	Name   string
	Points []XY
	Level  bool
}

// Chart is lines and single points over one pair of axes.
type Chart struct {
	X, Y   string // what the axes tell
	Lines  []ChartLine
	Points []XY
	Ticks  map[string]float64 // marks of the x axis; nil: chosen
	Log    bool               // both axes, up to 1
	Top    float64            // least upper end of the y axis
}

// PNG draws the chart.
func (c Chart) PNG(w io.Writer) error {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = c.X, c.Y
	p.Legend.Top, p.Legend.Left = true, true
	if c.Ticks != nil {
		var ticks plot.ConstantTicks
		for label, at := range c.Ticks {
			ticks = append(ticks, plot.Tick{Value: at, Label: label})
		}
		p.X.Tick.Marker = ticks
	}
	for i, l := range c.Lines {
		line, err := plotter.NewLine(points(l.Points))
		if err != nil {
			return err
		}
		line.Color, line.Width = palette(i), vg.Points(1.2)
		if l.Level {
			line.Dashes = dashes(7)
		}
		p.Add(line)
		p.Legend.Add(l.Name, line)
	}
	if len(c.Points) > 0 {
		dots, err := plotter.NewScatter(points(c.Points))
		if err != nil {
			return err
		}
		dots.GlyphStyle = draw.GlyphStyle{Color: palette(0), Radius: vg.Points(2), Shape: draw.CircleGlyph{}}
		p.Add(dots)
	}
	p.Y.Max = math.Max(p.Y.Max, c.Top)
	if c.Log {
		p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
		p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: -1}
		p.X.Max, p.Y.Max = 1, 1
		p.X.Min = math.Min(p.X.Min, p.Y.Min)
		p.Y.Min = p.X.Min
	}
	to, err := p.WriterTo(16*vg.Centimeter, 11*vg.Centimeter, "png")
	if err != nil {
		return err
	}
	_, err = to.WriteTo(w)
	return err
}

func points(list []XY) plotter.XYs {
	out := make(plotter.XYs, len(list))
	for i, p := range list {
		out[i] = plotter.XY{X: p.X, Y: p.Y}
	}
	return out
}
