package view

import (
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"maps"
	"math"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/t5ctl/t5ctl/internal/curves"
	"github.com/t5ctl/t5ctl/internal/runfolder"
)

// run is a run as pages show it.
type run struct {
	ID     string // in addresses
	Dir    runfolder.Dir
	Record runfolder.Record
	Log    curves.Log
	Broken string // why its log cannot be read
	Silent bool   // it runs by its record, but has logged nothing for long
}

// readLog is a log as it was when the file had this size and time.
type readLog struct {
	size int64
	at   time.Time
	log  curves.Log
}

// silence is how long a run may log nothing before it is told.
const silence = 5 * time.Minute

// runs reads what is there now.
func (s *Server) runs() ([]run, error) {
	dirs, records, err := s.options.Runs()
	if err != nil {
		return nil, err
	}
	all, seen := []run{}, map[string]int{}
	for i, dir := range dirs {
		id := filepath.Base(filepath.Clean(string(dir)))
		if seen[id]++; seen[id] > 1 {
			id = fmt.Sprintf("%s~%d", id, seen[id])
		}
		r := run{ID: id, Dir: dir, Record: records[i]}
		if r.Log, err = s.log(dir); err != nil {
			r.Broken = err.Error()
		}
		if last := r.Heard(); r.Running() && !last.IsZero() {
			r.Silent = s.options.Now().Sub(last) > silence
		}
		all = append(all, r)
	}
	return all, nil
}

// log reads the events of a run, again only where they have changed.
func (s *Server) log(dir runfolder.Dir) (curves.Log, error) {
	name := dir.Path(runfolder.EventsFile)
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return curves.Log{}, nil
	}
	if err != nil {
		return curves.Log{}, err
	}
	s.mu.Lock()
	known, ok := s.logs[dir]
	s.mu.Unlock()
	if ok && known.size == info.Size() && known.at.Equal(info.ModTime()) {
		return known.log, nil
	}
	log, err := curves.ReadFile(name)
	if err != nil {
		return curves.Log{}, err
	}
	s.mu.Lock()
	s.logs[dir] = readLog{info.Size(), info.ModTime(), log}
	s.mu.Unlock()
	return log, nil
}

// Running says whether the run's process has not told its end.
func (r run) Running() bool { return r.Record.Outcome == runfolder.Running }

// Heard is when the run last logged.
func (r run) Heard() time.Time {
	var last time.Time
	if n := len(r.Log.Steps); n > 0 {
		last = r.Log.Steps[n-1].At
	}
	if n := len(r.Log.Evaluations); n > 0 && r.Log.Evaluations[n-1].At.After(last) {
		last = r.Log.Evaluations[n-1].At
	}
	return last
}

// Step is how far the run is.
func (r run) Step() int {
	if n := len(r.Log.Steps); n > 0 {
		return r.Log.Steps[n-1].To
	}
	return r.Record.Steps
}

// Progress is that, and how far it is to go.
func (r run) Progress() string {
	switch step := r.Step(); {
	case r.Log.Total > step:
		return fmt.Sprintf("%d of %d", step, r.Log.Total)
	case step > 0:
		return strconv.Itoa(step)
	}
	return ""
}

// Left is how long a running one still takes, from its last steps; empty where nothing tells.
func (r run) Left() string {
	const look = 20 // intervals
	steps := r.Log.Steps
	if !r.Running() || r.Silent || len(steps) < 2 || r.Log.Total <= r.Step() {
		return ""
	}
	from, to := steps[max(0, len(steps)-look)], steps[len(steps)-1]
	took := to.At.Sub(from.At)
	if took <= 0 || to.To <= from.To {
		return ""
	}
	return ago(took/time.Duration(to.To-from.To)*time.Duration(r.Log.Total-to.To)) + " left"
}

// Loss is the training loss at the end, or so far.
func (r run) Loss() string {
	if n := len(r.Log.Steps); n > 0 {
		return figure(r.Log.Steps[n-1].Loss)
	}
	if r.Record.Loss != 0 {
		return figure(r.Record.Loss)
	}
	return ""
}

