// Package runfolder is the folder in which a training run keeps all that is to be known of it.
//
//	run.json        what ran, on what, from what, and how it ended
//	recipe.yaml     the recipe as it was given
//	resolved.yaml   the recipe with every default and override in it
//	data.json       lineage of the data; says whether canaries were planted
//	events.jsonl    what happened, one event a line
//	cache/          tokens and compiled programs, which can be made again
//	run.lock        held by the process that trains here, and names it
//	checkpoints/    the trainer's
//	model/ adapter/ the finished weights, as a Hugging Face or PEFT folder
//	reports/        evaluation and exposure reports, gate results
package runfolder

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

// Outcomes of a run.
const (
	Running     = "running"
	Done        = "done"
	Failed      = "failed"
	Interrupted = "interrupted"
)

// Names of files in a run folder.
const (
	recordFile  = "run.json"
	RecipeFile  = "recipe.yaml"
	SettledFile = "resolved.yaml"
	DataFile    = "data.json"
	EventsFile  = "events.jsonl"
	ModelDir    = "model"
	AdapterDir  = "adapter"
	ReportsDir  = "reports"
	CacheDir    = "cache"
	lockFile    = "run.lock"
)

// Record is run.json.
type Record struct {
	Schema      int                `json:"schema"` // 1
	Name        string             `json:"name"`   // of the recipe
	Method      string             `json:"method"` // full, lora or pretrain
	Outcome     string             `json:"outcome"`
	Problem     string             `json:"problem,omitempty"` // why it failed
	Base        string             `json:"base,omitempty"`
	Chain       []Ancestor         `json:"chain,omitempty"` // versions that it was trained on from, the oldest first
	Fingerprint string             `json:"fingerprint"`     // of Identity as the run began
	Identity    map[string]string  `json:"identity"`        // settings and digests that a resumed run must share
	Seed        uint64             `json:"seed"`
	Tool        Tool               `json:"tool"`
	Backend     Backend            `json:"backend"`
	Tokenizer   Tokenizer          `json:"tokenizer"`
	Data        map[string]string  `json:"data"` // fingerprint of each split
	Parameters  int                `json:"parameters"`
	Learning    int                `json:"learning_parameters"`
	Steps       int                `json:"steps"`
	Loss        float64            `json:"loss,omitempty"` // training loss at the end
	Metrics     map[string]float64 `json:"metrics,omitempty"`
	Tasks       []Task             `json:"tasks,omitempty"`      // of a mixture
	Privacy     *Privacy           `json:"privacy,omitempty"`    // of a run with differential privacy
	Checkpoint  string             `json:"checkpoint,omitempty"` // that became the model, relative to the run folder
	Started     time.Time          `json:"started"`
	Finished    *time.Time         `json:"finished,omitempty"`
	Seconds     float64            `json:"seconds,omitempty"`     // of all its processes
	PeakMemory  int64              `json:"peak_memory,omitempty"` // most resident bytes of its last process
	Cost        *Cost              `json:"cost,omitempty"`
}

// Task is one data set of a mixture.
type Task struct {
	Name     string  `json:"name"`
	Rows     int64   `json:"rows"`
	Share    float64 `json:"share"`    // of the examples, as the recipe wants it
	Examples int64   `json:"examples"` // that the run has learned from
}

// Privacy is what a run has cost the privacy of a row of its training data.
type Privacy struct {
	Epsilon  *float64 `json:"epsilon"` // null: no noise, no bound
	Delta    float64  `json:"delta"`
	Order    float64  `json:"order,omitempty"` // of the Rényi divergence at which the bound is tightest
	Noise    float64  `json:"noise"`           // standard deviation, in multiples of the clipping length
	Clip     float64  `json:"clip"`            // largest length of an example's gradient
	Rate     float64  `json:"rate"`            // probability with which a row is in a step
	Steps    int      `json:"steps"`
	Sampling string   `json:"sampling"`
}

// Ancestor is a version of the registry.
type Ancestor struct {
	Name   string `json:"name"`   // model@vN
	Digest string `json:"digest"` // of its manifest
}

// Cost is what a run cost, in the currency of the price.
type Cost struct {
	PricePerHour float64 `json:"price_per_hour"` // of the machine
	Total        float64 `json:"total"`
}

// Tool is the program that ran.
type Tool struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
}

// Backend is what it ran on.
type Backend struct {
	Kind   string `json:"kind"`
	Plugin string `json:"plugin,omitempty"` // version
	SHA256 string `json:"sha256,omitempty"` // of the plugin
	CPUs   int    `json:"cpus"`
	// Devices is how many shared each step; 0 in older records, which knew one.
	Devices int  `json:"devices,omitempty"`
	GPU     *GPU `json:"gpu,omitempty"` // how NVIDIA devices were opened; nil: there was none
}

// GPU is how NVIDIA devices were opened.
type GPU struct {
	TF32           bool    `json:"tf32"`
	Preallocate    bool    `json:"preallocate"`
	MemoryFraction float64 `json:"memory_fraction"`
	Allocator      string  `json:"allocator"`
}

