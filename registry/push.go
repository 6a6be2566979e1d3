package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/modelpack/model-spec/specs-go/v1"
	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/registry/card"
)

// cardPath is where a model card lies in a folder.
const cardPath = "README.md"

// PushRequest names a folder to keep as a new version, and what is known about it.
type PushRequest struct {
	Model         string
	Dir           string    // the model's or adapter's files
	Card          []byte    // model card; nil: the README.md of Dir, if there is one
	Pictures      []File    // that the card shows, by their paths beside it; with Card alone
	Created       time.Time // when the model was made; zero: not recorded. Part of the digest.
	About         About
	Base          *Base  // of an adapter: its name and, where it is not in the registry, its tree
	Reports       []File // evaluation and exposure reports, and results of gates
	Records       []File // run.json, recipe, data manifest: how the model was made
	Canaries      string // the file that says that canaries were planted; "" where none were
	AllowCanaries bool   // push it all the same; the version stays marked
	Reason        string

	hashed []Layer // the files of Dir, where they have been hashed already; they are checked as they are stored
}

// File is a small file to keep with a version.
type File struct {
	Name string // as it is kept
	Data []byte
	Path string // where it was read, for what lies beside it; not kept
}

// PushResult tells what a push has done.
type PushResult struct {
	Version
	New      bool     `json:"new"`     // false: the registry held this very version already
	Skipped  []string `json:"skipped"` // files of the folder that do not belong to a model
	Warnings []string `json:"warnings"`
}

// Push stores a model as the next version. The same input gives the same digest on any machine,
// and pushing it again changes nothing, mends what has been damaged, and adds evidence that is
// new. Bytes are stored first, then the record that names them: a push that dies half-way has
// registered nothing.
func (r *Registry) Push(ctx context.Context, request PushRequest) (PushResult, error) {
	p, err := r.prepare(ctx, request)
	if err != nil {
		return PushResult{}, err
	}
	release, err := r.hold(ctx, request.Model, false)
	if err != nil {
		return PushResult{}, err
	}
	defer release()
	if err := p.store(ctx, r); err != nil {
		return PushResult{}, err
	}
	result := PushResult{Skipped: p.folder.skipped, Warnings: p.warnings}
	_, err = r.append(ctx, request.Model, func(s *state) (*Event, error) {
		number, found := s.byDigest[p.target.Digest]
		if !found {
			number = len(s.versions) + 1
		}
		signed, err := r.attestNew(ctx, p, s.version(number), number)
		if err != nil {
			return nil, err
		}
		if result.New = !found; result.New {
			return p.register(s, signed), nil
		}
		return p.more(s.version(number), signed), nil
	})
	if err != nil {
		return PushResult{}, err
	}
	result.Version, err = r.Resolve(ctx, Ref{Model: request.Model, Digest: p.target.Digest})
	return result, err
}

// pushing is a push whose bytes are known but not yet stored.
type pushing struct {
	request  PushRequest
	folder   *folder
	layers   []Layer
	made     map[string][]byte // files that replace the folder's or come to them: the card and its pictures
	config   []byte
	manifest []byte
	model    Model
	target   Target
	evidence []bundle
	warnings []string
}

// prepare checks everything that can be checked before the first byte is stored.
func (r *Registry) prepare(ctx context.Context, request PushRequest) (*pushing, error) {
	if err := CheckModel(request.Model); err != nil {
		return nil, err
	}
	if request.Canaries != "" && !request.AllowCanaries {
		return nil, &CanaryError{Dir: request.Dir, Source: request.Canaries}
	}
	f, err := openFolder(request.Dir)
	if err != nil {
		return nil, err
	}
	p := &pushing{request: request, folder: f}
	if p.layers = slices.Clone(request.hashed); p.layers == nil {
		if p.layers, err = f.hash(); err != nil {
			return nil, err
		}
	}
	tree := treeDigest(p.layers)
	if err := p.chooseCard(tree); err != nil {
		return nil, err
	}
	p.model = Model{Kind: f.kind, Tree: tree, Created: request.Created, Canaries: request.Canaries != "", Layers: p.layers}
	if f.kind == KindAdapter {
		if err := r.bindBase(ctx, p); err != nil {
			return nil, err
		}
	}
	if err := p.encode(); err != nil {
		return nil, err
	}
	p.evidence, err = bundles(request, p.target)
	return p, err
}