// Validation is the best validation loss.
func (r run) Validation() string {
	best := math.Inf(1)
	for _, e := range r.Log.Evaluations {
		if v, ok := e.Metrics["loss"]; ok && v < best {
			best = v
		}
	}
	if math.IsInf(best, 1) {
		return ""
	}
	return figure(best)
}

// Spark is the training loss, small.
func (r run) Spark() template.HTML {
	panels, err := curves.Panels([]curves.Run{{Name: r.ID, Log: r.Log}}, curves.Loss)
	if err != nil {
		return ""
	}
	return panels[0].Series[0].Spark()
}

// Device is what the run computes on.
func (r run) Device() string {
	b := r.Record.Backend
	text := strings.TrimSpace(b.Kind + " " + b.Plugin)
	if b.CPUs > 0 {
		text += fmt.Sprintf(", %d CPUs", b.CPUs)
	}
	return strings.TrimPrefix(text, ", ")
}

// Took is how long the run took.
func (r run) Took() string {
	if r.Record.Seconds <= 0 {
		return ""
	}
	return (time.Duration(r.Record.Seconds) * time.Second).String()
}

func figure(v float64) string {
	if math.IsNaN(v) {
		return "not finite"
	}
	return strconv.FormatFloat(v, 'f', 4, 64)
}

func (s *Server) runsPage(*http.Request) (string, page, error) {
	all, err := s.runs()
	p := page{Title: "Runs", Section: "runs", Every: late, Body: struct {
		Runs  []run
		Where string
	}{all, s.options.Where}}
	if slices.ContainsFunc(all, run.Running) {
		p.Every, p.Live = soon, true
	}
	return "runs.html", p, err
}

// find gives the run of an address.
func (s *Server) find(id string) (run, error) {
	all, err := s.runs()
	if err != nil {
		return run{}, err
	}
	at := slices.IndexFunc(all, func(r run) bool { return r.ID == id })
	if at < 0 {
		return run{}, &NotFoundError{"there is no run " + id}
	}
	return all[at], nil
}

// figureWidth is that of a drawing, in the units of its letters.
const figureWidth = 560

// drawn draws what tells most of some runs.
func drawn(runs ...run) (figures []curves.Figure, key []curves.Entry, err error) {
	var logs []curves.Run
	for _, r := range runs {
		logs = append(logs, curves.Run{Name: r.ID, Log: r.Log})
	}
	names := []string{curves.Loss}
	for _, name := range curves.Names(logs) {
		if strings.HasPrefix(name, "validation/") && slices.ContainsFunc(logs, func(r curves.Run) bool { return len(r.Log.Evaluations) > 1 }) {
			names = append(names, name)
		}
	}
	names = append(names, curves.LearningRate, curves.Throughput, curves.GradientNorm, curves.Memory)
	panels, err := curves.Panels(logs, names...)
	if err != nil {
		return nil, nil, err
	}
	figures, err = curves.Figures(panels, figureWidth)
	return figures, curves.Key(panels), err
}

func (s *Server) curvesPage(r *http.Request) (string, page, error) {
	var chosen []run
	p := page{Section: "runs", Every: late}
	var names []string
	for _, id := range r.URL.Query()["run"] {
		one, err := s.find(id)
		if err != nil {
			return "", p, err
		}
		if one.Running() {
			p.Every, p.Live = soon, true
		}
		chosen, names = append(chosen, one), append(names, id)
	}
	p.Title = "Curves of " + strings.Join(names, ", ")
	if len(chosen) == 0 {
		p.Title = "Curves"
	}
	figures, key, err := drawn(chosen...)
	p.Body = struct {
		Runs    []run
		Key     []curves.Entry
		Figures []curves.Figure
	}{chosen, key, figures}
	return "curves.html", p, err
}

// fact is a line of what is known of a run.
type fact struct{ Name, Value string }

