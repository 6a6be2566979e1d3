package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/mlflow"
	"github.com/t5ctl/t5ctl/internal/runfolder"
	"github.com/t5ctl/t5ctl/internal/strictyaml"
	"github.com/t5ctl/t5ctl/internal/tensorboard"
	"github.com/t5ctl/t5ctl/trainer"
)

// Names of what trackers keep in a run folder.
const (
	tensorboardDir = "tensorboard"
	mlflowFile     = "mlflow.json"
)

// trackers tell other tools of a run while it goes on. None of them can stop it: what fails is
// warned of once, and then left alone.
type trackers struct {
	term   *term.Terminal
	events *tensorboard.Writer
	mlflow *mlflow.Tracker
}

// track opens what the recipe's tracking section asks for, before the first step of this process.
func (t *training) track(step int, resolved []byte) {
	tracking := t.recipe.Tracking
	t.trackers = &trackers{term: t.app.Term}
	if tracking.TensorBoard {
		t.trackers.openTensorBoard(t.dir, step, resolved)
	}
	if tracking.MLflow.URI != "" {
		t.trackers.mlflow = mlflow.Start(t.mlflowConfig(resolved))
		if step > 0 {
			t.repeat(step)
		}
	}
}

// repeat tells the server what the run's log has up to a step: a process that was killed may not
// have come to it. The server keeps a number of the same step and moment once.
func (t *training) repeat(step int) {
	log, err := readLog(t.dir)
	if err != nil {
		t.app.Term.Warnf("mlflow: what was before step %d is not told: %v", step, err)
		return
	}
	for _, s := range log.Steps {
		if s.To <= step {
			t.trackers.sinkMLflow(s.To, s.At, []measurement{
				{"train/loss", s.Loss}, {"train/learning_rate", s.LearningRate}, {"train/gradient_norm", s.GradientNorm}, {"train/epoch", s.Epoch},
				{"train/padded_share", s.PaddedShare}, {"train/tokens_per_second", s.TokensPerSecond}, {"train/memory_bytes", float64(s.Memory)},
			})
		}
	}
	for _, e := range log.Evaluations {
		if e.Step <= step {
			var values []measurement
			for name, value := range e.Metrics {
				values = append(values, measurement{"validation/" + name, value})
			}
			t.trackers.sinkMLflow(e.Step, e.At, values)
		}
	}
}

func (k *trackers) openTensorBoard(dir runfolder.Dir, step int, resolved []byte) {
	now := time.Now()
	w, err := tensorboard.Create(dir.Path(tensorboardDir), now, step)
	if err == nil {
		k.events = w
		err = w.Text(now, step, "recipe", "    "+indented(resolved))
	}
	if err != nil {
		k.giveUpTensorBoard(err)
	}
}

// indented makes lines a block of code in Markdown.
func indented(text []byte) string {
	var b []byte
	for _, c := range text {
		if b = append(b, c); c == '\n' {
			b = append(b, "    "...)
		}
	}
	return string(b)
}

func (k *trackers) giveUpTensorBoard(err error) {
	k.term.Warnf("writing for TensorBoard: %v; the run goes on without", err)
	if k.events != nil {
		_ = k.events.Close() // it has failed already
		k.events = nil
	}
}

