package curves_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"math"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/internal/curves"
)

// killed is the log of a run that was killed after step 30, whose last checkpoint was that of step
// 20, and that went on to step 40.
const killed = `{"event":"started","step":0,"total":40}
{"event":"compiled","program":"t5.gradients"}
{"event":"step","step":10,"loss":4,"learning_rate":0.1,"tokens":100,"tokens_per_second":50,"gradient_norm":2,"memory_bytes":1000}
{"event":"step","step":20,"loss":3,"learning_rate":0.2,"tokens":100,"tokens_per_second":60}
{"event":"evaluated","step":20,"metrics":{"loss":3.5,"bleu":10}}
{"event":"step","step":30,"loss":9,"learning_rate":0.3,"tokens":100,"tokens_per_second":70}
{"event":"evaluated","step":30,"metrics":{"loss":9}}
{"event":"ste
{"event":"started","step":20,"total":40}
{"event":"step","step":30,"loss":2,"learning_rate":0.3,"tokens":100,"tokens_per_second":80}
{"event":"step","step":40,"loss":null,"learning_rate":0.4,"tokens":100,"tokens_per_second":90}
{"event":"evaluated","step":40,"metrics":{"loss":2.5}}
`

func read(t *testing.T, text string) curves.Log {
	t.Helper()
	log, err := curves.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func TestRead(t *testing.T) {
	log := read(t, killed)
	type interval struct {
		from, to int
		loss     float64
	}
	var got []interval
	for _, s := range log.Steps[:3] {
		got = append(got, interval{s.From, s.To, s.Loss})
	}
	if want := []interval{{0, 10, 4}, {10, 20, 3}, {20, 30, 2}}; !reflect.DeepEqual(got, want) {
		t.Errorf("steps %v; want %v", got, want)
	}
	if last := log.Steps[3]; len(log.Steps) != 4 || last.From != 30 || last.To != 40 || !math.IsNaN(last.Loss) {
		t.Errorf("last step %+v of %d", last, len(log.Steps))
	}
	if log.Total != 40 {
		t.Errorf("%d steps in all; want 40", log.Total)
	}
	if len(log.Evaluations) != 2 || log.Evaluations[0].Metrics["bleu"] != 10 || log.Evaluations[1].Step != 40 {
		t.Errorf("evaluations %v", log.Evaluations)
	}
}

func TestPanels(t *testing.T) {
	runs := []curves.Run{{Name: "first", Log: read(t, killed)}, {Name: "empty"}}
	panels, err := curves.Panels(runs, curves.Loss, curves.Throughput, "validation/bleu")
	if err != nil {
		t.Fatal(err)
	}
	want := []curves.Point{{Step: 10, Value: 4}, {Step: 20, Value: 3}, {Step: 30, Value: 2}} // what is not finite is left out
	if got := panels[0].Series[0].Points; !reflect.DeepEqual(got, want) {
		t.Errorf("loss %v; want %v", got, want)
	}
	if got := panels[1].Series[0].Points; len(got) != 4 || got[3].Value != 90 {
		t.Errorf("throughput %v", got)
	}
	if got := panels[2].Series; len(got[0].Points) != 1 || len(got[1].Points) != 0 {
		t.Errorf("validation/bleu %v", got)
	}
	if _, err := curves.Panels(runs, "los"); err == nil || !strings.Contains(err.Error(), "did you mean loss?") {
		t.Errorf("a curve that is not there: %v", err)
	}
}

func TestText(t *testing.T) {
	panel := curves.Panel{Title: "loss", Series: []curves.Series{
		{Run: "one", Points: []curves.Point{{Step: 0, Value: 4}, {Step: 10, Value: 0}}},
		{Run: "two", Points: []curves.Point{{Step: 5, Value: 4}}},
	}}
	want := `loss
4 |aaa        b
  |   aaaaa
  |        aaaaaa
  |              aaaaa
0 |                   aaa
  +----------------------
   0                   10
`
	if got := curves.Text(panel, 25, 5); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, line := range strings.Split(curves.Text(panel, 80, 12), "\n") {
		if len(line) > 80 {
			t.Errorf("line of %d columns: %q", len(line), line)
		}
	}
	if got := curves.Text(curves.Panel{Title: "loss"}, 80, 12); got != "loss: nothing was logged\n" {
		t.Errorf("without points: %q", got)
	}
}

func TestPNG(t *testing.T) {
	runs := []curves.Run{{Name: "first", Log: read(t, killed)}, {Name: "empty"}}
	panels, err := curves.Panels(runs, curves.Loss, curves.LearningRate, "validation/bleu")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := curves.PNG(&out, panels); err != nil {
		t.Fatal(err)
	}
	if inked := colors(t, &out); !inked[0x0072b2] {
		t.Errorf("no pixel has the color of the first run; the picture has %d colors", len(inked))
	}
}

// TestStrips draws scores with and without intervals and baselines: the same twice, with the colors
// of both where there are both.
func TestStrips(t *testing.T) {
	nan := math.NaN()
	mine := curves.Strip{Title: "BLEU", Rows: []curves.Estimate{
		{Name: "all rows", Value: 62, Low: 58, High: 66, Other: 35}, {Name: "long", Value: 40, Low: nan, High: nan, Other: nan},
	}}
	alone := curves.Strip{Title: "WER", Rows: []curves.Estimate{{Name: "all rows", Value: 3, Low: nan, High: nan, Other: nan}}}
	draw := func(strips ...curves.Strip) *bytes.Buffer {
		var out bytes.Buffer
		if err := curves.Strips(&out, "model", "baseline", strips); err != nil {
			t.Fatal(err)
		}
		return &out
	}
	first, second := draw(mine, alone), draw(mine, alone)
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same figures give two pictures")
	}
	if inked := colors(t, first); !inked[0x0072b2] || !inked[0xd55e00] {
		t.Errorf("a color is missing: model %v, baseline %v", inked[0x0072b2], inked[0xd55e00])
	}
	if inked := colors(t, draw(alone)); !inked[0x0072b2] || inked[0xd55e00] {
		t.Errorf("without a baseline: model %v, baseline %v", inked[0x0072b2], inked[0xd55e00])
	}
}

