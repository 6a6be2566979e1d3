package exposure

import (
	"errors"
	"fmt"
	"slices"
)

// Settings say what to plant and how to test: the exposure section of a recipe, or a file of its own.
type Settings struct {
	// Formats are the kinds of canaries; the default is one of nine digits.
	Formats []Format `yaml:"formats,omitempty" json:"formats"`
	// Repetitions are how often canaries are planted; 0 is the control. The default is 0, 1, 2, 4, 8,
	// 16, 32.
	Repetitions []int `yaml:"repetitions,omitempty" json:"repetitions"`
	// Canaries is how many there are of each number of repetitions and each format, 10 by default.
	Canaries int `yaml:"canaries,omitempty" json:"canaries"`
	// References is how many alternatives a canary is ranked among, 1,000 by default.
	References int `yaml:"references,omitempty" json:"references"`
	// Seed is what everything is drawn from.
	Seed uint64 `yaml:"seed,omitempty" json:"seed"`
}

// WithDefaults fills in what is left out.
func (s Settings) WithDefaults() Settings {
	if len(s.Formats) == 0 {
		s.Formats = []Format{{Name: "number", Input: "the secret of @@@@ is", Target: "#########",
			Classes: map[string]Class{"#": {"digits"}, "@": {"lower"}}}}
	}
	if len(s.Repetitions) == 0 {
		s.Repetitions = []int{0, 1, 2, 4, 8, 16, 32}
	}
	if s.Canaries == 0 {
		s.Canaries = 10
	}
	if s.References == 0 {
		s.References = 1000
	}
	return s
}

// Validate says everything that is wrong with the settings.
func (s Settings) Validate() error {
	s = s.WithDefaults()
	var errs []error
	seen := map[string]bool{}
	for _, f := range s.Formats {
		errs = append(errs, f.Validate())
		if seen[f.Name] {
			errs = append(errs, &FormatError{f.Name, "there is another one of this name"})
		}
		seen[f.Name] = true
	}
	for i, r := range s.Repetitions {
		if r < 0 || r > 1_000_000 || slices.Contains(s.Repetitions[:i], r) {
			errs = append(errs, fmt.Errorf("repetitions: %d is negative, too many, or given twice", r))
		}
	}
	if s.Canaries < 0 || s.Canaries > 100_000 {
		errs = append(errs, fmt.Errorf("canaries: %d is not between 1 and 100000", s.Canaries))
	}
	if s.References < 0 || s.References > 10_000_000 {
		errs = append(errs, fmt.Errorf("references: %d is not between 1 and 10000000", s.References))
	}
	return errors.Join(errs...)
}
