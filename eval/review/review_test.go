package review_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/review"
)

// The example of four observers and twelve units in K. Krippendorff, Computing Krippendorff's
// Alpha-Reliability (2011), section D; 0 is no rating. Alpha there is 0.743 for nominal data and 0.849
// for interval data.
func TestAlpha(t *testing.T) {
	rows := [][]float64{
		{1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0},
		{1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3},
		{0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0},
		{1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0},
	}
	var raters []map[string]float64
	for _, row := range rows {
		r := map[string]float64{}
		for i, v := range row {
			if v > 0 {
				r[fmt.Sprint(i)] = v
			}
		}
		raters = append(raters, r)
	}
	for scale, want := range map[review.Scale]float64{review.Nominal: 0.743, review.Interval: 0.849} {
		if got := review.Alpha(raters, scale); math.Abs(got-want) > 0.0005 {
			t.Errorf("%s: %v; want %v", scale, got, want)
		}
	}
	if got := review.Alpha(raters[:1], review.Nominal); !math.IsNaN(got) {
		t.Errorf("one rater agrees with nobody: %v", got)
	}
}

func answers(n int) []eval.Answered {
	var out []eval.Answered
	for i := range n {
		text := fmt.Sprint("output ", i)
		for range i % 9 {
			text += " word"
		}
		out = append(out, eval.Answered{Pair: eval.Pair{ID: fmt.Sprint(i), Task: []string{"a", "b", "b"}[i%3], Input: "in", References: []string{"ref"}}, Output: text})
	}
	return out
}

func TestSample(t *testing.T) {
	items := review.Sample(answers(300), 31, 7)
	tasks, ids := map[string]int{}, map[string]bool{}
	for _, i := range items {
		tasks[i.Task]++
		ids[i.ID] = true
		if i.Reference != "ref" || i.Rating != "" {
			t.Errorf("%+v", i)
		}
	}
	if len(items) != 31 || len(ids) != 31 || tasks["a"] < 10 || tasks["a"] > 11 {
		t.Errorf("%d items, %d different, tasks %v", len(items), len(ids), tasks)
	}
	if !slices.Equal(items, review.Sample(answers(300), 31, 7)) || slices.Equal(items, review.Sample(answers(300), 31, 8)) {
		t.Error("the seed decides the sample")
	}
	if got := review.Sample(answers(5), 200, 1); len(got) != 5 {
		t.Errorf("%d of five", len(got))
	}
}

func TestFiles(t *testing.T) {
	items := review.Sample(answers(10), 4, 1)
	for i := range items {
		items[i].Rating = []string{"4", " 2.5 ", "", "Good"}[i]
		items[i].Output += "\n\"quoted\", and more"
	}
	for _, name := range []string{"r.csv", "r.jsonl"} {
		var b bytes.Buffer
		if err := review.Encode(&b, name, items); err != nil {
			t.Fatal(err)
		}
		got, err := review.Parse(name, b.Bytes())
		if err != nil || len(got) != 3 || got[items[0].ID] != 4 || got[items[1].ID] != 2.5 || got[items[3].ID] != 1 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if got, err := review.Parse("r.jsonl", []byte(`{"id": "1", "rating": 3}`)); err != nil || got["1"] != 3 {
		t.Errorf("a number: %v, %v", got, err)
	}
	for name, text := range map[string]string{
		"a.csv": "", "b.csv": "id,text\n1,2\n", "c.csv": "id,rating\n1,often\n", "d.csv": "id,rating\n1,2\n1,2\n", "e.csv": "id,rating\n1,\n",
		"f.jsonl": "{", "g.jsonl": `{"id": "1", "rating": "NaN"}`, "h.csv": "id,rating\n1\n",
	} {
		var e *review.FileError
		if _, err := review.Parse(name, []byte(text)); !errors.As(err, &e) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReport(t *testing.T) {
	a, b := map[string]float64{"1": 1, "2": 3, "3": 5}, map[string]float64{"1": 2, "2": 3}
	r := review.Report([]map[string]float64{a, b}, review.Interval, "m@v1", eval.DefaultBootstrap())
	quality, agreement := r.Metrics[0], r.Metrics[1]
	if want := (1.5 + 3 + 5) / 3; math.Abs(float64(quality.Score)-want) > 1e-12 || quality.N != 3 || quality.CI[0] != 1.5 || quality.CI[1] != 5 {
		t.Errorf("%+v; want %v", quality, want)
	}
	if !agreement.Score.Defined() || agreement.Verdict != eval.VerdictOK {
		t.Errorf("%+v", agreement)
	}
	if r := review.Report([]map[string]float64{a}, review.Interval, "m", eval.DefaultBootstrap()); len(r.Metrics) != 1 {
		t.Errorf("one rater: %+v", r.Metrics)
	}
	if r := review.Report([]map[string]float64{{"1": 1}, {"2": 1}}, review.Interval, "m", eval.DefaultBootstrap()); r.Metrics[1].Verdict != eval.VerdictUndefined {
		t.Errorf("no item in common: %+v", r.Metrics)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("r.csv", []byte("id,rating\n1,2\n"))
	f.Add("r.jsonl", []byte(`{"id": "1", "rating": 3}`))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		got, err := review.Parse(name, data)
		if err == nil && len(got) == 0 {
			t.Error("no rating and no error")
		}
	})
}
