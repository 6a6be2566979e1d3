package datasets

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/t5ctl/t5ctl/internal/vocab"
)

// Data is one split, tokenized and ready to give batches.
type Data struct {
	Record   SplitRecord    // its lineage and counts
	Canaries []CanaryRecord // not empty: canaries were planted in it

	source Source
	tok    *vocab.Tokenizer
	tasks  []*Data // of a mixture of tasks, whose own fields below are nil
	pairs  *Corpus // nil if no objective reads pairs
	texts  *Corpus // nil if no objective reads plain text
}

// OpenOptions says how a split is opened.
type OpenOptions struct {
	Tokenizer *vocab.Tokenizer
	CacheDir  string           // keeps the tokens for the next run; empty: they are made anew
	Progress  func(rows int64) // hears of the rows done, from time to time; may be nil
}

// Open reads a split once, with what its objectives need. A split without files gives nil.
func (s Source) Open(ctx context.Context, split Split, o OpenOptions) (_ *Data, err error) {
	s = s.WithDefaults()
	if len(s.Tasks) > 0 && split != Test {
		return s.openTasks(ctx, split, o)
	}
	files, err := s.Paths(split).Files()
	if err != nil || len(files) == 0 {
		return nil, err
	}
	d := &Data{source: s, tok: o.Tokenizer}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.Canaries, err = FindCanaries(files); err != nil {
		return nil, err
	}
	d.Record = SplitRecord{Split: split}
	if need := Pairs; d.reads(Supervised) || d.reads(Preference) {
		if d.reads(Preference) {
			need = Preferences
		}
		d.pairs, d.Record.Files, err = Tokenize(ctx, s.tokenize(files, need, o))
		if err != nil {
			return nil, err
		}
		d.Record.Fingerprint, d.Record.Stats = d.pairs.Fingerprint(), d.pairs.Stats()
	}
	if d.reads(SpanCorruption) || d.reads(Denoise) || d.reads(PrefixLM) {
		d.texts, d.Record.Files, err = Tokenize(ctx, s.tokenize(files, Texts, o))
		if err != nil {
			return nil, err
		}
		stats := d.texts.Stats()
		stats.TruncatedInputs = d.cut()
		stats.TruncatedTargets = stats.TruncatedInputs
		if d.pairs == nil {
			d.Record.Fingerprint, d.Record.Stats = d.texts.Fingerprint(), stats
		} else {
			d.Record.Texts = &stats
		}
	}
	return d, nil
}

// reads says whether an objective of this kind is asked for.
func (d *Data) reads(kind string) bool {
	return slices.ContainsFunc(d.source.objectives(), func(o Objective) bool { return o.Kind == kind })
}

// tokenize says how a split's files become tokens.
func (s Source) tokenize(files []string, need Need, o OpenOptions) TokenizeOptions {
	return TokenizeOptions{
		Files: files, Tokenizer: o.Tokenizer, CacheDir: o.CacheDir, Progress: o.Progress,
		Read:   ReadOptions{Columns: s.Columns, Need: need, OnBadRow: s.OnBadRow},
		Prefix: s.Prefix, MaxInput: s.MaxInput, MaxTarget: s.MaxTarget,
	}
}

// limit is the most tokens of a text that is denoised, </s> apart.
func (d *Data) limit() int { return min(d.source.MaxInput, d.source.MaxTarget) - 1 }

// cut counts the texts that denoising cuts.
func (d *Data) cut() (n int64) {
	if !d.reads(Denoise) {
		return 0
	}
	for i := range d.texts.Len() {
		if length, _ := d.texts.Lengths(i); length > d.limit() {
			n++
		}
	}
	return n
}

// Skipped gives the first of the rows that were bad.
func (d *Data) Skipped() []*RowError {
	if d.pairs != nil {
		return d.pairs.Skipped()
	}
	var skipped []*RowError
	for _, task := range d.tasks {
		skipped = append(skipped, task.Skipped()...)
	}
	if d.texts == nil {
		return skipped
	}
	return d.texts.Skipped()
}

// Close lets the tokens go; streams made of them must not be used any more.
func (d *Data) Close() error {
	var errs []error
	for _, task := range d.tasks {
		errs = append(errs, task.Close())
	}
	for _, corpus := range []*Corpus{d.pairs, d.texts} {
		if corpus != nil {
			errs = append(errs, corpus.Close())
		}
	}
	return errors.Join(errs...)
}

// Batches makes batches of the split as the recipe's data section says: buckets that the options
// leave open are the recipe's, and the objectives are mixed by their rates.
func (d *Data) Batches(o BatchOptions) (*Stream, error) {
	if len(o.Buckets) == 0 {
		o.Buckets = d.source.Buckets
	}
	if o.MaxBuckets == 0 {
		o.MaxBuckets = d.source.MaxBuckets
	}
	o.Packing = o.Packing || d.source.Packing
	if len(d.tasks) > 0 {
		return d.taskBatches(o)
	}
	var parts []batchPlan
	var rates []float64
	for i, objective := range d.source.objectives() {
		rows, err := d.rows(objective, o.Seed, uint64(i))
		if err == nil {
			var plan *bucketPlan
			plan, err = newBucketPlan(rows, o, uint64(i))
			parts = append(parts, plan)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("objective %s: %w", objective.Kind, err), (&mixture{parts: parts[:i]}).close())
		}
		rates = append(rates, objective.settings().rate)
	}
	if plan, ok := parts[0].(*bucketPlan); ok && len(parts) == 1 {
		return newStream(plan, o), nil
	}
	return &Stream{plan: newMixture(parts, rates, o.Seed)}, nil
}

// rows are what an objective makes of the split.
func (d *Data) rows(o Objective, seed, stream uint64) (rowSet, error) {
	switch o.Kind {
	case Supervised:
		return pairRows{d.pairs}, nil
	case Preference:
		return preferenceRows{d.pairs}, nil
	case SpanCorruption:
		return newSpanRows(d.texts, d.tok, o.settings(), d.source.MaxInput, d.source.MaxTarget, seed, stream)
	case Denoise:
		return newDenoiseRows(d.texts, d.tok, o.settings(), d.limit(), seed, stream), nil
	case PrefixLM:
		return newPrefixRows(d.texts, d.tok, d.source.MaxInput-1, d.source.MaxTarget, seed, stream), nil
	}
	return nil, &FieldError{Field: "objectives", Reason: fmt.Sprintf("%q is none of %v", o.Kind, Kinds())}
}
