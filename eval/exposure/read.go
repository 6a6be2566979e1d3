package exposure

import (
	"errors"
	"fmt"

	"github.com/t5ctl/t5ctl/internal/strictyaml"
)

// ParseSettings reads a settings file: version: 1 and the keys of Settings. path is for messages.
func ParseSettings(path string, data []byte) (Settings, error) {
	var file struct {
		Version  int `yaml:"version"`
		Settings `yaml:",inline"`
	}
	if _, err := strictyaml.Unmarshal(path, data, &file); err != nil {
		return Settings{}, err
	}
	var version error
	if file.Version != 1 {
		version = fmt.Errorf("version %d: this version reads 1", file.Version)
	}
	if err := errors.Join(version, file.Validate()); err != nil {
		return Settings{}, &SettingsError{path, err}
	}
	return file.Settings, nil
}

// SettingsError says what is wrong with a settings file.
type SettingsError struct {
	Path string
	Err  error
}

func (e *SettingsError) Error() string { return fmt.Sprintf("exposure settings %s: %v", e.Path, e.Err) }
func (e *SettingsError) Unwrap() error { return e.Err }
