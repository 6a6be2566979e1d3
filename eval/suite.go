package eval

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/t5ctl/t5ctl/eval/pytext"
	"github.com/t5ctl/t5ctl/internal/hub"
	"github.com/t5ctl/t5ctl/internal/strictyaml"
)

// Suite says what to evaluate and how: the eval section of a recipe, or a file of its own.
type Suite struct {
	// Name is what the report calls the suite.
	Name string `yaml:"name,omitempty"`
	// Data are files of held-out rows. Empty in a recipe: its test split.
	Data []string `yaml:"data,omitempty"`
	// Columns says under which names the files keep what is needed.
	Columns Columns `yaml:"columns,omitempty"`
	// Prefix is put before every input. Empty in a recipe: the prefix of its data.
	Prefix string `yaml:"prefix,omitempty"`
	// Limit is how many rows are scored at most, a sample that is the same each time; 0 is all of them.
	Limit int `yaml:"limit,omitempty"`
	// Decoding says how the model writes.
	Decoding Decoding `yaml:"decoding,omitempty"`
	// Metrics are the scores to compute, each as name:option=value,option=value.
	Metrics []string `yaml:"metrics,omitempty"`
	// Slices are subsets of the rows that are scored on their own as well.
	Slices []Slice `yaml:"slices,omitempty"`
	// Tasks are several data sets in one suite. What one leaves out is taken from the suite.
	Tasks []Task `yaml:"tasks,omitempty"`
	// Bootstrap says how confidence intervals are made; the default is 1,000 resamples, seed 12345, 95 %.
	Bootstrap *Bootstrap `yaml:"bootstrap,omitempty"`
}

// Columns names the columns of the data; an empty name is the usual one.
type Columns struct {
	// Input is the column with the text that the model reads.
	Input string `yaml:"input,omitempty"`
	// Target is the column with the right answer.
	Target string `yaml:"target,omitempty"`
	// References is the column with all right answers, a list.
	References string `yaml:"references,omitempty"`
	// ID is the column with a name for the row.
	ID string `yaml:"id,omitempty"`
	// Task is the column that says to which task the row belongs.
	Task string `yaml:"task,omitempty"`
}

// Task is one data set of a suite. What it leaves out is taken from the suite.
type Task struct {
	// Name is what the report calls the task.
	Name string `yaml:"name,omitempty"`
	// Data are its files of held-out rows.
	Data []string `yaml:"data,omitempty"`
	// Columns says under which names they keep what is needed.
	Columns *Columns `yaml:"columns,omitempty"`
	// Prefix is put before every input.
	Prefix *string `yaml:"prefix,omitempty"`
	// Limit is how many rows are scored at most, a sample that is the same each time; 0 is all of them.
	Limit *int `yaml:"limit,omitempty"`
	// Metrics are the scores to compute, each as name:option=value,option=value.
	Metrics []string `yaml:"metrics,omitempty"`
}

// Decoding says how outputs are written, in the keys of a recipe's generation section. What is left
// out is the model's own setting.
type Decoding struct {
	MaxNewTokens  int      `yaml:"max_new_tokens,omitempty" json:"max_new_tokens,omitempty"`
	Beams         int      `yaml:"num_beams,omitempty" json:"num_beams,omitempty"`
	LengthPenalty *float64 `yaml:"length_penalty,omitempty" json:"length_penalty,omitempty"`
	EarlyStopping string   `yaml:"early_stopping,omitempty" json:"early_stopping,omitempty"`
	Sample        bool     `yaml:"do_sample,omitempty" json:"do_sample,omitempty"`
	Temperature   float64  `yaml:"temperature,omitempty" json:"temperature,omitempty"`
	TopK          *int     `yaml:"top_k,omitempty" json:"top_k,omitempty"`
	TopP          float64  `yaml:"top_p,omitempty" json:"top_p,omitempty"`
	Seed          uint64   `yaml:"seed,omitempty" json:"seed,omitempty"`
	// BatchSize is how many rows the model decodes at a time; it does not change what it writes.
	BatchSize int `yaml:"batch,omitempty" json:"-"`
}

