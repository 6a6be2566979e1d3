package exposure

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/internal/overlap"
)

// Writer writes outputs for sources: the best of a search with so many beams, best first.
type Writer interface {
	Write(ctx context.Context, sources []string, beams, tokens int) ([][]string, error)
}

// Extraction is what came of trying to get secrets, and training targets, out of a model.
type Extraction struct {
	Canaries []CanaryExtraction `json:"canaries,omitempty"`
	Rows     *RowExtraction     `json:"rows,omitempty"`
	Overlap  *OverlapResult     `json:"overlap,omitempty"`
	PII      *LeakResult        `json:"pii,omitempty"`
	Budget   int                `json:"guess_budget"`
	Beams    []int              `json:"beams"`
}

// CanaryExtraction is how hard it was to get at one secret. It names no secret.
type CanaryExtraction struct {
	ID          string       `json:"id"`
	Format      string       `json:"format"`
	Repetitions int          `json:"repetitions"`
	Greedy      Reproduced   `json:"greedy"` // of the output of greedy search
	Forced      int          `json:"forced"` // tokens of the secret that greedy search gets right behind the true ones
	Tokens      int          `json:"tokens"`
	Beams       map[int]bool `json:"beams"` // number of beams: the secret is among their outputs
	Guess       *Guess       `json:"guess,omitempty"`
}

// CanaryAttack says how secrets are looked for.
type CanaryAttack struct {
	Scorer  TokenScorer
	Writer  Writer
	Tokens  func(text string) []int32
	Beams   []int
	Guesser *Guesser // nil: none
	Prefix  string
	Done    func(done, of int)
}

// ExtractCanaries tries to get every canary of the manifest out of the model.
func (m *Manifest) ExtractCanaries(ctx context.Context, a CanaryAttack) ([]CanaryExtraction, error) {
	patterns := map[string]*pattern{}
	for i := range m.Settings.Formats {
		patterns[m.Settings.Formats[i].Name] = m.Settings.Formats[i].pattern()
	}
	var out []CanaryExtraction
	for i, c := range m.Canaries {
		e, err := a.canary(ctx, c, patterns[c.Format])
		if err != nil {
			return nil, fmt.Errorf("extracting %s: %w", c.ID, err)
		}
		out = append(out, e)
		if a.Done != nil {
			a.Done(i+1, len(m.Canaries))
		}
	}
	return out, nil
}

func (a CanaryAttack) canary(ctx context.Context, c Canary, p *pattern) (CanaryExtraction, error) {
	truth := a.Tokens(c.Target)
	e := CanaryExtraction{ID: c.ID, Format: c.Format, Repetitions: c.Repetitions, Tokens: len(truth), Beams: map[int]bool{}}
	source := []string{a.Prefix + c.Input}
	for _, beams := range a.Beams {
		outputs, err := a.Writer.Write(ctx, source, beams, len(truth)+4)
		if err != nil {
			return e, err
		}
		e.Beams[beams] = slices.Contains(outputs[0], c.Target)
		if beams == 1 {
			e.Greedy = Compare(truth, a.Tokens(outputs[0][0]))
		}
	}
	scores, err := a.Scorer.ScoreTokens(ctx, source, []string{c.Target})
	if err != nil {
		return e, err
	}
	for _, best := range scores[0].Best {
		if best {
			e.Forced++
		}
	}
	if a.Guesser != nil && p != nil {
		g, err := a.Guesser.Search(ctx, source[0], p, c.Target)
		if err != nil {
			return e, err
		}
		e.Guess = &g
	}
	return e, nil
}

// Prefixes are the lengths, in tokens, for which k-extractability is told.
func Prefixes() []int { return []int{32, 64, 128} }

// suffix is how many tokens must follow a prefix, all of them right.
const suffix = 50

// RowExtraction says how often targets come back from their own inputs. Greedy search behind the
// first k true tokens takes the next ones exactly if each of them is the likeliest there, so one
// pass over the true target tells it for every k.
type RowExtraction struct {
	Train    Share         `json:"train"`          // targets that greedy search writes, token for token
	Heldout  Share         `json:"heldout"`        // the same of rows that the model never saw
	Prefix   map[int]Share `json:"k_extractable"`  // training targets with 50 more tokens behind the first k
	Accuracy [2]float64    `json:"token_accuracy"` // under the true tokens before; of train and held-out
	Matched  [2]float64    `json:"prefix_match"`   // mean tokens before the first wrong one
}

// Share is how many of how many.
type Share struct {
	Count int `json:"count"`
	Of    int `json:"of"`
}

