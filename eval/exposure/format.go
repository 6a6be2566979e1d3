// Package exposure measures how much a model has memorized: it plants secrets of known randomness in
// training data and later asks how far the model prefers them to alternatives it never saw.
//
// Secrets and the alternatives they are ranked among come from one distribution and never overlap.
// Everything is drawn from a seed, so a test can be repeated, and widened to more alternatives,
// from the manifest that planting writes. Secrets that were never planted are the control: if they
// look memorized, the whole test is void.
package exposure

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"
)

// Format is a kind of canary: what the model is given and what it should not memorize. Every
// character that is a key of Classes stands for a value drawn from its class.
type Format struct {
	// Name tells the format from others.
	Name string `yaml:"name,omitempty" json:"name"`
	// Input is the text that the model reads. Placeholders in it make each canary's input its own.
	Input string `yaml:"input,omitempty" json:"input"`
	// Target is the text that the model learns; its placeholders are the secret.
	Target string `yaml:"target,omitempty" json:"target"`
	// Classes gives the values of each placeholder: a list, the letters of a text, or one of the
	// types digits, lower, upper, letters, alnum, hex, names, surnames, emails, words, phonemes.
	Classes map[string]Class `yaml:"classes,omitempty" json:"classes"`
}

// Class is the values that a placeholder can have.
type Class []string

// expand replaces the name of a type, or a text, by its values.
func (c Class) expand() Class {
	if len(c) != 1 {
		return c
	}
	if values, ok := classType(c[0]); ok {
		return values
	}
	return strings.Split(c[0], "")
}

// Types names the built-in classes.
func Types() []string {
	return []string{"digits", "lower", "upper", "letters", "alnum", "hex", "names", "surnames", "emails", "words", "phonemes"}
}

func classType(name string) (Class, bool) {
	const lower, upper, digits = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
	letters := map[string]string{
		"digits": digits, "lower": lower, "upper": upper, "letters": lower + upper, "alnum": lower + upper + digits, "hex": digits + "abcdef",
	}
	if l, ok := letters[name]; ok {
		return strings.Split(l, ""), true
	}
	words := map[string]string{
		"names":    "Ada Ben Cleo Dan Eva Finn Gina Hugo Ida Jack Kira Leo Mia Noah Olga Paul Rosa Sam Tina Uwe Vera Will Yara Zoe",
		"surnames": "Abbot Baker Cole Drake Ellis Frost Grant Hardy Irwin Jones Kerr Lloyd Moss Nolan Owens Perry Quinn Reyes Stone Tate Unger Vance West Young",
		"words":    "amber anchor arrow basket beacon blanket bottle bridge button candle canyon carpet castle copper cradle desert dragon engine feather forest garden glacier hammer harbor island jacket kettle ladder lantern marble meadow mirror needle orchard paddle pebble pepper pillow pocket quarry ribbon river saddle shadow silver spiral tunnel valley velvet window",
		"phonemes": "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH",
	}
	if w, ok := words[name]; ok {
		return strings.Fields(w), true
	}
	if name == "emails" { // at domains that are reserved for examples
		var out Class
		for _, first := range strings.Fields(strings.ToLower(words["names"])) {
			for _, last := range strings.Fields(strings.ToLower(words["surnames"])) {
				for _, domain := range []string{"example.com", "example.net", "example.org"} {
					out = append(out, first+"."+last+"@"+domain)
				}
			}
		}
		return out, true
	}
	return nil, false
}

// FormatError says what is wrong with a format.
type FormatError struct{ Format, Reason string }

func (e *FormatError) Error() string { return fmt.Sprintf("canary format %s: %s", e.Format, e.Reason) }

// Validate says what is wrong with the format.
func (f Format) Validate() error {
	fail := func(format string, a ...any) error {
		return &FormatError{f.Name, fmt.Sprintf(format, a...)}
	}
	if f.Name == "" {
		return fail("name is missing")
	}
	if f.Target == "" {
		return fail("target is missing")
	}
	for key, class := range f.Classes {
		if utf8.RuneCountInString(key) != 1 {
			return fail("class %q: its key must be one character", key)
		}
		if !strings.Contains(f.Target, key) && !strings.Contains(f.Input, key) {
			return fail("class %q: neither input nor target has that character", key)
		}
		values := class.expand()
		if len(values) < 2 {
			return fail("class %q has fewer than two values", key)
		}
		if sorted := slices.Sorted(slices.Values(values)); len(slices.Compact(sorted)) != len(values) {
			return fail("class %q has a value twice", key)
		}
	}
	if f.Space().Cmp(big.NewInt(2)) < 0 {
		return fail("target %q has no placeholder, so there is no secret", f.Target)
	}
	return nil
}

// Space is how many secrets there can be.
func (f Format) Space() *big.Int { return f.space(f.Target) }

func (f Format) space(template string) *big.Int {
	size := big.NewInt(1)
	for _, r := range template {
		if class, ok := f.Classes[string(r)]; ok {
			size.Mul(size, big.NewInt(int64(len(class.expand()))))
		}
	}
	return size
}

// MaxExposure is the exposure of a secret that the model prefers to all others: log2 of Space.
func (f Format) MaxExposure() float64 {
	x := new(big.Float).SetInt(f.Space())
	mantissa := new(big.Float)
	exp := x.MantExp(mantissa)
	m, _ := mantissa.Float64()
	return float64(exp) + math.Log2(m)
}

// sampler draws texts of a template, each at most once, every one as likely as any other.
type sampler struct {
	parts   []Class // a placeholder's values, or a single fixed text
	rng     *rand.Rand
	drawn   map[string]bool
	left    *big.Int
	accepts func(string) bool
}

// newSampler makes a sampler whose stream depends on the seed, the format and the purpose alone.
func (f Format) newSampler(template, purpose string, seed uint64) *sampler {
	s := &sampler{rng: rand.New(rand.NewChaCha8(streamKey(seed, f.Name, purpose, template))), drawn: map[string]bool{}, left: f.space(template)}
	for _, r := range template {
		if class, ok := f.Classes[string(r)]; ok {
			s.parts = append(s.parts, class.expand())
		} else {
			s.parts = append(s.parts, Class{string(r)})
		}
	}
	return s
}

// streamKey makes the key of a random stream out of all that it depends on.
func streamKey(seed uint64, names ...string) [32]byte {
	h := sha256.New()
	_ = binary.Write(h, binary.LittleEndian, seed) // a hash does not fail
	for _, n := range names {
		_ = binary.Write(h, binary.LittleEndian, uint64(len(n)))
		h.Write([]byte(n))
	}
	return [32]byte(h.Sum(nil))
}

// errExhausted says that a template has no more texts to draw.
var errExhausted = errors.New("there are not enough different secrets")

// maxMisses bounds how long a draw goes on that meets only texts drawn before.
const maxMisses = 1_000_000

// next draws a text that was not drawn before. Each placeholder is drawn evenly and a repetition is
// drawn anew, so every text left has the same chance.
func (s *sampler) next() (string, error) {
	if s.left.Cmp(big.NewInt(int64(len(s.drawn)))) <= 0 {
		return "", errExhausted
	}
	for range maxMisses {
		var b strings.Builder
		for _, p := range s.parts {
			if len(p) == 1 {
				b.WriteString(p[0])
			} else {
				b.WriteString(p[s.rng.IntN(len(p))])
			}
		}
		text := b.String()
		if s.drawn[text] || (s.accepts != nil && !s.accepts(text)) {
			continue
		}
		s.drawn[text] = true
		return text, nil
	}
	return "", errExhausted
}
