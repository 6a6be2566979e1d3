package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/page"
	"github.com/t5ctl/t5ctl/internal/curves"
	"github.com/t5ctl/t5ctl/internal/view"
	"github.com/t5ctl/t5ctl/registry"
)

// viewSource is what runs view shows of reports and of the registry.
type viewSource struct{ registry *registry.Registry }

// mostResults is how many results of a report stand on the page of a run.
const mostResults = 8

// Report reads a report of an evaluation, of an exposure test, or of gates.
func (s viewSource) Report(name string, data []byte) (view.Report, error) {
	var head struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return view.Report{}, err
	}
	if head.Kind == eval.KindGate {
		return gateInShort(name, data)
	}
	r, err := eval.ParseReport(name, data)
	if err != nil {
		return view.Report{}, err
	}
	out := view.Report{Kind: r.Kind, Title: orElse(r.Name, name), Model: r.Model, Page: true}
	for _, m := range r.Metrics {
		if m.Verdict == eval.VerdictVoid {
			out.Note, out.Failed = "void: "+m.Note, true
		}
		if m.Slice == "" && len(out.Results) < mostResults {
			out.Results = append(out.Results, view.Result{Name: orElse(m.Label, m.Name), Value: m.Score.Format(), Interval: page.Metric{CI: m.CI}.Interval(), Verdict: m.Verdict})
		}
	}
	chart, err := exposureChart(r)
	if err != nil || chart == nil {
		return out, err
	}
	svg, err := chart.SVG()
	out.Figures = []curves.Figure{{Title: chart.Title, SVG: svg}}
	return out, err
}

func gateInShort(name string, data []byte) (view.Report, error) {
	var g eval.GateResult
	if err := json.Unmarshal(data, &g); err != nil {
		return view.Report{}, err
	}
	out := view.Report{Kind: g.Kind, Title: name, Model: g.Model, Note: "passed", Failed: !g.Passed}
	if !g.Passed {
		out.Note = "did not pass"
	}
	for _, c := range g.Checks {
		name := c.Metric
		if c.Slice != "" {
			name += " (" + c.Slice + ")"
		}
		out.Results = append(out.Results, view.Result{Name: name + ", " + c.Bound, Value: c.Value.Format(), Interval: page.Metric{CI: c.CI}.Interval(), Verdict: string(c.Verdict)})
	}
	return out, nil
}

// WriteReport writes the page that eval report makes.
func (s viewSource) WriteReport(ctx context.Context, w io.Writer, path string) error {
	e, err := oneReport(path)
	if err != nil {
		return err
	}
	opts := evalReportOptions{report: path, worst: worstShown}
	facts, err := opts.gather(ctx, e)
	if err != nil {
		return err
	}
	return page.HTML(w, facts)
}

// Models tells the models of the registry and what their channels serve.
func (s viewSource) Models(ctx context.Context) ([]view.Model, error) {
	names, err := s.registry.Models(ctx)
	if err != nil {
		return nil, err
	}
	var models []view.Model
	for _, name := range names {
		m, err := s.model(ctx, name)
		if err != nil {
			return nil, err
		}
		models = append(models, m)
	}
	return models, nil
}

// Model tells of one, with its history.
func (s viewSource) Model(ctx context.Context, name string) (view.Model, error) {
	m, err := s.model(ctx, name)
	if err != nil {
		return m, err
	}
	history, err := s.registry.History(ctx, name, "", registry.Moment{})
	if err != nil {
		return m, err
	}
	for _, e := range history.Events {
		entry := view.Entry{Seq: e.Seq, Time: e.Time, What: string(e.Kind), Channel: e.Channel, By: e.Actor, Reason: e.Reason, Veto: strings.Join(e.Refused, "; ")}
		if e.Share > 0 {
			entry.What += ", " + strconv.Itoa(e.Share) + " % of the traffic"
		}
		if e.To != nil {
			entry.Version = versionName(e.To)
		}
		if e.From != nil {
			entry.Before = versionName(e.From)
		}
		m.History = append(m.History, entry)
	}
	return m, nil
}

// model is a model without its history.
func (s viewSource) model(ctx context.Context, name string) (view.Model, error) {
	m := view.Model{Name: name}
	versions, err := s.registry.List(ctx, name)
	if err != nil {
		return m, absent(err)
	}
	for _, v := range versions {
		shown := view.Version{Name: "v" + strconv.Itoa(v.Version), Digest: short(v.Digest), Reason: v.Reason, Registered: v.Registered, Channels: v.Channels, Canaries: v.Canaries}
		for _, e := range v.Evidence {
			shown.Evidence = append(shown.Evidence, e.Name)
		}
		m.Versions = append(m.Versions, shown)
	}
	serving, err := s.registry.Channels(ctx, name)
	if err != nil {
		return m, err
	}
	for _, channel := range slices.Sorted(maps.Keys(serving)) {
		m.Channels = append(m.Channels, view.Channel{Name: channel, Version: "v" + strconv.Itoa(serving[channel].Version)})
	}
	return m, nil
}

// absent tells what is not there from what went wrong.
func absent(err error) error {
	if _, ok := errors.AsType[*registry.NotFoundError](err); ok {
		return &view.NotFoundError{What: err.Error()}
	}
	return err
}
