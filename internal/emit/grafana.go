package emit

import (
	"encoding/json"
	"fmt"
)

// dashboard is a Grafana dashboard, in the parts that are used here.
type dashboard struct {
	UID           string     `json:"uid"`
	Title         string     `json:"title"`
	Description   string     `json:"description"`
	Tags          []string   `json:"tags"`
	SchemaVersion int        `json:"schemaVersion"`
	Editable      bool       `json:"editable"`
	Refresh       string     `json:"refresh"`
	Time          timeRange  `json:"time"`
	Templating    templating `json:"templating"`
	Panels        []panel    `json:"panels"`
}

type timeRange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type templating struct {
	List []variable `json:"list"`
}

type variable struct {
	Name       string      `json:"name"`
	Type       string      `json:"type"`
	Label      string      `json:"label"`
	Query      string      `json:"query"`
	Datasource *datasource `json:"datasource,omitempty"`
	Multi      bool        `json:"multi,omitempty"`
	IncludeAll bool        `json:"includeAll,omitempty"`
	AllValue   string      `json:"allValue,omitempty"`
	Refresh    int         `json:"refresh,omitempty"` // 2: whenever the time range changes
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type panel struct {
	ID          int         `json:"id"`
	Type        string      `json:"type"`
	Title       string      `json:"title"`
	Description string      `json:"description,omitempty"`
	GridPos     gridPos     `json:"gridPos"`
	Datasource  *datasource `json:"datasource,omitempty"`
	Targets     []target    `json:"targets,omitempty"`
	FieldConfig fieldConfig `json:"fieldConfig"`
	Options     options     `json:"options"`
}

type gridPos struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

type target struct {
	RefID        string      `json:"refId"`
	Expr         string      `json:"expr"`
	LegendFormat string      `json:"legendFormat"`
	Datasource   *datasource `json:"datasource"`
}

type fieldConfig struct {
	Defaults  fieldDefaults `json:"defaults"`
	Overrides []struct{}    `json:"overrides"`
}

type fieldDefaults struct {
	Unit       string      `json:"unit,omitempty"`
	Min        *float64    `json:"min,omitempty"`
	Thresholds *thresholds `json:"thresholds,omitempty"`
}

type thresholds struct {
	Mode  string      `json:"mode"`
	Steps []threshold `json:"steps"`
}

type threshold struct {
	Color string   `json:"color"`
	Value *float64 `json:"value"` // nil: from the lowest
}

type options struct {
	Mode    string `json:"mode,omitempty"`
	Content string `json:"content,omitempty"`
}

// view is one panel as it is listed below; it becomes a panel once it has its place.
type view struct {
	title, about, unit string
	limit              float64 // from where it is shown in red; 0: nowhere
	stat               bool    // one number rather than a curve
	queries            [][2]string
}

func prometheusSource() *datasource { return &datasource{"prometheus", "${datasource}"} }

// selected are the labels that the dashboard's variables choose.
const selected = `model="$model",version=~"$version"`

// perSecond is the rate of a counter, by version and what else is named.
func perSecond(metric, by string) string {
	return fmt.Sprintf("sum by (version%s) (rate(%s{%s}[$__rate_interval]))", by, metric, selected)
}

// quantile is a quantile of a histogram, by version.
func quantile(q float64, metric string) string {
	return fmt.Sprintf("histogram_quantile(%g, sum by (version, le) (rate(%s_bucket{%s}[$__rate_interval])))", q, metric, selected)
}

// failing is the share of requests that failed, over a window.
func failing(window string) string {
	return fmt.Sprintf(`(sum by (version) (rate(t5ctl_serve_requests_total{%[1]s,code=~"5.."}[%[2]s])) or 0 * sum by (version) (rate(t5ctl_serve_requests_total{%[1]s}[%[2]s]))) / sum by (version) (rate(t5ctl_serve_requests_total{%[1]s,code!~"4.."}[%[2]s]))`, selected, window)
}

func (f Facts) executive() []view {
	var cost []view
	if f.Price > 0 {
		cost = []view{{"Cost of 1,000 requests", fmt.Sprintf("All servers at %s an hour each, over the requests that they answered.", short(f.Price)), "none", 0, true,
			[][2]string{{fmt.Sprintf(`1000 * %s / 3600 * count(t5ctl_serve_requests_in_flight) / sum(rate(t5ctl_serve_requests_total{%s,code="200"}[$__range]))`, short(f.Price), selected), "cost"}}}}
	}
	return append(cost, []view{
		{"Availability", fmt.Sprintf("Share of requests that did not fail; the objective is %s %%.", short(100*f.Availability)), "percentunit", 0, true,
			[][2]string{{"1 - " + failing("$__range"), "{{version}}"}}},
		{"Error budget spent", "Share of the budget of the time shown; above 1 the objective is missed.", "percentunit", 1, true,
			[][2]string{{fmt.Sprintf("%s / %s", failing("$__range"), shortOf(1-f.Availability)), "{{version}}"}}},
		{"p95 latency", fmt.Sprintf("95 %% of the answers came within this time; the objective is %s ms.", short(1000*f.P95)), "s", f.P95, true,
			[][2]string{{fmt.Sprintf("histogram_quantile(0.95, sum by (version, le) (rate(t5ctl_serve_request_duration_seconds_bucket{%s}[$__range])))", selected), "{{version}}"}}},
		{"Inputs have drifted", "1 where the last check found that inputs are not what the model was made for.", "none", 1, true,
			[][2]string{{`max by (model) (t5ctl_drift_detected{model="$model"})`, "{{model}}"}}},
		{"Requests", "", "reqps", 0, false, [][2]string{{perSecond("t5ctl_serve_requests_total", ""), "{{version}}"}}},
		{"Tokens generated", "", "none", 0, false, [][2]string{{perSecond("t5ctl_serve_output_tokens_total", ""), "{{version}}"}}},
		{"Versions that are loaded", "", "none", 0, false, [][2]string{{`sum by (version, route) (t5ctl_serve_version_info{model="$model"})`, "{{version}} at {{route}}"}}},
		{"Outputs with personal data", "Counted where the server scans its outputs.", "none", 1, false,
			[][2]string{{fmt.Sprintf("sum by (kind) (increase(t5ctl_serve_policy_hits_total{%s}[$__range]))", selected), "{{kind}}"}}},
	}...)
}

func (f Facts) onCall() []view {
	burn := func(window string) [2]string {
		return [2]string{fmt.Sprintf("%s / %s", failing(window), shortOf(1-f.Availability)), "{{version}} " + window}
	}
	return []view{
		{"Burn rate", fmt.Sprintf("How fast the error budget is spent; the alert is at %s for 30 minutes.", short(f.Burn)), "none", f.Burn, false,
			[][2]string{burn("5m"), burn("1h")}},
		{"Answers by code", "", "reqps", 0, false, [][2]string{{perSecond("t5ctl_serve_requests_total", ", code"), "{{version}} {{code}}"}}},
		{"Latency", "", "s", f.P95, false, [][2]string{
			{quantile(0.5, "t5ctl_serve_request_duration_seconds"), "{{version}} p50"},
			{quantile(0.95, "t5ctl_serve_request_duration_seconds"), "{{version}} p95"},
			{quantile(0.99, "t5ctl_serve_request_duration_seconds"), "{{version}} p99"},
		}},
		{"Wait before decoding", "", "s", 0, false, [][2]string{{quantile(0.95, "t5ctl_serve_queue_duration_seconds"), "{{version}} p95"}}},
		{"Queue and requests under way", "", "none", 0, false, [][2]string{{"sum(t5ctl_serve_queue_length)", "waiting"}, {"sum(t5ctl_serve_requests_in_flight)", "in flight"}}},
		{"Refused", "", "reqps", 0, false, [][2]string{{"sum by (reason) (rate(t5ctl_serve_rejected_total[$__rate_interval]))", "{{reason}}"}}},
		{"Cut at the length limit", "", "reqps", 0, false, [][2]string{{perSecond("t5ctl_serve_length_limit_hits_total", ""), "{{version}}"}}},
		{"Fallback answers", "", "none", 1, true, [][2]string{{"max(t5ctl_serve_fallback_active)", "fallback"}}},
		{"Switches of version", "", "none", 0, true, [][2]string{{`sum by (version) (increase(t5ctl_serve_version_switches_total{model="$model"}[$__range]))`, "{{version}}"}}},
	}
}

func (f Facts) debug() []view {
	return []view{
		{"Time to answer, all buckets", "", "s", 0, false, [][2]string{{fmt.Sprintf("sum by (le) (increase(t5ctl_serve_request_duration_seconds_bucket{%s}[$__rate_interval]))", selected), "{{le}}"}}},
		{"Requests decoded together", "", "none", 0, false, [][2]string{
			{quantile(0.5, "t5ctl_serve_batch_rows"), "{{version}} p50"}, {quantile(0.95, "t5ctl_serve_batch_rows"), "{{version}} p95"},
		}},
		{"Tokens in", "", "none", 0, false, [][2]string{{perSecond("t5ctl_serve_input_tokens_total", ""), "{{version}}"}}},
		{"Tokens out", "", "none", 0, false, [][2]string{{perSecond("t5ctl_serve_output_tokens_total", ""), "{{version}}"}}},
		{"Inputs cut", "", "reqps", 0, false, [][2]string{{perSecond("t5ctl_serve_inputs_truncated_total", ""), "{{version}}"}}},
		{"Cache", "", "reqps", 0, false, [][2]string{{perSecond("t5ctl_serve_cache_lookups_total", ", result"), "{{version}} {{result}}"}}},
		{"Shadow", "", "reqps", 0, false, [][2]string{{perSecond("t5ctl_serve_shadow_requests_total", ", result"), "{{version}} {{result}}"}}},
		{"Shadow latency", "", "s", 0, false, [][2]string{{quantile(0.95, "t5ctl_serve_shadow_duration_seconds"), "{{version}} p95"}}},
		{"Samples for review", "", "reqps", 0, false, [][2]string{{"sum by (result) (rate(t5ctl_serve_samples_total[$__rate_interval]))", "{{result}}"}}},
		{"Loads of versions", "", "none", 0, false, [][2]string{{"sum by (result) (increase(t5ctl_serve_version_loads_total[$__range]))", "{{result}}"}}},
		{"Memory", "", "bytes", 0, false, [][2]string{{`process_resident_memory_bytes{job="t5ctl"}`, "{{instance}}"}}},
		{"Goroutines", "", "none", 0, false, [][2]string{{`go_goroutines{job="t5ctl"}`, "{{instance}}"}}},
		{"Distance of the inputs from the reference", "", "none", 0, false, [][2]string{{`t5ctl_drift_value{model="$model"}`, "{{statistic}}"}}},
	}
}

// dashboards are the three boards: for those who decide, who are on call, and who look for a cause.
func dashboards(f Facts) ([]File, error) {
	var files []File
	for _, board := range []struct {
		name, title, about, from string
		views                    []view
	}{
		{"executive", "overview", "Are the objectives met, and by which version?", "now-7d", f.executive()},
		{"on-call", "on call", "What is wrong now, and since when?", "now-3h", f.onCall()},
		{"debug", "debug", "Where do time and tokens go?", "now-1h", f.debug()},
	} {
		data, err := json.MarshalIndent(f.board(board.name, board.title, board.about, board.from, board.views), "", "  ")
		if err != nil {
			return nil, err
		}
		files = append(files, File{board.name + ".json", append(data, '\n')})
	}
	return files, nil
}

func (f Facts) board(name, title, about, from string, views []view) dashboard {
	d := dashboard{
		UID: f.object() + "-" + name, Title: fmt.Sprintf("%s: %s", f.Model, title), Description: about,
		Tags: []string{"t5ctl", f.Model}, SchemaVersion: 39, Refresh: "30s", Time: timeRange{from, "now"},
		Templating: templating{[]variable{
			{Name: "datasource", Type: "datasource", Label: "Source", Query: "prometheus"},
			{Name: "model", Type: "constant", Label: "Model", Query: f.Model},
			{Name: "version", Type: "query", Label: "Version", Query: `label_values(t5ctl_serve_requests_total{model="$model"}, version)`,
				Datasource: prometheusSource(), Multi: true, IncludeAll: true, AllValue: ".*", Refresh: 2},
		}},
	}
	d.Panels = append(d.Panels, panel{
		ID: 1, Type: "text", Title: "", GridPos: gridPos{H: 3, W: 24}, FieldConfig: fieldConfig{Overrides: []struct{}{}},
		Options: options{Mode: "markdown", Content: fmt.Sprintf("%s When this was written, **%s@%s** served **%s** (`%s`).", about, f.Model, f.Channel, f.Version, f.Digest)},
	})
	x, y := 0, 3
	for i, v := range views {
		p := v.panel(i + 2)
		if x+p.GridPos.W > 24 {
			x, y = 0, y+8
		}
		p.GridPos.X, p.GridPos.Y = x, y
		x += p.GridPos.W
		d.Panels = append(d.Panels, p)
	}
	return d
}

func (v view) panel(id int) panel {
	p := panel{
		ID: id, Type: "timeseries", Title: v.title, Description: v.about, GridPos: gridPos{H: 8, W: 12},
		Datasource: prometheusSource(), FieldConfig: fieldConfig{Defaults: fieldDefaults{Unit: v.unit, Min: new(float64)}, Overrides: []struct{}{}},
	}
	if v.stat {
		p.Type, p.GridPos.W = "stat", 6
	}
	if v.limit > 0 {
		p.FieldConfig.Defaults.Thresholds = &thresholds{"absolute", []threshold{{"green", nil}, {"red", &v.limit}}}
	}
	for i, q := range v.queries {
		p.Targets = append(p.Targets, target{string(rune('A' + i)), q[0], q[1], prometheusSource()})
	}
	return p
}
