// Package settings says what a run was set to: a default for every key, over it the
// configuration file, over that the environment (T5CTL_*), over that the flags.
//
// One viper instance is made for one run and forgotten; the rest of the tool sees a plain struct.
package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"github.com/t5ctl/t5ctl/internal/nearest"
)

// Settings are the global options of one run, checked.
type Settings struct {
	JSON     bool   // results as one JSON value on stdout
	Quiet    bool   // no notes and no progress
	Debug    bool   // log lines and stack traces on stderr
	Registry string // a folder or oci://host/prefix
	Plain    bool   // no TLS to a registry on this machine
	Key      string // name or file of the key that signs; "" signs nothing
	Policy   string // file that says whose signatures count; "" asks for none
	Backend  string // auto, cuda, cpu or go
	Config   string // the configuration file that was read, "" where there was none
}

// Error says that a setting cannot be used: which, where it came from, and why.
type Error struct {
	Key     string // name of the setting
	Source  string // file it stands in, "" for the environment or a flag
	Reason  string
	Nearest string // the known name most like an unknown key
}

func (e *Error) Error() string {
	where := ""
	if e.Source != "" {
		where = e.Source + ": "
	}
	return fmt.Sprintf("%ssetting %s: %s", where, e.Key, e.Reason)
}

// Backends lists the names that --backend takes.
func Backends() []string { return []string{"auto", "cuda", "cpu", "go"} }

// Key documents one setting: its name in the file, as a flag, and in the environment.
type Key struct {
	Name    string // as in the file and after --; T5CTL_<NAME> in the environment
	Default string
	Doc     string
}

// Env returns the environment variable of the key.
func (k Key) Env() string {
	return "T5CTL_" + strings.ToUpper(strings.ReplaceAll(k.Name, "-", "_"))
}

// Keys lists every setting, in the order of the documentation.
func Keys() []Key {
	return []Key{
		{"json", "false", "print results as one JSON value"},
		{"quiet", "false", "print results and errors only"},
		{"registry", "", "`place` of the registry: a folder or oci://host/prefix (default $XDG_DATA_HOME/t5ctl/registry)"},
		{"plain-http", "false", "talk without TLS to a registry on this machine"},
		{"key", "", "`name` or file of the key that signs what is pushed and promoted"},
		{"policy", "", "`file` that says whose signatures count"},
		{"backend", "auto", "compute `backend`: auto, cuda, cpu or go"},
		{"debug", "false", "log more, and show the stack of an internal error"},
	}
}

// Bind adds the global flags. Load reads them by name.
func Bind(flags *pflag.FlagSet) {
	for _, k := range Keys() {
		switch k.Default {
		case "false":
			flags.Bool(k.Name, false, k.Doc)
		default:
			flags.String(k.Name, k.Default, k.Doc)
		}
	}
	flags.String("config", "", "configuration `file` (default $XDG_CONFIG_HOME/t5ctl/config.yaml)")
}

// Load joins defaults, file, environment and the flags that were given.
func Load(flags *pflag.FlagSet) (Settings, error) {
	v := viper.New()
	for _, k := range Keys() {
		v.SetDefault(k.Name, k.Default)
		if err := v.BindEnv(k.Name, k.Env()); err != nil {
			return Settings{}, fmt.Errorf("binding %s: %w", k.Env(), err)
		}
		if err := v.BindPFlag(k.Name, flags.Lookup(k.Name)); err != nil {
			return Settings{}, fmt.Errorf("binding --%s: %w", k.Name, err)
		}
	}
	path, values, err := readFile(flags)
	if err != nil {
		return Settings{}, err
	}
	if err := v.MergeConfigMap(values); err != nil {
		return Settings{}, err
	}
	return checked(v, path)
}

// readFile gives what the configuration file says; only a file that was named must exist.
func readFile(flags *pflag.FlagSet) (path string, values map[string]any, err error) {
	path, named := os.Getenv("T5CTL_CONFIG"), true
	if f := flags.Lookup("config"); f != nil && f.Changed {
		path = f.Value.String()
	}
	if path == "" {
		path, named = filepath.Join(ConfigHome(), "t5ctl", "config.yaml"), false
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !named {
		return "", nil, nil
	}
	file := viper.New()
	file.SetConfigFile(path)
	file.SetConfigType("yaml")
	if err := file.ReadInConfig(); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil, fmt.Errorf("configuration file: %w", err)
		}
		return "", nil, &Error{Key: "config", Source: path, Reason: strings.ReplaceAll(err.Error(), "\n", " ")}
	}
	var known []string
	for _, k := range Keys() {
		known = append(known, k.Name)
	}
	for _, key := range slices.Sorted(slices.Values(file.AllKeys())) {
		if !slices.Contains(known, key) {
			return "", nil, &Error{Key: key, Source: path, Reason: "unknown key", Nearest: nearest.Of(key, known)}
		}
	}
	return path, file.AllSettings(), nil
}

func checked(v *viper.Viper, path string) (Settings, error) {
	s := Settings{Config: path, Registry: v.GetString("registry"), Key: v.GetString("key"), Policy: v.GetString("policy"), Backend: v.GetString("backend")}
	switches := []struct {
		name  string
		field *bool
	}{{"json", &s.JSON}, {"quiet", &s.Quiet}, {"plain-http", &s.Plain}, {"debug", &s.Debug}}
	for _, w := range switches {
		switch strings.ToLower(v.GetString(w.name)) {
		case "true", "1", "yes", "on":
			*w.field = true
		case "false", "0", "no", "off", "":
		default:
			return Settings{}, &Error{Key: w.name, Reason: fmt.Sprintf("%q is neither true nor false", v.GetString(w.name))}
		}
	}
	if !slices.Contains(Backends(), s.Backend) {
		return Settings{}, &Error{
			Key: "backend", Reason: fmt.Sprintf("%q is none of %s", s.Backend, strings.Join(Backends(), ", ")),
			Nearest: nearest.Of(s.Backend, Backends()),
		}
	}
	if s.Registry == "" {
		s.Registry = filepath.Join(DataHome(), "t5ctl", "registry")
	}
	return s, nil
}

// DataHome is where data of this user lives: $XDG_DATA_HOME, else ~/.local/share.
func DataHome() string {
	return xdg("XDG_DATA_HOME", ".local", "share")
}

// ConfigHome is where configuration of this user lives: $XDG_CONFIG_HOME, else ~/.config.
func ConfigHome() string {
	return xdg("XDG_CONFIG_HOME", ".config")
}

// StateHome is where logs and reports of this user live: $XDG_STATE_HOME, else ~/.local/state.
func StateHome() string {
	return xdg("XDG_STATE_HOME", ".local", "state")
}

// CacheHome is where what can be made again lives: $XDG_CACHE_HOME, else ~/.cache.
func CacheHome() string {
	return xdg("XDG_CACHE_HOME", ".cache")
}

// xdg ignores a relative path, as the base directory specification asks.
func xdg(name string, fallback ...string) string {
	if dir := os.Getenv(name); filepath.IsAbs(dir) {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = os.TempDir() // no home at all, as in some containers
	}
	return filepath.Join(append([]string{home}, fallback...)...)
}
