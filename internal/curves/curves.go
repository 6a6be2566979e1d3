// Package curves reads what a training run logged and draws it: as text, as PNG, and as one HTML
// page that needs nothing else.
//
// A run that was resumed has done some steps twice; what it did last is what counts. A line that a
// killed process left unfinished is passed over.
package curves

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/t5ctl/t5ctl/internal/nearest"
)

// Log is what a run says of its steps and evaluations, in the order of the steps.
type Log struct {
	Total       int // steps that the run is to make; 0: not told
	Steps       []Step
	Evaluations []Evaluation
}

// Step is one line of the log: what held over the steps after From up to To.
type Step struct {
	From, To        int
	At              time.Time // when it was logged
	Epoch           float64
	Loss            float64 // mean over tokens; NaN where it was not finite
	LearningRate    float64
	GradientNorm    float64
	Tokens          int // labels that counted
	PaddedShare     float64
	TokensPerSecond float64
	Memory          int64 // bytes
}

// Evaluation is what one evaluation found; NaN stands for what was not finite.
type Evaluation struct {
	Step    int
	At      time.Time
	Metrics map[string]float64
}

// line is an event as it stands in the log. A number that was not finite is null there.
type line struct {
	Event           string              `json:"event"`
	Step            int                 `json:"step"`
	Total           int                 `json:"total"`
	Time            time.Time           `json:"time"`
	Epoch           float64             `json:"epoch"`
	Loss            *float64            `json:"loss"`
	LearningRate    float64             `json:"learning_rate"`
	GradientNorm    *float64            `json:"gradient_norm"`
	Tokens          int                 `json:"tokens"`
	PaddedShare     float64             `json:"padded_share"`
	TokensPerSecond float64             `json:"tokens_per_second"`
	Memory          int64               `json:"memory_bytes"`
	Metrics         map[string]*float64 `json:"metrics"`
}

// ReadFile reads the events.jsonl of a run folder.
func ReadFile(path string) (Log, error) {
	f, err := os.Open(path)
	if err != nil {
		return Log{}, err
	}
	defer func() { _ = f.Close() }() // opened for reading
	log, err := Read(f)
	if err != nil {
		return Log{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return log, nil
}

// Read reads a log of events, one JSON object a line.
func Read(r io.Reader) (Log, error) {
	var log Log
	done := 0 // steps before the next interval
	lines := bufio.NewReader(r)
	for {
		text, err := lines.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return Log{}, err
		}
		var l line
		if text = bytes.TrimSpace(text); len(text) > 0 && json.Unmarshal(text, &l) == nil && l.Step >= 0 {
			done = log.take(l, done)
		}
		if err != nil {
			return log, nil
		}
	}
}

// take adds one event; done is the last step that the log has told of.
func (log *Log) take(l line, done int) int {
	switch l.Event {
	case "started":
		log.Total = l.Total
		log.Steps = slices.DeleteFunc(log.Steps, func(s Step) bool { return s.To > l.Step })
		log.Evaluations = slices.DeleteFunc(log.Evaluations, func(e Evaluation) bool { return e.Step > l.Step })
		return l.Step
	case "step":
		if l.Step <= done {
			return done // no interval: a log that was put together by hand
		}
		log.Steps = append(log.Steps, Step{
			From: done, To: l.Step, At: l.Time, Epoch: l.Epoch, Loss: number(l.Loss), LearningRate: l.LearningRate, GradientNorm: number(l.GradientNorm),
			Tokens: l.Tokens, PaddedShare: l.PaddedShare, TokensPerSecond: l.TokensPerSecond, Memory: l.Memory,
		})
		return l.Step
	case "evaluated":
		e := Evaluation{Step: l.Step, At: l.Time, Metrics: map[string]float64{}}
		for name, v := range l.Metrics {
			e.Metrics[name] = number(v)
		}
		log.Evaluations = append(log.Evaluations, e)
	}
	return done
}

func number(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}

// Run is a log with the name under which it is drawn.
type Run struct {
	Name string
	Log  Log
}

// Point is one place of a curve.
type Point struct {
	Step  int     `json:"step"`
	Value float64 `json:"value"`
}

// Series is the curve of one run.
type Series struct {
	Run    string  `json:"run"`
	Points []Point `json:"points"`
}

// Panel is one quantity of all runs, drawn over the steps.
type Panel struct {
	Name   string   `json:"name"`
	Title  string   `json:"title"`
	Series []Series `json:"series"` // in the order of the runs; without points where a run has none
}

// Names of the curves that every log has; validation/METRIC names one of an evaluation.
const (
	Loss         = "loss"
	LearningRate = "learning_rate"
	Throughput   = "throughput"
	GradientNorm = "gradient_norm"
	PaddedShare  = "padded_share"
	Memory       = "memory"
	validation   = "validation/"
)

// largest is the first value that is not drawn: the span of an axis must be a number.
const largest = 1e300

// stepCurve is a quantity of a Step.
type stepCurve struct {
	name, title string
	of          func(Step) float64
}

func stepCurves() []stepCurve {
	return []stepCurve{
		{Loss, "training loss per token", func(s Step) float64 { return s.Loss }},
		{LearningRate, "learning rate", func(s Step) float64 { return s.LearningRate }},
		{Throughput, "tokens per second", func(s Step) float64 { return s.TokensPerSecond }},
		{GradientNorm, "gradient norm before clipping", func(s Step) float64 { return s.GradientNorm }},
		{PaddedShare, "share of padding", func(s Step) float64 { return s.PaddedShare }},
		{Memory, "resident memory in bytes", func(s Step) float64 { return float64(s.Memory) }},
	}
}

// Names lists the curves that the runs have.
func Names(runs []Run) []string {
	var names []string
	for _, c := range stepCurves() {
		names = append(names, c.name)
	}
	metrics := map[string]bool{}
	for _, r := range runs {
		for _, e := range r.Log.Evaluations {
			for name := range e.Metrics {
				metrics[validation+name] = true
			}
		}
	}
	return append(names, slices.Sorted(maps.Keys(metrics))...)
}

// UnknownCurveError says that no run has a curve of that name.
type UnknownCurveError struct {
	Name  string
	Names []string // there are
}

func (e *UnknownCurveError) Error() string {
	text := fmt.Sprintf("no curve %q; there are %s", e.Name, strings.Join(e.Names, ", "))
	if near := nearest.Of(e.Name, e.Names); near != "" {
		text += fmt.Sprintf(" (did you mean %s?)", near)
	}
	return text
}

// Panels gives the named curves of the runs, one panel a name.
func Panels(runs []Run, names ...string) ([]Panel, error) {
	known := Names(runs)
	var panels []Panel
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, &UnknownCurveError{Name: name, Names: known}
		}
		panels = append(panels, panel(runs, name))
	}
	return panels, nil
}

