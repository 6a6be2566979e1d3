// Package recipes reads the file that a run follows and gives the options of the packages that act
// on it: data for datasets, train for trainer, eval for eval.
//
// A recipe is strict: an unknown key is an error that names the nearest known one, and all
// problems are told at once, each with its line. Over the file lie T5CTL_* variables, over those
// what --set says. Relative paths in the file are seen from the file's own folder, so that it
// means the same from anywhere; relative paths in an override are seen from the current folder.
package recipes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/exposure"
	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/hub"
	"github.com/t5ctl/t5ctl/internal/mlflow"
	"github.com/t5ctl/t5ctl/internal/nearest"
	"github.com/t5ctl/t5ctl/internal/strictyaml"
	"github.com/t5ctl/t5ctl/internal/t5"
	"github.com/t5ctl/t5ctl/trainer"
)

// Version is the format of recipes that this package writes.
const Version = 1

// Recipe says what a run does: from which base or shape of model, on which data, how it learns,
// how it is judged, and which bounds it must keep.
type Recipe struct {
	// Version is the format of this file, now 1.
	Version int `yaml:"version"`
	// Name is what runs and the trained model are called: small letters, digits, dots and dashes.
	Name string `yaml:"name"`
	// Description says in a line what the recipe is for.
	Description string `yaml:"description,omitempty"`
	// Base is the model to start from: a folder, name@vN, name@channel, name@sha256:… or
	// hf:owner/name. Give either base or model.
	Base string `yaml:"base,omitempty"`
	// Model is the shape of a model that is trained from fresh weights, in the keys of a Hugging
	// Face config.json.
	Model *t5.Config `yaml:"model,omitempty"`
	// Tokenizer is what turns text into tokens. Without it the base's own is used.
	Tokenizer Tokenizer `yaml:"tokenizer,omitempty"`
	// Data says which files there are and how their rows become batches.
	Data datasets.Source `yaml:"data"`
	// Train says how the model learns.
	Train trainer.Options `yaml:"train"`
	// Generation says how the model writes, in evaluations and wherever it is used later.
	Generation decode.Options `yaml:"generation,omitempty"`
	// Eval is the evaluation of the trained model: data, metrics, slices.
	Eval eval.Suite `yaml:"eval,omitempty"`
	// Exposure says which canaries are planted into the data and how they are tested, so that it is
	// known what the model memorizes.
	Exposure exposure.Settings `yaml:"exposure,omitempty"`
	// Tracking says which other tools are told of a run while it goes on.
	Tracking Tracking `yaml:"tracking,omitempty" json:"-"` // no part of what a run computes
	// Gates are bounds that the model's reports must keep before it may be promoted.
	Gates []eval.Gate `yaml:"gates,omitempty"`
}

// Tokenizer names the vocabulary and how its reference applies it.
type Tokenizer struct {
	// Path is a spiece.model, a tokenizer.json, or a folder that holds one.
	Path string `yaml:"path,omitempty"`
	// Mode says whose behaviour is followed: hf5 (transformers 5, the default), json (the file
	// alone), sp (SentencePiece), or bytes (ByT5, no file needed).
	Mode string `yaml:"mode,omitempty"`
}

// Tracking names tools that are told of a run while it goes on. What fails there is warned of and
// never ends the run.
type Tracking struct {
	// TensorBoard writes event files that TensorBoard reads into the run folder's tensorboard/.
	TensorBoard bool `yaml:"tensorboard,omitempty"`
	// MLflow is a tracking server that is told of settings, metrics and how the run ended.
	MLflow mlflow.Options `yaml:"mlflow,omitempty"`
}

// TokenizerModes lists what Tokenizer.Mode can be.
func TokenizerModes() []string { return []string{"hf5", "json", "sp", "bytes"} }

// Default is what a recipe starts from before its file is read.
func Default() Recipe {
	return Recipe{Train: trainer.DefaultOptions(), Generation: decode.DefaultOptions()}
}

