package page

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"

	"github.com/t5ctl/t5ctl/eval"
)

//go:embed page.html
var pageHTML string //nolint:gochecknoglobals // embedding needs a variable

// HTML writes the facts as one HTML file. Texts of rows are escaped wherever they stand.
func HTML(w io.Writer, f Facts) error {
	t, err := template.New("page").Funcs(template.FuncMap{"bars": bars, "intervals": intervals, "named": named}).Parse(pageHTML)
	if err != nil {
		return err
	}
	return t.Execute(w, f)
}

// bars draws a histogram: 20 bars in 480 by 120 units, the bounds below. Only numbers reach the
// drawing, so that it is safe as it is.
func bars(h Histogram) template.HTML {
	most := 1
	for _, c := range h.Counts {
		most = max(most, c)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="bars" viewBox="0 0 480 140" role="img" aria-label="%d bars from %.4g to %.4g">`, len(h.Counts), h.Low, h.Low+h.Width*float64(len(h.Counts)))
	width := 480.0 / float64(len(h.Counts))
	for i, c := range h.Counts {
		height := 110 * float64(c) / float64(most)
		lo := h.Low + float64(i)*h.Width
		fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f"><title>%.4g to %.4g: %d</title></rect>`,
			float64(i)*width+1, 120-height, width-2, height, lo, lo+h.Width, c)
	}
	fmt.Fprintf(&b, `<text x="0" y="136">%.4g</text><text x="480" y="136" text-anchor="end">%.4g</text>`, h.Low, h.Low+h.Width*float64(len(h.Counts)))
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

// intervals draws a score and its interval, and those of the baseline below it, on one scale.
func intervals(m Metric) template.HTML {
	if !m.Score.Defined() {
		return ""
	}
	lo, hi := float64(m.Score), float64(m.Score)
	widen := func(v float64) {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			lo, hi = math.Min(lo, v), math.Max(hi, v)
		}
	}
	if m.CI != nil {
		widen(float64(m.CI[0]))
		widen(float64(m.CI[1]))
	}
	if m.Before != nil {
		widen(float64(*m.Before))
	}
	if m.BeforeCI != nil {
		widen(float64(m.BeforeCI[0]))
		widen(float64(m.BeforeCI[1]))
	}
	if hi == lo {
		lo, hi = lo-1, hi+1
	}
	at := func(v float64) float64 { return 10 + 180*(v-lo)/(hi-lo) }
	line := func(ci [2]eval.Number, class string, y int) string { // an end that is not bounded reaches the edge
		from, to := 0.0, 200.0
		if ci[0].Defined() {
			from = at(float64(ci[0]))
		}
		if ci[1].Defined() {
			to = at(float64(ci[1]))
		}
		return fmt.Sprintf(`<line%s x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, class, from, to, y, y)
	}
	var b strings.Builder
	b.WriteString(`<svg class="line" viewBox="0 0 200 24" aria-hidden="true">`) // the numbers stand beside it
	if m.CI != nil {
		b.WriteString(line(*m.CI, "", 8))
	}
	fmt.Fprintf(&b, `<circle cx="%.1f" cy="8" r="3"/>`, at(float64(m.Score)))
	if m.BeforeCI != nil {
		b.WriteString(line(*m.BeforeCI, ` class="before"`, 18))
	}
	if m.Before != nil && m.Before.Defined() {
		fmt.Fprintf(&b, `<circle class="before" cx="%.1f" cy="18" r="3"/>`, at(float64(*m.Before)))
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}
