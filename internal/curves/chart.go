package curves

import (
	"fmt"
	"html/template"
	"image/color"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// XY is a point of a chart; Name is told where it is pointed at.
type XY struct {
	X, Y float64
	Name string
}

// Bar is an interval at a place.
type Bar struct{ X, Low, High float64 }

// ChartLine is one named line; Level lines, which mark what others are compared with, are dashed.
type ChartLine struct {
	Name   string
	Points []XY
	Level  bool
}

// Chart is lines and single points over one pair of axes.
type Chart struct {
	Title  string
	Text   string // what it shows, for those who cannot see it
	X, Y   string // what the axes tell
	Lines  []ChartLine
	Points []XY
	Bars   []Bar              // of the first line
	Ticks  map[string]float64 // marks of the x axis; nil: chosen
	Log    bool               // both axes, up to 1
	Top    float64            // least upper end of the y axis
}

// drawable leaves out what no axis can show: what is not finite, or too large to be told from it.
func (c Chart) drawable() Chart {
	ok := func(values ...float64) bool {
		return !slices.ContainsFunc(values, func(v float64) bool { return !(math.Abs(v) < largest) || c.Log && v <= 0 })
	}
	points := func(list []XY) (kept []XY) {
		for _, p := range list {
			if ok(p.X, p.Y) {
				kept = append(kept, p)
			}
		}
		return kept
	}
	out := c
	if !(math.Abs(out.Top) < largest) {
		out.Top = 0
	}
	out.Points, out.Lines, out.Bars = points(c.Points), nil, nil
	for _, l := range c.Lines {
		l.Points = points(l.Points)
		out.Lines = append(out.Lines, l)
	}
	for _, b := range c.Bars {
		if ok(b.X, b.Low, b.High) {
			out.Bars = append(out.Bars, b)
		}
	}
	return out
}

// PNG draws the chart.
func (c Chart) PNG(w io.Writer) error {
	c = c.drawable()
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = c.X, c.Y
	p.Legend.YOffs = 2.2 * vg.Centimeter // bottom right, where curves that grow leave room
	if c.Ticks != nil {
		var ticks plot.ConstantTicks
		for label, at := range c.Ticks {
			ticks = append(ticks, plot.Tick{Value: at, Label: label})
		}
		p.X.Tick.Marker = ticks
	}
	for i, l := range c.Lines {
		if len(l.Points) == 0 {
			continue
		}
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
		dots.GlyphStyle = draw.GlyphStyle{Color: color.Gray{150}, Radius: vg.Points(2), Shape: draw.CircleGlyph{}}
		p.Add(dots)
	}
	if err := c.addBars(p); err != nil {
		return err
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

// intervals are bars as gonum draws them.
type intervals struct {
	plotter.XYs
	plotter.YErrors
}

func (c Chart) addBars(p *plot.Plot) error {
	if len(c.Bars) == 0 {
		return nil
	}
	var all intervals
	for _, b := range c.Bars {
		all.XYs = append(all.XYs, plotter.XY{X: b.X, Y: b.Low})
		all.YErrors = append(all.YErrors, struct{ Low, High float64 }{0, b.High - b.Low})
	}
	drawn, err := plotter.NewYErrorBars(all)
	if err != nil {
		return err
	}
	drawn.Color, drawn.Width = palette(0), vg.Points(1.2)
	p.Add(drawn)
	return nil
}

// Size of a chart on a page.
const (
	chartWidth  = 560
	chartHeight = 340
	legendRow   = 18
)

// SVG draws the chart for a page.
func (c Chart) SVG() (template.HTML, error) {
	c = c.drawable()
	left, right, low, high := c.bounds()
	d := drawing{Title: c.Title, Text: c.Text, X: c.X, Y: c.Y, Width: chartWidth, Frame: newFrame(chartWidth, chartHeight)}
	scale := func(v float64) float64 { return v }
	if c.Log {
		scale = math.Log10
	}
	x := func(v float64) float64 {
		return svgLeft + (scale(v)-scale(left))/(scale(right)-scale(left))*float64(d.Frame.W)
	}
	y := func(v float64) float64 {
		return svgTop + (scale(high)-scale(v))/(scale(high)-scale(low))*float64(d.Frame.H)
	}
	d.XTicks, d.YTicks = c.ticks(left, right, x), ticks(low, high, y)
	if c.Log {
		d.YTicks = decades(low, high, y)
	}
	for _, p := range c.Points {
		d.Dots = append(d.Dots, dot{x(p.X), y(p.Y), p.Name})
	}
	for _, b := range c.Bars {
		d.Bars = append(d.Bars, bar{x(b.X), y(b.High), y(b.Low)})
	}
	for i, l := range c.Lines {
		line := polyline{Color: cssColor(i), Dashes: l.dashes()}
		var at strings.Builder
		for _, p := range l.Points {
			fmt.Fprintf(&at, "%.1f,%.1f ", x(p.X), y(p.Y))
			if len(l.Points) <= fewPoints && !l.Level {
				line.Dots = append(line.Dots, dot{x(p.X), y(p.Y), p.Name})
			}
		}
		line.Points = strings.TrimSpace(at.String())
		d.Lines = append(d.Lines, line)
	}
	d.Legend, d.Height = c.legend()
	return d.write()
}

func (l ChartLine) dashes() string {
	if l.Level {
		return "6 3"
	}
	return ""
}

// bounds are those of the axes.
func (c Chart) bounds() (left, right, low, high float64) {
	left, low, right, high = math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	add := func(x, y float64) {
		left, right, low, high = math.Min(left, x), math.Max(right, x), math.Min(low, y), math.Max(high, y)
	}
	for _, p := range c.Points {
		add(p.X, p.Y)
	}
	for _, b := range c.Bars {
		add(b.X, b.Low)
		add(b.X, b.High)
	}
	for _, l := range c.Lines {
		for _, p := range l.Points {
			add(p.X, p.Y)
		}
	}
	if c.Log {
		low = math.Max(math.Min(math.Min(left, low), 0.1), leastShare)
		return low, 1, low, 1
	}
	if math.IsInf(left, 0) {
		return 0, 1, 0, 1
	}
	room := 0.03 * math.Max(right-left, 1)
	return left - room, right + room, math.Min(low, 0), math.Max(high, math.Max(c.Top, 1e-9))
}

func (c Chart) ticks(low, high float64, at func(float64) float64) []tick {
	switch {
	case c.Log:
		return decades(low, high, at)
	case c.Ticks == nil:
		return ticks(low, high, at)
	}
	var labelled []tick
	for _, name := range slices.Sorted(maps.Keys(c.Ticks)) {
		labelled = append(labelled, tick{at(c.Ticks[name]), name})
	}
	return labelled
}

// leastShare is where log axes begin at the latest.
const leastShare = 1e-9

// decades are the powers of ten of an axis.
func decades(low, high float64, at func(float64) float64) []tick {
	var labelled []tick
	for power := math.Ceil(math.Log10(low) - 1e-9); power <= math.Log10(high)+1e-9; power++ {
		v := math.Pow(10, power)
		labelled = append(labelled, tick{at(v), label(v)})
	}
	return labelled
}

// legend puts the names of the lines into rows below the axes, and gives the height of it all.
func (c Chart) legend() ([]legendItem, int) {
	const stroke, gap = 24, 20
	var items []legendItem
	x, y := svgLeft, chartHeight+legendRow/2
	for i, l := range c.Lines {
		wide := stroke + gap + int(svgLetter*float64(len([]rune(l.Name))))
		if x > svgLeft && x+wide > chartWidth {
			x, y = svgLeft, y+legendRow
		}
		items = append(items, legendItem{Name: l.Name, Color: cssColor(i), Dashes: l.dashes(), X: x, To: x + stroke, Y: y})
		x += wide
	}
	return items, y + legendRow/2
}

func points(list []XY) plotter.XYs {
	out := make(plotter.XYs, len(list))
	for i, p := range list {
		out[i] = plotter.XY{X: p.X, Y: p.Y}
	}
	return out
}
