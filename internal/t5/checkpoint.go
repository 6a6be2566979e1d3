package t5

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/t5ctl/t5ctl/internal/safetensors"
)

// Checkpoint is a model folder's config.json and weights, checked against each other: no tensor
// is missing, none is extra, none has another shape. The weights stay memory-mapped until Close.
type Checkpoint struct {
	Config   Config
	JSON     []byte // config.json as it was read
	Metadata map[string]string
	Tensors  []safetensors.Tensor                          // in the order of Config.Specs
	Change   func(name string, values []float32) []float32 // what becomes of a tensor that Float32s or Place give; nil: nothing
	folder   *safetensors.File
}

// WeightsError says all that is wrong between a config.json and its weights.
type WeightsError struct {
	Dir                       string
	Missing, Extra, Misshaped []string
}

func (e *WeightsError) Error() string {
	var parts []string
	for _, p := range []struct {
		what  string
		names []string
	}{{"missing", e.Missing}, {"extra", e.Extra}, {"mis-shaped", e.Misshaped}} {
		if len(p.names) > 0 {
			parts = append(parts, p.what+" "+some(p.names))
		}
	}
	return fmt.Sprintf("the weights in %s do not fit its config.json: %s", e.Dir, strings.Join(parts, "; "))
}

// some lists the first few of many names.
func some(names []string) string {
	const few = 4
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

// Open reads the checkpoint in a Hugging Face model folder.
func Open(dir string) (*Checkpoint, error) {
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, err
	}
	config, err := ParseConfig(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	folder, err := safetensors.OpenFolder(dir, "model")
	if err != nil {
		return nil, err
	}
	if config.ScaleDecoderOutputs == nil {
		scaled := config.scaled()
		config.ScaleDecoderOutputs = &scaled
	}
	// transformers 5 says "tied" of every model; whether there is a head is for the file to say
	if head, ok := folder.Tensor(Head); ok {
		shared, _ := folder.Tensor(Embedding)
		config.TieWordEmbeddings = config.TieWordEmbeddings && bytes.Equal(head.Data, shared.Data)
	}
	found, err := match(config, folder, dir)
	if err != nil {
		_ = folder.Close() // the mismatch is what matters
		return nil, err
	}
	return &Checkpoint{Config: config, JSON: data, Metadata: folder.Metadata(), Tensors: found, folder: folder}, nil
}

func match(c Config, folder *safetensors.File, dir string) ([]safetensors.Tensor, error) {
	wrong := WeightsError{Dir: dir}
	aliases := c.Aliases()
	byTarget := map[string]string{}
	for alias, name := range aliases {
		if _, ok := folder.Tensor(alias); ok {
			byTarget[name] = max(byTarget[name], alias)
		}
	}
	var found []safetensors.Tensor
	known := map[string]bool{}
	for _, spec := range c.Specs() {
		known[spec.Name] = true
		t, ok := folder.Tensor(spec.Name)
		if !ok && byTarget[spec.Name] != "" {
			t, ok = folder.Tensor(byTarget[spec.Name])
			t.Name = spec.Name
		}
		switch {
		case !ok:
			wrong.Missing = append(wrong.Missing, spec.Name)
		case !slices.Equal(t.Shape, spec.Shape):
			wrong.Misshaped = append(wrong.Misshaped, fmt.Sprintf("%s %v (want %v)", spec.Name, t.Shape, spec.Shape))
		}
		found = append(found, t)
	}
	for _, name := range folder.Names() {
		if _, alias := aliases[name]; !known[name] && !alias {
			wrong.Extra = append(wrong.Extra, name)
		}
	}
	if len(wrong.Missing)+len(wrong.Extra)+len(wrong.Misshaped) > 0 {
		return nil, &wrong
	}
	return found, nil
}

// Close releases the mapping; Tensors must not be used any more.
func (c *Checkpoint) Close() error { return c.folder.Close() }

// Forget lets the system take back the memory of what was read; see safetensors.File.
func (c *Checkpoint) Forget() { c.folder.Forget() }

// Float32s reads one tensor.
func (c *Checkpoint) Float32s(name string) ([]float32, error) {
	i := slices.IndexFunc(c.Tensors, func(t safetensors.Tensor) bool { return t.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("the model has no tensor %s", name)
	}
	return c.values(c.Tensors[i])
}

// values are a tensor's, as Change makes them.
func (c *Checkpoint) values(t safetensors.Tensor) ([]float32, error) {
	values, err := t.Float32s()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", t.Name, err)
	}
	if c.Change != nil {
		values = c.Change(t.Name, values)
	}
	return values, nil
}

// Place puts the weights where `put` says, as float32, in the order of Config.Specs.
func (c *Checkpoint) Place(put func(values []float32, dims ...int) (*tensors.Tensor, error)) ([]*tensors.Tensor, error) {
	placed := make([]*tensors.Tensor, len(c.Tensors))
	for i, t := range c.Tensors {
		values, err := c.values(t)
		if err != nil {
			return nil, err
		}
		if placed[i], err = put(values, t.Shape...); err != nil {
			return nil, err
		}
		c.Forget()
	}
	return placed, nil
}
