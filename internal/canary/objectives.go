package canary

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/t5ctl/t5ctl/internal/strictyaml"
)

// Plan says what a canary is judged by. Its file is YAML, version 1; an unknown key is an error.
type Plan struct {
	Version int `yaml:"version" json:"version"`
	// Alpha bounds the chance of a wrong verdict over all looks: that a canary which is as good as it
	// must be fails, and likewise that one which is not passes.
	Alpha float64 `yaml:"alpha" json:"alpha"`
	// MaxBurn is how fast the error budget may be spent: 1 is exactly what the objectives allow.
	MaxBurn    float64     `yaml:"max_burn" json:"max_burn"`
	Objectives []Objective `yaml:"objectives" json:"objectives"`
}

// Objective is one thing that a canary must keep: a share of bad events (Total with Bad or Good)
// or a mean of values between 0 and 1 (Sum and Count). All four select series as Prometheus does:
// name{label="value"}.
type Objective struct {
	Name  string `yaml:"name" json:"name"`
	Total string `yaml:"total,omitempty" json:"total,omitempty"`
	Bad   string `yaml:"bad,omitempty" json:"bad,omitempty"`
	Good  string `yaml:"good,omitempty" json:"good,omitempty"`
	// Budget is the share of events that may be bad.
	Budget float64 `yaml:"budget,omitempty" json:"budget,omitempty"`
	// WorseBy is the odds ratio canary : baseline of bad events that is still accepted; 1.5 where it
	// is not given.
	WorseBy float64 `yaml:"worse_by,omitempty" json:"worse_by,omitempty"`

	Sum   string `yaml:"sum,omitempty" json:"sum,omitempty"`
	Count string `yaml:"count,omitempty" json:"count,omitempty"`
	// MaxDrop is how much lower than the baseline's the canary's mean may be.
	MaxDrop float64 `yaml:"max_drop,omitempty" json:"max_drop,omitempty"`
	// Weight is the objective's part of the one error budget; 1 where it is not given.
	Weight float64 `yaml:"weight,omitempty" json:"weight,omitempty"`
}

func (o Objective) isMean() bool { return o.Sum != "" || o.Count != "" }

// Selectors are all series that the objective reads, in the order of its fields.
func (o Objective) selectors() []string {
	return slices.DeleteFunc([]string{o.Total, o.Bad, o.Good, o.Sum, o.Count}, func(s string) bool { return s == "" })
}

// PlanError says what is wrong with a plan.
type PlanError struct {
	Path string
	Err  error
}

func (e *PlanError) Error() string { return fmt.Sprintf("objectives %s: %v", e.Path, e.Err) }
func (e *PlanError) Unwrap() error { return e.Err }

// ParsePlan reads a file of objectives; path is for messages.
func ParsePlan(path string, data []byte) (Plan, error) {
	p := Plan{Alpha: 0.05, MaxBurn: 1}
	if _, err := strictyaml.Unmarshal(path, data, &p); err != nil {
		return Plan{}, err
	}
	for i := range p.Objectives {
		p.Objectives[i] = p.Objectives[i].withDefaults()
	}
	if err := p.validate(); err != nil {
		return Plan{}, &PlanError{path, err}
	}
	return p, nil
}

func (o Objective) withDefaults() Objective {
	if o.Weight == 0 {
		o.Weight = 1
	}
	if o.WorseBy == 0 && !o.isMean() {
		o.WorseBy = 1.5
	}
	return o
}

func (p Plan) validate() error {
	var errs []error
	if p.Version != 1 {
		errs = append(errs, fmt.Errorf("version %d: this version reads 1", p.Version))
	}
	if !(p.Alpha > 0 && p.Alpha < 0.5) {
		errs = append(errs, fmt.Errorf("alpha %v is not between 0 and 0.5", p.Alpha))
	}
	if !(p.MaxBurn > 0) || math.IsInf(p.MaxBurn, 0) {
		errs = append(errs, fmt.Errorf("max_burn %v is not above 0", p.MaxBurn))
	}
	if len(p.Objectives) == 0 {
		errs = append(errs, errors.New("objectives: none are given"))
	}
	seen := map[string]bool{}
	for i, o := range p.Objectives {
		err := o.validate()
		if err == nil && seen[o.Name] {
			err = errors.New("the name is given twice")
		}
		if seen[o.Name] = true; err != nil {
			errs = append(errs, fmt.Errorf("objectives[%d] %s: %w", i, o.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (o Objective) validate() error {
	if o.Name == "" {
		return errors.New("name is missing")
	}
	for _, s := range o.selectors() {
		if _, err := ParseSelector(s); err != nil {
			return err
		}
	}
	if !(o.Weight > 0) || math.IsInf(o.Weight, 0) {
		return fmt.Errorf("weight %v is not above 0", o.Weight)
	}
	if o.isMean() {
		switch {
		case o.Sum == "" || o.Count == "":
			return errors.New("a mean needs sum and count")
		case o.Total != "" || o.Bad != "" || o.Good != "" || o.Budget != 0 || o.WorseBy != 0:
			return errors.New("a mean (sum, count, max_drop) is no share of bad events (total, bad or good, budget, worse_by)")
		case !(o.MaxDrop > 0 && o.MaxDrop < 1):
			return fmt.Errorf("max_drop %v is not between 0 and 1", o.MaxDrop)
		}
		return nil
	}
	switch {
	case o.Total == "" || (o.Bad == "") == (o.Good == ""):
		return errors.New("give total with bad or good, or sum and count")
	case !(o.Budget > 0 && o.Budget < 1):
		return fmt.Errorf("budget %v is not between 0 and 1", o.Budget)
	case !(o.WorseBy >= 1) || math.IsInf(o.WorseBy, 0):
		return fmt.Errorf("worse_by %v is below 1", o.WorseBy)
	case o.MaxDrop != 0:
		return errors.New("max_drop is for means")
	}
	return nil
}

//go:embed default.yaml
var defaultPlan []byte //nolint:gochecknoglobals // embedding needs a variable

// DefaultPlan is the text of the plan for the metrics of t5ctl serve.
func DefaultPlan() []byte { return bytes.Clone(defaultPlan) }
