package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Verification is what Verify has checked.
type Verification struct {
	Version
	Blobs    int      `json:"blobs"`   // blobs whose content was hashed
	Bytes    int64    `json:"bytes"`   // in them
	Records  int64    `json:"records"` // of the log, all of one chain
	Problems []string `json:"problems"`
	Policy   string   `json:"policy,omitempty"`   // its mode; "" where none was asked
	Warnings []string `json:"warnings,omitempty"` // what the policy would refuse if it were enforced
}

// Verify hashes everything that a version is made of, evidence included, and checks the log
// that names it. All problems are listed; the error is that of the first, a *CorruptError.
func (r *Registry) Verify(ctx context.Context, ref Ref) (Verification, error) {
	s, v, err := r.find(ctx, ref)
	if err != nil {
		return Verification{}, err
	}
	result := Verification{Version: s.describe(v), Records: s.head.Seq, Problems: []string{}}
	check := &checker{ctx: ctx, registry: r, model: ref.Model, result: &result}
	check.version(v)
	if check.first != nil {
		return result, check.first
	}
	result.Warnings, err = r.underVerdict(ctx, s, v, ref)
	if r.options.Policy != nil {
		result.Policy = r.options.Policy.Mode
	}
	if lacking := (*PolicyError)(nil); errors.As(err, &lacking) {
		result.Problems = append(result.Problems, lacking.Reasons...)
	}
	return result, err
}

// underVerdict asks the policy about a version as a reference names it: one that is named by its
// channel must have come there by the right hands.
func (r *Registry) underVerdict(ctx context.Context, s *state, v *version, ref Ref) (warnings []string, err error) {
	j, err := r.underPolicy(ctx, s, v, ref.Channel)
	if err != nil {
		return nil, err
	}
	if ref.Channel != "" {
		j.moved(ref.Channel)
	}
	return j.verdict(ref)
}

// checkVersion is Verify for a version that is about to serve: the first problem is the error.
func (r *Registry) checkVersion(ctx context.Context, s *state, v *version) (Model, error) {
	result := Verification{}
	check := &checker{ctx: ctx, registry: r, model: s.model, result: &result}
	m := check.version(v)
	return m, check.first
}

// checker hashes blobs and collects what is wrong with them.
type checker struct {
	ctx      context.Context //nolint:containedctx // lives as long as one check
	registry *Registry
	model    string
	result   *Verification
	first    error
}

func (c *checker) note(err error) bool {
	if err == nil {
		return true
	}
	if c.first == nil {
		c.first = err
	}
	c.result.Problems = append(c.result.Problems, err.Error())
	return false
}

func (c *checker) count(size int64) {
	c.result.Blobs++
	c.result.Bytes += size
}

// version checks a manifest, its configuration, its layers, and the evidence that counts.
func (c *checker) version(v *version) Model {
	m, err := c.registry.model(c.ctx, c.model, v.target)
	c.count(v.target.Size)
	if c.note(err) {
		c.note(c.registry.copyBlob(c.ctx, io.Discard, c.model, "configuration", m.Config))
		c.count(m.Config.Size)
		for _, layer := range m.Layers {
			c.note(c.registry.checkLayer(c.ctx, c.model, layer))
			c.count(layer.Size)
		}
		if m.Tree != v.event.Tree {
			c.note(&CorruptError{Model: c.model, What: fmt.Sprintf("manifest of v%d", v.target.Version), Digest: v.target.Digest, Reason: "its files are not those that the log names"})
		}
	}
	for _, e := range v.current() {
		c.evidence(v.target, e)
	}
	return m
}

func (c *checker) evidence(subject Target, e Evidence) {
	files, err := c.registry.evidenceLayers(c.ctx, c.model, subject, e)
	c.count(e.Size)
	if !c.note(err) {
		return
	}
	for _, file := range files {
		c.note(c.registry.copyBlob(c.ctx, io.Discard, c.model, "evidence "+e.Name, file))
		c.count(file.Size)
	}
}
