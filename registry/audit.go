package registry

import (
	"context"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/t5ctl/t5ctl/internal/digest"
)

// Audit is what a look at a whole model has found.
type Audit struct {
	Model    string    `json:"model"`
	Head     LogEnding `json:"head"`
	Versions int       `json:"versions"`
	Blobs    int       `json:"blobs"` // hashed
	Bytes    int64     `json:"bytes"`
	Problems []string  `json:"problems"`
}

// Audit checks everything of a model: the chain of the log, every version with all its
// evidence, the tags against the log, and, if deep, every other blob that is stored. All
// problems are listed; the error is that of the first.
func (r *Registry) Audit(ctx context.Context, model string, deep bool) (Audit, error) {
	audit := Audit{Model: model, Problems: []string{}}
	s, err := r.known(ctx, model)
	if err != nil {
		return audit, err
	}
	audit.Head, audit.Versions = LogEnding(s.head), len(s.versions)
	result := Verification{}
	check := &checker{ctx: ctx, registry: r, model: model, result: &result}
	for i := range s.versions {
		check.version(&s.versions[i])
	}
	check.signedRecords(s)
	if tagger, ok := r.backend.(Tagger); ok {
		check.drift(tagger, s)
	}
	if keeper, ok := r.backend.(Keeper); ok && deep {
		check.everything(keeper)
	}
	audit.Blobs, audit.Bytes = result.Blobs, result.Bytes
	audit.Problems = append(audit.Problems, result.Problems...)
	return audit, check.first
}

// drift compares the tags that other tools see with the log.
func (c *checker) drift(tagger Tagger, s *state) {
	tags, moving, err := tagger.Tags(c.ctx, c.model)
	if !c.note(err) {
		return
	}
	seen := map[string]string{}
	for _, tag := range tags {
		seen[tag.Name] = tag.Manifest.Digest.String()
	}
	for _, tag := range s.tags() {
		if tag.Moves && !moving {
			continue
		}
		want, got := tag.Manifest.Digest.String(), seen[tag.Name]
		if got != want {
			c.note(&CorruptError{Model: c.model, What: "tag " + tag.Name, Reason: fmt.Sprintf("it names %s, the log says %s", orNone(got), want)})
		}
	}
}

// everything hashes all blobs, also those that nothing names.
func (c *checker) everything(keeper Keeper) {
	sums, err := keeper.Blobs(c.ctx, c.model)
	if !c.note(err) {
		return
	}
	for _, sum := range sums {
		size, err := c.registry.hashStored(c.ctx, c.model, sum)
		c.note(err)
		c.count(size)
	}
}

// Repaired is what Repair has done and what it could not do.
type Repaired struct {
	Model string   `json:"model"`
	Done  []string `json:"done"`
	Lost  []string `json:"lost"` // damaged, and no copy to mend it from; pushing the same model again would
}

// Repair mends what can be mended from what is left: the log from the records that are kept as
// blobs, the tags from the log.
func (r *Registry) Repair(ctx context.Context, model string) (Repaired, error) {
	result := Repaired{Model: model, Done: []string{}, Lost: []string{}}
	tagger, ok := r.backend.(Tagger)
	if !ok {
		return result, &NotKeptError{}
	}
	s, err := r.load(ctx, model)
	keeper, keeps := r.backend.(Keeper)
	if damaged := (*CorruptError)(nil); keeps && errors.As(err, &damaged) {
		records, findErr := r.rebuild(ctx, keeper, model)
		if findErr != nil {
			return result, errors.Join(err, findErr)
		}
		if err := keeper.Restore(ctx, model, records); err != nil {
			return result, err
		}
		result.Done = append(result.Done, fmt.Sprintf("the log, from its %d records (%s)", len(records), damaged.Reason))
		s, err = r.load(ctx, model)
	}
	if err != nil {
		return result, err
	}
	if len(s.versions) == 0 {
		return result, &NotFoundError{Ref: Ref{Model: model}, Nearest: r.nearestModels(ctx, model)}
	}
	before := Verification{}
	drift := &checker{ctx: ctx, registry: r, model: model, result: &before}
	drift.drift(tagger, s)
	if err := r.publish(ctx, s); err != nil {
		return result, err
	}
	if len(before.Problems) > 0 {
		if err := tagger.Retag(ctx, model, s.tags()); err != nil {
			return result, err
		}
	}
	result.Done = append(result.Done, before.Problems...)
	audit, _ := r.Audit(ctx, model, true) // what is still wrong is listed, not an error of the repair
	result.Lost = append(result.Lost, audit.Problems...)
	return result, nil
}

// rebuild finds the records of a log among the blobs: back from the head that the index has
// seen, or, where that is lost too, from the longest whole chain there is.
func (r *Registry) rebuild(ctx context.Context, keeper Keeper, model string) ([][]byte, error) {
	sums, err := keeper.Blobs(ctx, model)
	if err != nil {
		return nil, err
	}
	found := map[string]Record{}
	for _, sum := range sums {
		if record, ok := r.recordBlob(ctx, model, sum); ok {
			found[sum] = record
		}
	}
	if head, err := keeper.Head(ctx, model); err == nil && head.Seq > 0 {
		if chain := chainTo(found, head.Digest); chain != nil {
			return chain, nil
		}
		return nil, fmt.Errorf("the records of %s are not all there", model)
	}
	var best [][]byte
	ends := 0
	for sum := range found {
		switch chain := chainTo(found, sum); {
		case len(chain) > len(best):
			best, ends = chain, 1
		case len(chain) == len(best) && len(chain) > 0:
			ends++
		}
	}
	if ends != 1 {
		return nil, fmt.Errorf("the records of %s allow %d logs", model, ends)
	}
	return best, nil
}

// chainTo follows the records back from one of them; nil unless they reach the first.
func chainTo(found map[string]Record, sum string) [][]byte {
	record, ok := found[sum]
	if !ok {
		return nil
	}
	chain := make([][]byte, record.Event.Seq)
	for seq := record.Event.Seq; seq > 0; seq-- {
		if !ok || record.Event.Seq != seq {
			return nil
		}
		chain[seq-1] = record.Bytes
		record, ok = found[record.Event.Prev]
	}
	return chain
}

// recordBlob reads a blob that may be a record of the model's log.
func (r *Registry) recordBlob(ctx context.Context, model, sum string) (Record, bool) {
	content, err := r.backend.Open(ctx, model, ocispec.Descriptor{Digest: toDigest(sum)})
	if err != nil {
		return Record{}, false
	}
	defer content.Close() //nolint:errcheck // read only
	data, err := readAtMost(content, maxRecord)
	if err != nil {
		return Record{}, false
	}
	record, err := ParseRecord(data)
	return record, err == nil && record.Digest == sum && record.Event.Model == model && record.Event.Seq > 0
}

// hashStored hashes a blob of which only the digest is known.
func (r *Registry) hashStored(ctx context.Context, model, sum string) (int64, error) {
	content, err := r.backend.Open(ctx, model, ocispec.Descriptor{Digest: toDigest(sum)})
	if err != nil {
		return 0, err
	}
	defer content.Close() //nolint:errcheck // read only
	got, size, err := digest.Reader(&cancelReader{ctx, content})
	if err == nil && got != sum {
		err = &CorruptError{Model: model, What: "blob", Digest: sum, Reason: "its content has digest " + got}
	}
	return size, err
}