// Facts is what is known of the run.
func (r run) Facts() []fact {
	var list []fact
	add := func(name, value string) {
		if value != "" {
			list = append(list, fact{name, value})
		}
	}
	d := r.Record
	add("recipe", d.Name)
	add("method", d.Method)
	add("base", d.Base)
	for _, a := range d.Chain {
		add("trained on from", a.Name)
	}
	add("steps", r.Progress())
	add("training loss", r.Loss())
	for _, name := range slices.Sorted(maps.Keys(d.Metrics)) {
		add("validation "+name, figure(d.Metrics[name]))
	}
	if d.Parameters > 0 {
		add("parameters", fmt.Sprintf("%d, %d of them learned", d.Parameters, d.Learning))
	}
	if d.Privacy != nil && d.Privacy.Epsilon != nil {
		add("privacy of a row", fmt.Sprintf("ε = %.3g at δ = %g", *d.Privacy.Epsilon, d.Privacy.Delta))
	}
	add("device", r.Device())
	add("checkpoint", d.Checkpoint)
	add("seed", strconv.FormatUint(d.Seed, 10))
	for _, split := range slices.Sorted(maps.Keys(d.Data)) {
		add("data "+split, short(d.Data[split]))
	}
	add("t5ctl", d.Tool.Version)
	add("started", when(d.Started))
	add("took", r.Took())
	if d.Cost != nil {
		add("cost", fmt.Sprintf("%.4g, at %g an hour", d.Cost.Total, d.Cost.PricePerHour))
	}
	return list
}

// short is the beginning of a digest.
func short(digest string) string {
	const shown = len("sha256:") + 12
	return digest[:min(len(digest), shown)]
}

// evaluations is a table of what validation found.
type evaluations struct {
	Names []string
	Rows  []evaluated
}

type evaluated struct {
	Step   int
	Values []string
}

// Evaluations is what validation found, the last at the end.
func (r run) Evaluations() evaluations {
	names := map[string]bool{}
	for _, e := range r.Log.Evaluations {
		for name := range e.Metrics {
			names[name] = true
		}
	}
	table := evaluations{Names: slices.Sorted(maps.Keys(names))}
	for _, e := range r.Log.Evaluations {
		row := evaluated{Step: e.Step}
		for _, name := range table.Names {
			value := ""
			if v, ok := e.Metrics[name]; ok {
				value = figure(v)
			}
			row.Values = append(row.Values, value)
		}
		table.Rows = append(table.Rows, row)
	}
	return table
}

// foundReport is a report in a run folder, or why it cannot be read.
type foundReport struct {
	File string
	Report
	Problem string
}

func (s *Server) runPage(r *http.Request) (string, page, error) {
	one, err := s.find(r.PathValue("run"))
	if err != nil {
		return "", page{}, err
	}
	figures, _, err := drawn(one)
	if err != nil {
		return "", page{}, err
	}
	root, err := os.OpenRoot(string(one.Dir))
	if err != nil {
		return "", page{}, err
	}
	defer func() { _ = root.Close() }() // opened for reading
	reports, pictures, pages, err := s.reports(root)
	if err != nil {
		return "", page{}, err
	}
	files, err := shown(root, "")
	p := page{Title: one.ID, Section: "runs", Every: late, Live: one.Running(), Body: struct {
		Run                    run
		Figures                []curves.Figure
		Reports                []foundReport
		Pictures, Pages, Files []string
	}{one, figures, reports, pictures, pages, files}}
	if one.Running() {
		p.Every = soon
	}
	return "run.html", p, err
}

// reports reads what lies in a run's folder of reports: reports, pictures, and pages.
func (s *Server) reports(root *os.Root) (reports []foundReport, pictures, pages []string, err error) {
	names, err := shown(root, runfolder.ReportsDir)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, name := range names {
		switch path.Ext(name) {
		case ".png":
			pictures = append(pictures, name)
		case ".html", ".md", ".txt":
			pages = append(pages, name)
		case ".json":
			found := foundReport{File: name}
			data, err := root.ReadFile(path.Join(runfolder.ReportsDir, name))
			if err == nil {
				found.Report, err = s.options.Source.Report(name, data)
			}
			if err != nil {
				found.Title, found.Problem = name, err.Error()
			}
			reports = append(reports, found)
		}
	}
	return reports, pictures, pages, nil
}
