package curves

import (
	_ "embed"
	"html/template"
	"io"
)

//go:embed page.html
var page string //nolint:gochecknoglobals // embedding needs a variable

// pageWidth is that of a drawing on a page of its own.
const pageWidth = 860

// Entry is one run of a legend.
type Entry struct{ Name, Color, Dashes string }

// Key says how each run of the panels is drawn.
func Key(panels []Panel) []Entry {
	var key []Entry
	for _, p := range panels[:min(1, len(panels))] { // all have the same runs
		for i, s := range p.Series {
			key = append(key, Entry{s.Run, cssColor(i), cssDashes(i)})
		}
	}
	return key
}

// Figure is a panel on a page.
type Figure struct {
	Title string
	SVG   template.HTML // empty: nothing was logged
}

// Figures draws the panels for a page, on one axis of steps.
func Figures(panels []Panel, width int) ([]Figure, error) {
	var figures []Figure
	last := lastStep(panels)
	for _, p := range panels {
		svg, err := p.SVG(width, last)
		if err != nil {
			return nil, err
		}
		figures = append(figures, Figure{p.Title, svg})
	}
	return figures, nil
}

// HTML writes one page with the panels and the numbers behind them. It loads nothing.
func HTML(w io.Writer, title string, panels []Panel) error {
	parsed, err := template.New("page").Parse(page)
	if err != nil {
		return err
	}
	figures, err := Figures(panels, pageWidth)
	if err != nil {
		return err
	}
	return parsed.Execute(w, struct {
		Title   string
		Key     []Entry
		Figures []Figure
		Script  template.JS
	}{title, Key(panels), figures, template.JS(Script)})
}
