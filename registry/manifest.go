package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/modelpack/model-spec/schema"
	v1 "github.com/modelpack/model-spec/specs-go/v1"
	digests "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/t5ctl/t5ctl/internal/digest"
)

// ArtifactTypeEvidence is the type of the manifests that bind reports and records to a version.
const ArtifactTypeEvidence = "application/vnd.t5ctl.evidence.v1+json"

// Annotations of the manifests. They are covered by the manifest's digest.
const (
	annotationKind         = "dev.t5ctl.kind"          // model or adapter
	annotationTree         = "dev.t5ctl.tree"          // digest of the model files alone
	annotationCanaries     = "dev.t5ctl.canaries"      // "true": trained on planted canaries
	annotationBaseName     = "dev.t5ctl.base.name"     // adapter: base as the run named it
	annotationBaseManifest = "dev.t5ctl.base.manifest" // adapter: base's digest in the registry
	annotationBaseTree     = "dev.t5ctl.base.tree"     // adapter: digest of the base's files
	annotationEvidenceKind = "dev.t5ctl.evidence.kind"
	annotationEvidenceName = "dev.t5ctl.evidence.name"
)

const (
	maxManifest = 4 << 20 // what registries accept
	maxLayers   = 4096
	maxPath     = 512
)

// Layer is one file of a version.
type Layer struct {
	Path      string `json:"path"` // slash-separated, below the model's folder
	MediaType string `json:"media_type"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

func (l Layer) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType: l.MediaType,
		Digest:    digests.Digest(l.Digest),
		Size:      l.Size,
		Annotations: map[string]string{
			v1.AnnotationFilepath:   l.Path,
			ocispec.AnnotationTitle: l.Path,
		},
	}
}

// Base is the model that an adapter was trained on.
type Base struct {
	Name     string `json:"name"`               // as the run named it: a reference or a folder
	Manifest string `json:"manifest,omitempty"` // its digest in the registry, where it is there
	Tree     string `json:"tree"`               // digest of its files, wherever it lies
}

// About is what a version's configuration says of the model. Empty fields are left out.
type About struct {
	Family      string   // such as t5
	Title       string   //
	Description string   //
	Licenses    []string // SPDX
	ParamSize   string   // such as 60M
	Precision   string   // such as bf16
	Revision    string   // of the code that trained it
}

// Model is a version's manifest, read.
type Model struct {
	Kind     string    // "model" or "adapter"
	Tree     string    // digest of the model files alone
	Created  time.Time // zero: not recorded
	Canaries bool
	Base     *Base // of an adapter
	Config   ocispec.Descriptor
	Layers   []Layer
}

// treeDigest names the model files alone: what must be the same for two folders to be the same
// model. Documentation does not count.
func treeDigest(layers []Layer) string {
	var list strings.Builder
	for _, layer := range layers {
		if layer.MediaType != v1.MediaTypeModelDocRaw {
			fmt.Fprintf(&list, "%s  %s\n", layer.Digest, layer.Path)
		}
	}
	return digest.Bytes([]byte(list.String()))
}

// modelConfig is the ModelPack configuration, checked against its schema. No clock, user or
// machine goes into it: the same inputs give the same bytes.
func modelConfig(name string, about About, created time.Time, layers []Layer) ([]byte, error) {
	config := v1.Model{
		Descriptor: v1.ModelDescriptor{
			Name: name, Family: about.Family, Title: about.Title, Description: about.Description,
			Licenses: about.Licenses, Revision: about.Revision,
		},
		ModelFS: v1.ModelFS{Type: "layers"},
		Config: v1.ModelConfig{
			Architecture: "transformer", Format: "safetensors",
			ParamSize: about.ParamSize, Precision: about.Precision,
			Capabilities: &v1.ModelCapabilities{
				InputTypes: []v1.Modality{v1.TextModality}, OutputTypes: []v1.Modality{v1.TextModality},
			},
		},
	}
	if !created.IsZero() {
		at := created.UTC().Truncate(time.Second)
		config.Descriptor.CreatedAt = &at
	}
	for _, layer := range layers {
		config.ModelFS.DiffIDs = append(config.ModelFS.DiffIDs, digests.Digest(layer.Digest))
	}
	data, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	if err := schema.ValidatorMediaTypeModelConfig.Validate(bytes.NewReader(data)); err != nil {
		return nil, fmt.Errorf("the model's configuration does not fit the ModelPack schema: %w", err)
	}
	return data, nil
}

// encode gives the manifest's bytes.
func (m Model) encode() ([]byte, error) {
	annotations := map[string]string{annotationKind: m.Kind, annotationTree: m.Tree}
	if !m.Created.IsZero() {
		annotations[ocispec.AnnotationCreated] = m.Created.UTC().Truncate(time.Second).Format(time.RFC3339)
	}
	if m.Canaries {
		annotations[annotationCanaries] = "true"
	}
	if m.Base != nil {
		annotations[annotationBaseName], annotations[annotationBaseTree] = m.Base.Name, m.Base.Tree
		if m.Base.Manifest != "" {
			annotations[annotationBaseManifest] = m.Base.Manifest
		}
	}
	manifest := ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: v1.ArtifactTypeModelManifest,
		Config:       m.Config,
		Annotations:  annotations,
	}
	for _, layer := range m.Layers {
		manifest.Layers = append(manifest.Layers, layer.descriptor())
	}
	data, err := json.Marshal(manifest)
	if err == nil && len(data) > maxManifest {
		err = &RequestError{fmt.Sprintf("the manifest is %d bytes long, %d are allowed", len(data), maxManifest)}
	}
	return data, err
}

// ParseModel reads a version's manifest, which may come from anywhere: every path is safe to
// create below a folder, every digest is well formed, and no key stands twice.
func ParseModel(data []byte) (Model, error) {
	manifest, err := parseManifest(data, v1.ArtifactTypeModelManifest)
	if err != nil {
		return Model{}, err
	}
	if manifest.Config.MediaType != v1.MediaTypeModelConfig {
		return Model{}, fmt.Errorf("the configuration has media type %q", manifest.Config.MediaType)
	}
	notes := manifest.Annotations
	m := Model{
		Kind: notes[annotationKind], Tree: notes[annotationTree],
		Canaries: notes[annotationCanaries] == "true", Config: manifest.Config,
	}
	if created := notes[ocispec.AnnotationCreated]; created != "" {
		if m.Created, err = time.Parse(time.RFC3339, created); err != nil {
			return Model{}, fmt.Errorf("created: %w", err)
		}
	}
	if notes[annotationBaseTree] != "" {
		m.Base = &Base{Name: notes[annotationBaseName], Manifest: notes[annotationBaseManifest], Tree: notes[annotationBaseTree]}
	}
	if m.Layers, err = modelLayers(manifest.Layers); err != nil {
		return Model{}, err
	}
	if tree := treeDigest(m.Layers); m.Tree != "" && m.Tree != tree {
		return Model{}, fmt.Errorf("the model files are %s, the manifest says %s", tree, m.Tree)
	}
	m.Tree = treeDigest(m.Layers)
	return m, nil
}

// parseManifest reads an image manifest of the given artifact type.
func parseManifest(data []byte, artifactType string) (ocispec.Manifest, error) {
	var manifest ocispec.Manifest
	if len(data) > maxManifest {
		return manifest, fmt.Errorf("the manifest is %d bytes long, %d are allowed", len(data), maxManifest)
	}
	if err := uniqueKeys(data); err != nil {
		return manifest, err
	}
	if err := json.Unmarshal(data, &manifest); err != nil {
		return manifest, err
	}
	switch {
	case manifest.SchemaVersion != 2 || manifest.MediaType != ocispec.MediaTypeImageManifest:
		return manifest, fmt.Errorf("not an image manifest: media type %q", manifest.MediaType)
	case manifest.ArtifactType != artifactType:
		return manifest, fmt.Errorf("its artifact type is %q, not %q", manifest.ArtifactType, artifactType)
	case len(manifest.Layers) > maxLayers:
		return manifest, fmt.Errorf("it has %d layers, %d are allowed", len(manifest.Layers), maxLayers)
	}
	for _, d := range append([]ocispec.Descriptor{manifest.Config}, manifest.Layers...) {
		if !digest.Valid(d.Digest.String()) || d.Size < 0 {
			return manifest, fmt.Errorf("%q of %d bytes does not describe a blob", d.Digest, d.Size)
		}
	}
	return manifest, nil
}

// modelLayers turns descriptors into files, refusing what could not be a file of a model.
func modelLayers(descriptors []ocispec.Descriptor) ([]Layer, error) {
	layers := make([]Layer, 0, len(descriptors))
	names := map[string]string{}
	for _, d := range descriptors {
		switch d.MediaType {
		case v1.MediaTypeModelWeightRaw, v1.MediaTypeModelWeightConfigRaw, v1.MediaTypeModelDocRaw:
		default:
			return nil, fmt.Errorf("layer %s has media type %q, which is not a plain file of a model", d.Digest, d.MediaType)
		}
		name := d.Annotations[v1.AnnotationFilepath]
		if err := checkPath(name); err != nil {
			return nil, err
		}
		if title, found := d.Annotations[ocispec.AnnotationTitle]; found && title != name {
			return nil, fmt.Errorf("one layer is called %q and %q", name, title)
		}
		folded := strings.ToLower(name)
		if other, found := names[folded]; found {
			return nil, fmt.Errorf("two layers would write the same file: %q and %q", other, name)
		}
		names[folded] = name
		layers = append(layers, Layer{Path: name, MediaType: d.MediaType, Digest: d.Digest.String(), Size: d.Size})
	}
	for _, layer := range layers { // a file cannot be a folder too
		for dir := path.Dir(strings.ToLower(layer.Path)); dir != "."; dir = path.Dir(dir) {
			if other, found := names[dir]; found {
				return nil, fmt.Errorf("layer %q is below %q, which is a file", layer.Path, other)
			}
		}
	}
	return layers, nil
}

// checkPath refuses every path that could lead out of the folder it is put under, on any system.
func checkPath(name string) error {
	switch {
	case name == "" || len(name) > maxPath || !utf8.ValidString(name):
		return fmt.Errorf("%q cannot be the path of a file", name)
	case path.IsAbs(name) || path.Clean(name) != name || name == ".." || strings.HasPrefix(name, "../"):
		return fmt.Errorf("path %q leads out of the model's folder", name)
	case strings.ContainsAny(name, "\\:\x00\n\r"):
		return fmt.Errorf("path %q holds a character that means something else on other systems", name)
	}
	return nil
}

// uniqueKeys refuses JSON in which an object has the same key twice: readers disagree on which
// one counts.
func uniqueKeys(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if err := uniqueValue(decoder, 0); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("something follows the JSON value")
	}
	return nil
}

func uniqueValue(decoder *json.Decoder, depth int) error {
	token, err := decoder.Token()
	if err != nil {
		return err
	}
	delim, composite := token.(json.Delim)
	if !composite {
		return nil
	}
	if depth > 100 {
		return fmt.Errorf("the JSON value is nested too deeply")
	}
	seen := map[string]bool{}
	for decoder.More() {
		if delim == '{' {
			key, err := decoder.Token()
			if err != nil {
				return err
			}
			name, _ := key.(string)
			if seen[name] {
				return fmt.Errorf("key %q stands twice", name)
			}
			seen[name] = true
		}
		if err := uniqueValue(decoder, depth+1); err != nil {
			return err
		}
	}
	_, err = decoder.Token()
	return err
}
