package cli

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

// shippedModels are the folders in which the models that ship along may lie: T5CTL_MODELS, or models beside the program, as in
// an unpacked archive, a clone, or an installed package.
func shippedModels() []string {
	if dir := os.Getenv("T5CTL_MODELS"); dir != "" {
		return []string{dir}
	}
	program, err := os.Executable()
	if err != nil {
		return nil
	}
	if real, err := filepath.EvalSymlinks(program); err == nil {
		program = real
	}
	dir := filepath.Dir(program)
	return []string{filepath.Join(dir, "models"), filepath.Join(dir, "..", "models"), filepath.Join(dir, "..", "share", "t5ctl", "models")}
}

// shippedModel finds a model that ships along by the path that presets give it, models/NAME; "" where it is none, or not here.
func shippedModel(ref string) string {
	if filepath.ToSlash(filepath.Dir(ref)) != "models" {
		return ""
	}
	for _, dir := range shippedModels() {
		if model := filepath.Join(dir, filepath.Base(ref)); exists(filepath.Join(model, "config.json")) {
			return model
		}
	}
	return ""
}

// missingBaseError says that the base that a preset names did not come with this program.
type missingBaseError struct {
	base   string
	looked []string
}

func (e *missingBaseError) Error() string {
	return fmt.Sprintf("the base %s is not beside this program (looked in %v)", e.base, e.looked)
}

// Is makes it a missing file.
func (e *missingBaseError) Is(target error) bool { return target == fs.ErrNotExist }

// copyShippedModel puts the shipped model models/NAME into a project, so that it runs where only the program is installed.
func copyShippedModel(project, ref string) (string, error) {
	to := filepath.Join(project, filepath.FromSlash(ref))
	if exists(to) {
		return to, nil
	}
	from := shippedModel(ref)
	if from == "" {
		return "", &missingBaseError{base: ref, looked: shippedModels()}
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return "", err
	}
	return to, atomicfile.WriteDir(to, func(stage string) error { return os.CopyFS(stage, os.DirFS(from)) })
}