// Slice is a subset of rows by what their input or answer looks like. All conditions must hold.
type Slice struct {
	// Name is what the report calls the slice.
	Name string `yaml:"name,omitempty"`
	// Of is the text that the conditions look at: input (the default) or target.
	Of string `yaml:"of,omitempty"`
	// MinWords is how many words the text has at least.
	MinWords int `yaml:"min_words,omitempty"`
	// MaxWords is how many words the text has at most; 0 is any number.
	MaxWords int `yaml:"max_words,omitempty"`
	// MinChars is how many characters the text has at least.
	MinChars int `yaml:"min_chars,omitempty"`
	// MaxChars is how many characters the text has at most; 0 is any number.
	MaxChars int `yaml:"max_chars,omitempty"`
	// Tag is one of the row's tags: its columns tag, a text, or tags, a list.
	Tag string `yaml:"tag,omitempty"`
	// Numbers takes the rows whose text holds a digit.
	Numbers bool `yaml:"numbers,omitempty"`
	// Common is a file of common words, one a line, for min_rare.
	Common string `yaml:"common,omitempty"`
	// MinRare is how many words the text has at least that are not common.
	MinRare int `yaml:"min_rare,omitempty"`
	// Matches is a regular expression that is found in the text.
	Matches string `yaml:"matches,omitempty"`
	// Not takes the rows that the conditions leave out instead.
	Not bool `yaml:"not,omitempty"`
}

// compiled is a slice ready to be asked.
type compiled struct {
	Slice
	re     *regexp.Regexp
	common map[string]bool
}

// open reads the slice's file of common words.
func (c *compiled) open() error {
	if c.Common == "" {
		return nil
	}
	text, err := os.ReadFile(c.Common)
	if err != nil {
		return fmt.Errorf("slice %s: %w", c.Name, err)
	}
	c.common = map[string]bool{}
	for _, w := range pytext.Fields(pytext.Lower(string(text))) {
		c.common[w] = true
	}
	return nil
}

// rare counts the words that are not common, punctuation around them left aside.
func (c *compiled) rare(text string) int {
	n := 0
	for _, w := range groundWords(text) {
		if !c.common[w] {
			n++
		}
	}
	return n
}

func (c *compiled) holds(p *Pair) bool {
	text := p.Input
	if c.Of == "target" {
		text = p.Target
	}
	words, chars := len(pytext.Fields(text)), utf8.RuneCountInString(text)
	in := words >= c.MinWords && (c.MaxWords == 0 || words <= c.MaxWords) &&
		chars >= c.MinChars && (c.MaxChars == 0 || chars <= c.MaxChars) && (c.re == nil || c.re.MatchString(text)) &&
		(c.Tag == "" || slices.Contains(p.Tags, c.Tag)) && (!c.Numbers || strings.ContainsFunc(text, unicode.IsDigit)) &&
		(c.MinRare == 0 || c.rare(text) >= c.MinRare)
	return in != c.Not
}

func compileSlices(slices []Slice) ([]compiled, error) {
	var errs []error
	var out []compiled
	seen := map[string]bool{}
	for i, s := range slices {
		c := compiled{Slice: s}
		where := fmt.Sprintf("slices[%d]", i)
		switch {
		case s.Name == "", strings.Contains(s.Name, "/"):
			errs = append(errs, fmt.Errorf("%s: name %q is empty or holds a slash", where, s.Name))
		case seen[s.Name]:
			errs = append(errs, fmt.Errorf("%s: there is another slice %q", where, s.Name))
		}
		seen[s.Name] = true
		if s.Of != "" && s.Of != "input" && s.Of != "target" {
			errs = append(errs, fmt.Errorf("%s: of %q is neither input nor target", where, s.Of))
		}
		if (s.Common == "") != (s.MinRare == 0) || s.MinRare < 0 {
			errs = append(errs, fmt.Errorf("%s: common and min_rare go together", where))
		}
		if s.Matches != "" {
			re, err := regexp.Compile(s.Matches)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: matches: %w", where, err))
			}
			c.re = re
		}
		out = append(out, c)
	}
	return out, errors.Join(errs...)
}

// Validate says everything that is wrong with the suite. A suite without metrics is one that a recipe
// does not use, and is right.
func (s Suite) Validate() error {
	_, err := ParseMetrics(s.Metrics)
	errs := []error{err}
	_, err = compileSlices(s.Slices)
	errs = append(errs, err, s.Decoding.Validate())
	if s.Limit < 0 {
		errs = append(errs, fmt.Errorf("limit %d is negative", s.Limit))
	}
	if s.Bootstrap != nil {
		errs = append(errs, s.Bootstrap.Validate())
	}
	seen := map[string]bool{}
	for i, t := range s.Tasks {
		if t.Name == "" || strings.Contains(t.Name, "/") || seen[t.Name] {
			errs = append(errs, fmt.Errorf("tasks[%d]: name %q is empty, holds a slash, or is taken", i, t.Name))
		}
		seen[t.Name] = true
		if _, err := ParseMetrics(t.Metrics); err != nil {
			errs = append(errs, fmt.Errorf("tasks[%d] %s: %w", i, t.Name, err))
		}
		if len(t.Metrics) == 0 && len(s.Metrics) == 0 {
			errs = append(errs, fmt.Errorf("tasks[%d] %s: has no metrics, nor has the suite", i, t.Name))
		}
	}
	return errors.Join(errs...)
}

