package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/model"
	"github.com/t5ctl/t5ctl/internal/server"
	"github.com/t5ctl/t5ctl/registry"
)

// servedModels finds and opens what a server serves.
type servedModels struct {
	app     *App
	backend device.Opening
	opts    serveOptions
	shelf   model.Shelf
}

// Resolve says which version a reference means now. A folder is always the same one.
func (s *servedModels) Resolve(ctx context.Context, ref string) (server.Version, error) {
	if info, err := os.Stat(ref); err == nil && info.IsDir() || !strings.Contains(ref, "@") {
		return localVersion(ref)
	}
	parsed, err := registry.ParseRef(ref)
	if err != nil {
		return server.Version{}, err
	}
	r, err := s.app.registry()
	if err != nil {
		return server.Version{}, err
	}
	found, err := r.Resolve(ctx, parsed)
	return versionServed(found), err
}

func localVersion(ref string) (server.Version, error) {
	path, err := filepath.Abs(ref)
	return server.Version{Model: filepath.Base(path), Number: "local"}, err
}

func versionServed(v registry.Version) server.Version {
	return server.Version{Model: v.Ref.Model, Number: fmt.Sprintf("v%d", v.Ref.Version), Digest: v.Digest}
}

// Load verifies a version, under the policy if there is one, and opens it.
func (s *servedModels) Load(ctx context.Context, ref string) (server.Version, server.Model, error) {
	version, err := localVersion(ref)
	if err != nil {
		return version, nil, err
	}
	exact := ref
	if parsed, refErr := registry.ParseRef(ref); refErr == nil {
		if info, err := os.Stat(ref); err != nil || !info.IsDir() {
			r, err := s.app.registry()
			if err != nil {
				return version, nil, err
			}
			verified, err := r.Verify(ctx, parsed)
			if err != nil {
				return version, nil, fmt.Errorf("verifying %s: %w", ref, err)
			}
			version, exact = versionServed(verified.Version), verified.Ref.String() // the channel may move meanwhile
		}
	}
	resolved, err := resolveModel(ctx, s.app, exact)
	if err != nil {
		return version, nil, err
	}
	m, err := s.shelf.Open(s.backend, resolved.Dir, model.Options{Adapter: resolved.Adapter, MaxInput: s.opts.maxInput, Precision: s.opts.precision})
	if err != nil {
		return version, nil, fmt.Errorf("opening %s: %w", ref, err)
	}
	served := &servedModel{model: m, rows: s.opts.rows, steps: s.opts.maxNewTokens, beams: s.opts.maxBeams, refuse: s.opts.long == model.Refuse, maxInput: s.opts.maxInput}
	if served.steps == 0 {
		served.steps = m.Generation.MaxNewTokens
	}
	m.Generation.MaxNewTokens = min(m.Generation.MaxNewTokens, served.steps)
	return version, served, nil
}

// servedModel is one version as the server sees it.
type servedModel struct {
	model       *model.Model
	rows, steps int
	beams       int
	maxInput    int
	refuse      bool // inputs that are too long
	held        held
}

