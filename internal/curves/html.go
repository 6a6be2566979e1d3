package curves

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"

	"gonum.org/v1/plot"
)

//go:embed page.html
var page string //nolint:gochecknoglobals // embedding needs a variable

// Size of a drawing on the page, in the units of its view box.
const (
	svgWidth  = 860
	svgHeight = 260
	svgLeft   = 70
	svgRight  = 20
	svgTop    = 12
	svgBottom = 34
)

// drawing is a panel as the page's template takes it.
type drawing struct {
	Title         string
	Width, Height int
	Frame         struct{ X, Y, W, H, Right, Bottom int }
	XTicks        []tick
	YTicks        []tick
	Lines         []polyline
	Empty         bool
	Plotted       []Series // the numbers, for the pointer
	To            int      // last step of the axis
}

type tick struct {
	At    float64
	Label string
}

type polyline struct {
	Points, Color, Dashes string
	Dots                  []struct{ X, Y float64 }
}

type legendItem struct{ Name, Color, Dashes string }

// HTML writes one page with the panels and the numbers behind them. It loads nothing.
func HTML(w io.Writer, title string, panels []Panel) error {
	parsed, err := template.New("page").Parse(page)
	if err != nil {
		return err
	}
	data := struct {
		Title    string
		Legend   []legendItem
		Drawings []drawing
	}{Title: title}
	for i, p := range panels {
		if i == 0 {
			for j, s := range p.Series {
				data.Legend = append(data.Legend, legendItem{s.Run, cssColor(j), cssDashes(j)})
			}
		}
		data.Drawings = append(data.Drawings, p.drawing(lastStep(panels)))
	}
	return parsed.Execute(w, data)
}

// drawing puts a panel, up to a last step, into the coordinates of the page.
func (p Panel) drawing(to int) drawing {
	d := drawing{Title: p.Title, Width: svgWidth, Height: svgHeight}
	d.Frame.X, d.Frame.Y = svgLeft, svgTop
	d.Frame.W, d.Frame.H = svgWidth-svgLeft-svgRight, svgHeight-svgTop-svgBottom
	d.Frame.Right, d.Frame.Bottom = svgWidth-svgRight, svgHeight-svgBottom
	_, _, low, high, ok := p.bounds()
	if !ok {
		d.Empty = true
		return d
	}
	if high <= low {
		room := max(1e-9, high*0.1, -high*0.1)
		low, high = low-room, high+room
	}
	d.To = to
	x := func(step float64) float64 {
		return svgLeft + step/float64(to)*float64(d.Frame.W)
	}
	y := func(v float64) float64 { return svgTop + (high-v)/(high-low)*float64(d.Frame.H) }
	d.XTicks = ticks(0, float64(to), x)
	d.YTicks = ticks(low, high, y)
	for i, s := range p.Series {
		line, points := polyline{Color: cssColor(i), Dashes: cssDashes(i)}, s.thinned(mostPoints)
		var b strings.Builder
		for _, q := range points {
			px, py := x(float64(q.Step)), y(q.Value)
			fmt.Fprintf(&b, "%.1f,%.1f ", px, py)
			if len(points) <= fewPoints {
				line.Dots = append(line.Dots, struct{ X, Y float64 }{px, py})
			}
		}
		line.Points = strings.TrimSpace(b.String())
		d.Lines = append(d.Lines, line)
		d.Plotted = append(d.Plotted, Series{Run: s.Run, Points: points})
	}
	return d
}

// ticks are the labelled places of an axis.
func ticks(low, high float64, at func(float64) float64) []tick {
	var labelled []tick
	for _, t := range (plot.DefaultTicks{}).Ticks(low, high) {
		if t.Label != "" {
			labelled = append(labelled, tick{at(t.Value), t.Label})
		}
	}
	return labelled
}

func cssColor(i int) string {
	c := palette(i)
	return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B)
}

func cssDashes(i int) string {
	var parts []string
	for _, length := range dashes(i) {
		parts = append(parts, fmt.Sprint(float64(length)))
	}
	return strings.Join(parts, " ")
}
