package datasets

import (
	"context"
	"maps"
	"slices"

	"github.com/t5ctl/t5ctl/internal/vocab"
)

// Inspection is what a model sees of a split: how long the texts are in tokens, what is cut, what
// the vocabulary cannot spell, and some rows in full.
type Inspection struct {
	Split        Split          `json:"split"`
	Files        []string       `json:"files"`
	Fingerprint  string         `json:"fingerprint"`
	Stats        Stats          `json:"counts"`
	UnknownShare float64        `json:"unknown_share"` // of all tokens
	Input        Lengths        `json:"input"`
	Target       Lengths        `json:"target"`
	Canaries     []CanaryRecord `json:"canaries,omitempty"`
	Skipped      []string       `json:"skipped,omitempty"` // the first bad rows and what is wrong with them
	Rows         []Seen         `json:"rows,omitempty"`
}

// Lengths describes how many tokens texts have, </s> included, before anything is cut.
type Lengths struct {
	Limit     int     `json:"limit"` // what is longer is cut
	Mean      float64 `json:"mean"`
	P50       int     `json:"p50"`
	P90       int     `json:"p90"`
	P99       int     `json:"p99"`
	Max       int     `json:"max"`
	Histogram []Bin   `json:"histogram"`
}

// Bin counts the texts of From to To tokens.
type Bin struct {
	From int   `json:"from"`
	To   int   `json:"to"`
	Rows int64 `json:"rows"`
}

// Seen is one row as a model sees it.
type Seen struct {
	Row        int64    `json:"row"` // counted from 1
	ID         string   `json:"id"`
	Objective  string   `json:"objective"`
	Input      SeenText `json:"input"`
	Target     SeenText `json:"target"`
	References []string `json:"references,omitempty"`
}

// SeenText is a text on its way into a model.
type SeenText struct {
	Text    string  `json:"text"`          // with the prefix; of an objective, the text it was made from
	IDs     []int32 `json:"ids"`           // what the model is fed
	Decoded string  `json:"decoded"`       // what those say, special tokens included
	Cut     string  `json:"cut,omitempty"` // what was cut off
	Unknown int     `json:"unknown,omitempty"`
}

// InspectOptions says which rows are shown.
type InspectOptions struct {
	Tokenizer *vocab.Tokenizer
	Rows      []int64 // counted from 1
	Seed      uint64  // of the objectives' chance
	Progress  func(rows int64)
}

// Inspect reads a split and tokenizes it as training does. Memory does not grow with the data.
func (s Source) Inspect(ctx context.Context, split Split, o InspectOptions) (*Inspection, error) {
	s = s.WithDefaults()
	files, err := s.Paths(split).Files()
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, &FieldError{Field: string(split), Reason: "is missing"}
	}
	in := &inspector{
		source: s, tok: o.Tokenizer, options: o, print: NewFingerprinter(),
		out: &Inspection{Split: split, Files: files}, input: counts{}, target: counts{},
	}
	if in.out.Canaries, err = FindCanaries(files); err != nil {
		return nil, err
	}
	read := ReadOptions{Columns: s.Columns, Need: in.need(), OnBadRow: s.OnBadRow, OnSkip: in.skip}
	number := int64(0)
	for _, path := range files {
		for example, err := range readFile(path, read, &number) {
			if err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				return nil, err
			}
			in.add(path, example)
		}
	}
	return in.done(), nil
}

// inspector gathers an Inspection.
type inspector struct {
	source  Source
	tok     *vocab.Tokenizer
	options InspectOptions
	print   *Fingerprinter
	out     *Inspection
	input   counts
	target  counts
}

// need is what the split's objectives read.
func (in *inspector) need() Need {
	for _, o := range in.source.objectives() {
		if o.Kind == Supervised {
			return Pairs
		}
	}
	return Texts
}

// objectives are those of the recipe, or the one that is meant without any.
func (s Source) objectives() []Objective {
	if len(s.Objectives) == 0 {
		return []Objective{{Kind: Supervised}}
	}
	return s.Objectives
}

func (in *inspector) skip(e *RowError) {
	in.out.Stats.Skipped++
	if len(in.out.Skipped) < keepSkipped {
		in.out.Skipped = append(in.out.Skipped, e.Error())
	}
}

func (in *inspector) add(path string, e Example) {
	in.print.Add(e)
	stats := &in.out.Stats
	stats.Rows++
	input, target := in.tok.Sequence(in.source.Prefix+e.Input), in.tok.Sequence(e.Target)
	if in.need() == Texts && in.source.Columns.Text != "" {
		target = nil
	}
	in.input[len(input)]++
	in.target[len(target)]++
	in.tally(input, in.source.MaxInput, &stats.TruncatedInputs, &stats.InputTokens, &stats.LongestInput)
	in.tally(target, in.source.MaxTarget, &stats.TruncatedTargets, &stats.TargetTokens, &stats.LongestTarget)
	if slices.Contains(in.options.Rows, stats.Rows) {
		for i, o := range in.source.objectives() {
			in.out.Rows = append(in.out.Rows, in.seen(e, e.Name(path), o, uint64(i)))
		}
	}
	if in.options.Progress != nil && stats.Rows%256 == 0 {
		in.options.Progress(stats.Rows)
	}
}

