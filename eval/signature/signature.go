// Package signature writes the line that says how a score was computed, as sacreBLEU does, so that
// two scores can be compared only when they mean the same.
package signature

import (
	"fmt"
	"strconv"
	"strings"
)

// SacreBLEU is the release whose scores and signatures the metrics reproduce.
const SacreBLEU = "2.6.0"

// Field is one named choice of a metric, with its short name.
type Field struct{ Name, Short, Value string }

// Signature holds what every metric shares, then its own fields.
type Signature struct {
	Refs          int // references of each segment; -1 when segments differ
	Bootstrap     int // resamples; 0: none
	Randomization int // trials; 0: none
	Seed          string
	Fields        []Field
	Version       string
}

// String is the long form: nrefs:1|case:mixed|…|version:2.6.0.
func (s Signature) String() string { return s.format(false) }

// Short is the form with one-letter names: #:1|c:mixed|…|v:2.6.0.
func (s Signature) Short() string { return s.format(true) }

func (s Signature) format(short bool) string {
	refs := strconv.Itoa(s.Refs)
	if s.Refs < 0 {
		refs = "var"
	}
	fields := []Field{{"nrefs", "#", refs}}
	if s.Bootstrap > 0 {
		fields = append(fields, Field{"bs", "bs", strconv.Itoa(s.Bootstrap)})
	}
	if s.Randomization > 0 {
		fields = append(fields, Field{"ar", "ar", strconv.Itoa(s.Randomization)})
	}
	if s.Seed != "" {
		fields = append(fields, Field{"seed", "rs", s.Seed})
	}
	fields = append(append(fields, s.Fields...), Field{"version", "v", s.Version})
	parts := make([]string, len(fields))
	for i, f := range fields {
		name := f.Name
		if short {
			name = f.Short
		}
		parts[i] = name + ":" + f.Value
	}
	return strings.Join(parts, "|")
}

// YesNo writes a switch as sacreBLEU does.
func YesNo(on bool) string {
	if on {
		return "yes"
	}
	return "no"
}

// Format is a score line as sacreBLEU prints it: name|signature = score, with extra words after it.
func Format(name, sig string, width int, score float64, verbose string) string {
	line := fmt.Sprintf("%s|%s = %.*f", name, sig, width, score)
	if verbose != "" {
		line += " " + verbose
	}
	return line
}
