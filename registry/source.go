package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// Source is a folder that can be pushed: that of a run, or one with a model or adapter in it,
// and what it says about itself.
type Source struct {
	Dir      string
	ModelDir string   // where the files lie
	Kind     string   // model or adapter
	Tree     string   // digest of the model files
	Reports  []File   // evaluation, exposure, gates
	Records  []File   // run.json, recipe, resolved settings, data manifest
	Ignored  []string // files in reports/ that are none
	Canaries string   // the file that says that canaries were planted; "" where none says so
	Created  time.Time
	Base     string // as the run or the adapter names it
	License  string // of the base or the recipe, where one says

	layers []Layer // the files of ModelDir, hashed
}

// recordNames are the files of a run that are kept with its model.
func recordNames() []string {
	return []string{"run.json", "recipe.yaml", "resolved.yaml", "data.json"}
}

// OpenSource looks through a folder. A folder of a run holds run.json beside model/ or adapter/;
// the model folder of a run counts as the run.
func OpenSource(dir string) (Source, error) {
	s := Source{Dir: dir, ModelDir: dir}
	if _, err := os.Stat(dir); err != nil {
		return s, err
	}
	run := dir
	switch {
	case isFolder(filepath.Join(dir, "adapter")):
		s.ModelDir = filepath.Join(dir, "adapter")
	case isFolder(filepath.Join(dir, "model")):
		s.ModelDir = filepath.Join(dir, "model")
	case isRun(parentOf(dir)):
		run = parentOf(dir)
	}
	f, err := openFolder(s.ModelDir)
	if err != nil {
		return s, err
	}
	s.Kind = f.kind
	layers, err := f.hash()
	if err != nil {
		return s, err
	}
	s.Tree, s.layers = treeDigest(layers), layers
	if err := s.readRun(run); err != nil {
		return s, err
	}
	if err := s.readReports(filepath.Join(run, "reports")); err != nil {
		return s, err
	}
	stacked := isFolder(filepath.Join(s.ModelDir, "under")) // the recipe's base is an adapter then, whose base is this one's
	if s.Kind == KindAdapter && (s.Base == "" || stacked) {
		s.Base, err = adapterBase(s.ModelDir)
	}
	return s, err
}

func isRun(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "run.json"))
	return err == nil
}

// parentOf is the folder above, also of ".".
func parentOf(dir string) string {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return filepath.Dir(dir)
	}
	return filepath.Dir(absolute)
}

// readRun reads the records of a run, if there are any.
func (s *Source) readRun(dir string) error {
	for _, name := range recordNames() {
		data, err := readOptional(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if data == nil {
			continue
		}
		s.Records = append(s.Records, File{Name: name, Data: data})
		if err := s.readRecord(name, data); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
		}
	}
	return nil
}

func (s *Source) readRecord(name string, data []byte) error {
	switch name {
	case "run.json":
		return s.readRunRecord(data)
	case "data.json":
		planted, err := hasCanaries(data)
		if planted {
			s.Canaries = name
		}
		return err
	case "recipe.yaml", "resolved.yaml":
		var recipe struct {
			Base string `yaml:"base"`
		}
		if err := yaml.Unmarshal(data, &recipe); err != nil {
			return err
		}
		if recipe.Base != "" {
			s.Base = recipe.Base
		}
	}
	return nil
}

// readRunRecord takes from run.json when the run ended and what it started from.
func (s *Source) readRunRecord(data []byte) error {
	var run map[string]json.RawMessage
	if err := json.Unmarshal(data, &run); err != nil {
		return err
	}
	for _, key := range []string{"finished", "ended", "created", "started"} {
		var at time.Time
		if raw, found := run[key]; found && json.Unmarshal(raw, &at) == nil && !at.IsZero() {
			s.Created = at
			break
		}
	}
	var base string
	if raw, found := run["base"]; found && json.Unmarshal(raw, &base) == nil {
		s.Base = base
	}
	return nil
}

// hasCanaries says whether a data manifest speaks of planted canaries in any form but none.
func hasCanaries(data []byte) (bool, error) {
	var manifest map[string]any
	if err := json.Unmarshal(data, &manifest); err != nil {
		return false, err
	}
	switch v := manifest["canaries"].(type) {
	case nil:
		return false, nil
	case bool:
		return v, nil
	case float64:
		return v != 0, nil
	case string:
		return v != "", nil
	case []any:
		return len(v) > 0, nil
	case map[string]any:
		return len(v) > 0, nil
	}
	return true, nil
}

// readReports reads every report of a folder and of the folders in it: reports/test.json as well
// as reports/test/report.json, whose rows lie beside it.
func (s *Source) readReports(dir string) error {
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) != ".json" {
			return err
		}
		report, err := ReadReport(filepath.Join(dir, filepath.FromSlash(name)))
		if notReport := (*FolderError)(nil); errors.As(err, &notReport) {
			s.Ignored = append(s.Ignored, name)
			return nil
		}
		report.Name = name
		s.Reports = append(s.Reports, report)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// maxReport bounds a report; per-row scores lie in files of their own.
const maxReport = 16 << 20

// ReadReport reads a report to push with a model. A *FolderError says that the file is none.
func ReadReport(name string) (File, error) {
	f, err := os.Open(name)
	if err != nil {
		return File{}, err
	}
	defer f.Close() //nolint:errcheck // read only
	data, err := readAtMost(f, maxReport)
	if err != nil {
		return File{}, &FolderError{name, err.Error()}
	}
	report := File{Name: filepath.Base(name), Data: data, Path: name}
	if _, err := reportKind(report); err != nil {
		return File{}, &FolderError{name, err.Error()}
	}
	return report, nil
}

// AddReport puts a report beside those of the folder; one of the same name and content is there
// once.
func (s *Source) AddReport(report File) error {
	same := func(f File) bool { return f.Name == report.Name }
	if at := slices.IndexFunc(s.Reports, same); at >= 0 {
		if string(s.Reports[at].Data) == string(report.Data) {
			return nil
		}
		return &RequestError{fmt.Sprintf("two different reports are called %s", report.Name)}
	}
	s.Reports = append(s.Reports, report)
	return nil
}

// Request is the push of the folder under a name.
func (s *Source) Request(model string) PushRequest {
	request := PushRequest{
		Model: model, Dir: s.ModelDir, Created: s.Created, Reports: s.Reports, Records: s.Records, Canaries: s.Canaries,
		About: About{Family: "t5"}, hashed: s.layers,
	}
	if s.License != "" {
		request.About.Licenses = []string{s.License}
	}
	if s.Kind == KindAdapter && s.Base != "" {
		request.Base = &Base{Name: s.Base}
	}
	return request
}

// adapterBase is what a PEFT folder calls its base.
func adapterBase(dir string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "adapter_config.json"))
	if err != nil {
		return "", err
	}
	var config struct {
		Base string `json:"base_model_name_or_path"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return "", &FolderError{filepath.Join(dir, "adapter_config.json"), err.Error()}
	}
	return strings.TrimSpace(config.Base), nil
}