func panel(runs []Run, name string) Panel {
	p := Panel{Name: name, Title: strings.ReplaceAll(name, validation, "validation ")}
	var of func(Step) float64
	for _, c := range stepCurves() {
		if c.name == name {
			p.Title, of = c.title, c.of
		}
	}
	for _, r := range runs {
		s := Series{Run: r.Name, Points: []Point{}}
		add := func(step int, v float64) {
			if math.Abs(v) < largest { // false for NaN too
				s.Points = append(s.Points, Point{step, v})
			}
		}
		if of != nil {
			for _, step := range r.Log.Steps {
				add(step.To, of(step))
			}
		} else {
			metric := strings.TrimPrefix(name, validation)
			for _, e := range r.Log.Evaluations {
				if v, ok := e.Metrics[metric]; ok {
					add(e.Step, v)
				}
			}
		}
		p.Series = append(p.Series, s)
	}
	return p
}

// thinned takes means of neighbours where there are more than most points, so that a picture of a
// long run stays small.
func (s Series) thinned(most int) []Point {
	if len(s.Points) <= most {
		return s.Points
	}
	var thin []Point
	for i := range most {
		part := s.Points[i*len(s.Points)/most : (i+1)*len(s.Points)/most]
		mean := 0.0
		for _, p := range part {
			mean += p.Value / float64(len(part))
		}
		thin = append(thin, Point{part[len(part)-1].Step, mean})
	}
	return thin
}

// bounds are the smallest and the largest step and value of a panel; ok is false if it has no point.
func (p Panel) bounds() (from, to int, low, high float64, ok bool) {
	from, low, high = math.MaxInt, math.Inf(1), math.Inf(-1)
	for _, s := range p.Series {
		for _, q := range s.Points {
			from, to = min(from, q.Step), max(to, q.Step)
			low, high = min(low, q.Value), max(high, q.Value)
			ok = true
		}
	}
	return from, to, low, high, ok
}

// lastStep is the largest step of all panels, at least 1: panels below one another share an axis.
func lastStep(panels []Panel) int {
	last := 1
	for _, p := range panels {
		_, to, _, _, _ := p.bounds()
		last = max(last, to)
	}
	return last
}
