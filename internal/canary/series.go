package canary

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Selector picks series by their name and labels: name{label="value",other=~"regular expression"}.
// The operators are those of Prometheus: =, !=, =~, !~. The name may be left out.
type Selector struct {
	Name     string
	matchers []matcher
}

type matcher struct {
	label, operator, value string
	pattern                *regexp.Regexp // of =~ and !~
}

// SelectorError says why a selector cannot be read.
type SelectorError struct{ Text, Reason string }

func (e *SelectorError) Error() string { return fmt.Sprintf("selector %q: %s", e.Text, e.Reason) }

// ParseSelector reads a selector.
func ParseSelector(text string) (Selector, error) {
	name, rest, braces := strings.Cut(strings.TrimSpace(text), "{")
	s := Selector{Name: strings.TrimSpace(name)}
	if s.Name != "" && !model.LegacyValidation.IsValidMetricName(s.Name) {
		return s, &SelectorError{text, "not a metric's name"}
	}
	if !braces {
		if s.Name == "" {
			return s, &SelectorError{text, "it is empty"}
		}
		return s, nil
	}
	for rest = strings.TrimSpace(rest); rest != "}"; rest = strings.TrimSpace(rest) {
		m, after, reason := parseMatcher(rest)
		if reason != "" {
			return s, &SelectorError{text, reason}
		}
		s.matchers = append(s.matchers, m)
		rest = strings.TrimSpace(after)
		if after, more := strings.CutPrefix(rest, ","); more {
			rest = after
		} else if rest != "}" {
			return s, &SelectorError{text, "a comma or } is missing"}
		}
	}
	return s, nil
}

func parseMatcher(text string) (m matcher, rest, reason string) {
	end := strings.IndexAny(text, "=!")
	if end < 1 || !model.LegacyValidation.IsValidLabelName(strings.TrimSpace(text[:end])) {
		return m, "", `a label is written name="value"`
	}
	m.label, text = strings.TrimSpace(text[:end]), text[end:]
	for _, operator := range []string{"=~", "!~", "!=", "="} {
		if after, found := strings.CutPrefix(text, operator); found {
			m.operator, text = operator, strings.TrimSpace(after)
			break
		}
	}
	quoted, err := strconv.QuotedPrefix(text)
	if m.operator == "" || err != nil || quoted[0] == '\'' {
		return m, "", `a label is written name="value"`
	}
	if m.value, err = strconv.Unquote(quoted); err != nil {
		return m, "", err.Error()
	}
	if strings.HasSuffix(m.operator, "~") {
		if m.pattern, err = regexp.Compile("^(?:" + m.value + ")$"); err != nil {
			return m, "", err.Error()
		}
	}
	return m, text[len(quoted):], ""
}

// And is both selectors at once, as PromQL.
func (s Selector) and(other Selector) Selector {
	return Selector{Name: cmp.Or(s.Name, other.Name), matchers: slices.Concat(s.matchers, other.matchers)}
}

// String is the selector as PromQL.
func (s Selector) String() string {
	parts := make([]string, len(s.matchers))
	for i, m := range s.matchers {
		parts[i] = m.label + m.operator + strconv.Quote(m.value)
	}
	if len(parts) == 0 {
		return s.Name
	}
	return s.Name + "{" + strings.Join(parts, ",") + "}"
}

func (s Selector) matches(labels map[string]string) bool {
	if s.Name != "" && labels["__name__"] != s.Name {
		return false
	}
	return !slices.ContainsFunc(s.matchers, func(m matcher) bool {
		value := labels[m.label]
		switch m.operator {
		case "=":
			return value != m.value
		case "!=":
			return value == m.value
		case "=~":
			return !m.pattern.MatchString(value)
		}
		return m.pattern.MatchString(value)
	})
}

// series is one counter at several moments; NaN where it was not there.
type series struct {
	labels map[string]string
	values []float64
}

// Snapshots are all counters of one arm at several moments, the first to the last.
type Snapshots struct {
	moments int
	first   bool // the first moment is where counting begins, not a block of its own
	series  map[string]*series
}