// Validate tells all that is wrong with the recipe, one problem a line, each starting with the
// dotted key.
func (r Recipe) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch r.Version {
	case Version:
	case 0:
		bad("version: is missing; this t5ctl writes version: %d", Version)
	default:
		bad("version: %d is not known; this t5ctl reads version %d", r.Version, Version)
	}
	if err := CheckName(r.Name); err != nil {
		bad("name: %w", err)
	}
	errs = append(errs, r.validateModel()...)
	errs = append(errs, r.Data.Validate(), within("train", r.Train.Validate()),
		within("generation", r.Generation.Validate()), within("eval", r.Eval.Validate()),
		within("exposure", r.Exposure.Validate()), within("tracking.mlflow", r.Tracking.MLflow.Validate()))
	errs = append(errs, r.validatePrivacy()...)
	errs = append(errs, r.validatePreference()...)
	if len(r.Gates) > 0 {
		errs = append(errs, within("gates", eval.Gates{Version: 1, Gates: r.Gates}.Validate()))
	}
	return errors.Join(errs...)
}

// CheckName says what is wrong with a name of a recipe, which also names runs and models.
func CheckName(name string) error {
	if !regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$`).MatchString(name) {
		return fmt.Errorf("%q must be 1 to 64 small letters, digits, dots, dashes or underscores", name)
	}
	return nil
}

// validatePrivacy checks that a row of the data is one example of a private run.
func (r Recipe) validatePrivacy() (errs []error) {
	if !r.Train.DP.On() {
		return nil
	}
	if r.Data.Packing {
		errs = append(errs, errors.New("data.packing: cannot stand beside train.dp; every example needs a row and a gradient of its own"))
	}
	if len(r.Data.Tasks) > 0 {
		errs = append(errs, errors.New("data.tasks: cannot stand beside train.dp; the account is of one data set"))
	}
	for i, o := range r.Data.Objectives {
		if o.Kind != datasets.Supervised || len(r.Data.Objectives) > 1 {
			errs = append(errs, fmt.Errorf("data.objectives[%d]: cannot stand beside train.dp; an example must be one row of the data", i))
		}
	}
	return errs
}

// validatePreference checks that pairs are read where pairs are learned from, and nowhere else.
func (r Recipe) validatePreference() (errs []error) {
	pairs := slices.ContainsFunc(r.Data.Objectives, func(o datasets.Objective) bool { return o.Kind == datasets.Preference })
	switch {
	case pairs && !r.Train.DPO.On():
		errs = append(errs, errors.New("data.objectives: kind preference needs train.dpo"))
	case r.Train.DPO.On() && len(r.Data.Objectives) > 0 && (!pairs || len(r.Data.Objectives) > 1):
		errs = append(errs, errors.New("data.objectives: cannot stand beside train.dpo, whose rows are pairs"))
	}
	if r.Train.DPO.On() && len(r.Data.Tasks) > 0 {
		errs = append(errs, errors.New("data.tasks: cannot stand beside train.dpo, whose rows are pairs"))
	}
	if r.Train.DPO.On() && r.Data.Packing {
		errs = append(errs, errors.New("data.packing: cannot stand beside train.dpo; the loss is of whole texts"))
	}
	return errs
}

// validateModel checks where the weights come from and whether that fits the method.
func (r Recipe) validateModel() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch {
	case r.Base == "" && r.Model == nil:
		bad("base: is missing; give base (a model to start from) or model (a shape to train from scratch)")
	case r.Base != "" && r.Model != nil:
		bad("model: cannot stand beside base; a base has its own shape")
	case r.Model != nil && r.Train.Method == trainer.LoRA:
		bad("train.method: lora needs a base; fresh weights are trained with full or pretrain")
	}
	if r.Model != nil {
		errs = append(errs, within("model", r.Model.Validate()))
		if r.Tokenizer == (Tokenizer{}) {
			bad("tokenizer: is missing; a model from scratch needs path, or mode: bytes")
		}
	}
	if m := r.Tokenizer.Mode; m != "" && !slices.Contains(TokenizerModes(), m) {
		text := fmt.Sprintf("tokenizer.mode: %q is none of %s", m, strings.Join(TokenizerModes(), ", "))
		if near := nearest.Of(m, TokenizerModes()); near != "" {
			text += fmt.Sprintf(" (did you mean %s?)", near)
		}
		errs = append(errs, errors.New(text))
	}
	return errs
}

// within puts the section's name before each problem of it, where it does not stand there yet.
func within(section string, err error) error {
	keys := make(map[string]bool)
	for _, k := range strictyaml.Keys(reflect.TypeFor[Recipe]()) {
		if rest, ok := strings.CutPrefix(k.Key, section+"."); ok {
			first, _, _ := strings.Cut(rest, ".")
			keys[first] = true
		}
	}
	var errs []error
	for _, text := range leaves(err) {
		word := regexp.MustCompile(`^[a-z0-9_]*`).FindString(text)
		switch {
		case word == section:
		case keys[word]:
			text = section + "." + text
		default:
			text = section + ": " + text
		}
		errs = append(errs, errors.New(text))
	}
	return errors.Join(errs...)
}

// leaves takes joined errors apart, each one line, with the name that was probably meant.
func leaves(err error) []string {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // the joined error itself is wanted
		var all []string
		for _, e := range many.Unwrap() {
			all = append(all, leaves(e)...)
		}
		return all
	}
	lines := strings.Split(err.Error(), "\n")
	near := ""
	if e, ok := errors.AsType[*eval.UnknownMetricError](err); ok {
		near = e.Nearest
	}
	if e, ok := errors.AsType[*eval.UnknownOptionError](err); ok {
		near = e.Nearest
	}
	if near != "" {
		lines[0] += fmt.Sprintf(" (did you mean %s?)", near)
	}
	return lines
}

// At gives the recipe with its relative paths seen from dir. A base or teacher that is no folder
// there is left as it is: it may be a reference.
func (r Recipe) At(dir string) Recipe {
	r.Data = r.Data.At(dir)
	r.Eval = r.Eval.At(dir)
	if r.Tokenizer.Path != "" && !filepath.IsAbs(r.Tokenizer.Path) {
		r.Tokenizer.Path = filepath.Join(dir, r.Tokenizer.Path)
	}
	r.Base = modelAt(dir, r.Base)
	r.Train.Distill.Teacher = modelAt(dir, r.Train.Distill.Teacher)
	return r
}

// modelAt is a model reference seen from dir.
func modelAt(dir, ref string) string {
	if ref == "" || filepath.IsAbs(ref) || hub.IsRef(ref) {
		return ref
	}
	here := filepath.Join(dir, filepath.FromSlash(ref))
	if _, err := os.Stat(here); err == nil || explicitPath(ref) {
		return here
	}
	return ref
}

// explicitPath says whether a reference can only be a path.
func explicitPath(ref string) bool {
	return strings.HasPrefix(ref, "./") || strings.HasPrefix(ref, "../") || ref == "." || ref == ".."
}

// NotFoundError says that there is neither a file nor a preset of that name.
type NotFoundError struct {
	Path    string
	Nearest string // a preset or a file beside it
}

func (e *NotFoundError) Error() string { return fmt.Sprintf("no recipe %s", e.Path) }

// Is makes it a missing file.
func (e *NotFoundError) Is(target error) bool { return target == fs.ErrNotExist }

// Loaded is a recipe with all that was said about it.
type Loaded struct {
	Recipe
	Path string // of the file
	Text []byte // of the file, as it stands in the run's record
}

// Load reads the recipe at path, lays the overrides over it in order, and checks the result. What
// is wrong is a *strictyaml.Error with every problem, or a *NotFoundError.
func Load(path string, overrides []Override) (Loaded, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Loaded{}, &NotFoundError{Path: path, Nearest: nearestSibling(path)}
	}
	if err != nil {
		return Loaded{}, err
	}
	r, err := parse(path, text, filepath.Dir(path), overrides)
	return Loaded{Recipe: r, Path: path, Text: text}, err
}

// LoadSettled reads the resolved recipe of a run, whose relative paths are seen from the current
// folder as those of the run were, and lays KEY=VALUE texts over it.
func LoadSettled(path string, sets []string) (Loaded, error) {
	var overrides []Override
	for _, text := range sets {
		o, err := ParseSet(text)
		if err != nil {
			return Loaded{}, err
		}
		overrides = append(overrides, o)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Loaded{}, err
	}
	r, err := parse(path, text, "", overrides)
	return Loaded{Recipe: r, Path: path, Text: text}, err
}

// parse joins file, overrides and checks; dir is what relative paths are seen from.
func parse(path string, text []byte, dir string, overrides []Override) (Recipe, error) {
	r, fresh := Default(), t5.DefaultConfig()
	r.Model = &fresh // so that a model section says only what differs
	doc, err := strictyaml.Unmarshal(path, text, &r)
	problems := problemsOf(err)
	if doc == nil {
		return Recipe{}, err
	}
	r = r.At(dir)
	model := doc.Has("model")
	for _, o := range overrides {
		problems = append(problems, problemsOf(strictyaml.Set(&r, o.Source, o.Key, o.Value))...)
		model = model || o.Key == "model" || strings.HasPrefix(o.Key, "model.")
	}
	if !model {
		r.Model = nil
	}
	r.Data = r.Data.WithDefaults()
	if r.Train.DPO.On() && len(r.Data.Objectives)+len(r.Data.Tasks) == 0 {
		r.Data.Objectives = []datasets.Objective{{Kind: datasets.Preference}}
	}
	problems = append(problems, invalid(r.Validate(), doc, overrides, problems)...)
	if len(problems) == 0 {
		return r, nil
	}
	slices.SortStableFunc(problems, func(a, b strictyaml.Problem) int { return a.Line - b.Line })
	return r, &strictyaml.Error{Problems: problems}
}

func problemsOf(err error) []strictyaml.Problem {
	if e, ok := errors.AsType[*strictyaml.Error](err); ok {
		return e.Problems
	}
	return nil
}

// invalid finds the lines of what Validate says. A key that could not be read at all was told
// before, and is not told again.
func invalid(err error, doc *strictyaml.Document, overrides []Override, told []strictyaml.Problem) []strictyaml.Problem {
	if err == nil {
		return nil
	}
	keyed := regexp.MustCompile(`^([a-z0-9_]+(?:\.[a-z0-9_]+|\[[0-9]+\])*)[: ]+(.*)$`)
	var problems []strictyaml.Problem
	for text := range strings.SplitSeq(err.Error(), "\n") {
		p := strictyaml.Problem{Path: doc.Path, Reason: text}
		if m := keyed.FindStringSubmatch(text); m != nil {
			key := strings.NewReplacer("[", ".", "]", "").Replace(m[1])
			p.Key, p.Reason, p.Line = m[1], m[2], doc.Line(key)
			for _, o := range overrides {
				if o.Key == key {
					p.Path, p.Line = o.Source, 0
				}
			}
			if slices.ContainsFunc(told, func(t strictyaml.Problem) bool { return t.Key == key }) {
				continue
			}
		}
		problems = append(problems, p)
	}
	return problems
}

func absent(path string) bool {
	_, err := os.Stat(path)
	return err != nil
}

// CheckFiles says which of the files that the recipe names are not there.
func (l Loaded) CheckFiles() error {
	var problems []strictyaml.Problem
	doc, err := strictyaml.Unmarshal(l.Path, l.Text, new(Recipe))
	if err != nil {
		return err
	}
	missing := func(key, path string) {
		problems = append(problems, strictyaml.Problem{
			Path: l.Path, Line: doc.Line(key), Key: key, Reason: "no such file " + path, Nearest: nearestSibling(path),
		})
	}
	for _, split := range datasets.Splits() {
		for _, path := range l.Data.Paths(split) {
			files, err := datasets.Paths{path}.Files()
			if err != nil || slices.ContainsFunc(files, absent) {
				missing("data."+string(split), path)
			}
		}
	}
	if path := l.Tokenizer.Path; path != "" {
		if _, err := os.Stat(path); err != nil {
			missing("tokenizer.path", path)
		}
	}
	if len(problems) > 0 {
		return &MissingFilesError{&strictyaml.Error{Problems: problems}}
	}
	return nil
}

// MissingFilesError says which files that a recipe names are not there, and where it names them.
// It is a fs.ErrNotExist.
type MissingFilesError struct{ problems *strictyaml.Error }

func (e *MissingFilesError) Error() string { return e.problems.Error() }

// Is makes the error a fs.ErrNotExist.
func (e *MissingFilesError) Is(target error) bool { return target == fs.ErrNotExist }

// nearestSibling is the file in the same folder whose name is most alike.
func nearestSibling(path string) string {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return ""
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if near := nearest.Of(filepath.Base(path), names); near != "" {
		return filepath.Join(filepath.Dir(path), near)
	}
	return ""
}

// YAML writes the recipe with every key that it has, as the resolved record of a run.
func (r Recipe) YAML() ([]byte, error) { return strictyaml.Marshal(r) }
