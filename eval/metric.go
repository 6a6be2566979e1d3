// Package eval scores what a model writes: suites of metrics over held-out data, reports that can be
// compared without the texts, and gates that a pipeline can trust.
//
// Every metric turns a row into sufficient statistics and a sum of those into a score, so that
// slices, confidence intervals and paired tests need nothing else. Results depend on the data, the
// options and the seed alone, never on the number of processors. A score that cannot be had is not a
// number, and no gate passes on it.
package eval

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/t5ctl/t5ctl/eval/signature"
	"github.com/t5ctl/t5ctl/internal/nearest"
)

// Sample is one row to score: what the model was given and wrote, and what would have been right.
type Sample struct {
	ID, Task   string
	Group      string   // rows that are judged together; may be empty
	Source     string   // as the model saw it; empty where only outputs are scored
	Output     string   // what the model wrote
	References []string // all acceptable answers, at least one
	AtLimit    *bool    // whether the output was cut at the length limit; nil: nobody knows

	Passages []string     // what the output should rest on, where that is not the source
	Rule     *Rule        // when the answer to a probe passes; nil: the row is none
	Target   *TargetScore // of the first reference; nil: nobody knows
	Seconds  float64      // that the row's batch took; 0: nobody knows
	Share    float64      // of these, what falls to the row
}

// Metric scores outputs with one set of options. It is safe for concurrent use.
type Metric struct {
	Name           string // in reports and gates
	Label          string // as people write it: BLEU, chrF2++
	Spec           string // name and options as given, in one spelling
	HigherIsBetter bool

	columns   []string
	signature func(refs int) signature.Signature
	counter   func(w *worker) func(dst []float64, s *Sample) bool // false: this row cannot be scored
	score     func(sum []float64, n int) float64
	whole     func(rows [][]float64) float64 // in place of score where statistics do not add up
	detail    func(sum []float64) string     // the parts of a score, as the reference tool prints them; may be nil
	paired    pairedScorer                   // nil: the plain score serves for resamples too
	single    bool                           // paired computes in single precision
	rouge     bool                           // rouge-score resamples it in its own way

	prepare      func() error                                                    // reads the files that options name; may be nil
	needsTargets bool                                                            // Sample.Target is needed
	timed        bool                                                            // Sample.Seconds is needed
	command      string                                                          // the program that batch runs
	batch        func(ctx context.Context, samples []Sample) ([]*float64, error) // scores many rows at once; nil in it: not known
}

// pairedScorer scores sums in single precision, as NumPy does in the reference tool's resampling.
type pairedScorer func(sum []float32) float64

// Columns names the sufficient statistics of a row.
func (m *Metric) Columns() []string { return m.columns }

// Signature says how a score over rows with that many references each (-1: it differs) is computed.
func (m *Metric) Signature(refs int) string { return m.signature(refs).String() }

// UnknownMetricError says that there is no metric of that name.
type UnknownMetricError struct {
	Name, Nearest string
	Known         []string
}

func (e *UnknownMetricError) Error() string {
	return fmt.Sprintf("no metric %q (there are %s)", e.Name, strings.Join(e.Known, ", "))
}

// UnknownOptionError says that a metric has no such option.
type UnknownOptionError struct {
	Metric, Option, Nearest string
	Known                   []string
}

func (e *UnknownOptionError) Error() string {
	return fmt.Sprintf("metric %s has no option %q (it has %s)", e.Metric, e.Option, strings.Join(e.Known, ", "))
}

// OptionValueError says that an option cannot have that value.
type OptionValueError struct{ Metric, Option, Value, Want string }

func (e *OptionValueError) Error() string {
	return fmt.Sprintf("metric %s: option %s=%s: %s", e.Metric, e.Option, e.Value, e.Want)
}

// DuplicateMetricError says that two metrics would carry the same name in a report.
type DuplicateMetricError struct{ Name, First, Second string }

func (e *DuplicateMetricError) Error() string {
	return fmt.Sprintf("metrics %s and %s are both called %s (give one another name with as=)", e.First, e.Second, e.Name)
}

// ParseMetrics reads metric specifications; all that is wrong is told at once.
func ParseMetrics(specs []string) ([]*Metric, error) {
	var errs []error
	var out []*Metric
	seen := map[string]string{}
	for _, spec := range specs {
		m, err := ParseMetric(spec)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if first, twice := seen[m.Name]; twice {
			errs = append(errs, &DuplicateMetricError{m.Name, first, m.Spec})
		}
		seen[m.Name] = m.Spec
		out = append(out, m)
	}
	return out, errors.Join(errs...)
}

