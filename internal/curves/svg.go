package curves

import (
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
)

//go:embed drawing.svg
var drawingSVG string //nolint:gochecknoglobals // embedding needs a variable

// Script shows the numbers of a drawing under the pointer, in the .told that follows it. A page works without.
//
//go:embed pointer.js
var Script string //nolint:gochecknoglobals // embedding needs a variable

// Sizes of a drawing, in the units of its view box.
const (
	svgHeight = 260
	svgLeft   = 56
	svgRight  = 16
	svgTop    = 12
	svgBottom = 36
	svgLetter = 6.6 // a letter of a legend, about
)

// drawing is lines, dots and bars over a pair of axes as the template takes it. It says all in
// attributes and takes its text color from the page, so that it needs no style sheet.
type drawing struct {
	Title, Text    string // the second is for those who cannot see it
	X, Y           string // what the axes tell
	Width, Height  int
	Frame          frame
	XTicks, YTicks []tick
	Lines          []polyline
	Bars           []bar
	Dots           []dot
	Legend         []legendItem
	To             int // last step of the x axis; 0 where it has no steps
}

type frame struct{ X, Y, W, H, Right, Bottom int }

func newFrame(width, height int) frame {
	return frame{X: svgLeft, Y: svgTop, W: width - svgLeft - svgRight, H: height - svgTop - svgBottom, Right: width - svgRight, Bottom: height - svgBottom}
}

type tick struct {
	At    float64
	Label string
}

type polyline struct {
	Name, Points, Color, Dashes string
	Steps, Values               string // the numbers, for the pointer
	Dots                        []dot
}

type dot struct {
	X, Y  float64
	Title string
}

type bar struct{ X, Top, Bottom float64 }

// legendItem is a line from X to To, and its name after it.
type legendItem struct {
	Name, Color, Dashes string
	X, To, Y            int
}

// write puts the drawing into an SVG element.
func (d drawing) write() (template.HTML, error) {
	parsed, err := template.New("drawing").Parse(drawingSVG)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := parsed.Execute(&b, d); err != nil {
		return "", err
	}
	return template.HTML(b.String()), nil
}

// SVG draws a panel for a page, in so many units of width, up to a step; empty where nothing was logged.
func (p Panel) SVG(width, last int) (template.HTML, error) {
	from, to, low, high, ok := p.bounds()
	if !ok {
		return "", nil
	}
	d := drawing{Title: p.Title, X: "step", Width: width, Height: svgHeight, Frame: newFrame(width, svgHeight), To: max(last, to)}
	d.Text = fmt.Sprintf("Steps %d to %d, values from %s to %s.", from, to, label(low), label(high))
	low, high = roomy(low, high)
	x := func(step float64) float64 { return svgLeft + step/float64(d.To)*float64(d.Frame.W) }
	y := func(v float64) float64 { return svgTop + (high-v)/(high-low)*float64(d.Frame.H) }
	d.XTicks, d.YTicks = ticks(0, float64(d.To), x), ticks(low, high, y)
	for i, s := range p.Series {
		d.Lines = append(d.Lines, s.polyline(i, s.thinned(width), x, y))
	}
	return d.write()
}

func (s Series) polyline(i int, points []Point, x, y func(float64) float64) polyline {
	line := polyline{Name: s.Run, Color: cssColor(i), Dashes: cssDashes(i)}
	var at, steps, values strings.Builder
	for _, q := range points {
		px, py := x(float64(q.Step)), y(q.Value)
		fmt.Fprintf(&at, "%.1f,%.1f ", px, py)
		fmt.Fprintf(&steps, "%d ", q.Step)
		fmt.Fprintf(&values, "%.5g ", q.Value)
		if len(points) <= fewPoints {
			line.Dots = append(line.Dots, dot{X: px, Y: py})
		}
	}
	line.Points, line.Steps, line.Values = strings.TrimSpace(at.String()), strings.TrimSpace(steps.String()), strings.TrimSpace(values.String())
	return line
}

// Spark draws the curve of a run without axes, small enough for a line of a table.
func (s Series) Spark() template.HTML {
	const width, height = 96, 22
	_, to, low, high, ok := Panel{Series: []Series{s}}.bounds()
	if !ok || len(s.Points) < 2 {
		return ""
	}
	low, high = roomy(low, high)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="spark" viewBox="0 0 %d %d" width="%d" height="%d" aria-hidden="true"><polyline fill="none" stroke="%s" stroke-width="1.4" points="`,
		width, height, width, height, cssColor(0))
	for _, p := range s.thinned(width) {
		fmt.Fprintf(&b, "%.1f,%.1f ", float64(p.Step)/float64(max(to, 1))*width, 1+(high-p.Value)/(high-low)*(height-2))
	}
	b.WriteString(`"/></svg>`)
	return template.HTML(b.String())
}

// roomy leaves some room around values.
func roomy(low, high float64) (float64, float64) {
	room := 0.04 * (high - low)
	if high <= low {
		room = max(1e-9, high*0.1, -high*0.1)
	}
	return low - room, high + room
}

// ticks are the labelled places of an axis: about five, at round numbers.
func ticks(low, high float64, at func(float64) float64) []tick {
	const wanted = 5
	step := math.Pow(10, math.Floor(math.Log10((high-low)/wanted)))
	for _, times := range []float64{2, 2.5, 2} { // 2, 5 and 10 of it
		if (high-low)/step > wanted+1 {
			step *= times
		}
	}
	var labelled []tick
	for n := math.Ceil(low / step); n*step <= high && len(labelled) < 3*wanted; n++ {
		labelled = append(labelled, tick{at(n * step), label(n*step + 0)}) // never -0
	}
	return labelled
}

// label shows a number in few letters.
func label(v float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e4, "k"}} {
		if math.Abs(v) >= unit.size {
			if unit.size == 1e4 {
				unit.size = 1e3
			}
			return strconv.FormatFloat(v/unit.size, 'g', 4, 64) + unit.name
		}
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// cssColor is the palette on a page; what is black there takes the color of the text, which is light
// on a dark page.
func cssColor(i int) string {
	c := palette(i)
	if c.R == 0 && c.G == 0 && c.B == 0 {
		return "currentColor"
	}
	return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B)
}

func cssDashes(i int) string {
	var parts []string
	for _, length := range dashes(i) {
		parts = append(parts, fmt.Sprint(float64(length)))
	}
	return strings.Join(parts, " ")
}