// Validate says what is wrong with the decoding settings.
func (d Decoding) Validate() error {
	var errs []error
	counts := []struct {
		name  string
		value int
	}{{"max_new_tokens", d.MaxNewTokens}, {"num_beams", d.Beams}, {"batch", d.BatchSize}}
	if d.TopK != nil {
		counts = append(counts, struct {
			name  string
			value int
		}{"top_k", *d.TopK})
	}
	for _, c := range counts {
		if c.value < 0 {
			errs = append(errs, fmt.Errorf("decoding.%s: %d is negative", c.name, c.value))
		}
	}
	if d.TopP < 0 || d.TopP > 1 {
		errs = append(errs, fmt.Errorf("decoding.top_p: %v is not between 0 and 1", d.TopP))
	}
	if d.Temperature < 0 {
		errs = append(errs, fmt.Errorf("decoding.temperature: %v is negative", d.Temperature))
	}
	if d.Beams > 1 && d.Sample {
		errs = append(errs, fmt.Errorf("decoding.do_sample: does not go with num_beams %d", d.Beams))
	}
	return errors.Join(errs...)
}

// ParseSuite reads a suite file: version: 1 and the keys of Suite. path is for messages.
func ParseSuite(path string, data []byte) (Suite, error) {
	var file struct {
		Version int `yaml:"version"`
		Suite   `yaml:",inline"`
	}
	if _, err := strictyaml.Unmarshal(path, data, &file); err != nil {
		return Suite{}, err
	}
	var errs []error
	if file.Version != 1 {
		errs = append(errs, fmt.Errorf("version %d: this version reads 1", file.Version))
	}
	if len(file.Metrics) == 0 && !slices.ContainsFunc(file.Tasks, func(t Task) bool { return len(t.Metrics) > 0 }) {
		errs = append(errs, errors.New("metrics: none are given"))
	}
	errs = append(errs, file.Validate())
	if err := errors.Join(errs...); err != nil {
		return Suite{}, &SuiteError{path, err}
	}
	return file.Suite, nil
}

// SuiteError says what is wrong with a suite file.
type SuiteError struct {
	Path string
	Err  error
}

func (e *SuiteError) Error() string { return fmt.Sprintf("suite %s: %v", e.Path, e.Err) }
func (e *SuiteError) Unwrap() error { return e.Err }

// bootstrap is the suite's setting or the default.
func (s Suite) bootstrap() Bootstrap {
	if s.Bootstrap == nil {
		return DefaultBootstrap()
	}
	b := *s.Bootstrap
	if b.Confidence == 0 {
		b.Confidence = DefaultBootstrap().Confidence
	}
	return b
}

// decodingJSON is what a report says of the decoding.
func (d Decoding) decodingJSON() json.RawMessage {
	b, err := json.Marshal(d)
	if err != nil {
		return nil // no field of it can fail
	}
	return b
}

// At gives the suite with its relative paths seen from dir.
func (s Suite) At(dir string) Suite {
	s.Data = pathsAt(s.Data, dir)
	s.Slices = slices.Clone(s.Slices)
	for i, part := range s.Slices {
		if part.Common != "" {
			s.Slices[i].Common = pathsAt([]string{part.Common}, dir)[0]
		}
	}
	s.Tasks = slices.Clone(s.Tasks)
	for i := range s.Tasks {
		s.Tasks[i].Data = pathsAt(s.Tasks[i].Data, dir)
	}
	return s
}

func pathsAt(paths []string, dir string) []string {
	out := slices.Clone(paths)
	for i, p := range out {
		if !filepath.IsAbs(p) && !hub.IsRef(p) {
			out[i] = filepath.Join(dir, p)
		}
	}
	return out
}

// Timed reports whether some metric needs to know how long outputs took.
func (s Suite) Timed() bool {
	return slices.ContainsFunc(s.TaskList(), func(t Task) bool {
		metrics, err := ParseMetrics(t.Metrics)
		return err == nil && slices.ContainsFunc(metrics, func(m *Metric) bool { return m.timed })
	})
}

// TaskList is the suite's tasks with what they leave out filled in; a suite without tasks is one
// without a name.
func (s Suite) TaskList() []Task {
	tasks := s.Tasks
	if len(tasks) == 0 {
		tasks = []Task{{}}
	}
	out := make([]Task, len(tasks))
	for i, t := range tasks {
		if len(t.Data) == 0 {
			t.Data = s.Data
		}
		if t.Columns == nil {
			t.Columns = &s.Columns
		}
		if t.Prefix == nil {
			t.Prefix = &s.Prefix
		}
		if t.Limit == nil {
			t.Limit = &s.Limit
		}
		if len(t.Metrics) == 0 {
			t.Metrics = s.Metrics
		}
		out[i] = t
	}
	return out
}
