package datasets

import (
	"cmp"
	"fmt"

	"github.com/t5ctl/t5ctl/internal/nearest"
)

// What an Objective makes of the data.
const (
	Supervised     = "supervised"      // a row's input is to become its target
	SpanCorruption = "span_corruption" // T5's own: name the spans that were masked in running text
	Denoise        = "denoise"         // write one whole text that was disturbed
	PrefixLM       = "prefix_lm"       // go on with running text
	Preference     = "preference"      // a row's chosen text is to become likelier than its rejected one (train.dpo)
)

// Objective makes examples in one of the ways that T5 is trained by; several are mixed by rate.
type Objective struct {
	// Kind is supervised, span_corruption, denoise, prefix_lm or preference.
	Kind string `yaml:"kind" json:"kind"`
	// Rate is the share of batches beside the other objectives' rates. The default is 1.
	Rate float64 `yaml:"rate,omitempty" json:"rate,omitempty"`
	// NoiseDensity is the share of tokens that span corruption masks. The default is 0.15.
	NoiseDensity float64 `yaml:"noise_density,omitempty" json:"noise_density,omitempty"`
	// MeanSpan is the mean length of the spans that are masked, in tokens. The default is 3.
	MeanSpan float64 `yaml:"mean_span,omitempty" json:"mean_span,omitempty"`
	// Drop is the share of tokens that denoising leaves out. The default is 0.1.
	Drop *float64 `yaml:"drop,omitempty" json:"drop,omitempty"`
	// Mask is the share of tokens that denoising hides behind sentinels.
	// The default is 0.1.
	Mask *float64 `yaml:"mask,omitempty" json:"mask,omitempty"`
	// Shuffle is how many places a token may move in denoising. The default is 3.
	Shuffle *int `yaml:"shuffle,omitempty" json:"shuffle,omitempty"`
	// Clean is the share of texts that denoising leaves as they are, which is copying.
	// The default is 0.1.
	Clean *float64 `yaml:"clean,omitempty" json:"clean,omitempty"`
}

// Kinds lists what Objective.Kind can be.
func Kinds() []string { return []string{Supervised, SpanCorruption, Denoise, PrefixLM, Preference} }

// settings are an Objective's numbers with nothing left open.
type settings struct {
	rate, density, span, drop, mask, clean float64
	shuffle                                int
}

func (o Objective) settings() settings {
	return settings{
		rate:    cmp.Or(o.Rate, 1),
		density: cmp.Or(o.NoiseDensity, 0.15),
		span:    cmp.Or(o.MeanSpan, 3),
		drop:    given(o.Drop, 0.1),
		mask:    given(o.Mask, 0.1),
		clean:   given(o.Clean, 0.1),
		shuffle: given(o.Shuffle, 3),
	}
}

// given is what the recipe says, 0 included, or else the usual.
func given[T any](v *T, usual T) T {
	if v == nil {
		return usual
	}
	return *v
}

// validate tells all that is wrong; field is where the objective stands in the recipe.
func (o Objective) validate(field string) (errs []error) {
	wrong := func(key, format string, args ...any) {
		errs = append(errs, &FieldError{Field: field + "." + key, Reason: fmt.Sprintf(format, args...)})
	}
	switch o.Kind {
	case Supervised, SpanCorruption, Denoise, PrefixLM, Preference:
	case "":
		wrong("kind", "is missing")
	default:
		hint := ""
		if near := nearest.Of(o.Kind, Kinds()); near != "" {
			hint = fmt.Sprintf("; did you mean %s?", near)
		}
		wrong("kind", "%q is none of %v%s", o.Kind, Kinds(), hint)
	}
	within := func(key string, v, low, high float64) {
		if !(v >= low && v <= high) { // not a number is outside too
			wrong(key, "%g is not between %g and %g", v, low, high)
		}
	}
	full := o.settings()
	within("rate", full.rate, 1e-3, 1e6)
	within("noise_density", full.density, 0.01, 0.99)
	within("mean_span", full.span, 1, 1000)
	within("drop", full.drop, 0, 0.95)
	within("mask", full.mask, 0, 0.95)
	within("clean", full.clean, 0, 1)
	within("shuffle", float64(full.shuffle), 0, 1000)
	return errs
}
