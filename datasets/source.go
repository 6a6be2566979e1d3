package datasets

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/internal/hub"
	"github.com/t5ctl/t5ctl/internal/nearest"
)

// What to do with a row that is not an example.
const (
	Fail = "fail" // stop with the first one
	Skip = "skip" // leave it out and count it
)

// Defaults of Source.
const (
	DefaultMaxLength  = 512 // tokens of an input, and of a target
	DefaultMaxBuckets = 3
)

// Split names one part of a data set.
type Split string

// The splits that a recipe can name.
const (
	Train      Split = "train"
	Validation Split = "validation"
	Test       Split = "test"
)

// Splits lists them in order.
func Splits() []Split { return []Split{Train, Validation, Test} }

// Source is the data section of a recipe: which files, which columns, and how rows become
// batches.
type Source struct {
	// Train is the file to learn from, or a list of files; * and ? match names. JSON lines
	// (.jsonl), .csv, .tsv or .parquet, each also as .gz or .zst; hf:owner/name@revision/file is
	// one of a data set of the Hugging Face hub.
	Train Paths `yaml:"train,omitempty" json:"train,omitempty"`
	// Validation is what evaluation during training and the choice of the best checkpoint use.
	Validation Paths `yaml:"validation,omitempty" json:"validation,omitempty"`
	// Test is held out for the final evaluation; training never reads it.
	Test Paths `yaml:"test,omitempty" json:"test,omitempty"`
	// Tasks are several data sets, each with files and a prefix of its own, instead of train and
	// validation.
	Tasks []Task `yaml:"tasks,omitempty" json:"tasks,omitempty"`
	// Mixing says how the sizes of the tasks become their shares.
	Mixing Mixing `yaml:"mixing,omitempty" json:"mixing,omitzero"`
	// Columns says under which names the files keep what is needed.
	Columns Columns `yaml:"columns,omitempty" json:"columns,omitzero"`
	// Prefix is put before every input, as in "summarize: ". The model's record keeps it, so that
	// generation puts it there too.
	Prefix string `yaml:"prefix,omitempty" json:"prefix,omitempty"`
	// MaxInput is the most tokens of an input, </s> included; what is longer is cut and counted.
	// The default is 512.
	MaxInput int `yaml:"max_input,omitempty" json:"max_input,omitempty"`
	// MaxTarget is the most tokens of a target, </s> included; what is longer is cut and counted.
	// The default is 512.
	MaxTarget int `yaml:"max_target,omitempty" json:"max_target,omitempty"`
	// OnBadRow says what a bad row does: fail (the default) stops with file and line, skip leaves
	// it out and counts it.
	OnBadRow string `yaml:"on_bad_row,omitempty" json:"on_bad_row,omitempty"`
	// MaxBuckets is the most shapes of batch that are chosen from the lengths of the data. More
	// mean less padding, and each is compiled once when a run starts. The default is 3.
	MaxBuckets int `yaml:"max_buckets,omitempty" json:"max_buckets,omitempty"`
	// Packing puts several examples into one row, masked from each other, instead of padding: all
	// batches have one shape. It replaces the buckets.
	Packing bool `yaml:"packing,omitempty" json:"packing,omitempty"`
	// Buckets are the shapes themselves, instead of chosen ones. The largest must hold the
	// longest row that max_input and max_target let through.
	Buckets []Bucket `yaml:"buckets,omitempty" json:"buckets,omitempty"`
	// Objectives make the examples from plain text (pretraining) or mix tasks by rate. Without
	// them a row's input is to become its target.
	Objectives []Objective `yaml:"objectives,omitempty" json:"objectives,omitempty"`
}

