package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/registry/sign"
)

// What is signed, by predicate type. The first is what `cosign verify` asks for.
const (
	predicateSign       = "https://sigstore.dev/cosign/sign/v1"
	predicateProvenance = "https://slsa.dev/provenance/v1"
	predicateReport     = "https://t5ctl.dev/attestation/" // and the report's kind and version: gate/v1
)

// Annotations of the manifest that binds a bundle, as cosign sets them.
const (
	annotationBundleContent   = "dev.sigstore.bundle.content"
	annotationBundlePredicate = "dev.sigstore.bundle.predicateType"
)

// identity is in every statement: a signature of one version is none of another, nor of the same
// content under another name.
type identity struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Config  string `json:"config"` // digest of the configuration
}

// signature is the predicate of a version's signature.
type signature struct {
	identity
	Tree string `json:"tree"` // digest of the model files
}

// attested is the predicate over a report.
type attested struct {
	identity
	Report string          `json:"report"` // its name
	SHA256 string          `json:"sha256"` // digest of its bytes
	Result json.RawMessage `json:"result,omitempty"`
}

// maxResult bounds a report that is repeated in its attestation.
const maxResult = 256 << 10

// signing is what is about to be signed: a version and what is known about it.
type signing struct {
	key     *sign.PrivateKey
	model   string
	target  Target // with its number
	content Model
	created time.Time
	tool    string
}

func (g signing) identity() identity {
	return identity{g.model, fmt.Sprintf("v%d", g.target.Version), g.content.Config.Digest.String()}
}

// bundle signs a statement about the version and makes the piece of evidence that holds it. Its
// name tells the key, so that several may sign.
func (g signing) bundle(name, predicateType string, predicate any) (bundle, error) {
	data, err := g.key.Bundle(g.model, g.target.Digest, predicateType, predicate)
	if err != nil {
		return bundle{}, err
	}
	return g.keep(name, predicateType, data)
}

func (g signing) keep(name, predicateType string, data []byte) (bundle, error) {
	file := File{Name: fmt.Sprintf("%s.%s.sigstore.json", name, g.key.ID[:8]), Data: data}
	return newBundle(EvidenceSignature, file.Name, []File{file}, g.target, g.created, map[string]string{
		annotationBundleContent: "dsse-envelope", annotationBundlePredicate: predicateType,
	})
}

// version signs what a push makes: the version, its files, and where it comes from.
func (g signing) version(records []File) ([]bundle, error) {
	whole, err := g.bundle("signature", predicateSign, signature{g.identity(), g.content.Tree})
	if err != nil {
		return nil, err
	}
	files := make([]sign.File, 0, len(g.content.Layers))
	for _, layer := range g.content.Layers {
		files = append(files, sign.File{Path: layer.Path, Digest: layer.Digest})
	}
	data, err := g.key.Folder(g.model, files)
	if err != nil {
		return nil, err
	}
	folder, err := g.keep("model", sign.FolderPredicate, data)
	if err != nil || len(records) == 0 {
		return []bundle{whole, folder}, err
	}
	origin, err := g.bundle("provenance", predicateProvenance, g.provenance(records))
	return []bundle{whole, folder, origin}, err
}

