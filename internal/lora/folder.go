package lora

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/safetensors"
	"github.com/t5ctl/t5ctl/internal/t5"
)

const (
	weightsStem = "adapter_model"
	configFile  = "adapter_config.json"
	prefix      = "base_model.model."
)

// peftConfig is the part of adapter_config.json that is read and written here.
type peftConfig struct {
	PeftType      string             `json:"peft_type"`
	TaskType      string             `json:"task_type"`
	Base          string             `json:"base_model_name_or_path"`
	R             int                `json:"r"`
	Alpha         float64            `json:"lora_alpha"`
	Dropout       float64            `json:"lora_dropout"`
	TargetModules json.RawMessage    `json:"target_modules"`
	Bias          string             `json:"bias"`
	UseRSLoRA     bool               `json:"use_rslora"`
	FanInFanOut   bool               `json:"fan_in_fan_out"`
	InferenceMode bool               `json:"inference_mode"`
	UseDoRA       bool               `json:"use_dora"`
	RankPattern   map[string]int     `json:"rank_pattern"`
	AlphaPattern  map[string]float64 `json:"alpha_pattern"`
	ModulesToSave []string           `json:"modules_to_save"`
}

// UnsupportedError says which feature of a PEFT adapter is not known here.
type UnsupportedError struct{ Path, Feature string }

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s: %s is not supported", e.Path, e.Feature)
}

func (p peftConfig) unsupported() string {
	switch {
	case p.PeftType != "LORA":
		return fmt.Sprintf("peft_type %q", p.PeftType)
	case p.FanInFanOut:
		return "fan_in_fan_out"
	case p.Bias != "" && p.Bias != "none":
		return fmt.Sprintf("bias %q", p.Bias)
	}
	return ""
}

// Folder is an adapter folder that was read: the adapter and its tensors in the order of Specs.
type Folder struct {
	Adapter  *Adapter
	Base     string // base_model_name_or_path
	Metadata map[string]string
	Values   [][]float32
	Layers   []Options // of the adapters that lie on each other, the lowest first
}

// readOne reads a PEFT folder without what lies under it.
func readOne(dir string, config t5.Config) (*Folder, error) {
	path := filepath.Join(dir, configFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var p peftConfig
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("parsing %s: %w", path, err)
	}
	if feature := p.unsupported(); feature != "" {
		return nil, &UnsupportedError{Path: path, Feature: feature}
	}
	targets, err := parseTargets(p.TargetModules)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	adapter, err := New(Options{
		Rank: p.R, Alpha: p.Alpha, Dropout: p.Dropout, Targets: targets, RSLoRA: p.UseRSLoRA, DoRA: p.UseDoRA,
		RankPattern: p.RankPattern, AlphaPattern: p.AlphaPattern, ModulesToSave: p.ModulesToSave,
	}, config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	folder := &Folder{Adapter: adapter, Base: p.Base, Layers: []Options{adapter.Options}}
	return folder, folder.readWeights(dir)
}

func parseTargets(raw json.RawMessage) ([]string, error) {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}, nil
	}
	var many []string
	if err := json.Unmarshal(raw, &many); err != nil {
		return nil, fmt.Errorf("target_modules is neither a string nor a list of strings")
	}
	slices.Sort(many)
	return many, nil
}

func (f *Folder) readWeights(dir string) error {
	file, err := safetensors.OpenFolder(dir, weightsStem)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // opened for reading
	f.Metadata = file.Metadata()
	wrong := t5.WeightsError{Dir: dir}
	known := map[string]bool{}
	for _, spec := range f.Adapter.Specs() {
		name := spec.Name
		known[name] = true
		t, ok := file.Tensor(name)
		switch {
		case !ok:
			wrong.Missing = append(wrong.Missing, name)
			continue
		case !slices.Equal(t.Shape, spec.Shape):
			wrong.Misshaped = append(wrong.Misshaped, fmt.Sprintf("%s %v (want %v)", name, t.Shape, spec.Shape))
			continue
		}
		values, err := t.Float32s()
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		f.Values = append(f.Values, values)
	}
	for _, name := range file.Names() {
		if !known[name] {
			wrong.Extra = append(wrong.Extra, name)
		}
	}
	if len(wrong.Missing)+len(wrong.Extra)+len(wrong.Misshaped) > 0 {
		return &wrong
	}
	return nil
}

// WriteConfig writes adapter_config.json.
func WriteConfig(dir string, o Options, base string) error {
	var targets any = o.Targets
	if len(o.Targets) == 1 && (o.Targets[0] == AllLinear || strings.ContainsAny(o.Targets[0], `*+?()[]{}|\^$`)) {
		targets = o.Targets[0]
	}
	raw, err := json.Marshal(targets)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(peftConfig{
		PeftType: "LORA", TaskType: "SEQ_2_SEQ_LM", Base: base, R: o.Rank, Alpha: o.Alpha, Dropout: o.Dropout,
		TargetModules: raw, Bias: "none", UseRSLoRA: o.RSLoRA, InferenceMode: true, UseDoRA: o.DoRA,
		RankPattern: notNil(o.RankPattern), AlphaPattern: notNil(o.AlphaPattern), ModulesToSave: o.ModulesToSave,
	}, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(dir, configFile), append(data, '\n'))
}

// notNil is an empty map where there is none, which PEFT wants as {}.
func notNil[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}
