package recipes

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/nearest"
	"github.com/t5ctl/t5ctl/internal/strictyaml"
)

// shipped holds the presets and the data they name.
//
//go:embed presets/*.yaml data
var shipped embed.FS //nolint:gochecknoglobals // embedding needs a variable

// Preset is a recipe that comes with t5ctl.
type Preset struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Method      string `json:"method"`
	Text        []byte `json:"-"` // the file, comments included
}

// UnknownPresetError says that no preset has that name.
type UnknownPresetError struct {
	Name, Nearest string
	Known         []string
}

func (e *UnknownPresetError) Error() string {
	return fmt.Sprintf("no preset %q (there are %s)", e.Name, strings.Join(e.Known, ", "))
}

// Is makes it a missing file.
func (e *UnknownPresetError) Is(target error) bool { return target == fs.ErrNotExist }

// Presets lists the presets by name.
func Presets() ([]Preset, error) {
	entries, err := shipped.ReadDir("presets")
	if err != nil {
		return nil, err
	}
	var all []Preset
	for _, entry := range entries {
		text, err := shipped.ReadFile("presets/" + entry.Name())
		if err != nil {
			return nil, err
		}
		r := Default()
		if _, err := strictyaml.Unmarshal(entry.Name(), text, &r); err != nil {
			return nil, err
		}
		all = append(all, Preset{
			Name: strings.TrimSuffix(entry.Name(), ".yaml"), Description: r.Description, Method: r.Train.Method, Text: text,
		})
	}
	return all, nil
}

// FindPreset gives the preset of that name, or an *UnknownPresetError.
func FindPreset(name string) (Preset, error) {
	all, err := Presets()
	if err != nil {
		return Preset{}, err
	}
	unknown := &UnknownPresetError{Name: name}
	for _, p := range all {
		if p.Name == name {
			return p, nil
		}
		unknown.Known = append(unknown.Known, p.Name)
	}
	unknown.Nearest = nearest.Of(name, unknown.Known)
	return Preset{}, unknown
}

// Copy writes the preset to the file at target and the data that it names to data/ beside it. A
// file that is there already is left alone and is an error, data of the same size apart.
func (p Preset) Copy(target string) (written []string, err error) {
	if _, err := os.Lstat(target); err == nil {
		return nil, &fs.PathError{Op: "copying the preset to", Path: target, Err: fs.ErrExist}
	}
	dir := filepath.Dir(target)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, name := range p.data() {
		to := filepath.Join(dir, filepath.FromSlash(name))
		fresh, err := copyShipped(name, to)
		if err != nil {
			return written, err
		}
		if fresh {
			written = append(written, to)
		}
	}
	text := strings.NewReplacer("../data/", "data/", "../../", "").Replace(string(p.Text))
	if err := atomicfile.WriteBytes(target, []byte(text)); err != nil {
		return written, err
	}
	return append(written, target), nil
}

// Digest identifies the preset with its data: another version of t5ctl may ship others.
func (p Preset) Digest() (string, error) {
	hash := sha256.New()
	_, _ = hash.Write(p.Text) // never fails
	for _, name := range p.data() {
		content, err := shipped.ReadFile(name)
		if err != nil {
			return "", err
		}
		_, _ = hash.Write(content) // never fails
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// data lists the shipped files that the preset names, in the order of its text.
func (p Preset) data() []string {
	var names []string
	for field := range strings.FieldsSeq(string(p.Text)) {
		if name, ok := strings.CutPrefix(field, "../"); ok {
			if _, err := fs.Stat(shipped, name); err == nil && strings.HasPrefix(name, "data/") {
				names = append(names, path.Clean(name))
			}
		}
	}
	return names
}

// copyShipped writes one shipped file; one of the same size that is there is taken for the same.
func copyShipped(name, to string) (fresh bool, err error) {
	info, err := fs.Stat(shipped, name)
	if err != nil {
		return false, err
	}
	if there, err := os.Stat(to); err == nil {
		if there.Size() == info.Size() {
			return false, nil
		}
		return false, &fs.PathError{Op: "copying the data to", Path: to, Err: fs.ErrExist}
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return false, err
	}
	return true, atomicfile.Write(to, func(w io.Writer) error {
		f, err := shipped.Open(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, f)
		return errors.Join(err, f.Close())
	})
}
