package lora

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/t5"
)

// underDir is the part of an adapter's folder that holds the adapter it was trained on, itself a
// PEFT folder for the same base. Other tools load the two by themselves and switch both on.
const underDir = "under"

// mostLayers bounds how many adapters may lie on each other.
const mostLayers = 16

// StackError says why an adapter cannot lie on, or under, another.
type StackError struct{ Dir, Reason string }

func (e *StackError) Error() string {
	return fmt.Sprintf("adapter %s cannot be part of a stack: %s", e.Dir, e.Reason)
}

// Stackable says whether an adapter of these options can be added to others: its update must be a
// sum that knows nothing of them.
func (o Options) Stackable(dir string) error {
	switch {
	case o.DoRA:
		return &StackError{Dir: dir, Reason: "DoRA scales whole weights; merge what lies under it with t5ctl model merge"}
	case len(o.ModulesToSave) > 0:
		return &StackError{Dir: dir, Reason: "modules_to_save replace whole weights; merge what lies under it with t5ctl model merge"}
	}
	return nil
}

// Read reads a PEFT folder for a model of the given configuration. An adapter that was trained on
// others comes as one: the updates of all, side by side.
func Read(dir string, config t5.Config) (*Folder, error) { return read(dir, config, mostLayers) }

func read(dir string, config t5.Config, most int) (*Folder, error) {
	if most == 0 {
		return nil, &StackError{Dir: dir, Reason: fmt.Sprintf("more than %d adapters lie on each other", mostLayers)}
	}
	top, err := readOne(dir, config)
	if err != nil {
		return nil, err
	}
	below := filepath.Join(dir, underDir)
	if _, err := os.Stat(filepath.Join(below, configFile)); err != nil {
		return top, nil
	}
	under, err := read(below, config, most-1)
	if err != nil {
		return nil, err
	}
	for path, o := range map[string]Options{dir: top.Adapter.Options, below: under.Adapter.Options} {
		if err := o.Stackable(path); err != nil {
			return nil, err
		}
	}
	return top.on(under, config), nil
}

// on joins two adapters into one whose ranks are the sums: A is one above the other, B one beside
// the other with its scale in it, so that s₁·B₁·A₁ + s₂·B₂·A₂ = B·A.
func (f *Folder) on(under *Folder, config t5.Config) *Folder {
	joined := &Folder{Base: f.Base, Metadata: f.Metadata, Layers: append(slices.Clone(under.Layers), f.Layers...)}
	a := &Adapter{Options: f.Adapter.Options, at: map[string]int{}}
	a.Options.Dropout = 0
	joined.Adapter = a
	for _, spec := range config.Specs() {
		m := module{name: strings.TrimSuffix(spec.Name, ".weight"), scale: 1}
		var low, high []float32 // A and B
		for _, part := range []*Folder{under, f} {
			k, ok := part.Adapter.at[spec.Name]
			if !ok {
				continue
			}
			own := part.Adapter.modules[k]
			m.in, m.out = own.in, own.out
			low = append(low, part.Values[2*k]...)
			high = beside(high, m.rank, part.Values[2*k+1], own)
			m.rank += own.rank
		}
		if m.rank > 0 {
			a.at[spec.Name] = len(a.modules)
			a.modules = append(a.modules, m)
			joined.Values = append(joined.Values, low, high)
		}
	}
	return joined
}

// beside puts an adapter's B, scaled, to the right of what there is: [out, rank] → [out, rank + own.rank].
func beside(left []float32, rank int, b []float32, own module) []float32 {
	joined := make([]float32, 0, len(left)+len(b))
	for i := range own.out {
		joined = append(joined, left[i*rank:(i+1)*rank]...)
		for _, v := range b[i*own.rank : (i+1)*own.rank] {
			joined = append(joined, float32(float64(v)*own.scale))
		}
	}
	return joined
}

// CopyUnder puts an adapter, with all it lies on, into the folder of one that was trained on it.
func CopyUnder(adapter, dir string) error {
	to := filepath.Join(dir, underDir)
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(adapter, weightsStem+"*"))
	if err != nil {
		return err
	}
	for _, path := range append(files, filepath.Join(adapter, configFile)) {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := atomicfile.WriteBytes(filepath.Join(to, filepath.Base(path)), data); err != nil {
			return err
		}
	}
	below := filepath.Join(adapter, underDir)
	if info, err := fs.Stat(os.DirFS(adapter), underDir); err == nil && info.IsDir() {
		return CopyUnder(below, to)
	}
	return nil
}