// mlflowConfig is what the server is told of the run.
func (t *training) mlflowConfig(resolved []byte) mlflow.Config {
	r := t.record.Record
	params, err := strictyaml.Flatten(runfolder.SettledFile, resolved)
	if err != nil {
		t.app.Term.Warnf("mlflow: settings are not told: %v", err)
	}
	maps.DeleteFunc(params, func(_, value string) bool { return value == "" })
	tags := map[string]string{"t5ctl.version": r.Tool.Version, "t5ctl.fingerprint": r.Fingerprint, "t5ctl.method": r.Method, "t5ctl.backend": r.Backend.Kind}
	for split, print := range r.Data {
		tags["t5ctl.data."+split] = print
	}
	options := t.recipe.Tracking.MLflow
	options.Experiment = cmp.Or(options.Experiment, t.recipe.Name)
	warn := t.app.Term.Warnf
	return mlflow.Config{
		Options: options, RunName: filepath.Base(string(t.dir)), RunID: mlflowRun(t.dir, options.URI), Params: params, Tags: tags,
		Credentials: mlflow.Credentials{
			User: os.Getenv("MLFLOW_TRACKING_USERNAME"), Password: os.Getenv("MLFLOW_TRACKING_PASSWORD"), Token: os.Getenv("MLFLOW_TRACKING_TOKEN"),
		},
		Started: r.Started, Client: &http.Client{Timeout: 15 * time.Second}, Backoff: time.Second, Patience: 15 * time.Second, Warn: warn,
		Created: func(id string) {
			data, err := json.MarshalIndent(mlflowRecord{options.URI, options.Experiment, id}, "", "  ")
			if err == nil {
				err = t.dir.WriteFile(mlflowFile, append(data, '\n'))
			}
			if err != nil {
				warn("mlflow: the run's id is not kept: %v", err)
			}
		},
	}
}

// mlflowRecord says under which id a server knows the run, so that a resumed one goes on there.
type mlflowRecord struct {
	URI        string `json:"uri"`
	Experiment string `json:"experiment"`
	Run        string `json:"run_id"`
}

// mlflowRun is the id under which the server knows the run, empty where it does not.
func mlflowRun(dir runfolder.Dir, uri string) string {
	data, err := os.ReadFile(dir.Path(mlflowFile))
	var r mlflowRecord
	if errors.Is(err, fs.ErrNotExist) || json.Unmarshal(data, &r) != nil || r.URI != uri {
		return ""
	}
	return r.Run
}

// sink tells all trackers of an event.
func (k *trackers) sink(e trainer.Event, now time.Time) {
	step, values := measured(e)
	if len(values) == 0 {
		return
	}
	if k.events != nil {
		var scalars []tensorboard.Scalar
		for _, v := range values {
			scalars = append(scalars, tensorboard.Scalar{Tag: v.name, Value: v.value})
		}
		if err := k.events.Scalars(now, step, scalars); err != nil {
			k.giveUpTensorBoard(err)
		}
	}
	if k.mlflow != nil {
		k.sinkMLflow(step, now, values)
	}
}

func (k *trackers) sinkMLflow(step int, at time.Time, values []measurement) {
	var metrics []mlflow.Metric
	for _, v := range values {
		metrics = append(metrics, mlflow.Metric{Key: v.name, Value: v.value, Step: step, At: at})
	}
	k.mlflow.Log(metrics...)
}

// measurement is a number as trackers name it.
type measurement struct {
	name  string
	value float64
}

// measured are the numbers of an event; most have none.
func measured(e trainer.Event) (step int, values []measurement) {
	if e, ok := e.(trainer.Stepped); ok {
		values = []measurement{
			{"train/loss", e.Loss}, {"train/learning_rate", e.LearningRate}, {"train/gradient_norm", e.GradientNorm},
			{"train/epoch", e.Epoch}, {"train/padded_share", e.PaddedShare}, {"train/tokens_per_second", e.TokensPerSecond},
		}
		if e.Memory > 0 {
			values = append(values, measurement{"train/memory_bytes", float64(e.Memory)})
		}
		return e.Step, values
	}
	if e, ok := e.(trainer.Evaluated); ok {
		for _, name := range slices.Sorted(maps.Keys(e.Metrics)) {
			values = append(values, measurement{"validation/" + name, e.Metrics[name]})
		}
		return e.Step, values
	}
	return 0, nil
}

// close ends what is still open; cause is why the run ended, nil where it was done.
func (k *trackers) close(cause error) {
	if k == nil {
		return
	}
	if k.events != nil {
		if err := k.events.Close(); err != nil {
			k.term.Warnf("writing for TensorBoard: %v", err)
		}
	}
	if k.mlflow == nil {
		return
	}
	status := mlflow.Finished
	switch {
	case errors.Is(cause, context.Canceled):
		status = mlflow.Killed
	case cause != nil:
		status = mlflow.Failed
	}
	k.mlflow.Close(status)
}