// reports signs each report and result of gates.
func (g signing) reports(reports []File) ([]bundle, error) {
	var list []bundle
	for _, report := range reports {
		kind, err := reportKind(report)
		if err != nil {
			return nil, err
		}
		predicate := attested{identity: g.identity(), Report: report.Name, SHA256: digest.Bytes(report.Data)}
		if len(report.Data) <= maxResult {
			predicate.Result = report.Data
		}
		b, err := g.bundle(strings.ReplaceAll(report.Name, "/", "-"), predicateReport+kind+"/v1", predicate)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, nil
}

// dependency is a resource as SLSA names it.
type dependency struct {
	Name   string            `json:"name,omitempty"`
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest,omitempty"`
}

// provenance is the SLSA predicate of a run.
func (g signing) provenance(records []File) any {
	sha := func(sum string) map[string]string {
		return map[string]string{"sha256": strings.TrimPrefix(sum, digest.Prefix)}
	}
	parameters := map[string]string{}
	var inputs, outputs []dependency
	for _, record := range records {
		outputs = append(outputs, dependency{Name: record.Name, Digest: sha(digest.Bytes(record.Data))})
		switch record.Name {
		case "recipe.yaml", "resolved.yaml":
			parameters[record.Name] = digest.Bytes(record.Data)
		case "data.json":
			inputs = append(inputs, dataOf(record.Data)...)
		}
	}
	if base := g.content.Base; base != nil {
		d := dependency{Name: base.Name, Digest: map[string]string{"t5ctlTree": strings.TrimPrefix(base.Tree, digest.Prefix)}}
		if base.Manifest != "" {
			d.Digest["sha256"] = strings.TrimPrefix(base.Manifest, digest.Prefix)
		}
		inputs = append(inputs, d)
	}
	metadata := map[string]any{"invocationId": g.target.Digest}
	if !g.created.IsZero() {
		metadata["finishedOn"] = g.created.UTC().Format(time.RFC3339)
	}
	return map[string]any{
		"buildDefinition": map[string]any{
			"buildType": "https://t5ctl.dev/run/v1", "externalParameters": parameters,
			"internalParameters": g.identity(), "resolvedDependencies": inputs,
		},
		"runDetails": map[string]any{
			"builder":  map[string]any{"id": "https://t5ctl.dev/builder/" + g.key.ID, "version": map[string]string{"t5ctl": g.tool}},
			"metadata": metadata, "byproducts": outputs,
		},
	}
}

// dataOf reads the fingerprints of training data off a data manifest.
func dataOf(data []byte) []dependency {
	var manifest struct {
		Splits []struct{ Split, Fingerprint string }
	}
	if json.Unmarshal(data, &manifest) != nil {
		return nil
	}
	var list []dependency
	for _, split := range manifest.Splits {
		list = append(list, dependency{Name: split.Split, Digest: map[string]string{"t5ctlFingerprint": strings.TrimPrefix(split.Fingerprint, digest.Prefix)}})
	}
	return list
}

// attestNew stores the signatures that a version with this number lacks, where there is a key:
// of the version itself when it is pushed, of the reports that come with the request. v is nil
// where the version is new.
func (r *Registry) attestNew(ctx context.Context, p *pushing, v *version, number int) ([]Evidence, error) {
	if r.options.Key == nil {
		return nil, nil
	}
	target := p.target
	target.Version = number
	g := signing{r.options.Key, p.request.Model, target, p.model, p.request.Created, r.options.Tool}
	list, err := g.reports(p.request.Reports)
	if err != nil {
		return nil, err
	}
	if p.folder != nil {
		signed, err := g.version(p.request.Records)
		if err != nil {
			return nil, err
		}
		list = append(signed, list...)
	}
	var fresh []Evidence
	for _, b := range list {
		if v != nil && r.signed(ctx, p, v, b) {
			continue
		}
		if err := b.store(ctx, r, p.request.Model); err != nil {
			return nil, fmt.Errorf("storing the signature %s: %w", b.entry.Name, err)
		}
		fresh = append(fresh, b.entry)
	}
	return fresh, nil
}

// signed says whether a version has a sound signature already that says the same by the same key.
func (r *Registry) signed(ctx context.Context, p *pushing, v *version, b bundle) bool {
	want, err := parseBundle(b.files[0].Data)
	if err != nil {
		return false
	}
	for _, e := range v.current() {
		if e.Kind != EvidenceSignature || e.Name != b.entry.Name {
			continue
		}
		files, err := r.evidenceFiles(ctx, p.request.Model, v.target, e)
		if err != nil || len(files) != 1 {
			return false
		}
		have, err := parseBundle(files[0].Data)
		return err == nil && bytes.Equal(have.Envelope.Payload, want.Envelope.Payload) && have.Envelope.Check(r.options.Key.PublicKey)
	}
	return false
}

// signedStatement is one signature of a version, read back.
type signedStatement struct {
	sign.Signed
	entry Evidence
	since int64 // record that brought it
}

// signatures reads the signatures of a version. What cannot be read is damaged; whose they are is
// not looked at.
func (r *Registry) signatures(ctx context.Context, model string, v *version) ([]signedStatement, error) {
	var list []signedStatement
	for _, e := range v.evidence {
		if e.Kind != EvidenceSignature {
			continue
		}
		files, err := r.evidenceFiles(ctx, model, v.target, e)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			signed, err := parseBundle(file.Data)
			if err != nil {
				return nil, &CorruptError{Model: model, What: "signature " + e.Name, Digest: e.Digest, Reason: err.Error()}
			}
			list = append(list, signedStatement{signed, e, v.since[e.Digest]})
		}
	}
	return list, nil
}

// parseBundle reads a bundle in which no key stands twice.
func parseBundle(data []byte) (sign.Signed, error) {
	if err := uniqueKeys(data); err != nil {
		return sign.Signed{}, err
	}
	signed, err := sign.ParseBundle(data)
	if err == nil {
		err = uniqueKeys(signed.Envelope.Payload)
	}
	return signed, err
}

// about says whether a statement is one about this version under this name.
func (s signedStatement) about(model string, v *version) bool {
	subject := s.Statement.Subject[0]
	var who identity
	if json.Unmarshal(s.Statement.Predicate, &who) != nil {
		return false
	}
	return digest.Prefix+subject.Digest["sha256"] == v.target.Digest && subject.Name == model &&
		who.Name == model && who.Version == fmt.Sprintf("v%d", v.target.Version)
}

// reportSum is the digest of the report that a statement is about; "" where it is about none.
func (s signedStatement) reportSum() string {
	var predicate attested
	if !strings.HasPrefix(s.Statement.PredicateType, predicateReport) || json.Unmarshal(s.Statement.Predicate, &predicate) != nil {
		return ""
	}
	return predicate.SHA256
}
