package registry

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/t5ctl/t5ctl/internal/digest"
)

// A bundle is a registry to carry: one tar file that is an OCI image layout, with the logs of its
// models and a table of its blobs first, so that it can be read from front to back.
const (
	bundleSchema   = "t5ctl.bundle/v1"
	bundleContents = "t5ctl/contents.json"
	bundleKeys     = "t5ctl/keys/"
	maxContents    = 256 << 20
)

// contents is the table that a bundle begins with.
type contents struct {
	Schema string        `json:"schema"`
	Refs   []string      `json:"refs"` // versions that are in it whole
	Models []carried     `json:"models"`
	Blobs  []carriedBlob `json:"blobs"` // in the order in which they follow
}

// carried is the log of a model.
type carried struct {
	Model string   `json:"model"`
	Log   [][]byte `json:"log"`
}

// carriedBlob is a blob and the models that need it.
type carriedBlob struct {
	ocispec.Descriptor
	Models []string `json:"models"`
}

// Carried tells what a bundle holds.
type Carried struct {
	Refs  []string `json:"refs"`
	Blobs int      `json:"blobs"`
	Bytes int64    `json:"bytes"`
}

// packing is a bundle that is being put together.
type packing struct {
	registry *Registry
	contents contents
	at       map[string]int // digest to its place in contents.Blobs
	index    []ocispec.Descriptor
	late     []carriedBlob // manifests and evidence, which follow the layers
}

// Pack writes versions, with their evidence, bases, the logs that name them and the public keys
// given, as a bundle. Everything is checked as it is read.
func (r *Registry) Pack(ctx context.Context, w io.Writer, refs []Ref, keys []File) (Carried, error) {
	p := &packing{registry: r, contents: contents{Schema: bundleSchema, Refs: []string{}}, at: map[string]int{}}
	for _, ref := range refs {
		if err := p.add(ctx, ref); err != nil {
			return Carried{}, err
		}
	}
	for _, blob := range p.late {
		p.blob(blob.Models[0], blob.Descriptor)
	}
	archive := tar.NewWriter(w)
	table, err := json.Marshal(p.contents)
	if err != nil {
		return Carried{}, err
	}
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: p.index})
	if err != nil {
		return Carried{}, err
	}
	first := []File{
		{Name: bundleContents, Data: table},
		{Name: ocispec.ImageLayoutFile, Data: fmt.Appendf(nil, `{"imageLayoutVersion":%q}`, ocispec.ImageLayoutVersion)},
		{Name: ocispec.ImageIndexFile, Data: index},
	}
	for _, key := range keys {
		first = append(first, File{Name: bundleKeys + path.Base(key.Name), Data: key.Data})
	}
	for _, file := range first {
		if err := entry(archive, file.Name, int64(len(file.Data))); err != nil {
			return Carried{}, err
		}
		if _, err := archive.Write(file.Data); err != nil {
			return Carried{}, err
		}
	}
	done := Carried{Refs: p.contents.Refs}
	for _, blob := range p.contents.Blobs {
		if err := entry(archive, blobEntry(blob.Digest.String()), blob.Size); err != nil {
			return done, err
		}
		if err := r.copyBlob(ctx, archive, blob.Models[0], "blob", blob.Descriptor); err != nil {
			return done, err
		}
		done.Blobs, done.Bytes = done.Blobs+1, done.Bytes+blob.Size
	}
	return done, archive.Close()
}

func blobEntry(sum string) string {
	return "blobs/sha256/" + strings.TrimPrefix(sum, digest.Prefix)
}

// entry begins a file of the archive. No clock and no user go into it.
func entry(archive *tar.Writer, name string, size int64) error {
	return archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, Format: tar.FormatPAX})
}

// add takes a version into the bundle, and the base of an adapter with it.
func (p *packing) add(ctx context.Context, ref Ref) error {
	s, v, err := p.registry.find(ctx, ref)
	if err != nil {
		return err
	}
	name := Ref{Model: s.model, Version: v.target.Version}.String()
	if slices.Contains(p.contents.Refs, name) {
		return nil
	}
	p.contents.Refs = append(p.contents.Refs, name)
	m, err := p.registry.model(ctx, s.model, v.target)
	if err != nil {
		return err
	}
	for _, layer := range m.Layers {
		p.blob(s.model, layer.descriptor())
	}
	if !slices.ContainsFunc(p.contents.Models, func(c carried) bool { return c.Model == s.model }) {
		if err := p.log(ctx, s); err != nil {
			return err
		}
	}
	p.tag(s.model, "v"+fmt.Sprint(v.target.Version), v.target.descriptor())
	for _, e := range v.evidence {
		p.tag(s.model, e.tag(), e.descriptor())
	}
	if m.Base == nil || m.Base.Manifest == "" {
		return nil
	}
	base, found, err := p.registry.FindTree(ctx, m.Base.Tree)
	if err != nil || !found {
		return err
	}
	return p.add(ctx, base.Ref)
}

