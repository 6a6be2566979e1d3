package exposure

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
)

// ManifestSuffix follows the name of the planted data in the name of its manifest.
const ManifestSuffix = ".canaries.json"

// ManifestSchema is the version of the manifest that this package writes.
const ManifestSchema = 1

// Manifest records what was planted where, and all that a later test needs.
type Manifest struct {
	Schema    int      `json:"schema"`
	Kind      string   `json:"kind"` // "canaries"
	Data      DataFile `json:"data"` // the planted data
	Source    DataFile `json:"source"`
	Settings  Settings `json:"settings"`
	Equal     bool     `json:"equal_tokens"` // all secrets and alternatives of a format have one length in tokens
	Lengths   []int    `json:"token_lengths,omitempty"`
	Tokenizer string   `json:"tokenizer,omitempty"` // digest of the tokenizer that lengths are of
	Spaces    []Space  `json:"spaces"`
	Canaries  []Canary `json:"canaries"`
}

// DataFile is a file by name and content.
type DataFile struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Rows   int    `json:"rows"`
}

// Space is how many secrets a format can have.
type Space struct {
	Format      string  `json:"format"`
	Size        string  `json:"size"` // in decimal; it may be large
	MaxExposure float64 `json:"max_exposure"`
}

// Canary is one secret and where it was planted.
type Canary struct {
	ID          string `json:"id"`
	Format      string `json:"format"`
	Repetitions int    `json:"repetitions"`
	Input       string `json:"input"`
	Target      string `json:"target"`
	Seed        uint64 `json:"seed"`
	Positions   []int  `json:"positions"` // rows of the planted data, from 0
}

// ManifestError says why a file is no manifest, or not that of the data.
type ManifestError struct{ Path, Reason string }

func (e *ManifestError) Error() string {
	return fmt.Sprintf("canary manifest %s: %s", e.Path, e.Reason)
}

// ParseManifest reads a manifest; path is for messages. An unknown key is an error.
func ParseManifest(path string, data []byte) (Manifest, error) {
	var m Manifest
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return m, &ManifestError{path, err.Error()}
	}
	if m.Kind != "canaries" || m.Schema != ManifestSchema {
		return m, &ManifestError{path, fmt.Sprintf("is of kind %q and schema %d, not canaries and %d", m.Kind, m.Schema, ManifestSchema)}
	}
	if err := m.Settings.Validate(); err != nil {
		return m, &ManifestError{path, err.Error()}
	}
	for i, c := range m.Canaries {
		if len(c.Positions) != c.Repetitions {
			return m, &ManifestError{path, fmt.Sprintf("canary %d has %d positions for %d repetitions", i, len(c.Positions), c.Repetitions)}
		}
		if m.format(c.Format) == nil {
			return m, &ManifestError{path, fmt.Sprintf("canary %d has format %q, which the settings lack", i, c.Format)}
		}
	}
	return m, nil
}

// Encode writes the manifest as indented JSON.
func (m *Manifest) Encode(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(m)
}

// Fingerprint is the digest of all that decides what a test measures; where the data lies and where
// rows stand in it does not.
func (m *Manifest) Fingerprint() string {
	h := sha256.New()
	for _, c := range m.Canaries {
		_ = json.NewEncoder(h).Encode([]any{c.ID, c.Format, c.Repetitions, c.Input, c.Target}) // a hash does not fail
	}
	_ = json.NewEncoder(h).Encode(m.Settings)
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

func (m *Manifest) format(name string) *Format {
	for i := range m.Settings.Formats {
		if m.Settings.Formats[i].Name == name {
			return &m.Settings.Formats[i]
		}
	}
	return nil
}
