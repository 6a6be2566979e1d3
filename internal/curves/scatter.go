package curves

import (
	"image/color"
	"io"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// Mark is one point of a scatter; those that stand out are joined by a line.
type Mark struct {
	X, Y  float64
	Name  string
	Stand bool
}

// Scatter draws points by what they cost and what they give. Marks that stand out come in the
// order in which they are joined.
func Scatter(w io.Writer, title, x, y string, marks []Mark) error {
	drawn := plot.New()
	drawn.Title.Text, drawn.X.Label.Text, drawn.Y.Label.Text = title, x, y
	drawn.Add(plotter.NewGrid())
	var all, front plotter.XYs
	var names []string
	for _, m := range marks {
		at := plotter.XY{X: m.X, Y: m.Y}
		all, names = append(all, at), append(names, " "+m.Name)
		if m.Stand {
			front = append(front, at)
		}
	}
	points, err := plotter.NewScatter(all)
	if err != nil {
		return err
	}
	points.Color, points.Radius = color.RGBA{R: 120, G: 120, B: 120, A: 255}, vg.Points(3)
	labels, err := plotter.NewLabels(plotter.XYLabels{XYs: all, Labels: names})
	if err != nil {
		return err
	}
	drawn.Add(points, labels)
	if len(front) > 0 {
		line, stand, err := plotter.NewLinePoints(front)
		if err != nil {
			return err
		}
		line.Color, stand.Color, stand.Radius = palette(0), palette(0), vg.Points(4)
		drawn.Add(line, stand)
	}
	const margin = 0.15 // of the range, for the names
	for _, axis := range []*plot.Axis{&drawn.X, &drawn.Y} {
		wide := max(axis.Max-axis.Min, 1e-9)
		axis.Min, axis.Max = axis.Min-margin*wide/2, axis.Max+margin*wide
	}
	picture, err := drawn.WriterTo(panelWidth, 2*panelHeight, "png")
	if err != nil {
		return err
	}
	_, err = picture.WriteTo(w)
	return err
}