// log takes a model's log, and what is small of all its versions: manifests and evidence. What a
// manifest names comes before it.
func (p *packing) log(ctx context.Context, s *state) error {
	log := carried{Model: s.model}
	for _, record := range s.records {
		log.Log = append(log.Log, record.Bytes)
	}
	p.contents.Models = append(p.contents.Models, log)
	if slices.ContainsFunc(s.versions, func(v version) bool { return len(v.evidence) > 0 }) {
		p.blob(s.model, ocispec.DescriptorEmptyJSON) // the configuration of evidence; without any, nobody has written it
	}
	for i := range s.versions {
		v := &s.versions[i]
		m, err := p.registry.model(ctx, s.model, v.target)
		if err != nil {
			return err
		}
		p.late = append(p.late, carriedBlob{m.Config, []string{s.model}}, carriedBlob{v.target.descriptor(), []string{s.model}})
		for _, e := range v.evidence {
			blobs, err := p.registry.evidenceLayers(ctx, s.model, v.target, e)
			if err != nil {
				return err
			}
			for _, blob := range append(blobs, e.descriptor()) {
				p.late = append(p.late, carriedBlob{blob, []string{s.model}})
			}
		}
	}
	return nil
}

func (p *packing) tag(model, tag string, manifest ocispec.Descriptor) {
	manifest.Annotations = map[string]string{ocispec.AnnotationRefName: model + ":" + tag}
	p.index = append(p.index, manifest)
}

func (p *packing) blob(model string, blob ocispec.Descriptor) {
	blob = ocispec.Descriptor{MediaType: blob.MediaType, Digest: blob.Digest, Size: blob.Size}
	at, found := p.at[blob.Digest.String()]
	if !found {
		p.at[blob.Digest.String()] = len(p.contents.Blobs)
		p.contents.Blobs = append(p.contents.Blobs, carriedBlob{blob, []string{model}})
		return
	}
	if models := &p.contents.Blobs[at].Models; !slices.Contains(*models, model) {
		*models = append(*models, model)
	}
}

// ForkError says that a bundle's log is no continuation of the one that is here.
type ForkError struct {
	Model string
	Seq   int64 // the first record in which they differ
}

// Error names the record.
func (e *ForkError) Error() string {
	return fmt.Sprintf("record %d of the log of %s is another in the bundle than here", e.Seq, e.Model)
}

// Unpack takes over what a bundle holds: blobs first, then the records of its logs, as they are.
// The versions are checked, and held against the policy, before the first record is written.
func (r *Registry) Unpack(ctx context.Context, from io.Reader) (Carried, error) {
	archive := tar.NewReader(from)
	table, err := readContents(archive)
	if err != nil {
		return Carried{}, err
	}
	states := map[string]*state{}
	for _, c := range table.Models {
		if states[c.Model], err = r.continues(ctx, c); err != nil {
			return Carried{}, err
		}
	}
	for _, c := range table.Models {
		release, err := r.hold(ctx, c.Model, false)
		if err != nil {
			return Carried{}, err
		}
		defer release()
	}
	done := Carried{Refs: table.Refs}
	for _, blob := range table.Blobs {
		if err := r.takeBlob(ctx, archive, blob); err != nil {
			return done, err
		}
		done.Blobs, done.Bytes = done.Blobs+1, done.Bytes+blob.Size
	}
	if err := r.admit(ctx, table.Refs, states); err != nil {
		return done, err
	}
	for _, c := range table.Models {
		if err := r.takeLog(ctx, c, states[c.Model]); err != nil {
			return done, err
		}
	}
	return done, nil
}

// bundleError is what is wrong with a bundle.
func bundleError(format string, a ...any) error {
	return &RequestError{"not a sound bundle: " + fmt.Sprintf(format, a...)}
}