// tally counts what becomes of one text.
func (in *inspector) tally(ids []int32, limit int, truncated, tokens *int64, longest *int) {
	*longest = max(*longest, len(ids))
	if len(ids) > limit {
		*truncated++
		ids = ids[:limit]
	}
	*tokens += int64(len(ids))
	in.out.Stats.UnknownTokens += int64(in.unknown(ids))
}

func (in *inspector) unknown(ids []int32) (n int) {
	for _, id := range ids {
		if id == in.tok.UnkID() {
			n++
		}
	}
	return n
}

// seen is one row under one objective.
func (in *inspector) seen(e Example, name string, o Objective, stream uint64) Seen {
	s := Seen{Row: in.out.Stats.Rows, ID: name, Objective: o.Kind, References: e.References}
	if o.Kind == Supervised {
		s.Input = in.text(in.source.Prefix+e.Input, in.source.MaxInput)
		s.Target = in.text(e.Target, in.source.MaxTarget)
		return s
	}
	tokens := in.tok.Sequence(e.Input)
	tokens = tokens[:len(tokens)-1]
	r := newRandom(forNoise, in.options.Seed, stream, 0, uint64(e.Row))
	var input, target []int32
	switch o.Kind {
	case Denoise:
		limit := min(in.source.MaxInput, in.source.MaxTarget) - 1
		target = tokens[:min(len(tokens), limit)]
		input = noise{o.settings(), sentinelsOf(in.tok)}.disturb(target, r)
	case PrefixLM:
		tokens = tokens[:min(len(tokens), in.source.MaxInput-1)]
		n, _ := prefixSplit(len(tokens), in.source.MaxTarget-1, r)
		input, target = tokens[:n], tokens[n:]
	default:
		sentinels := sentinelsOf(in.tok)
		length, _ := SpanLengths(in.source.MaxInput, o.settings().density, o.settings().span)
		tokens = tokens[:min(len(tokens), length, len(sentinels))]
		input, target = SpanCorrupt(tokens, spanMask(len(tokens), o.settings().density, o.settings().span, r), sentinels)
	}
	s.Input, s.Target = in.ids(e.Input, append(slices.Clone(input), in.tok.EOSID())), in.ids(e.Input, append(slices.Clone(target), in.tok.EOSID()))
	return s
}

// text is a text that is cut at a limit.
func (in *inspector) text(text string, limit int) SeenText {
	full := in.tok.Sequence(text)
	cut := ""
	if len(full) > limit {
		cut = in.tok.Decode(full[limit-1:], true)
	}
	ids, _ := truncate(full, limit, in.tok.EOSID())
	s := in.ids(text, ids)
	s.Cut = cut
	return s
}

func (in *inspector) ids(text string, ids []int32) SeenText {
	return SeenText{Text: text, IDs: ids, Decoded: in.tok.Decode(ids, false), Unknown: in.unknown(ids)}
}

func (in *inspector) done() *Inspection {
	out := in.out
	out.Fingerprint = in.print.Sum()
	out.Input, out.Target = in.input.lengths(in.source.MaxInput), in.target.lengths(in.source.MaxTarget)
	if all := out.Stats.InputTokens + out.Stats.TargetTokens; all > 0 {
		out.UnknownShare = float64(out.Stats.UnknownTokens) / float64(all)
	}
	return out
}

// counts is how many texts have each length.
type counts map[int]int64

// maxBins bounds a histogram.
const maxBins = 12

func (c counts) lengths(limit int) Lengths {
	l := Lengths{Limit: limit}
	rows, sum := int64(0), 0.0
	order := slices.Sorted(maps.Keys(c))
	for _, n := range order {
		rows += c[n]
		sum += float64(int64(n) * c[n])
	}
	if rows == 0 {
		return l
	}
	l.Mean, l.Max = sum/float64(rows), order[len(order)-1]
	seen := int64(0)
	for _, n := range order { // nearest rank: the length that at least this share does not exceed
		seen += c[n]
		for share, at := range map[int64]*int{50: &l.P50, 90: &l.P90, 99: &l.P99} {
			if *at == 0 && seen*100 >= rows*share {
				*at = n
			}
		}
	}
	width := niceWidth(l.Max)
	lowest := max(0, order[0]-1) / width
	for from := lowest*width + 1; from <= l.Max; from += width {
		l.Histogram = append(l.Histogram, Bin{From: from, To: from + width - 1})
	}
	for _, n := range order {
		if n > 0 {
			l.Histogram[(n-1)/width-lowest].Rows += c[n]
		}
	}
	return l
}

// niceWidth is the width of bins that people read easily: 1, 2, 5, 10, 20, 50, …
func niceWidth(longest int) int {
	for scale := 1; ; scale *= 10 {
		for _, step := range []int{1, 2, 5} {
			if (longest+step*scale-1)/(step*scale) <= maxBins {
				return step * scale
			}
		}
	}
}
