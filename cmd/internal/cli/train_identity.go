package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/internal/strictyaml"
	"github.com/t5ctl/t5ctl/recipes"
	"github.com/t5ctl/t5ctl/trainer"
)

// identity is what decides the result of a run, and what a resumed one must share: each setting by
// its key, and digests in the place of paths. Settings that only change what is told or kept are
// left out, and so are empty ones: a recipe says the same with a key left out and with the key empty.
type identity map[string]string

func (t *training) identify() (identity, error) {
	r := t.recipe.Recipe
	r.Description, r.Eval, r.Gates, r.Tracking = "", eval.Suite{}, nil, recipes.Tracking{}
	r.Train.LogEvery, r.Train.Keep = 0, trainer.Keep{}
	r.Data.Train, r.Data.Validation, r.Data.Test, r.Base, r.Tokenizer.Path = nil, nil, nil, "", ""
	r.Data.Tasks = slices.Clone(r.Data.Tasks)
	for i := range r.Data.Tasks {
		r.Data.Tasks[i].Train, r.Data.Tasks[i].Validation = nil, nil
	}
	r.Train.Distill.Teacher = t.taught
	id, err := settingsIn(r)
	if err != nil {
		return nil, err
	}
	id["base"], id["tokenizer"] = t.baseTree, string(t.tokenizer.Mode())+" "+t.tokenizer.Hash()
	for _, s := range t.lineage.Splits {
		id["data."+string(s.Split)] = s.Fingerprint
	}
	maps.DeleteFunc(id, func(key, value string) bool {
		if strings.HasPrefix(key, "train.gpu.") { // but for TF32 it is about memory
			return !t.gpu || key != "train.gpu.tf32"
		}
		return value == "" || value == "[]" || value == "{}"
	})
	return id, nil
}

// settle finds the run's identity, and gives the fingerprint that its checkpoints carry. A folder
// that holds another run is refused.
func (t *training) settle() (string, error) {
	var err error
	if t.identity, err = t.identify(); err != nil {
		return "", err
	}
	if t.record.Fingerprint == "" {
		return t.identity.fingerprint()
	}
	changed, err := t.identity.since(t.record.Identity)
	if err == nil && len(changed) > 0 {
		err = &trainer.OtherRunError{Dir: string(t.dir), Changed: changed}
	}
	return t.record.Fingerprint, err
}

// settingsIn is every setting of a recipe by its dotted key.
func settingsIn(r recipes.Recipe) (identity, error) {
	text, err := r.YAML()
	if err != nil {
		return nil, err
	}
	return strictyaml.Flatten("", text)
}

// fingerprint stands for the whole of it.
func (id identity) fingerprint() (string, error) {
	data, err := json.Marshal(id)
	return digest.Bytes(data), err
}

// since lists what is not as it was then. A setting that an older t5ctl did not know is the same as
// long as it stands at its default.
func (id identity) since(then identity) ([]string, error) {
	defaults, err := settingsIn(recipes.Default())
	if err != nil {
		return nil, err
	}
	defaults["train.devices"] = "1" // all that it could be
	keys := maps.Clone(id)
	maps.Copy(keys, then)
	var changed []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		now, was := id[key], then[key]
		_, known := then[key]
		if now == was || !known && now == defaults[key] {
			continue
		}
		changed = append(changed, fmt.Sprintf("%s is %s, was %s", key, orNone(now), orNone(was)))
	}
	return changed, nil
}

func orNone(value string) string {
	if value == "" {
		return "not set"
	}
	return short(value)
}
