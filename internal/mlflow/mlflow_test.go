package mlflow_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/t5ctl/t5ctl/internal/mlflow"
)

// server answers as MLflow 3.18.0 does (mlflow/server/handlers.py), for one experiment and one run.
type server struct {
	mu         sync.Mutex
	refuse     func(path string) int // status to answer instead; 0: none
	calls      []string
	experiment string
	runs       int
	status     string
	params     map[string]string
	metrics    map[string]float64 // by key and step
	biggest    int                // batch
	auth       string
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/api/2.0/mlflow/")
	s.calls, s.auth = append(s.calls, path), r.Header.Get("Authorization")
	if s.refuse != nil {
		if status := s.refuse(path); status != 0 {
			s.answer(w, status, map[string]string{"error_code": "TEST", "message": "refused by the test"})
			return
		}
	}
	var body struct {
		Name, Status string
		RunName      string `json:"run_name"`
		RunID        string `json:"run_id"`
		Params       []struct{ Key, Value string }
		Metrics      []struct {
			Key   string
			Value float64
			Step  int
		}
	}
	if r.Method == http.MethodPost {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			s.answer(w, http.StatusBadRequest, map[string]string{"error_code": "BAD_REQUEST"})
			return
		}
	}
	switch path {
	case "experiments/get-by-name":
		if s.experiment != r.URL.Query().Get("experiment_name") {
			s.answer(w, http.StatusNotFound, map[string]string{"error_code": "RESOURCE_DOES_NOT_EXIST"})
			return
		}
		s.answer(w, http.StatusOK, map[string]any{"experiment": map[string]string{"experiment_id": "7"}})
	case "experiments/create":
		s.experiment = body.Name
		s.answer(w, http.StatusOK, map[string]string{"experiment_id": "7"})
	case "runs/create":
		s.runs++
		s.status, s.params, s.metrics = "RUNNING", map[string]string{}, map[string]float64{}
		s.answer(w, http.StatusOK, map[string]any{"run": map[string]any{"info": map[string]string{"run_id": "r1"}}})
	case "runs/log-batch":
		s.biggest = max(s.biggest, len(body.Metrics), len(body.Params))
		for _, p := range body.Params {
			s.params[p.Key] = p.Value
		}
		for _, m := range body.Metrics {
			s.metrics[fmt.Sprintf("%s %d", m.Key, m.Step)] = m.Value
		}
		s.answer(w, http.StatusOK, map[string]any{})
	case "runs/update":
		if body.RunID != "r1" {
			s.answer(w, http.StatusNotFound, map[string]string{"error_code": "RESOURCE_DOES_NOT_EXIST"})
			return
		}
		s.status = body.Status
		s.answer(w, http.StatusOK, map[string]any{})
	default:
		s.answer(w, http.StatusNotFound, map[string]string{"error_code": "ENDPOINT_NOT_FOUND"})
	}
}

func (s *server) answer(w http.ResponseWriter, status int, body any) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// warnings is what a tracker could not do.
type warnings struct {
	mu   sync.Mutex
	said []string
}

func (w *warnings) add(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, fmt.Sprintf(format, args...))
}

func (w *warnings) all() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.said, "\n")
}

func config(uri string, w *warnings) mlflow.Config {
	return mlflow.Config{
		Options: mlflow.Options{URI: uri + "/", Experiment: "tiny"}, RunName: "tiny-1", Client: http.DefaultClient, Started: time.Unix(1, 0),
		Created: func(string) {}, Warn: w.add, Backoff: time.Millisecond, Patience: 10 * time.Second,
	}
}

func metrics(n int) (all []mlflow.Metric) {
	for step := range n {
		all = append(all, mlflow.Metric{Key: "train/loss", Value: float64(step) / 2, Step: step, At: time.Unix(int64(step), 0)})
	}
	return all
}

