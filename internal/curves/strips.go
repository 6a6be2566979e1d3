package curves

import (
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// Estimate is a value with its interval, and what it is compared with. NaN: there is none.
type Estimate struct {
	Name             string
	Value, Low, High float64
	Other            float64
}

// Strip is estimates on one scale, below one another.
type Strip struct {
	Title string
	Rows  []Estimate
}

// Strips draws values as dots with their intervals and, as triangles, what they are compared with; each
// strip has a scale of its own. value and other are what the legend calls them.
func Strips(w io.Writer, value, other string, strips []Strip) error {
	const row, frame = 0.28 * vg.Inch, 0.75 * vg.Inch
	heights, total := make([]vg.Length, len(strips)), vg.Length(0)
	for i, s := range strips {
		heights[i] = frame + row*vg.Length(len(s.Rows))
		total += heights[i]
	}
	img := vgimg.New(panelWidth, total)
	canvas := draw.New(img)
	top := canvas.Max.Y
	for i, s := range strips {
		drawn, err := s.plot(i == 0, value, other)
		if err != nil {
			return err
		}
		area := canvas
		area.Max.Y, area.Min.Y = top, top-heights[i]
		drawn.Draw(draw.Crop(area, vg.Points(8), -vg.Points(16), vg.Points(4), -vg.Points(6)))
		top = area.Min.Y
	}
	_, err := vgimg.PngCanvas{Canvas: img}.WriteTo(w)
	return err
}

// dots are points with their intervals.
type dots struct {
	plotter.XYs
	plotter.XErrors
}

func (s Strip) plot(legend bool, value, other string) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = s.Title
	p.Add(plotter.NewGrid())
	var mine dots
	var theirs plotter.XYs
	names := make([]string, len(s.Rows))
	for i, r := range s.Rows {
		y := float64(len(s.Rows) - 1 - i) // the first on top
		names[int(y)] = r.Name
		below, above := 0.0, 0.0
		if !math.IsNaN(r.Low) && !math.IsNaN(r.High) {
			below, above = max(r.Value-r.Low, 0), max(r.High-r.Value, 0)
		}
		mine.XYs = append(mine.XYs, plotter.XY{X: r.Value, Y: y})
		mine.XErrors = append(mine.XErrors, struct{ Low, High float64 }{-below, above})
		if !math.IsNaN(r.Other) {
			theirs = append(theirs, plotter.XY{X: r.Other, Y: y})
		}
	}
	points, err := plotter.NewScatter(mine)
	if err != nil {
		return nil, err
	}
	points.GlyphStyle = draw.GlyphStyle{Color: palette(0), Radius: vg.Points(3.5), Shape: draw.CircleGlyph{}}
	bars, err := plotter.NewXErrorBars(mine)
	if err != nil {
		return nil, err
	}
	bars.LineStyle.Color = palette(0)
	p.Add(bars, points)
	if legend {
		p.Legend.Add(value, points)
	}
	if len(theirs) > 0 {
		others, err := plotter.NewScatter(theirs)
		if err != nil {
			return nil, err
		}
		others.GlyphStyle = draw.GlyphStyle{Color: palette(1), Radius: vg.Points(4), Shape: draw.PyramidGlyph{}}
		p.Add(others)
		if legend {
			p.Legend.Add(other, others)
		}
	}
	p.Legend.Top = true
	p.NominalY(names...)
	p.Y.Min, p.Y.Max = -0.5, float64(len(s.Rows))-0.5
	wide := max(p.X.Max-p.X.Min, 1e-3*math.Abs(p.X.Max), 1e-9)
	p.X.Min, p.X.Max = p.X.Min-0.1*wide, p.X.Max+0.25*wide
	return p, nil
}
