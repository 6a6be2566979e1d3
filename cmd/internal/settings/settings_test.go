package settings_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/settings"
)

func TestLoad(t *testing.T) {
	tests := map[string]struct {
		file  string // config.yaml of the user
		env   map[string]string
		flags []string
		want  settings.Settings
		wrong string // key of the *settings.Error
	}{
		"defaults": {want: settings.Settings{Backend: "auto"}},
		"file":     {file: "backend: go\nquiet: true\n", want: settings.Settings{Backend: "go", Quiet: true}},
		"environment over file": {
			file: "backend: go\n", env: map[string]string{"T5CTL_BACKEND": "cpu"}, want: settings.Settings{Backend: "cpu"},
		},
		"flag over environment": {
			env: map[string]string{"T5CTL_BACKEND": "cpu", "T5CTL_JSON": "1"}, flags: []string{"--backend", "go", "--json=false"},
			want: settings.Settings{Backend: "go"},
		},
		"unknown key":     {file: "bakend: go\n", wrong: "bakend"},
		"unknown backend": {flags: []string{"--backend=gpu"}, wrong: "backend"},
		"no boolean":      {file: "debug: maybe\n", wrong: "debug"},
		"not yaml":        {file: "a: [\n", wrong: "config"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			t.Setenv("XDG_CONFIG_HOME", home)
			t.Setenv("XDG_DATA_HOME", home)
			for key, value := range tt.env {
				t.Setenv(key, value)
			}
			if tt.file != "" {
				tt.want.Config = write(t, filepath.Join(home, "t5ctl", "config.yaml"), tt.file)
			}
			tt.want.Registry = filepath.Join(home, "t5ctl", "registry")
			got, err := load(t, tt.flags...)
			if wrong, ok := errors.AsType[*settings.Error](err); tt.wrong != "" && (!ok || wrong.Key != tt.wrong) {
				t.Errorf("got %v; want a problem with %s", err, tt.wrong)
			}
			if tt.wrong == "" && (err != nil || got != tt.want) {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestNamedFile(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	path := write(t, filepath.Join(t.TempDir(), "mine.yaml"), "registry: /srv/models\n")
	got, err := load(t, "--config", path)
	if err != nil || got.Registry != "/srv/models" || got.Config != path {
		t.Errorf("got %+v, %v; want the registry of the file", got, err)
	}
	if _, err := load(t, "--config", path+"x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v; want that the file is missing", err)
	}
}

func load(t *testing.T, args ...string) (settings.Settings, error) {
	t.Helper()
	flags := pflag.NewFlagSet("t5ctl", pflag.ContinueOnError)
	settings.Bind(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return settings.Load(flags)
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