// ParseMetric reads name:option=value,option=value. The option as=NAME gives the result another name.
func ParseMetric(spec string) (*Metric, error) {
	name, rest, _ := strings.Cut(strings.TrimSpace(spec), ":")
	makers := metricMakers()
	maker, ok := makers[name]
	if !ok {
		known := slices.Sorted(maps.Keys(makers))
		return nil, &UnknownMetricError{name, nearest.Of(name, known), known}
	}
	o := &options{metric: name, given: map[string]string{}}
	for part := range strings.SplitSeq(rest, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		key, value, found := strings.Cut(part, "=")
		if !found {
			value = "true"
		}
		if name == "exec" && (!found || strings.ContainsAny(key, " /")) && o.given["command"] == "" {
			key, value = "command", part
		}
		if _, twice := o.given[key]; twice {
			o.fail(key, value, "given twice")
		}
		o.given[key] = value
	}
	as := o.text("as", name)
	m := maker(o)
	if err := o.done(); err != nil {
		return nil, err
	}
	m.Name, m.Spec = as, o.canonical()
	if m.Label == "" {
		m.Label = name
	}
	return m, nil
}

// MetricNames lists every metric that ParseMetric knows.
func MetricNames() []string { return slices.Sorted(maps.Keys(metricMakers())) }

// MetricInfo is what a list of metrics says of one.
type MetricInfo struct {
	Name           string   `json:"name"`
	Label          string   `json:"label"`
	HigherIsBetter bool     `json:"higher_is_better"`
	Options        []string `json:"options"`
}

// DescribeMetrics lists every metric with its options.
func DescribeMetrics() []MetricInfo {
	makers := metricMakers()
	var out []MetricInfo
	for _, name := range MetricNames() {
		o := &options{metric: name, given: map[string]string{}}
		m := makers[name](o)
		o.text("as", name)
		label := m.Label
		if label == "" {
			label = name
		}
		out = append(out, MetricInfo{name, label, m.HigherIsBetter, slices.Compact(slices.Sorted(slices.Values(o.known)))})
	}
	return out
}

// options are what a specification says, taken by the maker of the metric one by one.
type options struct {
	metric string
	given  map[string]string
	known  []string
	errs   []error
}

func (o *options) fail(option, value, want string) {
	o.errs = append(o.errs, &OptionValueError{o.metric, option, value, want})
}

// take finds an option under any of its names.
func (o *options) take(names ...string) (name, value string, ok bool) {
	o.known = append(o.known, names[0])
	for _, n := range names {
		if v, given := o.given[n]; given {
			if ok {
				o.fail(n, v, "is given under two names")
			}
			name, value, ok = n, v, true
			o.known = append(o.known, n)
		}
	}
	return name, value, ok
}

func (o *options) text(name, byDefault string, aliases ...string) string {
	if _, v, ok := o.take(append([]string{name}, aliases...)...); ok {
		return v
	}
	return byDefault
}

func (o *options) flag(name string, byDefault bool, aliases ...string) bool {
	n, v, ok := o.take(append([]string{name}, aliases...)...)
	if !ok {
		return byDefault
	}
	switch v {
	case "true", "yes", "1":
		return true
	case "false", "no", "0":
		return false
	}
	o.fail(n, v, "must be true or false")
	return byDefault
}

func (o *options) integer(name string, byDefault int, aliases ...string) int {
	n, v, ok := o.take(append([]string{name}, aliases...)...)
	if !ok {
		return byDefault
	}
	i, err := strconv.Atoi(v)
	if err != nil {
		o.fail(n, v, "must be a whole number")
		return byDefault
	}
	return i
}

func (o *options) number(name string, aliases ...string) *float64 {
	n, v, ok := o.take(append([]string{name}, aliases...)...)
	if !ok {
		return nil
	}
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		o.fail(n, v, "must be a number")
		return nil
	}
	return &f
}

// done reports what went wrong, options that nobody took included.
func (o *options) done() error {
	known := slices.Compact(slices.Sorted(slices.Values(o.known)))
	for _, key := range slices.Sorted(maps.Keys(o.given)) {
		if !slices.Contains(o.known, key) {
			o.errs = append(o.errs, &UnknownOptionError{o.metric, key, nearest.Of(key, known), known})
		}
	}
	return errors.Join(o.errs...)
}

// canonical writes the specification with its options in order.
func (o *options) canonical() string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(o.given)) {
		if key != "as" {
			parts = append(parts, key+"="+o.given[key])
		}
	}
	if len(parts) == 0 {
		return o.metric
	}
	return o.metric + ":" + strings.Join(parts, ",")
}

// own is the signature of a metric that no other tool defines.
func own(fields ...signature.Field) func(refs int) signature.Signature {
	return func(refs int) signature.Signature {
		return signature.Signature{Refs: refs, Fields: fields, Version: "t5ctl-1"}
	}
}

func field(name, value string) signature.Field {
	return signature.Field{Name: name, Short: name, Value: value}
}

// percent is 100·a/b, not a number where b is 0.
func percent(a, b float64) float64 {
	if b == 0 {
		return math.NaN()
	}
	return 100 * (a / b)
}