// colors are those of a picture.
func colors(t *testing.T, from io.Reader) map[uint32]bool {
	t.Helper()
	picture, err := png.Decode(from)
	if err != nil {
		t.Fatal(err)
	}
	inked := map[uint32]bool{}
	for y := picture.Bounds().Min.Y; y < picture.Bounds().Max.Y; y++ {
		for x := picture.Bounds().Min.X; x < picture.Bounds().Max.X; x++ {
			r, g, b, _ := picture.At(x, y).RGBA()
			inked[r>>8<<16|g>>8<<8|b>>8] = true
		}
	}
	return inked
}

func TestHTML(t *testing.T) {
	const hostile = `</script><script>alert("x")</script>`
	runs := []curves.Run{{Name: hostile, Log: read(t, killed)}, {Name: "empty"}}
	panels, err := curves.Panels(runs, curves.Loss, "validation/bleu")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := curves.HTML(&out, "runs", panels); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	if strings.Contains(page, hostile) {
		t.Error("a run's name is taken for markup")
	}
	if found := regexp.MustCompile(`(src|href)=|https?://|@import|url\(`).FindString(page); found != "" {
		t.Errorf("the page loads something: %q", found)
	}
	if n := strings.Count(page, "<svg class=\"panel\""); n != 2 {
		t.Errorf("%d drawings; want 2", n)
	}
	for _, drawing := range regexp.MustCompile(`(?s)<svg class="panel".*?</svg>`).FindAllString(page, -1) {
		if err := xml.Unmarshal([]byte(drawing), new(struct{})); err != nil {
			t.Errorf("a drawing is not well formed: %v", err)
		}
	}
	numbers := regexp.MustCompile(`data-steps="(.*?)" data-values="(.*?)"`).FindStringSubmatch(page)
	if numbers == nil || numbers[1] != "10 20 30" || numbers[2] != "4 3 2" {
		t.Errorf("the numbers behind the first drawing: %v", numbers)
	}
}