// chooseCard takes the request's card or the folder's, and compares its figures with the reports.
func (p *pushing) chooseCard(tree string) error {
	text := p.request.Card
	if text == nil {
		var err error
		if text, err = readOptional(p.folder.path(cardPath)); err != nil {
			return err
		}
	} else {
		p.made = map[string][]byte{cardPath: text}
		for _, picture := range p.request.Pictures {
			p.made[picture.Name] = picture.Data
		}
		p.layers = slices.DeleteFunc(p.layers, func(l Layer) bool { _, made := p.made[l.Path]; return made })
		for path, data := range p.made {
			p.layers = append(p.layers, Layer{Path: path, MediaType: v1.MediaTypeModelDocRaw, Digest: digest.Bytes(data), Size: int64(len(data))})
		}
		slices.SortFunc(p.layers, func(a, b Layer) int { return strings.Compare(a.Path, b.Path) })
	}
	if text == nil {
		p.warnings = append(p.warnings, "the model has no card")
		return nil
	}
	reports := make([]card.Named, 0, len(p.request.Reports))
	for _, report := range p.request.Reports {
		reports = append(reports, card.Named{Name: report.Name, Data: report.Data})
	}
	differences, err := card.Compare(text, reports, tree)
	if err != nil {
		return fmt.Errorf("model card: %w", err)
	}
	if len(differences) > 0 {
		return &CardError{Differences: differences}
	}
	return nil
}

func (f *folder) path(name string) string { return filepath.Join(f.dir, filepath.FromSlash(name)) }

// bindBase finds out which model an adapter needs: a version of the registry, named by the
// request or holding the same files, or a folder.
func (r *Registry) bindBase(ctx context.Context, p *pushing) error {
	base := p.request.Base
	if base == nil || base.Name == "" && base.Tree == "" {
		return &FolderError{p.request.Dir, "an adapter, and nothing says which base it belongs to"}
	}
	bound := *base
	ref, err := ParseRef(bound.Name)
	if err == nil && !isFolder(bound.Name) {
		version, err := r.Resolve(ctx, ref)
		if err != nil {
			return fmt.Errorf("base: %w", err)
		}
		if bound.Tree != "" && bound.Tree != version.Tree {
			return &BaseError{Adapter: p.request.Model, Base: bound.Name, Want: bound.Tree, Got: version.Tree}
		}
		bound.Manifest, bound.Tree = version.Digest, version.Tree
		return p.bound(bound, version.Canaries)
	}
	if bound.Tree == "" {
		if bound.Tree, err = Tree(bound.Name); err != nil {
			return fmt.Errorf("base %s: %w", bound.Name, err)
		}
	}
	version, found, err := r.FindTree(ctx, bound.Tree)
	if err != nil {
		return err
	}
	if !found {
		p.warnings = append(p.warnings, fmt.Sprintf("the base %s is not in the registry: who pulls this adapter must have it", bound.Name))
		return p.bound(bound, false)
	}
	bound.Name, bound.Manifest = version.Name, version.Digest
	return p.bound(bound, version.Canaries)
}

