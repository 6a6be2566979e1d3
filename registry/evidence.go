package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	digests "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/registry/sign"
)

// The kinds of evidence that the registry itself understands. Others are kept as they are.
const (
	EvidenceGate = "gate" // result of gates, judged before a promotion
	EvidenceRun  = "run"  // how the model was made

	EvidenceSignature = "signature" // a Sigstore bundle: a signed statement about the version
)

// bundle is one piece of evidence before it is stored: some files and the manifest that binds
// them to a version.
type bundle struct {
	entry    Evidence
	manifest []byte
	files    []File
	blobs    []ocispec.Descriptor
}

// bundles makes the evidence of a push: one bundle a report, and one for the records of the run.
func bundles(request PushRequest, subject Target) ([]bundle, error) {
	var list []bundle
	names := map[string]bool{}
	for _, report := range request.Reports {
		kind, err := reportKind(report)
		if err != nil {
			return nil, err
		}
		if names[report.Name] {
			return nil, &RequestError{fmt.Sprintf("two reports are called %s", report.Name)}
		}
		names[report.Name] = true
		b, err := newBundle(kind, report.Name, []File{report}, subject, request.Created, nil)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	if len(request.Records) > 0 {
		b, err := newBundle(EvidenceRun, EvidenceRun, request.Records, subject, request.Created, nil)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b bundle) int { return strings.Compare(a.entry.Name, b.entry.Name) })
	return list, nil
}

// reportKind reads what a report says it is.
func reportKind(report File) (string, error) {
	var head struct {
		Kind string `json:"kind"`
	}
	if err := uniqueKeys(report.Data); err != nil {
		return "", fmt.Errorf("report %s: %w", report.Name, err)
	}
	if err := json.Unmarshal(report.Data, &head); err != nil {
		return "", fmt.Errorf("report %s: %w", report.Name, err)
	}
	if head.Kind == "" || head.Kind == EvidenceRun || head.Kind == EvidenceSignature {
		return "", fmt.Errorf("report %s: it does not say what kind of report it is", report.Name)
	}
	return head.Kind, nil
}

func newBundle(kind, name string, files []File, subject Target, created time.Time, notes map[string]string) (bundle, error) {
	b := bundle{files: files}
	model := subject.descriptor()
	manifest := ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: artifactType(kind),
		Config:       ocispec.DescriptorEmptyJSON,
		Subject:      &ocispec.Descriptor{MediaType: model.MediaType, Digest: model.Digest, Size: model.Size},
		Annotations:  map[string]string{annotationEvidenceKind: kind, annotationEvidenceName: name},
	}
	maps.Copy(manifest.Annotations, notes)
	if !created.IsZero() {
		manifest.Annotations[ocispec.AnnotationCreated] = created.UTC().Truncate(time.Second).Format(time.RFC3339)
	}
	for _, file := range files {
		blob := ocispec.Descriptor{
			MediaType:   evidenceType(kind, file.Name),
			Digest:      digests.Digest(digest.Bytes(file.Data)),
			Size:        int64(len(file.Data)),
			Annotations: map[string]string{ocispec.AnnotationTitle: file.Name},
		}
		b.blobs = append(b.blobs, blob)
	}
	manifest.Layers = b.blobs
	data, err := json.Marshal(manifest)
	if err != nil {
		return bundle{}, err
	}
	b.manifest = data
	b.entry = Evidence{Kind: kind, Name: name, Digest: digest.Bytes(data), Size: int64(len(data))}
	return b, nil
}

// artifactType is the type of the manifest that binds a piece of evidence. Signatures have the one
// by which other tools find them.
func artifactType(kind string) string {
	if kind == EvidenceSignature {
		return sign.BundleType
	}
	return ArtifactTypeEvidence
}

func evidenceType(kind, name string) string {
	if kind == EvidenceSignature {
		return sign.BundleType
	}
	switch path.Ext(name) {
	case ".json":
		return "application/json"
	case ".yaml", ".yml":
		return "application/yaml"
	}
	return "application/octet-stream"
}

// store puts files, configuration and manifest.
func (b bundle) store(ctx context.Context, r *Registry, model string) error {
	for i, file := range b.files {
		if err := r.backend.Put(ctx, model, b.blobs[i], bytes.NewReader(file.Data)); err != nil {
			return err
		}
	}
	empty := ocispec.DescriptorEmptyJSON
	if err := r.backend.Put(ctx, model, empty, bytes.NewReader(empty.Data)); err != nil {
		return err
	}
	return r.backend.Put(ctx, model, b.entry.descriptor(), bytes.NewReader(b.manifest))
}

func entries(list []bundle) []Evidence {
	var all []Evidence
	for _, b := range list {
		all = append(all, b.entry)
	}
	return all
}

// evidenceLayers reads the manifest of a piece of evidence and lists its files. Evidence whose
// subject is another version is none of this one.
func (r *Registry) evidenceLayers(ctx context.Context, model string, subject Target, e Evidence) ([]ocispec.Descriptor, error) {
	data, err := r.readBlob(ctx, model, "evidence "+e.Name, e.descriptor())
	if err != nil {
		return nil, err
	}
	damaged := func(reason string) error {
		return &CorruptError{Model: model, What: "evidence " + e.Name, Digest: e.Digest, Reason: reason}
	}
	manifest, err := parseManifest(data, artifactType(e.Kind))
	if err != nil {
		return nil, damaged(err.Error())
	}
	if manifest.Subject == nil || manifest.Subject.Digest.String() != subject.Digest {
		return nil, damaged(fmt.Sprintf("it is not about v%d", subject.Version))
	}
	return manifest.Layers, nil
}

// Evidence reads the files of the evidence that counts for a version, checked: one entry a file.
func (r *Registry) Evidence(ctx context.Context, ref Ref) ([]File, error) {
	s, v, err := r.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	var files []File
	for _, e := range v.current() {
		read, err := r.evidenceFiles(ctx, s.model, v.target, e)
		if err != nil {
			return nil, err
		}
		files = append(files, read...)
	}
	return files, nil
}

func (r *Registry) evidenceFiles(ctx context.Context, model string, subject Target, e Evidence) ([]File, error) {
	blobs, err := r.evidenceLayers(ctx, model, subject, e)
	if err != nil {
		return nil, err
	}
	files := make([]File, 0, len(blobs))
	for _, blob := range blobs {
		data, err := r.readBlob(ctx, model, "evidence "+e.Name, blob)
		if err != nil {
			return nil, err
		}
		files = append(files, File{Name: blob.Annotations[ocispec.AnnotationTitle], Data: data})
	}
	return files, nil
}