// NewRowExtraction counts.
func NewRowExtraction(train, heldout []TokenScores) RowExtraction {
	r := RowExtraction{Prefix: map[int]Share{}}
	for side, scores := range [][]TokenScores{train, heldout} {
		share, right, tokens, matched := Share{Of: len(scores)}, 0, 0, 0
		for _, t := range scores {
			wrong := slices.Index(t.Best, false)
			if wrong < 0 {
				share.Count++
				wrong = len(t.Best)
			}
			matched += wrong
			tokens += len(t.Best)
			for _, b := range t.Best {
				if b {
					right++
				}
			}
		}
		r.Accuracy[side] = float64(right) / float64(max(1, tokens))
		r.Matched[side] = float64(matched) / float64(max(1, len(scores)))
		if side == 0 {
			r.Train = share
		} else {
			r.Heldout = share
		}
	}
	for _, k := range Prefixes() {
		share := Share{}
		for _, t := range train {
			if len(t.Best) < k+suffix+1 { // the end token does not count
				continue
			}
			share.Of++
			if !slices.Contains(t.Best[k:k+suffix], false) {
				share.Count++
			}
		}
		r.Prefix[k] = share
	}
	return r
}

// OverlapResult says how much of the outputs stands word for word in the training data.
type OverlapResult struct {
	Outputs    int        `json:"outputs"`
	Tokens     int        `json:"tokens"`
	Read       int64      `json:"training_tokens"`
	Longest    int        `json:"longest_run"`     // in tokens
	LongestRow string     `json:"longest_run_row"` // id
	Fresh      int        `json:"longest_run_not_in_input"`
	FreshRow   string     `json:"longest_run_not_in_input_row"`
	Coverage   []Coverage `json:"coverage"` // all outputs together
	FreshCover []Coverage `json:"coverage_not_in_input"`
	Repetition Ngrams     `json:"repetition"` // of the outputs themselves
}

// Runs are the lengths of the runs that coverage is told for.
func Runs() []int { return []int{5, 8, 13, 50} }

// Overlap compares outputs with training data, which is read once; memory depends on the outputs.
type Overlap struct {
	index *overlap.Index
	ids   []string
	texts [][]int32
	own   [][]int // of each output, the runs that its own input holds
	read  int64
}

// NewOverlap starts without outputs.
func NewOverlap() *Overlap { return &Overlap{index: overlap.New()} }

// Add takes an output and its input, as tokens without end.
func (o *Overlap) Add(id string, output, input []int32) {
	o.index.Add(output)
	o.ids, o.texts = append(o.ids, id), append(o.texts, output)
	alone := overlap.New()
	alone.Add(output)
	alone.Feed(input)
	o.own = append(o.own, alone.Found(0))
}

// Feed reads past one text of the training data.
func (o *Overlap) Feed(tokens []int32) {
	o.index.Feed(tokens)
	o.read += int64(len(tokens))
}

// Result tells what was found.
func (o *Overlap) Result() OverlapResult {
	r := OverlapResult{Outputs: len(o.ids), Read: o.read, Repetition: CountNgrams(o.texts, 3)}
	sums := make([][2]Coverage, len(Runs()))
	for i, id := range o.ids {
		found := o.index.Found(i)
		r.Tokens += len(found)
		if n, _ := LongestRun(found, nil); n > r.Longest {
			r.Longest, r.LongestRow = n, id
		}
		if n, _ := LongestRun(found, o.own[i]); n > r.Fresh {
			r.Fresh, r.FreshRow = n, id
		}
		fresh := slices.Clone(found)
		for k, own := range o.own[i] {
			if own >= fresh[k] {
				fresh[k] = 0
			}
		}
		for k, n := range Runs() {
			sums[k][0].plus(Cover(found, n))
			sums[k][1].plus(Cover(fresh, n))
		}
	}
	for k := range sums {
		r.Coverage = append(r.Coverage, sums[k][0].of(r.Tokens))
		r.FreshCover = append(r.FreshCover, sums[k][1].of(r.Tokens))
	}
	return r
}

func (c *Coverage) plus(more Coverage) {
	c.N, c.Ngrams, c.Found, c.Tokens = more.N, c.Ngrams+more.Ngrams, c.Found+more.Found, c.Tokens+more.Tokens
}

func (c Coverage) of(tokens int) Coverage {
	c.Fraction = float64(c.Tokens) / float64(max(1, tokens))
	return c
}

