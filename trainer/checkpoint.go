package trainer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gomlx/compute/dtypes"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/internal/lora"
	"github.com/t5ctl/t5ctl/internal/safetensors"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
)

// Files of a checkpoint folder. An adapter's weights are a PEFT folder's two files.
const (
	modelFile     = "model.safetensors"
	adapterFile   = "adapter_model.safetensors"
	adapterConfig = "adapter_config.json"
	optimizerFile = "optimizer.safetensors"
	stateFile     = "state.json"
)

// State is a checkpoint's state.json: all that a run needs beside its tensors to go on exactly
// where it was.
type State struct {
	Schema      int               `json:"schema"` // 1
	Step        int               `json:"step"`
	Total       int               `json:"total"`
	Position    seq2seq.Position  `json:"position"`
	Fingerprint string            `json:"fingerprint"`
	Evaluation  *evaluation       `json:"evaluation,omitempty"` // of these weights
	Best        *evaluation       `json:"best,omitempty"`       // of the run so far
	Since       int               `json:"evaluations_since_best"`
	Files       map[string]string `json:"files"` // digest of each file beside this one
}

// OtherRunError says that a run folder belongs to another recipe or other data.
type OtherRunError struct {
	Dir, Have, Want string
	Changed         []string // what is another, as "train.seed is 9, was 1"; nil: not known
}

func (e *OtherRunError) Error() string {
	if len(e.Changed) > 0 {
		return e.Dir + " holds a run of another recipe or other data: " + strings.Join(e.Changed, "; ")
	}
	return fmt.Sprintf("%s holds a run of another recipe or other data (fingerprint %.19s, this one is %.19s)", e.Dir, e.Have, e.Want)
}

// pending is a checkpoint that is being written while training goes on.
type pending struct {
	step int
	path string
	done chan struct{} // closed when the fields below are valid
	err  error
	size int64
	took time.Duration
}

// save takes a copy of the weights and the optimizer's state and begins to write it as a
// checkpoint. It counts once settle has said so; a save that is still under way is settled first.
func (r *run) save(found *evaluation) error {
	if err := r.settle(); err != nil {
		return err
	}
	start := time.Now()
	p := &pending{step: r.step, path: r.checkpointPath(r.step), done: make(chan struct{})}
	if r.last == p.path {
		return nil // nothing was trained since
	}
	device.ReleaseMemory() // gradients of the last step
	copied, err := r.snapshot(found)
	if err != nil {
		return fmt.Errorf("saving checkpoint %d: %w", r.step, err)
	}
	r.pending = p
	r.meter.pause(time.Since(start))
	go func() {
		defer close(p.done)
		if p.err = os.RemoveAll(p.path); p.err == nil { // one of this step that was found damaged
			p.err = atomicfile.WriteDir(p.path, func(dir string) (err error) {
				p.size, err = copied.write(dir)
				return err
			})
		}
		p.took = time.Since(start)
	}()
	return nil
}

// settle waits for the save that is under way, if there is one, and drops the checkpoints that
// are not to be kept.
func (r *run) settle() error {
	p := r.pending
	if p == nil {
		return nil
	}
	start := time.Now()
	<-p.done
	r.pending = nil
	r.meter.pause(time.Since(start))
	if p.err != nil {
		return fmt.Errorf("saving checkpoint %d: %w", p.step, p.err)
	}
	r.last = p.path
	device.ReleaseMemory() // the copy that it was written from
	r.Sink(Saved{Step: p.step, Path: p.path, Bytes: p.size, Took: p.took})
	return r.prune()
}

// settleIfDone settles without waiting.
func (r *run) settleIfDone() error {
	if r.pending == nil {
		return nil
	}
	select {
	case <-r.pending.done:
		return r.settle()
	default:
		return nil
	}
}

// snapshot is a checkpoint in memory.
type snapshot struct {
	state    State
	metadata map[string]string
	adapter  *lora.Options // nil: a model
	base     string
	weights  []safetensors.Tensor
	moments  []safetensors.Tensor
}