// TestChartSVG draws dots, a line with intervals and a level over two kinds of axes.
func TestChartSVG(t *testing.T) {
	const hostile = `<script>alert("x")</script>`
	chart := curves.Chart{
		Title: hostile, Text: "what it shows", X: "repetitions", Y: "bits", Top: 12, Ticks: map[string]float64{"0": 0, "1": 1},
		Lines:  []curves.ChartLine{{Name: "mean", Points: []curves.XY{{X: 0, Y: 1}, {X: 1, Y: 10}}}, {Name: hostile, Level: true, Points: []curves.XY{{X: 0, Y: 10}, {X: 1, Y: 10}}}},
		Points: []curves.XY{{X: 0, Y: 1.5, Name: "a secret: 1.5"}, {X: 1, Y: 10}}, Bars: []curves.Bar{{X: 1, Low: 8, High: 10}},
	}
	counts := func(c curves.Chart) map[string]int {
		t.Helper()
		svg, err := c.SVG()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(svg), hostile) || strings.Contains(string(svg), "NaN") || strings.Contains(string(svg), "Inf") {
			t.Errorf("a name is taken for markup, or a place is no number: %s", svg)
		}
		found := map[string]int{}
		d := xml.NewDecoder(strings.NewReader(string(svg)))
		for token, err := d.Token(); !errors.Is(err, io.EOF); token, err = d.Token() {
			if err != nil {
				t.Fatal(err)
			}
			if e, ok := token.(xml.StartElement); ok {
				found[e.Name.Local]++
			}
		}
		return found
	}
	if got := counts(chart); got["polyline"] != 2 || got["circle"] != 4 || got["path"] != 1 || got["desc"] != 1 || got["title"] != 1 {
		t.Errorf("exposure: %v", got)
	}
	roc := curves.Chart{Title: "ROC", Log: true, Lines: []curves.ChartLine{{Name: "loss", Points: []curves.XY{{X: 1e-3, Y: 1e-3}, {X: 0.1, Y: 0.4}, {X: 1, Y: 1}}}}}
	if got := counts(roc); got["polyline"] != 1 || got["text"] != 4+4+1+1 { // 0.001, 0.01, 0.1, 1 on both axes, the legend and the axis
		t.Errorf("ROC: %v", got)
	}
	if got := counts(curves.Chart{Title: "nothing"}); got["svg"] != 1 {
		t.Errorf("an empty chart: %v", got)
	}
	var png bytes.Buffer
	if err := chart.PNG(&png); err != nil {
		t.Fatal(err)
	}
	if !colors(t, &png)[0x0072b2] {
		t.Error("the picture has no line")
	}
}

func TestSpark(t *testing.T) {
	spark := curves.Series{Points: []curves.Point{{Step: 10, Value: 4}, {Step: 20, Value: 2}}}.Spark()
	if err := xml.Unmarshal([]byte(spark), new(struct{})); err != nil || !strings.Contains(string(spark), `points="48.0,`) {
		t.Errorf("%s, %v", spark, err)
	}
	if alone := (curves.Series{Points: []curves.Point{{Step: 10, Value: 4}}}).Spark(); alone != "" {
		t.Errorf("one point is no curve: %s", alone)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(killed)
	f.Add(`{"event":"step","step":-1}`)
	f.Add(`{"event":"evaluated","step":1,"metrics":{"x":1e308}}` + "\n" + `{"event":"evaluated","step":9,"metrics":{"x":-1e308}}`)
	f.Fuzz(func(t *testing.T, in string) {
		log, err := curves.Read(strings.NewReader(in))
		if err != nil {
			t.Fatal(err) // memory does not fail
		}
		runs := []curves.Run{{Name: "x", Log: log}}
		panels, err := curves.Panels(runs, curves.Names(runs)...)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range panels {
			_ = curves.Text(p, 40, 6) // it must return
		}
		if err := curves.HTML(&bytes.Buffer{}, "x", panels); err != nil {
			t.Error(err)
		}
	})
}

// Whatever the numbers of a chart are, drawing it ends, and in places that are numbers.
func FuzzChart(f *testing.F) {
	f.Add(1.0, 2.0, 3.0, 4.0, 12.0, false)
	f.Add(1e308, -1e308, 0.0, math.Inf(1), 0.0, false)
	f.Add(1e-3, 0.0, math.NaN(), 1.0, 0.0, true)
	f.Add(1e-308, 1e299, 5e-324, 1e-300, 0.0, true)
	f.Fuzz(func(t *testing.T, x1, y1, x2, y2, top float64, log bool) {
		at := []curves.XY{{X: x1, Y: y1}, {X: x2, Y: y2}}
		c := curves.Chart{Lines: []curves.ChartLine{{Points: at}}, Points: at, Bars: []curves.Bar{{X: x1, Low: y1, High: y2}}, Top: top, Log: log}
		svg, err := c.SVG()
		if err != nil || strings.Contains(string(svg), "NaN") || strings.Contains(string(svg), "Inf") {
			t.Errorf("%v: %s", err, svg)
		}
	})
}
