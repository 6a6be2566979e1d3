package pii

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Redactor replaces values by what names their type alone.
type Redactor struct {
	// Key makes pseudonyms: the same value has the same name in all documents, and nobody without the
	// key can try out values. Nil numbers the values of each document.
	Key []byte
	// Open and Close stand around a placeholder. The usual ones are square brackets: T5's vocabulary
	// cannot spell < and >.
	Open, Close string
	// Types are those that are replaced; nil is all.
	Types []string
}

// Document is one text, or several that belong together: a value has one name throughout.
type Document struct {
	redactor Redactor
	names    map[string]string // by type and value
	numbers  map[string]int    // last number of each type
}

// Document starts one.
func (r Redactor) Document() *Document {
	if r.Open == "" && r.Close == "" {
		r.Open, r.Close = "[", "]"
	}
	return &Document{redactor: r, names: map[string]string{}, numbers: map[string]int{}}
}

// maxRounds bounds how often a text is looked at again: what is left after a value is gone may read
// as another.
const maxRounds = 8

// Redact replaces the values of a text, and gives those that were replaced, with places in the text as it
// was when each was found.
func (d *Document) Redact(text string) (clean string, found []Value) {
	for range maxRounds {
		var b strings.Builder
		last := 0
		for _, s := range Scan(text) {
			if d.redactor.Types != nil && !slices.Contains(d.redactor.Types, s.Type) {
				continue
			}
			value := text[s.Start:s.End]
			found = append(found, Value{s, value})
			b.WriteString(text[last:s.Start])
			b.WriteString(d.name(s.Type, value, text))
			last = s.End
		}
		if last == 0 {
			return text, found
		}
		b.WriteString(text[last:])
		text = b.String()
	}
	return text, found
}

// Value is a value that was found. Its text is for comparing and hashing, not for telling.
type Value struct {
	Span
	Text string
}

// name is the placeholder of a value.
func (d *Document) name(kind, value, text string) string {
	key := kind + "\x00" + value
	if name, ok := d.names[key]; ok {
		return name
	}
	upper := strings.ToUpper(kind)
	name := ""
	if d.redactor.Key != nil {
		name = d.redactor.Open + upper + "_" + pseudonym(d.redactor.Key, key) + d.redactor.Close
	}
	for name == "" || d.redactor.Key == nil && strings.Contains(text, name) { // of an earlier redaction
		d.numbers[kind]++
		name = fmt.Sprintf("%s%s_%d%s", d.redactor.Open, upper, d.numbers[kind], d.redactor.Close)
	}
	d.names[key] = name
	return name
}

// pseudonym is a keyed hash in letters: digits could read as a number of some kind.
func pseudonym(key []byte, value string) string {
	sum := mac(key, value)
	out := make([]byte, 16)
	for i := range out {
		out[i] = 'a' + sum[i/2]>>(4*(i%2))&15
	}
	return string(out)
}

// Hash names a value in reports: a keyed hash, without whose key values cannot be tried out.
func Hash(key []byte, kind, value string) string {
	return hex.EncodeToString(mac(key, kind+"\x00"+value)[:8])
}

func mac(key []byte, value string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(value)) // a hash does not fail
	return h.Sum(nil)
}