func (r *run) snapshot(found *evaluation) (s snapshot, err error) {
	s = snapshot{metadata: r.Metadata, base: r.BaseName, state: State{
		Schema: 1, Step: r.step, Total: r.total, Position: r.position, Fingerprint: r.Fingerprint,
		Evaluation: found, Best: r.best, Since: r.since, Files: map[string]string{},
	}}
	if r.net.adapter != nil {
		s.adapter = &r.Options.LoRA
	}
	if s.weights, err = onHost(r.net.learning, r.learn); err != nil {
		return s, err
	}
	s.moments, err = onHost(r.net.moments(), r.moments)
	return s, err
}

// onHost copies tensors from the device. Every machine that a backend runs on is little-endian, as
// the file is, so that one copy is enough.
func onHost(specs []device.Input, values []*device.Array) ([]safetensors.Tensor, error) {
	list := make([]safetensors.Tensor, len(specs))
	for i, spec := range specs {
		list[i] = safetensors.Tensor{Name: spec.Name, DType: safetensors.F32, Shape: spec.Shape.Dimensions}
		if spec.Shape.DType == dtypes.BFloat16 {
			list[i].DType = safetensors.BF16
		}
		var err error
		if list[i].Data, err = values[i].Bytes(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// write writes the files into dir and gives their size.
func (s snapshot) write(dir string) (total int64, err error) {
	weights := modelFile
	if s.adapter != nil {
		weights = adapterFile
		if err := lora.WriteConfig(dir, *s.adapter, s.base); err != nil {
			return 0, err
		}
		s.state.Files[adapterConfig] = ""
	}
	if err := writeTensors(filepath.Join(dir, weights), s.metadata, s.weights); err != nil {
		return 0, err
	}
	if err := writeTensors(filepath.Join(dir, optimizerFile), nil, s.moments); err != nil {
		return 0, err
	}
	s.state.Files[weights], s.state.Files[optimizerFile] = "", ""
	for name := range s.state.Files {
		sum, size, err := digest.File(filepath.Join(dir, name))
		if err != nil {
			return 0, err
		}
		s.state.Files[name] = sum
		total += size
	}
	data, err := json.MarshalIndent(s.state, "", "  ")
	if err != nil {
		return 0, err
	}
	return total, atomicfile.WriteBytes(filepath.Join(dir, stateFile), append(data, '\n'))
}

// writeTensors writes tensors and reads the file back: it counts once every byte that was meant
// is there.
func writeTensors(path string, metadata map[string]string, list []safetensors.Tensor) error {
	if err := safetensors.Write(path, metadata, list); err != nil {
		return err
	}
	back, err := safetensors.Open(path)
	if err != nil {
		return fmt.Errorf("reading back %s: %w", path, err)
	}
	defer func() { _ = back.Close() }() // opened for reading
	for _, want := range list {
		if got, ok := back.Tensor(want.Name); !ok || !bytes.Equal(got.Data, want.Data) {
			return fmt.Errorf("reading back %s: %s is not what was written", path, want.Name)
		}
		back.Forget()
	}
	return nil
}

// ReadState reads a checkpoint's state and checks every file of it.
func ReadState(dir string) (State, error) {
	var s State
	data, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("parsing %s: %w", filepath.Join(dir, stateFile), err)
	}
	if s.Schema != 1 {
		return s, fmt.Errorf("%s: schema %d is not known", filepath.Join(dir, stateFile), s.Schema)
	}
	for name, want := range s.Files {
		path := filepath.Join(dir, name)
		got, _, err := digest.File(path)
		if err != nil {
			return s, err
		}
		if got != want {
			return s, &digest.MismatchError{Path: path, Want: want, Got: got}
		}
	}
	return s, nil
}

// Steps lists the checkpoints of a run folder, oldest first.
func Steps(dir string) ([]int, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "checkpoints"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var steps []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && e.IsDir() {
			steps = append(steps, n)
		}
	}
	slices.Sort(steps)
	return steps, nil
}

// sweep removes what a process that was killed while saving left half-written.
func (r *run) sweep() error {
	left, err := filepath.Glob(filepath.Join(r.checkpoints(), ".*.tmp-*"))
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

// restore goes on from the newest checkpoint that is whole. A run that has none starts anew.
func (r *run) restore() error {
	steps, err := Steps(r.Dir)
	if err != nil {
		return err
	}
	for _, step := range slices.Backward(steps) {
		path := r.checkpointPath(step)
		state, err := ReadState(path)
		if err != nil {
			r.Sink(Damaged{Path: path, Err: err})
			continue
		}
		if state.Fingerprint != r.Fingerprint {
			return &OtherRunError{Dir: r.Dir, Have: state.Fingerprint, Want: r.Fingerprint}
		}
		return r.load(path, state)
	}
	return nil
}

func (r *run) load(path string, state State) error {
	weights := modelFile
	if r.net.adapter != nil {
		weights = adapterFile
	}
	if err := r.readTensors(filepath.Join(path, weights), r.net.learning, r.learn); err != nil {
		return err
	}
	if err := r.readTensors(filepath.Join(path, optimizerFile), r.net.moments(), r.moments); err != nil {
		return err
	}
	r.step, r.position, r.since, r.last = state.Step, state.Position, state.Since, path
	r.best = state.Best
	return r.Train.Seek(state.Position)
}

func (r *run) readTensors(path string, specs []device.Input, into []*device.Array) error {
	file, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // opened for reading
	for i, spec := range specs {
		t, ok := file.Tensor(spec.Name)
		if !ok || !slices.Equal(t.Shape, spec.Shape.Dimensions) {
			return fmt.Errorf("%s: %s is missing or has another shape", path, spec.Name)
		}
		if spec.Shape.DType == dtypes.BFloat16 {
			if t.DType != safetensors.BF16 {
				return fmt.Errorf("%s: %s is %s, not bf16", path, spec.Name, t.DType)
			}
			finalize(into[i : i+1])
			if into[i], err = r.mesh.Raw(dtypes.BFloat16, t.Data, spec.Split, spec.Shape.Dimensions...); err != nil {
				return err
			}
			continue
		}
		values, err := t.Float32s()
		if err != nil {
			return err
		}
		finalize(into[i : i+1])
		if into[i], err = r.mesh.Float32(values, spec.Split, spec.Shape.Dimensions...); err != nil {
			return err
		}
	}
	return nil
}

// prune drops the checkpoints that train.keep does not ask for. The best and the newest stay
// whatever it says.
func (r *run) prune() error {
	steps, err := Steps(r.Dir)
	if err != nil {
		return err
	}
	keep := map[int]bool{}
	for _, step := range steps[max(0, len(steps)-r.Options.Keep.Last):] {
		keep[step] = true
	}
	for _, step := range r.ranked(steps)[:min(len(r.ranked(steps)), max(1, r.Options.Keep.Best))] {
		keep[step] = true
	}
	if r.best != nil {
		keep[r.best.Step] = true
	}
	for _, step := range steps {
		if !keep[step] {
			if err := os.RemoveAll(r.checkpointPath(step)); err != nil {
				return err
			}
		}
	}
	return nil
}

// ranked lists the checkpoints that were evaluated, best first; of equals the older.
func (r *run) ranked(steps []int) []int {
	value := map[int]float64{}
	var evaluated []int
	for _, step := range steps {
		data, err := os.ReadFile(filepath.Join(r.checkpointPath(step), stateFile))
		if err != nil {
			continue // damaged: not ranked, and kept only if it is among the newest
		}
		var s State
		if json.Unmarshal(data, &s) != nil || s.Evaluation == nil {
			continue
		}
		value[step] = s.Evaluation.Metrics[r.Options.Metric]
		evaluated = append(evaluated, step)
	}
	slices.SortStableFunc(evaluated, func(a, b int) int {
		switch {
		case value[a] == value[b]:
			return 0
		case (value[a] > value[b]) == r.higherIsBetter():
			return -1
		default:
			return 1
		}
	})
	return evaluated
}
