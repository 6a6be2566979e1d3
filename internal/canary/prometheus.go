package canary

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ServerError says what a Prometheus server answered to a query.
type ServerError struct{ URL, Query, Reason string }

func (e *ServerError) Error() string {
	return fmt.Sprintf("prometheus at %s: query %s: %s", e.URL, e.Query, e.Reason)
}

// Range is when a server is asked about: blocks of Step from Start to End.
type Range struct {
	Start, End time.Time
	Step       time.Duration
}

// maxAnswer bounds what is read of one answer, in bytes.
const maxAnswer = 64 << 20

// Fetch asks a Prometheus server for all series of an arm that the objectives read. What was
// counted before the range's start does not count.
func Fetch(ctx context.Context, server string, p Plan, arm Selector, at Range) (*Snapshots, error) {
	s := &Snapshots{first: true, moments: int(at.End.Sub(at.Start)/at.Step) + 1}
	asked := map[string]bool{}
	for _, o := range p.Objectives {
		for _, text := range o.selectors() {
			selector, err := ParseSelector(text)
			if err != nil {
				return nil, err
			}
			query := selector.and(arm).String()
			if asked[query] {
				continue
			}
			asked[query] = true
			if err := s.fetch(ctx, server, query, at); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

func (s *Snapshots) fetch(ctx context.Context, server, query string, at Range) error {
	failed := func(format string, args ...any) error {
		return &ServerError{server, query, fmt.Sprintf(format, args...)}
	}
	parameters := url.Values{
		"query": {query}, "step": {strconv.FormatFloat(at.Step.Seconds(), 'f', -1, 64)},
		"start": {strconv.FormatInt(at.Start.Unix(), 10)}, "end": {strconv.FormatInt(at.End.Unix(), 10)},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(server, "/")+"/api/v1/query_range?"+parameters.Encode(), nil)
	if err != nil {
		return failed("%v", err)
	}
	client := http.Client{Timeout: time.Minute}
	response, err := client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return failed("%v", err)
	}
	defer func() { _ = response.Body.Close() }() // opened for reading
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Values [][2]json.RawMessage
			}
		}
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&answer); err != nil {
		return failed("HTTP %d: %v", response.StatusCode, err)
	}
	if answer.Status != "success" {
		return failed("HTTP %d: %s", response.StatusCode, answer.Error)
	}
	for _, one := range answer.Data.Result {
		for _, pair := range one.Values {
			moment, value, err := sample(pair, at)
			if err != nil {
				return failed("%v", err)
			}
			if moment >= 0 && moment < s.moments {
				s.set(bucketNormal(one.Metric), moment, value)
			}
		}
	}
	return nil
}

// sample reads one [time, "value"] pair.
func sample(pair [2]json.RawMessage, at Range) (moment int, value float64, err error) {
	var seconds float64
	var text string
	if err := json.Unmarshal(pair[0], &seconds); err != nil {
		return 0, 0, err
	}
	if err := json.Unmarshal(pair[1], &text); err != nil {
		return 0, 0, err
	}
	value, err = strconv.ParseFloat(text, 64)
	return int((seconds-float64(at.Start.Unix()))/at.Step.Seconds() + 0.5), value, err
}

// bucketNormal writes the bound of a bucket as metrics files are read here.
func bucketNormal(labels map[string]string) map[string]string {
	if v, err := strconv.ParseFloat(labels["le"], 64); err == nil {
		labels["le"] = strconv.FormatFloat(v, 'g', -1, 64)
	}
	return labels
}

// names are the metrics that there are, for messages.
func (s *Snapshots) names() []string {
	var names []string
	for _, one := range s.series {
		if name := one.labels["__name__"]; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