// MetricsError says that a file holds no metrics.
type MetricsError struct {
	Path string
	Err  error
}

func (e *MetricsError) Error() string { return fmt.Sprintf("metrics %s: %v", e.Path, e.Err) }
func (e *MetricsError) Unwrap() error { return e.Err }

// maxScrape bounds what is read of one metrics file, in bytes.
const maxScrape = 64 << 20

// Add reads one more moment from a file as /metrics answers it, and keeps what the selector picks.
func (s *Snapshots) Add(r io.Reader, arm Selector) error {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(r, maxScrape))
	if err != nil {
		return err
	}
	moment := s.moments
	s.moments++
	for _, family := range families {
		for _, metric := range family.Metric {
			labels := map[string]string{}
			for _, pair := range metric.Label {
				labels[pair.GetName()] = pair.GetValue()
			}
			flatten(family.GetName(), labels, metric, func(labels map[string]string, value float64) {
				if arm.matches(labels) {
					s.set(labels, moment, value)
				}
			})
		}
	}
	return nil
}

// flatten gives a metric as the series that a server keeps of it.
func flatten(name string, labels map[string]string, m *dto.Metric, yield func(map[string]string, float64)) {
	one := func(name string, value float64, more ...string) {
		all := maps.Clone(labels)
		all["__name__"] = name
		for i := 0; i < len(more); i += 2 {
			all[more[i]] = more[i+1]
		}
		yield(all, value)
	}
	switch {
	case m.Counter != nil:
		one(name, m.Counter.GetValue())
	case m.Gauge != nil:
		one(name, m.Gauge.GetValue())
	case m.Untyped != nil:
		one(name, m.Untyped.GetValue())
	case m.Summary != nil:
		one(name+"_sum", m.Summary.GetSampleSum())
		one(name+"_count", float64(m.Summary.GetSampleCount()))
	case m.Histogram != nil:
		one(name+"_sum", m.Histogram.GetSampleSum())
		one(name+"_count", float64(m.Histogram.GetSampleCount()))
		for _, b := range m.Histogram.Bucket {
			one(name+"_bucket", float64(b.GetCumulativeCount()), "le", strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64))
		}
	}
}

func (s *Snapshots) set(labels map[string]string, moment int, value float64) {
	var key strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&key, "%s=%q,", name, labels[name])
	}
	if s.series == nil {
		s.series = map[string]*series{}
	}
	one := s.series[key.String()]
	if one == nil {
		one = &series{labels: labels}
		s.series[key.String()] = one
	}
	for len(one.values) <= moment {
		one.values = append(one.values, math.NaN())
	}
	one.values[moment] = value
}

// increments is by how much what the selector picks has grown in each block. A counter that is
// lower than before has begun anew. It is an error if nothing was ever picked.
func (s *Snapshots) increments(text string) (blocks []float64, found bool, err error) {
	selector, err := ParseSelector(text)
	if err != nil {
		return nil, false, err
	}
	selector = selector.normal()
	blocks = make([]float64, s.moments)
	for _, one := range s.series {
		if !selector.matches(one.labels) {
			continue
		}
		found = true
		before := 0.0
		for i, value := range one.values {
			if math.IsNaN(value) {
				continue
			}
			if math.IsInf(value, 0) || value < 0 {
				return nil, false, fmt.Errorf("%s is %v, which is no count", text, value)
			}
			if value < before {
				before = 0
			}
			blocks[i] += value - before
			before = value
		}
	}
	if s.first && s.moments > 0 {
		blocks = blocks[1:]
	}
	return blocks, found, nil
}

// normal writes the bounds of histogram buckets as they are written here: le="0.50" is le="0.5".
func (s Selector) normal() Selector {
	matchers := slices.Clone(s.matchers)
	for i, m := range matchers {
		if v, err := strconv.ParseFloat(m.value, 64); err == nil && m.label == "le" && m.operator == "=" {
			matchers[i].value = strconv.FormatFloat(v, 'g', -1, 64)
		}
	}
	return Selector{s.Name, matchers}
}
