package mlflow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Codes of MLflow that are no failure here.
const (
	notThere     = "RESOURCE_DOES_NOT_EXIST"
	alreadyThere = "RESOURCE_ALREADY_EXISTS"
)

// mostAnswer is how much of an answer is read.
const mostAnswer = 1 << 20

// client speaks version 2.0 of the REST interface, which MLflow 3 serves.
type client struct {
	base        string
	credentials Credentials
	http        *http.Client
}

func newClient(c Config) *client {
	return &client{base: strings.TrimSuffix(c.URI, "/") + "/api/2.0/mlflow/", credentials: c.Credentials, http: c.Client}
}

// pair is a tag or a parameter as the server takes it.
type pair struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// experiment gives the id of an experiment, and makes it where there is none.
func (c *client) experiment(ctx context.Context, name string) (string, error) {
	id, err := c.findExperiment(ctx, name)
	if answer, ok := errors.AsType[*ServerError](err); !ok || answer.Code != notThere {
		return id, err
	}
	var made struct {
		ID string `json:"experiment_id"`
	}
	err = c.call(ctx, http.MethodPost, "experiments/create", map[string]string{"name": name}, &made)
	if answer, ok := errors.AsType[*ServerError](err); ok && answer.Code == alreadyThere { // another was faster
		return c.findExperiment(ctx, name)
	}
	return made.ID, err
}

func (c *client) findExperiment(ctx context.Context, name string) (string, error) {
	var found struct {
		Experiment struct {
			ID string `json:"experiment_id"`
		} `json:"experiment"`
	}
	err := c.call(ctx, http.MethodGet, "experiments/get-by-name?experiment_name="+url.QueryEscape(name), nil, &found)
	return found.Experiment.ID, err
}

// create makes a run and gives its id.
func (c *client) create(ctx context.Context, experiment string, config Config) (string, error) {
	tags := []pair{{"mlflow.source.name", "t5ctl"}, {"mlflow.source.type", "LOCAL"}}
	for _, key := range slices.Sorted(maps.Keys(config.Tags)) {
		tags = append(tags, pair{name(key), cut(config.Tags[key], mostValue)})
	}
	var made struct {
		Run struct {
			Info struct {
				ID string `json:"run_id"`
			} `json:"info"`
		} `json:"run"`
	}
	err := c.call(ctx, http.MethodPost, "runs/create", map[string]any{
		"experiment_id": experiment, "run_name": config.RunName, "start_time": config.Started.UnixMilli(), "tags": tags,
	}, &made)
	if err == nil && made.Run.Info.ID == "" {
		err = errors.New("the server gave the run no id")
	}
	return made.Run.Info.ID, err
}

// update sets a run's status, and its end where there is one.
func (c *client) update(ctx context.Context, id, status string, end time.Time) error {
	body := map[string]any{"run_id": id, "status": status}
	if !end.IsZero() {
		body["end_time"] = end.UnixMilli()
	}
	return c.call(ctx, http.MethodPost, "runs/update", body, nil)
}

// logParams keeps the settings of a run. The server takes the same value again, so that this may be
// repeated.
func (c *client) logParams(ctx context.Context, id string, params map[string]string) error {
	var all []pair
	for _, key := range slices.Sorted(maps.Keys(params)) {
		all = append(all, pair{name(key), cut(params[key], mostValue)})
	}
	for batch := range slices.Chunk(all, mostParams) {
		if err := c.call(ctx, http.MethodPost, "runs/log-batch", map[string]any{"run_id": id, "params": batch}, nil); err != nil {
			return err
		}
	}
	return nil
}

// logMetrics keeps a batch of metrics, which must not be more than mostMetrics.
func (c *client) logMetrics(ctx context.Context, id string, metrics []Metric) error {
	type metric struct {
		Key       string  `json:"key"`
		Value     float64 `json:"value"`
		Timestamp int64   `json:"timestamp"` // milliseconds
		Step      int     `json:"step"`
	}
	batch := make([]metric, len(metrics))
	for i, m := range metrics {
		batch[i] = metric{name(m.Key), m.Value, m.At.UnixMilli(), m.Step}
	}
	return c.call(ctx, http.MethodPost, "runs/log-batch", map[string]any{"run_id": id, "metrics": batch}, nil)
}

// call sends one request and reads its answer into answer, where that is not nil.
func (c *client) call(ctx context.Context, method, path string, body, answer any) error {
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	switch {
	case c.credentials.User != "" || c.credentials.Password != "":
		request.SetBasicAuth(c.credentials.User, c.credentials.Password)
	case c.credentials.Token != "":
		request.Header.Set("Authorization", "Bearer "+c.credentials.Token)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // it was read
	data, err := io.ReadAll(io.LimitReader(response.Body, mostAnswer))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return serverError(response.StatusCode, data)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return &ServerError{Status: response.StatusCode, Message: fmt.Sprintf("the answer is no JSON of MLflow: %v", err)}
	}
	return nil
}

// serverError reads what the server says of a failure; a proxy in between may have said something else.
func serverError(status int, data []byte) error {
	e := &ServerError{Status: status}
	var said struct {
		Code    string `json:"error_code"`
		Message string `json:"message"`
	}
	if json.Unmarshal(data, &said) == nil {
		e.Code, e.Message = said.Code, cut(said.Message, 300)
	}
	return e
}

// name makes a key one that the server takes: letters, digits and _ - . space /.
func name(key string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("_-. /", r):
			return r
		}
		return '_'
	}, key)
	return cut(clean, mostKey)
}

// cut shortens a text to so many bytes, between two characters.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}