// Columns maps what t5ctl needs to the names of a file's columns. Empty means the name of the
// key itself. In Parquet, a dot leads into a nested column: translation.en.
type Columns struct {
	// Input is the column with the text that the model reads.
	Input string `yaml:"input,omitempty" json:"input,omitempty"`
	// Target is the column with the text that the model should write.
	Target string `yaml:"target,omitempty" json:"target,omitempty"`
	// References is the column with all acceptable targets: a list, in CSV and TSV a JSON list.
	// A file need not have it.
	References string `yaml:"references,omitempty" json:"references,omitempty"`
	// ID is the column with a name for the row. A file need not have it.
	ID string `yaml:"id,omitempty" json:"id,omitempty"`
	// Task is the column that says to which task the row belongs. A file need not have it.
	Task string `yaml:"task,omitempty" json:"task,omitempty"`
	// Text is the column with plain text for pretraining objectives. Without it they use the
	// texts of the input and the target column alike.
	Text string `yaml:"text,omitempty" json:"text,omitempty"`
	// Chosen is the column with the better of two targets, for train.dpo. The default is chosen.
	Chosen string `yaml:"chosen,omitempty" json:"chosen,omitempty"`
	// Rejected is the column with the worse of two targets, for train.dpo. The default is rejected.
	Rejected string `yaml:"rejected,omitempty" json:"rejected,omitempty"`
}

// Bucket is one shape of batch: rows up to these lengths are padded to them.
type Bucket struct {
	// Input is the number of input tokens, </s> included.
	Input int `yaml:"input" json:"input"`
	// Target is the number of target tokens, </s> included.
	Target int `yaml:"target" json:"target"`
}

// Paths is one path or pattern, or a list of them.
type Paths []string

// UnmarshalYAML takes a single path where a list may stand.
func (p *Paths) UnmarshalYAML(unmarshal func(any) error) error {
	var one string
	if unmarshal(&one) == nil {
		*p = nil
		if one != "" {
			*p = Paths{one}
		}
		return nil
	}
	var many []string
	if err := unmarshal(&many); err != nil {
		return err
	}
	*p = many
	return nil
}

// Files expands the patterns. A path that exists is taken as it is; a pattern that matches
// nothing is fs.ErrNotExist. Matches of one pattern come in the order of their names.
func (p Paths) Files() ([]string, error) {
	var files []string
	for _, path := range p {
		if hub.IsRef(path) {
			found, err := hubFiles(path)
			if err != nil {
				return nil, err
			}
			files = append(files, found...)
			continue
		}
		if _, err := os.Stat(path); err == nil || !strings.ContainsAny(path, "*?[") {
			files = append(files, path)
			continue
		}
		matches, err := filepath.Glob(path)
		if err != nil {
			return nil, &FormatError{Path: path, Reason: "is not a pattern of file names: " + err.Error()}
		}
		if len(matches) == 0 {
			return nil, &os.PathError{Op: "open", Path: path, Err: os.ErrNotExist}
		}
		slices.Sort(matches)
		files = append(files, matches...)
	}
	return files, nil
}

// At gives the source with its relative paths seen from dir.
func (s Source) At(dir string) Source {
	all := []*Paths{&s.Train, &s.Validation, &s.Test}
	s.Tasks = slices.Clone(s.Tasks)
	for i := range s.Tasks {
		all = append(all, &s.Tasks[i].Train, &s.Tasks[i].Validation)
	}
	for _, paths := range all {
		moved := make(Paths, len(*paths))
		for i, path := range *paths {
			if moved[i] = path; !filepath.IsAbs(path) && !hub.IsRef(path) {
				moved[i] = filepath.Join(dir, path)
			}
		}
		*paths = moved
	}
	return s
}

// Paths gives the files of a split as the recipe names them, those of all tasks together.
func (s Source) Paths(split Split) Paths {
	all := map[Split]Paths{Train: s.Train, Validation: s.Validation, Test: s.Test}
	for _, t := range s.Tasks {
		all[Train], all[Validation] = slices.Concat(all[Train], t.Train), slices.Concat(all[Validation], t.Validation)
	}
	return all[split]
}

// WithDefaults fills in what the recipe leaves open.
func (s Source) WithDefaults() Source {
	largest := Bucket{}
	for _, b := range s.Buckets {
		largest.Input, largest.Target = max(largest.Input, b.Input), max(largest.Target, b.Target)
	}
	if s.MaxInput == 0 {
		if s.MaxInput = largest.Input; s.MaxInput == 0 {
			s.MaxInput = DefaultMaxLength
		}
	}
	if s.MaxTarget == 0 {
		if s.MaxTarget = largest.Target; s.MaxTarget == 0 {
			s.MaxTarget = DefaultMaxLength
		}
	}
	if s.OnBadRow == "" {
		s.OnBadRow = Fail
	}
	if s.MaxBuckets == 0 {
		s.MaxBuckets = DefaultMaxBuckets
	}
	s.Columns = s.Columns.withDefaults()
	return s
}