func readContents(archive *tar.Reader) (contents, error) {
	var table contents
	header, err := archive.Next()
	if err != nil {
		return table, bundleError("%v", err)
	}
	if header.Name != bundleContents {
		return table, bundleError("it begins with %q, not with %s", header.Name, bundleContents)
	}
	data, err := readAtMost(archive, maxContents)
	if err != nil {
		return table, bundleError("%s: %v", bundleContents, err)
	}
	if err := uniqueKeys(data); err != nil {
		return table, bundleError("%s: %v", bundleContents, err)
	}
	if err := json.Unmarshal(data, &table); err != nil {
		return table, bundleError("%s: %v", bundleContents, err)
	}
	if table.Schema != bundleSchema {
		return table, bundleError("schema %q is not %s", table.Schema, bundleSchema)
	}
	for _, blob := range table.Blobs {
		if !digest.Valid(blob.Digest.String()) || blob.Size < 0 || len(blob.Models) == 0 {
			return table, bundleError("%q of %d bytes does not describe a blob", blob.Digest, blob.Size)
		}
	}
	return table, nil
}

// continues folds the log of a bundle, which must go on where the one that is here ends.
func (r *Registry) continues(ctx context.Context, c carried) (*state, error) {
	here, err := r.load(ctx, c.Model)
	if err != nil {
		return nil, err
	}
	records, err := ParseLog(c.Model, c.Log)
	if err != nil {
		return nil, err
	}
	for i := range min(len(records), len(here.records)) {
		if records[i].Digest != here.records[i].Digest {
			return nil, &ForkError{c.Model, int64(i) + 1}
		}
	}
	if len(records) < len(here.records) {
		records = here.records
	}
	return fold(c.Model, records)
}

// takeBlob stores the next blob of the archive for every model that needs it.
func (r *Registry) takeBlob(ctx context.Context, archive *tar.Reader, blob carriedBlob) error {
	name := blobEntry(blob.Digest.String())
	for {
		header, err := archive.Next()
		if err != nil {
			return bundleError("it ends before %s: %v", name, err)
		}
		if header.Name == name {
			break
		}
		if strings.HasPrefix(header.Name, "blobs/") {
			return bundleError("%s comes before %s", header.Name, name)
		}
	}
	first := blob.Models[0]
	if err := CheckModel(first); err != nil {
		return err
	}
	if err := r.takeOne(ctx, first, blob.Descriptor, archive); err != nil {
		return fmt.Errorf("taking over %s: %w", blob.Digest, err)
	}
	for _, model := range blob.Models[1:] {
		content, err := r.backend.Open(ctx, first, blob.Descriptor)
		if err != nil {
			return err
		}
		if err := errors.Join(r.takeOne(ctx, model, blob.Descriptor, content), content.Close()); err != nil {
			return fmt.Errorf("taking over %s: %w", blob.Digest, err)
		}
	}
	return nil
}

// takeOne stores a blob that comes once and in order. A server may have to be sent it again, so
// it is kept in a file until it is there.
func (r *Registry) takeOne(ctx context.Context, model string, blob ocispec.Descriptor, content io.Reader) (err error) {
	if _, keeps := r.backend.(Keeper); keeps || blob.Size <= 1<<20 {
		return r.backend.Put(ctx, model, blob, content)
	}
	spool, err := os.CreateTemp("", "t5ctl-blob-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, spool.Close(), os.Remove(spool.Name())) }()
	if _, err := io.Copy(spool, io.LimitReader(content, blob.Size+1)); err != nil {
		return err
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return r.backend.Put(ctx, model, blob, spool)
}

// admit checks the versions that have come.
func (r *Registry) admit(ctx context.Context, refs []string, states map[string]*state) error {
	for _, text := range refs {
		ref, err := ParseRef(text)
		if err != nil {
			return err
		}
		s := states[ref.Model]
		if s == nil {
			return bundleError("it holds %s and no log of that model", text)
		}
		v, err := s.resolve(ref)
		if err != nil {
			return err
		}
		if _, err := r.checkVersion(ctx, s, v); err != nil {
			return err
		}
		if _, err := r.underVerdict(ctx, s, v, Ref{Model: ref.Model, Version: v.target.Version}); err != nil {
			return err
		}
	}
	return nil
}

// takeLog appends the records that are new here, byte for byte: signatures and chain hold on.
func (r *Registry) takeLog(ctx context.Context, c carried, s *state) error {
	here, err := r.load(ctx, c.Model)
	if err != nil {
		return err
	}
	prev := here.head.Digest
	for i := len(here.records); i < len(s.records); i++ {
		record := s.records[i]
		if err := r.backend.Append(ctx, c.Model, record.Event.Seq, prev, bytes.Clone(record.Bytes)); err != nil {
			return fmt.Errorf("taking over the log of %s: %w", c.Model, err)
		}
		prev = record.Digest
	}
	if here, err = r.load(ctx, c.Model); err != nil {
		return err
	}
	return r.publish(ctx, here)
}