// Tokenizer is what turned text into tokens.
type Tokenizer struct {
	Mode   string `json:"mode"`
	SHA256 string `json:"sha256"`
}

// Dir is a run folder.
type Dir string

// NotRunError says that a folder is no run folder.
type NotRunError struct{ Dir string }

func (e *NotRunError) Error() string {
	return fmt.Sprintf("%s is no run folder: it has no %s", e.Dir, recordFile)
}

// Is makes it a missing file.
func (e *NotRunError) Is(target error) bool { return target == fs.ErrNotExist }

// OccupiedError says that an output folder holds something else than a run.
type OccupiedError struct{ Dir string }

func (e *OccupiedError) Error() string {
	return fmt.Sprintf("output folder %s is there already and is not a run", e.Dir)
}

// Open gives an existing run folder.
func Open(path string) (Dir, Record, error) {
	data, err := os.ReadFile(filepath.Join(path, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", Record{}, &NotRunError{Dir: path}
	}
	if err != nil {
		return "", Record{}, err
	}
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return "", Record{}, fmt.Errorf("parsing %s: %w", filepath.Join(path, recordFile), err)
	}
	if r.Schema != 1 {
		return "", Record{}, fmt.Errorf("%s: schema %d is not known", filepath.Join(path, recordFile), r.Schema)
	}
	return Dir(path), r, nil
}

// Create makes a run folder and takes its lock. One that holds a run, or nothing of worth, is given
// with the run's record; one that holds something else is an *OccupiedError, one in which another
// process trains a *LockedError.
func Create(path string) (Dir, *Record, *Lock, error) {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.MkdirAll(path, 0o755)
	}
	if err != nil {
		return "", nil, nil, err
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { // left by a process that was killed early
		return e.Name() == lockFile || e.Name() == CacheDir
	})
	if len(entries) > 0 {
		if _, _, err := Open(path); err != nil {
			if _, none := errors.AsType[*NotRunError](err); none {
				err = &OccupiedError{Dir: path}
			}
			return "", nil, nil, err
		}
	}
	lock, err := LockDir(path)
	if err != nil {
		return "", nil, nil, err
	}
	dir, record, err := Open(path) // under the lock: nobody changes it any more
	if _, none := errors.AsType[*NotRunError](err); none {
		return Dir(path), nil, lock, nil
	}
	if err != nil {
		lock.Release()
		return "", nil, nil, err
	}
	return dir, &record, lock, nil
}

// Next is the first unused folder runs/NAME-N.
func Next(root, name string) string {
	for n := 1; ; n++ {
		path := filepath.Join(root, fmt.Sprintf("%s-%d", name, n))
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return path
		}
	}
}

// Write keeps the record.
func (d Dir) Write(r Record) error {
	r.Schema = 1
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return d.WriteFile(recordFile, append(data, '\n'))
}

// WriteFile keeps one file of the folder.
func (d Dir) WriteFile(name string, data []byte) error {
	return atomicfile.WriteBytes(d.Path(name), data)
}

// Path is the path of something in the folder.
func (d Dir) Path(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}

// Model gives the folder of the finished weights and whether they are an adapter; the error is
// fs.ErrNotExist if the run has none.
func (d Dir) Model() (path string, adapter bool, err error) {
	for _, name := range []string{AdapterDir, ModelDir} {
		if info, err := os.Stat(d.Path(name)); err == nil && info.IsDir() {
			return d.Path(name), name == AdapterDir, nil
		}
	}
	return "", false, &fs.PathError{Op: "open", Path: d.Path(ModelDir), Err: fs.ErrNotExist}
}

// Events opens the log for appending. A line that a killed process left unfinished is ended, so
// that it spoils no other.
func (d Dir) Events() (*os.File, error) {
	f, err := os.OpenFile(d.Path(EventsFile), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() > 0 {
		last := make([]byte, 1)
		if _, err = f.ReadAt(last, info.Size()-1); err == nil && last[0] != '\n' {
			_, err = f.WriteString("\n")
		}
	}
	if err != nil {
		_ = f.Close() // the first error counts
		return nil, err
	}
	return f, nil
}

// List gives the run folders below root, newest first.
func List(root string) ([]Dir, []Record, error) {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	type found struct {
		dir    Dir
		record Record
	}
	var all []found
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dir, record, err := Open(filepath.Join(root, e.Name()))
		if err != nil {
			continue // not a run, or one that is being made
		}
		all = append(all, found{dir, record})
	}
	slices.SortStableFunc(all, func(a, b found) int {
		if c := b.record.Started.Compare(a.record.Started); c != 0 {
			return c
		}
		return strings.Compare(string(a.dir), string(b.dir))
	})
	var dirs []Dir
	var records []Record
	for _, f := range all {
		dirs, records = append(dirs, f.dir), append(records, f.record)
	}
	return dirs, records, nil
}