// bound records the base. An adapter of a base that saw canaries is marked like it.
func (p *pushing) bound(base Base, canaries bool) error {
	p.model.Base = &base
	if canaries && !p.model.Canaries {
		if !p.request.AllowCanaries {
			return &CanaryError{Dir: p.request.Dir, Source: "its base " + base.Name}
		}
		p.model.Canaries = true
	}
	return nil
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// encode makes configuration and manifest.
func (p *pushing) encode() (err error) {
	if p.config, err = modelConfig(p.request.Model, p.request.About, p.request.Created, p.layers); err != nil {
		return err
	}
	p.model.Config = ocispec.Descriptor{
		MediaType: v1.MediaTypeModelConfig,
		Digest:    digests.Digest(digest.Bytes(p.config)),
		Size:      int64(len(p.config)),
	}
	if p.manifest, err = p.model.encode(); err != nil {
		return err
	}
	if _, err = ParseModel(p.manifest); err != nil { // what we write must be what we accept
		return &FolderError{p.request.Dir, err.Error()}
	}
	p.target = Target{Digest: digest.Bytes(p.manifest), Size: int64(len(p.manifest))}
	return nil
}

// store puts every byte of the version where the log will name it.
func (p *pushing) store(ctx context.Context, r *Registry) error {
	model := p.request.Model
	blobs, blobsCtx := errgroup.WithContext(ctx)
	blobs.Go(func() error {
		return r.each(blobsCtx, model, p.layers, func(ctx context.Context, layer Layer) error {
			if err := p.storeLayer(ctx, r, layer); err != nil {
				return fmt.Errorf("storing %s: %w", layer.Path, err)
			}
			return nil
		})
	})
	blobs.Go(func() error {
		if err := r.backend.Put(blobsCtx, model, p.model.Config, bytes.NewReader(p.config)); err != nil {
			return fmt.Errorf("storing the configuration: %w", err)
		}
		if preparer, ok := r.backend.(Preparer); ok {
			preparer.Prepare(blobsCtx, model)
		}
		return nil
	})
	if err := blobs.Wait(); err != nil {
		return err
	}
	if err := r.backend.Put(ctx, model, p.target.descriptor(), bytes.NewReader(p.manifest)); err != nil {
		return fmt.Errorf("storing the manifest: %w", err)
	}
	for _, b := range p.evidence {
		if err := b.store(ctx, r, model); err != nil {
			return fmt.Errorf("storing the evidence %s: %w", b.entry.Name, err)
		}
	}
	return nil
}

func (p *pushing) storeLayer(ctx context.Context, r *Registry, layer Layer) (err error) {
	if data, made := p.made[layer.Path]; made {
		return r.backend.Put(ctx, p.request.Model, layer.descriptor(), bytes.NewReader(data))
	}
	content, err := os.Open(p.folder.path(layer.Path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	return r.backend.Put(ctx, p.request.Model, layer.descriptor(), &cancelFile{content, ctx})
}

// cancelFile ends a long copy when the context does.
type cancelFile struct {
	*os.File
	ctx context.Context //nolint:containedctx // lives as long as one copy
}

func (c *cancelFile) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.File.Read(p)
}

// each moves files, as many at once as the options say, the first problem being the error.
func (r *Registry) each(ctx context.Context, model string, layers []Layer, move func(context.Context, Layer) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(r.options.Parallel, 1))
	for _, layer := range layers {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			r.tell(false, model, layer)
			err := move(ctx, layer)
			if err == nil {
				r.tell(true, model, layer)
			}
			return err
		})
	}
	return group.Wait()
}

func (r *Registry) tell(done bool, model string, layer Layer) {
	if r.options.Progress != nil {
		r.options.Progress(done, model, layer)
	}
}

// register is the event that makes the version exist.
func (p *pushing) register(s *state, signed []Evidence) *Event {
	p.target.Version = len(s.versions) + 1
	target := p.target
	return &Event{
		Kind: KindRegister, To: &target, Tree: p.model.Tree, Canaries: p.model.Canaries,
		Evidence: append(entries(p.evidence), signed...), Reason: p.request.Reason,
	}
}

// more is the event that binds new evidence to a version that exists, or nil where none is new.
func (p *pushing) more(v *version, signed []Evidence) *Event {
	fresh := slices.Clone(signed)
	for _, e := range entries(p.evidence) {
		if !slices.Contains(v.current(), e) {
			fresh = append(fresh, e)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	target := v.target
	return &Event{Kind: KindEvidence, To: &target, Evidence: fresh, Reason: p.request.Reason}
}