func TestRun(t *testing.T) {
	s, w := &server{}, &warnings{}
	web := httptest.NewServer(s)
	defer web.Close()
	c, created := config(web.URL, w), ""
	c.Credentials.Token, c.Created = "secret", func(id string) { created = id }
	c.Params = map[string]string{"train.lora.targets[0]": "q", "long": strings.Repeat("ü", 5000)}
	for i := range 150 {
		c.Params[fmt.Sprintf("p%d", i)] = "v"
	}
	tracker := mlflow.Start(c)
	tracker.Log(metrics(2500)...)
	tracker.Log(mlflow.Metric{Key: "train/loss", Value: math.NaN(), Step: 9999})
	tracker.Close(mlflow.Finished)
	if s.runs != 1 || created != "r1" || s.status != "FINISHED" || s.auth != "Bearer secret" {
		t.Errorf("%d runs, id %q, status %s, authorization %q", s.runs, created, s.status, s.auth)
	}
	if len(s.metrics) != 2500 || s.metrics["train/loss 2499"] != 1249.5 || s.biggest > 1000 {
		t.Errorf("%d metrics, batches of up to %d", len(s.metrics), s.biggest)
	}
	if len(s.params) != 152 || s.params["train.lora.targets_0_"] != "q" || s.params["long"] != strings.Repeat("ü", 3000) {
		t.Errorf("%d parameters: %v", len(s.params), slices.Sorted(maps.Keys(s.params)))
	}
	if said := w.all(); said != "" {
		t.Error(said)
	}
}

// A server that fails now and then costs nothing; the run is made once.
func TestRetries(t *testing.T) {
	fails := map[string]int{"experiments/get-by-name": 2, "runs/create": 1, "runs/log-batch": 3, "runs/update": 2}
	s, w := &server{refuse: func(path string) int {
		if fails[path]--; fails[path] >= 0 {
			return http.StatusServiceUnavailable
		}
		return 0
	}}, &warnings{}
	web := httptest.NewServer(s)
	defer web.Close()
	c := config(web.URL, w)
	c.Params = map[string]string{"a": "b"}
	tracker := mlflow.Start(c)
	tracker.Log(metrics(10)...)
	tracker.Close(mlflow.Killed)
	if s.runs != 1 || s.status != "KILLED" || len(s.metrics) != 10 || s.params["a"] != "b" {
		t.Errorf("%d runs, %s, %d metrics, %v", s.runs, s.status, len(s.metrics), s.params)
	}
	if said := w.all(); !strings.Contains(said, "HTTP 503 TEST refused by the test") || strings.Contains(said, "did not reach") {
		t.Error(said)
	}
}

// A resumed run goes on where it was; one that the server has forgotten begins anew.
func TestResume(t *testing.T) {
	for id, runs := range map[string]int{"r1": 0, "gone": 1} {
		s, w := &server{experiment: "tiny", params: map[string]string{}, metrics: map[string]float64{}}, &warnings{}
		web := httptest.NewServer(s)
		c := config(web.URL, w)
		c.RunID = id
		tracker := mlflow.Start(c)
		tracker.Log(metrics(1)...)
		tracker.Close(mlflow.Finished)
		web.Close()
		if s.runs != runs || len(s.metrics) != 1 || w.all() != "" {
			t.Errorf("%s: %d runs made, want %d; %d metrics; %s", id, s.runs, runs, len(s.metrics), w.all())
		}
	}
}

// Neither a server that refuses, nor one that is no MLflow, nor one that is not there, nor one that
// never answers holds up a run.
func TestNothingHoldsUpTheRun(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	release := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer silent.Close()
	defer close(release)
	refusing := httptest.NewServer(&server{refuse: func(string) int { return http.StatusForbidden }})
	defer refusing.Close()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	defer other.Close()
	for name, uri := range map[string]string{"gone": gone.URL, "silent": silent.URL, "refusing": refusing.URL, "other": other.URL} {
		t.Run(name, func(t *testing.T) {
			w := &warnings{}
			c := config(uri, w)
			c.Patience = 20 * time.Millisecond
			tracker := mlflow.Start(c)
			for range 10 {
				tracker.Log(metrics(6000)...)
			}
			tracker.Close(mlflow.Finished)
			if said := w.all(); !strings.Contains(said, "60000 metrics did not reach "+uri) {
				t.Error(said)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	tests := map[string]struct {
		uri  string
		good bool
	}{
		"none": {"", true}, "plain": {"http://127.0.0.1:5000", true}, "below a path": {"https://example.org/mlflow/", true},
		"a file": {"file:///tmp/mlruns", false}, "a word": {"mlruns", false}, "a password": {"https://me:secret@example.org", false},
	}
	for name, tt := range tests {
		err := mlflow.Options{URI: tt.uri}.Validate()
		if (err == nil) != tt.good {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the message tells the password: %v", name, err)
		}
	}
}