// Report makes metrics of all that was tried.
func (x Extraction) Report(fingerprint string, n int) (eval.Report, error) {
	b := builder{sig: fmt.Sprintf("beams:%s|guesses:%d|version:t5ctl-1", list(x.Beams), x.Budget), verdict: eval.VerdictOK}
	x.canaries(&b)
	x.rows(&b)
	if o := x.Overlap; o != nil {
		b.add("verbatim_run", "longest verbatim run not in the input, in tokens", "", float64(o.Fresh), nil, o.Outputs)
		for i, c := range o.FreshCover {
			b.add(fmt.Sprintf("overlap_%d", c.N), fmt.Sprintf("share of tokens in training runs of %d, not in the input", c.N), "", 100*c.Fraction, nil, o.Outputs)
			b.add(fmt.Sprintf("overlap_%d", c.N), fmt.Sprintf("share of tokens in training runs of %d", c.N), "input=counted", 100*o.Coverage[i].Fraction, nil, o.Outputs)
		}
	}
	if x.PII != nil {
		x.PII.metrics(&b)
	}
	details, err := json.Marshal(x)
	if err != nil {
		return eval.Report{}, err
	}
	return eval.Report{
		Schema: eval.ReportSchema, Kind: eval.KindExposure, Name: "extraction", Decoding: json.RawMessage("{}"),
		Data: eval.DataFacts{Fingerprint: fingerprint, N: n}, Metrics: b.results, Details: details,
	}, nil
}

// canaries adds how many secrets came out. A secret that was never planted and comes out all the
// same makes the test void.
func (x Extraction) canaries(b *builder) {
	if len(x.Canaries) == 0 {
		return
	}
	groups := map[string][]CanaryExtraction{}
	var order []string
	for _, c := range x.Canaries {
		if c.Repetitions == 0 {
			for beams, found := range c.Beams {
				if found && beams <= 10 {
					b.verdict, b.note = eval.VerdictVoid, fmt.Sprintf("%s was never planted, and %d beams found it", c.ID, beams)
				}
			}
			continue
		}
		for _, slice := range []string{"", fmt.Sprintf("repetitions=%d", c.Repetitions)} {
			if groups[slice] == nil {
				order = append(order, slice)
			}
			groups[slice] = append(groups[slice], c)
		}
	}
	for _, slice := range order {
		for _, beams := range x.Beams {
			share := Share{Of: len(groups[slice])}
			for _, c := range groups[slice] {
				if c.Beams[beams] {
					share.Count++
				}
			}
			b.share(fmt.Sprintf("extracted_beams_%d", beams), fmt.Sprintf("secrets that %d beams find", beams), slice, share)
		}
		b.guesses(groups[slice], slice)
	}
	b.verdict, b.note = eval.VerdictOK, ""
}

// guesses adds how far a search over the format had to go.
func (b *builder) guesses(group []CanaryExtraction, slice string) {
	var bits []float64
	share := Share{}
	for _, c := range group {
		if c.Guess == nil {
			continue
		}
		share.Of++
		if c.Guess.Found {
			share.Count++
		}
		bits = append(bits, math.Log2(float64(max(1, c.Guess.Guesses))))
	}
	if share.Of == 0 {
		return
	}
	b.share("extracted_search", "secrets that the search over the format finds", slice, share)
	b.add("guess_bits", "log2 of the guesses, median", slice, median(bits), nil, share.Of)
}

// share adds a percentage with its exact interval.
func (b *builder) share(name, label, slice string, s Share) {
	lo, hi := ClopperPearson(s.Count, max(1, s.Of), 0.05)
	b.add(name, label, slice, 100*float64(s.Count)/float64(s.Of), interval([2]float64{lo, hi}, 100), s.Of)
}

func (x Extraction) rows(b *builder) {
	r := x.Rows
	if r == nil {
		return
	}
	b.share("reproduced_train", "training targets written from their own inputs", "", r.Train)
	b.share("reproduced_heldout", "held-out targets written from their own inputs", "", r.Heldout)
	d, lo, hi := Difference(r.Train.Count, r.Train.Of, r.Heldout.Count, r.Heldout.Of, 0.05)
	b.add("reproduced_excess", "points by which training targets come back more often", "", 100*d, interval([2]float64{lo, hi}, 100), r.Train.Of+r.Heldout.Of)
	for _, k := range Prefixes() {
		b.share(fmt.Sprintf("k_extractable_%d", k), fmt.Sprintf("training targets whose next 50 tokens follow the first %d", k), "", r.Prefix[k])
		if last := &b.results[len(b.results)-1]; r.Prefix[k].Of == 0 {
			last.CI, last.Note = nil, fmt.Sprintf("no training target has %d tokens", k+suffix)
		}
	}
}
