package curves

import (
	"fmt"
	"image/color"
	"io"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// Size of a picture.
const (
	panelWidth  = 8 * vg.Inch
	panelHeight = 2.6 * vg.Inch
	mostPoints  = 2000 // of a curve in a picture
	fewPoints   = 30   // of a curve whose points are marked
)

// palette is the one of Okabe and Ito, which stays apart for the color-blind.
func palette(i int) color.RGBA {
	colors := []color.RGBA{
		{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255},
		{230, 159, 0, 255}, {86, 180, 233, 255}, {0, 0, 0, 255},
	}
	return colors[i%len(colors)]
}

// dashes tell the runs apart once the colors are used up.
func dashes(i int) []vg.Length {
	styles := [][]vg.Length{nil, {vg.Points(6), vg.Points(3)}, {vg.Points(2), vg.Points(2)}}
	return styles[i/7%len(styles)]
}

// PNG draws the panels below one another.
func PNG(w io.Writer, panels []Panel) error {
	rows := make([][]*plot.Plot, len(panels))
	for i, p := range panels {
		drawn, err := picture(p, i == 0, lastStep(panels))
		if err != nil {
			return fmt.Errorf("drawing %s: %w", p.Name, err)
		}
		rows[i] = []*plot.Plot{drawn}
	}
	img := vgimg.New(panelWidth, panelHeight*vg.Length(len(panels)))
	tiles := draw.Tiles{
		Rows: len(panels), Cols: 1, PadX: vg.Points(8), PadY: vg.Points(10),
		PadTop: vg.Points(8), PadBottom: vg.Points(8), PadLeft: vg.Points(8), PadRight: vg.Points(16),
	}
	for i, row := range plot.Align(rows, tiles, draw.New(img)) {
		rows[i][0].Draw(row[0])
	}
	_, err := vgimg.PngCanvas{Canvas: img}.WriteTo(w)
	return err
}

// picture is one panel up to a last step; the first one names the runs.
func picture(p Panel, legend bool, last int) (*plot.Plot, error) {
	drawn := plot.New()
	drawn.Title.Text, drawn.X.Label.Text = p.Title, "step"
	drawn.Legend.Top = true
	drawn.Add(plotter.NewGrid())
	for i, s := range p.Series {
		points := make(plotter.XYs, 0, len(s.Points))
		for _, q := range s.thinned(mostPoints) {
			points = append(points, plotter.XY{X: float64(q.Step), Y: q.Value})
		}
		if len(points) == 0 {
			continue
		}
		line, marks, err := plotter.NewLinePoints(points)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width, line.Dashes = palette(i), vg.Points(1.2), dashes(i)
		marks.Color, marks.Radius, marks.Shape = palette(i), vg.Points(2), draw.CircleGlyph{}
		drawn.Add(line)
		if len(points) <= fewPoints {
			drawn.Add(marks)
		}
		if legend {
			drawn.Legend.Add(s.Run, line)
		}
	}
	drawn.X.Min, drawn.X.Max = 0, float64(last)
	return drawn, nil
}