// settings are what a request's settings make of the model's own.
func (s *servedModel) settings(given server.Settings) (o decode.Options, drawn *uint64, err error) {
	o = s.model.Generation
	over(&o.MaxNewTokens, given.MaxNewTokens)
	over(&o.MinNewTokens, given.MinNewTokens)
	over(&o.Beams, given.Beams)
	over(&o.NumReturnSequences, given.NumReturnSequences)
	over(&o.LengthPenalty, given.LengthPenalty)
	over(&o.EarlyStopping, given.EarlyStopping)
	over(&o.RepetitionPenalty, given.RepetitionPenalty)
	over(&o.NoRepeatNGram, given.NoRepeatNGram)
	over(&o.Sample, given.Sample)
	over(&o.Temperature, given.Temperature)
	over(&o.TopK, given.TopK)
	over(&o.TopP, given.TopP)
	over(&o.MinP, given.MinP)
	over(&o.TypicalP, given.TypicalP)
	switch {
	case o.MaxNewTokens > s.steps:
		return o, nil, &server.RequestError{Reason: fmt.Sprintf("max_new_tokens is %d, at most %d here", o.MaxNewTokens, s.steps)}
	case o.Beams > s.beams || o.NumReturnSequences > s.beams:
		return o, nil, &server.RequestError{Reason: fmt.Sprintf("num_beams is %d and num_return_sequences %d, at most %d here", o.Beams, o.NumReturnSequences, s.beams)}
	}
	if o.Constraint, err = s.held.constraint(s.model, given); err != nil {
		return o, nil, err
	}
	if o.Sample {
		seed := rand.Uint64() >> 11 // JSON numbers are exact up to 2⁵³
		if given.Seed != nil {
			seed = *given.Seed
		}
		o.Seed, drawn = seed, &seed
	}
	return o, drawn, nil
}

func over[T any](value *T, given *T) {
	if given != nil {
		*value = *given
	}
}

// Plan makes a task of a request.
func (s *servedModel) Plan(input string, given server.Settings) (server.Plan, error) {
	o, seed, err := s.settings(given)
	if err != nil {
		return server.Plan{}, err
	}
	task, err := s.model.Task(s.model.Prefix+input, o)
	if err != nil {
		return server.Plan{}, &server.RequestError{Reason: err.Error()}
	}
	if task.Truncated && s.refuse {
		return server.Plan{}, &server.RequestError{Reason: fmt.Sprintf("the input has more than %d tokens", s.maxInput)}
	}
	plan := server.Plan{
		Class: s.model.Class(task), InputTokens: len(task.Tokens), Truncated: task.Truncated, Seed: seed, Work: task,
	}
	if len(given.Choices) > 0 {
		for _, text := range given.Choices {
			if n := len(s.model.Tokenizer.Sequence(text)); n > s.steps {
				return plan, &server.RequestError{Reason: fmt.Sprintf("a choice has %d tokens, at most %d are allowed here", n, s.steps)}
			}
		}
		plan.Class, plan.Seed, plan.Work = chosen{}, nil, &choice{s.model.Prefix + input, given.Choices}
	} else if o.Sample && given.Seed == nil {
		return plan, nil // drawn anew each time
	}
	key, err := json.Marshal([]any{o, given.Regex, given.Schema, given.Choices})
	plan.Key = string(key)
	return plan, err
}

// Flow decodes tasks as they come.
func (s *servedModel) Flow(ctx context.Context, first *server.Job, next func(free int, idle bool) []*server.Job) error {
	if _, chosen := first.Plan.Work.(*choice); chosen {
		return s.choose(ctx, next)
	}
	like, ok := first.Plan.Work.(*model.Task)
	if !ok {
		return errors.New("work of another model")
	}
	return s.model.Flow(ctx, like.Options, s.rows, s.steps, func(free int, idle bool) []*model.Task {
		var tasks []*model.Task
		for _, job := range next(free, idle) {
			if task, ok := job.Plan.Work.(*model.Task); ok {
				task.Wrote, task.Gone, task.Done = job.Wrote, job.Gone(), answered(job)
				tasks = append(tasks, task)
			}
		}
		return tasks
	})
}

// answered gives a job what was made of its task.
func answered(job *server.Job) func(model.RowResult, error) {
	return func(r model.RowResult, err error) {
		if err != nil {
			job.Done(server.Result{}, err)
			return
		}
		if r.Err != nil {
			job.Done(server.Result{}, &server.RequestError{Reason: r.Err.Error()})
			return
		}
		result := server.Result{Tokens: r.Tokens}
		for _, o := range r.Outputs {
			result.Outputs = append(result.Outputs, server.Output{Text: o.Text, Score: o.Score, Cut: o.Cut, Probability: o.Probability})
		}
		job.Done(result, nil)
	}
}

// Close frees the model.
func (s *servedModel) Close() { s.model.Close() }