func (c Columns) withDefaults() Columns {
	for _, field := range []struct {
		name  *string
		usual string
	}{{&c.Input, "input"}, {&c.Target, "target"}, {&c.References, "references"}, {&c.ID, "id"}, {&c.Task, "task"}} {
		if *field.name == "" {
			*field.name = field.usual
		}
	}
	return c
}

// Validate tells all that is wrong with the section, files apart. Each problem is a *FieldError.
func (s Source) Validate() error {
	var errs []error
	wrong := func(field, format string, args ...any) {
		errs = append(errs, &FieldError{Field: field, Reason: fmt.Sprintf(format, args...)})
	}
	if len(s.Train) == 0 && len(s.Tasks) == 0 {
		wrong("train", "is missing")
	}
	for _, split := range Splits() {
		if slices.Contains(s.Paths(split), "") {
			wrong(string(split), "holds an empty path")
		}
	}
	for field, n := range map[string]int{"max_input": s.MaxInput, "max_target": s.MaxTarget} {
		if n < 0 || n == 1 || n > maxLength {
			wrong(field, "%d is not between 2 and %d", n, maxLength)
		}
	}
	if s.OnBadRow != "" && s.OnBadRow != Fail && s.OnBadRow != Skip {
		hint := ""
		if near := nearest.Of(s.OnBadRow, []string{Fail, Skip}); near != "" {
			hint = fmt.Sprintf("; did you mean %s?", near)
		}
		wrong("on_bad_row", "%q is neither %s nor %s%s", s.OnBadRow, Fail, Skip, hint)
	}
	if s.MaxBuckets < 0 || s.MaxBuckets > maxBuckets {
		wrong("max_buckets", "%d is not between 1 and %d", s.MaxBuckets, maxBuckets)
	}
	errs = append(errs, s.validateTasks()...)
	errs = append(errs, s.validateBuckets()...)
	errs = append(errs, s.Columns.validate()...)
	for i, o := range s.Objectives {
		errs = append(errs, o.validate(fmt.Sprintf("objectives[%d]", i))...)
	}
	slices.SortStableFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

const (
	maxLength  = 1 << 20 // tokens of a row; no T5 comes near
	maxBuckets = 16      // executables to compile
)

func (s Source) validateBuckets() (errs []error) {
	if len(s.Buckets) > maxBuckets {
		errs = append(errs, &FieldError{Field: "buckets", Reason: fmt.Sprintf("%d are more than %d", len(s.Buckets), maxBuckets)})
	}
	full, fits := s.WithDefaults(), len(s.Buckets) == 0
	for i, b := range s.Buckets {
		if b.Input < 1 || b.Target < 1 || b.Input > maxLength || b.Target > maxLength {
			reason := fmt.Sprintf("%d and %d are not lengths", b.Input, b.Target)
			errs = append(errs, &FieldError{Field: fmt.Sprintf("buckets[%d]", i), Reason: reason})
		}
		fits = fits || b.Input >= full.MaxInput && b.Target >= full.MaxTarget
	}
	if !fits {
		reason := fmt.Sprintf("none holds an input of %d and a target of %d tokens, which max_input and max_target let through",
			full.MaxInput, full.MaxTarget)
		errs = append(errs, &FieldError{Field: "buckets", Reason: reason})
	}
	return errs
}

func (c Columns) validate() (errs []error) {
	c = c.withDefaults()
	names := map[string][]string{}
	for key, name := range map[string]string{
		"input": c.Input, "target": c.Target, "references": c.References, "id": c.ID, "task": c.Task,
	} {
		names[name] = append(names[name], key)
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if keys := slices.Sorted(slices.Values(names[name])); len(keys) > 1 {
			reason := fmt.Sprintf("%s are all the column %q", strings.Join(keys, " and "), name)
			errs = append(errs, &FieldError{Field: "columns", Reason: reason})
		}
	}
	return errs
}
