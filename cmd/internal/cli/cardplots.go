package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"math"

	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/exposure"
	"github.com/t5ctl/t5ctl/internal/curves"
	"github.com/t5ctl/t5ctl/registry"
	"github.com/t5ctl/t5ctl/registry/card"
)

// Most of what a picture on a card shows.
const (
	mostStrips = 8  // metrics
	mostSlices = 12 // of one metric
)

// cardPictures draws what the reports of a model tell, for its card: the scores with their
// intervals beside the baseline's, and the exposure of planted secrets. They lie below plots/.
func cardPictures(source registry.Source) ([]registry.File, []card.Picture, error) {
	var files []registry.File
	var pictures []card.Picture
	add := func(section, name, alt string, draw func(io.Writer) error) error {
		var png bytes.Buffer
		if err := draw(&png); err != nil {
			return err
		}
		files = append(files, registry.File{Name: name, Data: png.Bytes()})
		pictures = append(pictures, card.Picture{Section: section, Path: name, Text: alt})
		return nil
	}
	mine, baselines, tests, err := sortReports(source)
	if err != nil {
		return nil, nil, err
	}
	if strips := scoreStrips(mine, baselines); len(strips) > 0 {
		err := add(card.SectionEvaluation, "plots/evaluation.png", "Scores with their intervals, and those of the baseline", func(w io.Writer) error {
			return curves.Strips(w, "model", "baseline", strips)
		})
		if err != nil {
			return nil, nil, err
		}
	}
	for _, test := range tests {
		var d exposure.Details
		if json.Unmarshal(test.Details, &d) != nil || len(d.Canaries) == 0 || d.References == 0 {
			continue // a test without planted secrets, such as one of membership
		}
		err := add(card.SectionPrivacy, "plots/exposure.png", "Exposure of planted secrets against how often they were seen", doseChart(test, d).PNG)
		return files, pictures, err
	}
	return files, pictures, nil
}

// sortReports tells the reports of the model's own evaluation from those of baselines, as the card
// does, and from exposure tests.
func sortReports(source registry.Source) (mine, baselines, tests []eval.Report, err error) {
	for _, file := range source.Reports {
		var head struct {
			Kind string `json:"kind"`
		}
		if json.Unmarshal(file.Data, &head) != nil || head.Kind != eval.KindEvaluation && head.Kind != eval.KindExposure {
			continue
		}
		report, err := eval.ParseReport(file.Name, file.Data)
		switch {
		case err != nil:
			return nil, nil, nil, err
		case report.Kind == eval.KindExposure:
			tests = append(tests, report)
		case source.Tree != "" && report.ModelHash != "" && report.ModelHash != source.Tree:
			baselines = append(baselines, report)
		default:
			mine = append(mine, report)
		}
	}
	return mine, baselines, tests, nil
}

// scoreStrips are the metrics, each with its slices.
func scoreStrips(mine, baselines []eval.Report) []curves.Strip {
	var strips []curves.Strip
	for _, report := range mine {
		at := map[string]int{}
		for _, m := range report.Metrics {
			if !m.Score.Defined() || m.Verdict == eval.VerdictVoid {
				continue
			}
			title := cmp.Or(m.Label, m.Name)
			if len(mine) > 1 {
				title += ", " + report.Name
			}
			i, found := at[m.Name+m.Signature]
			if !found {
				if len(strips) == mostStrips {
					return strips
				}
				i = len(strips)
				at[m.Name+m.Signature] = i
				strips = append(strips, curves.Strip{Title: title})
			}
			if len(strips[i].Rows) < mostSlices {
				strips[i].Rows = append(strips[i].Rows, estimate(report, m, baselines))
			}
		}
	}
	return strips
}

// estimate is a score beside that of a baseline on the same data.
func estimate(report eval.Report, m eval.Result, baselines []eval.Report) curves.Estimate {
	e := curves.Estimate{Name: cmp.Or(m.Slice, "all rows"), Value: float64(m.Score), Low: math.NaN(), High: math.NaN(), Other: math.NaN()}
	if m.CI != nil && m.CI[0].Defined() && m.CI[1].Defined() {
		e.Low, e.High = float64(m.CI[0]), float64(m.CI[1])
	}
	for _, baseline := range baselines {
		if baseline.Data.Fingerprint != report.Data.Fingerprint {
			continue
		}
		for _, other := range baseline.Metrics {
			if other.Name == m.Name && other.Slice == m.Slice && other.Signature == m.Signature && other.Score.Defined() {
				e.Other = float64(other.Score)
			}
		}
	}
	return e
}
