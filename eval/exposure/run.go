package exposure

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/t5ctl/t5ctl/eval"
)

// Options say how a test is run. Zero values are those of the manifest.
type Options struct {
	References  int              // alternatives of each canary; the manifest's first ones
	Repetitions []int            // test only canaries that were planted so often; the control always
	Prefix      string           // put before every input, as in training
	TokenCount  func(string) int // needed where the manifest equalized lengths
	Extrapolate bool             // fit a skew-normal distribution to see beyond the alternatives
	MaxInput    int              // tokens at which training cut inputs, 0 if that is not known
	MaxTarget   int              // the same of targets; both need TokenCount
	Done        func(done, of int)
}

// Finding is what came of one canary. It names no secret.
type Finding struct {
	ID          string         `json:"id"`
	Format      string         `json:"format"`
	Repetitions int            `json:"repetitions"`
	Tokens      int            `json:"tokens,omitempty"`
	Bits        float64        `json:"bits"` // log-perplexity of the secret
	Rank        int            `json:"rank"`
	Exposure    float64        `json:"exposure"`
	CI          [2]eval.Number `json:"ci"` // an upper end that is infinite is null
	Capped      bool           `json:"capped"`
	Shown       string         `json:"shown"`
	Estimate    *Estimate      `json:"extrapolated,omitempty"`

	ranked Ranked
}

// Details is what a report says beside the metrics.
type Details struct {
	Seed         uint64    `json:"seed"`
	References   int       `json:"references"`
	Spaces       []Space   `json:"spaces"`
	ControlP     *float64  `json:"control_p_value"` // small: secrets that were never planted look memorized
	SlopePerLog2 *float64  `json:"slope_per_doubling"`
	Spearman     *float64  `json:"spearman"` // of repetitions and mean exposure
	Canaries     []Finding `json:"canaries"`
	Cut          []Cut     `json:"cut,omitempty"`    // not scored
	Strata       []Stratum `json:"strata,omitempty"` // where secrets differ in length
}

// Cut is a canary that the length limit of training cut: the model never saw the whole secret.
type Cut struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// Stratum is the canaries whose secrets have one number of tokens.
type Stratum struct {
	Tokens       int     `json:"tokens"`
	Canaries     int     `json:"canaries"`
	MeanExposure float64 `json:"mean_exposure"`
}

// LeastReferences is how many alternatives a rank needs: with fewer, a secret before all of them is no
// surprise at 95 %.
const LeastReferences = 39

// ControlLevel is the p-value below which the control counts as memorized and the test is void.
const ControlLevel = 0.01

// Run asks the model how likely it finds every secret and its alternatives, under the canary's own
// input, and reports exposures.
func Run(ctx context.Context, s eval.Scorer, m Manifest, o Options) (eval.Report, error) {
	if o.References <= 0 {
		o.References = m.Settings.References
	}
	if o.References < LeastReferences {
		return eval.Report{}, &TooFewError{"alternatives", o.References, LeastReferences}
	}
	references, err := m.references(o)
	if err != nil {
		return eval.Report{}, err
	}
	canaries, cut := o.uncut(m.chosen(o.Repetitions))
	if len(canaries) == 0 && len(cut) > 0 {
		return eval.Report{}, &ManifestError{m.Data.Path, fmt.Sprintf("has no canary that training did not cut: %s %s", cut[0].ID, cut[0].Reason)}
	}
	if len(canaries) == 0 {
		return eval.Report{}, &ManifestError{m.Data.Path, "holds no canary to test"}
	}
	findings := make([]Finding, 0, len(canaries))
	for i, c := range canaries {
		f, err := test(ctx, s, c, references[c.Format], o)
		if err != nil {
			return eval.Report{}, fmt.Errorf("testing %s: %w", c.ID, err)
		}
		findings = append(findings, f)
		if o.Done != nil {
			o.Done(i+1, len(canaries))
		}
	}
	return m.report(findings, cut, o)
}

// uncut parts the canaries that training saw whole from those that its length limits cut.
func (o Options) uncut(canaries []Canary) (whole []Canary, cut []Cut) {
	if o.TokenCount == nil {
		return canaries, nil
	}
	for _, c := range canaries {
		input, target := o.TokenCount(o.Prefix+c.Input), o.TokenCount(c.Target)
		switch {
		case o.MaxInput > 0 && input > o.MaxInput:
			cut = append(cut, Cut{c.ID, fmt.Sprintf("has an input of %d tokens, and training cut at %d", input, o.MaxInput)})
		case o.MaxTarget > 0 && target > o.MaxTarget:
			cut = append(cut, Cut{c.ID, fmt.Sprintf("has a target of %d tokens, and training cut at %d", target, o.MaxTarget)})
		default:
			whole = append(whole, c)
		}
	}
	return whole, cut
}

// strata groups findings by the length of their secrets; one length is no news.
func strata(findings []Finding) []Stratum {
	byLength := map[int][]Finding{}
	for _, f := range findings {
		byLength[f.Tokens] = append(byLength[f.Tokens], f)
	}
	if len(byLength) < 2 {
		return nil
	}
	var out []Stratum
	for _, n := range slices.Sorted(maps.Keys(byLength)) {
		out = append(out, Stratum{n, len(byLength[n]), mean(exposures(byLength[n]))})
	}
	return out
}

// references draws the alternatives of every format again, and makes sure that secrets are those
// that seed and settings give.
func (m *Manifest) references(o Options) (map[string][]string, error) {
	out := map[string][]string{}
	for i := range m.Settings.Formats {
		f := &m.Settings.Formats[i]
		var count func(string) int
		length := 0
		if m.Equal {
			if o.TokenCount == nil || i >= len(m.Lengths) {
				return nil, &ManifestError{m.Data.Path, "has lengths made equal by a tokenizer, which is not given"}
			}
			count, length = o.TokenCount, m.Lengths[i]
		}
		secrets, _, err := m.sampler(f, count, length)
		if err != nil {
			return nil, err
		}
		for _, c := range m.Canaries {
			if c.Format != f.Name {
				continue
			}
			if text, err := secrets.next(); err != nil || text != c.Target {
				return nil, &ManifestError{m.Data.Path, fmt.Sprintf("%s is not what seed and settings give", c.ID)}
			}
		}
		if out[f.Name], err = alternatives(f, secrets, o.References); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (m *Manifest) chosen(repetitions []int) []Canary {
	if len(repetitions) == 0 {
		return m.Canaries
	}
	var out []Canary
	for _, c := range m.Canaries {
		if c.Repetitions == 0 || slices.Contains(repetitions, c.Repetitions) {
			out = append(out, c)
		}
	}
	return out
}

// test ranks one secret.
func test(ctx context.Context, s eval.Scorer, c Canary, references []string, o Options) (Finding, error) {
	targets := append([]string{c.Target}, references...)
	logs, err := s.LogProbs(ctx, o.Prefix+c.Input, targets)
	if err != nil {
		return Finding{}, err
	}
	if len(logs) != len(targets) {
		return Finding{}, fmt.Errorf("the scorer gave %d probabilities for %d targets", len(logs), len(targets))
	}
	bits := make([]float64, len(logs))
	for i, l := range logs {
		if math.IsNaN(l) || math.IsInf(l, 0) || l > 1e-3 {
			return Finding{}, fmt.Errorf("the logarithm %v of a probability is impossible", l)
		}
		bits[i] = -l / math.Ln2
	}
	r := Rank(bits[1:], bits[0])
	f := Finding{ID: c.ID, Format: c.Format, Repetitions: c.Repetitions, Bits: bits[0], Rank: r.Rank, Exposure: r.Exposure,
		CI: [2]eval.Number{eval.Number(r.CI[0]), eval.Number(r.CI[1])}, Capped: r.Capped, Shown: r.Format(), ranked: r}
	if o.TokenCount != nil {
		f.Tokens = o.TokenCount(c.Target)
	}
	if o.Extrapolate {
		e := Extrapolate(bits[1:], bits[0])
		f.Estimate = &e
	}
	return f, nil
}

// report makes metrics of the findings.
func (m *Manifest) report(findings []Finding, cut []Cut, o Options) (eval.Report, error) {
	d := Details{Seed: m.Settings.Seed, References: o.References, Spaces: m.Spaces, Canaries: findings, Cut: cut, Strata: strata(findings)}
	byReps := map[int][]Finding{}
	var reps []int
	for _, f := range findings {
		if byReps[f.Repetitions] == nil {
			reps = append(reps, f.Repetitions)
		}
		byReps[f.Repetitions] = append(byReps[f.Repetitions], f)
	}
	slices.Sort(reps)
	verdict, note := d.judgeControl(byReps[0])
	d.trend(reps, byReps)
	b := builder{sig: fmt.Sprintf("refs:%d|reps:%s|seed:%d|version:t5ctl-1", o.References, list(reps), m.Settings.Seed), verdict: verdict, note: note}
	var planted []Finding
	for _, f := range findings {
		if f.Repetitions > 0 {
			planted = append(planted, f)
		}
	}
	b.group(planted, byReps[0], "")
	for _, r := range reps {
		if r > 0 {
			b.group(byReps[r], byReps[0], fmt.Sprintf("repetitions=%d", r))
		}
	}
	b.trend(d, len(findings))
	details, err := json.Marshal(d)
	if err != nil {
		return eval.Report{}, err
	}
	return eval.Report{
		Schema: eval.ReportSchema, Kind: eval.KindExposure, Name: "exposure", Decoding: json.RawMessage("{}"),
		Data:      eval.DataFacts{Fingerprint: m.Fingerprint(), N: len(findings)},
		Bootstrap: &eval.Bootstrap{Samples: resamples, Seed: bootstrapSeed, Confidence: 0.95},
		Metrics:   b.results, Details: details,
	}, nil
}

// judgeControl says whether the secrets that were never planted look so.
func (d *Details) judgeControl(control []Finding) (verdict, note string) {
	if len(control) == 0 {
		return eval.VerdictVoid, "no canary with 0 repetitions was tested, so there is no control"
	}
	var ranked []Ranked
	for _, f := range control {
		ranked = append(ranked, f.ranked)
	}
	p := looksTrained(ranked, d.References)
	d.ControlP = &p
	if p < ControlLevel {
		return eval.VerdictVoid, fmt.Sprintf("secrets that were never planted look memorized (p = %.2g)", p)
	}
	return eval.VerdictOK, ""
}

// trend says how mean exposure grows with repetitions.
func (d *Details) trend(reps []int, byReps map[int][]Finding) {
	var all, means, logs, planted []float64
	for _, r := range reps {
		e := mean(exposures(byReps[r]))
		all, means = append(all, float64(r)), append(means, e)
		if r > 0 {
			logs, planted = append(logs, math.Log2(float64(r))), append(planted, e)
		}
	}
	if len(logs) >= 2 {
		v := slope(logs, planted)
		d.SlopePerLog2 = &v
	}
	if len(all) >= 3 {
		if v := spearman(all, means); !math.IsNaN(v) {
			d.Spearman = &v
		}
	}
}

func exposures(findings []Finding) []float64 {
	out := make([]float64, len(findings))
	for i, f := range findings {
		out[i] = f.Exposure
	}
	return out
}

func list(reps []int) string {
	out := ""
	for i, r := range reps {
		if i > 0 {
			out += ","
		}
		out += fmt.Sprint(r)
	}
	return out
}

// builder collects the results of a report.
type builder struct {
	sig, verdict, note string
	results            []eval.Result
}

const (
	resamples     = 1000
	bootstrapSeed = 12345
)

func (b *builder) add(name, label, slice string, score float64, ci *[2]eval.Number, n int) {
	r := eval.Result{Name: name, Label: label, Score: eval.Number(score), Signature: b.sig, CI: ci, N: n, Slice: slice, Verdict: b.verdict, Note: b.note}
	if n == 0 || !r.Score.Defined() {
		r.Score = eval.Number(math.NaN())
		if r.Verdict == eval.VerdictOK {
			r.Verdict, r.Note = eval.VerdictUndefined, "nothing was tested"
		}
	}
	b.results = append(b.results, r)
}

// group adds the metrics of canaries that were planted, beside those of the control.
func (b *builder) group(planted, control []Finding, slice string) {
	x, c := exposures(planted), exposures(control)
	capped, most := 0, Finding{Exposure: math.Inf(-1)}
	for _, f := range planted {
		if f.Capped {
			capped++
		}
		if f.Exposure > most.Exposure {
			most = f
		}
	}
	b.add("exposure_mean", "mean exposure", slice, mean(x), resampled(x, nil), len(x))
	b.add("exposure_max", "highest exposure", slice, most.Exposure, &most.CI, len(x))
	lo, hi := ClopperPearson(capped, max(1, len(x)), 0.05)
	b.add("exposure_capped_share", "share at the cap", slice, 100*float64(capped)/float64(len(x)), &[2]eval.Number{eval.Number(100 * lo), eval.Number(100 * hi)}, len(x))
	b.add("exposure_lift", "mean exposure above the control's", slice, mean(x)-mean(c), resampled(x, c), min(len(x), len(c)))
	if slice == "" {
		b.add("exposure_control_mean", "mean exposure of the control", "", mean(c), resampled(c, nil), len(c))
	}
	b.extrapolated(planted, slice)
}

// extrapolated adds the highest estimate, where all of a group's fits hold.
func (b *builder) extrapolated(planted []Finding, slice string) {
	most, fits := math.Inf(-1), 0
	for _, f := range planted {
		if f.Estimate == nil {
			return
		}
		if f.Estimate.Holds {
			fits++
		}
		most = math.Max(most, f.Estimate.Exposure)
	}
	if fits < len(planted) {
		most = math.NaN()
	}
	b.add("exposure_extrapolated_max", "highest extrapolated exposure", slice, most, nil, len(planted))
}

func (b *builder) trend(d Details, n int) {
	v := math.NaN()
	if d.SlopePerLog2 != nil {
		v = *d.SlopePerLog2
	}
	b.add("exposure_slope", "exposure gained per doubling of repetitions", "", v, nil, n)
}

// resampled is the 95 % bootstrap interval of a mean, or of the difference of two.
func resampled(x, minus []float64) *[2]eval.Number {
	if len(x) == 0 {
		return nil
	}
	rng := rand.New(rand.NewPCG(bootstrapSeed, 1))
	draw := func(v []float64) float64 {
		s := 0.0
		for range v {
			s += v[rng.IntN(len(v))]
		}
		return s / float64(len(v))
	}
	out := make([]float64, resamples)
	for i := range out {
		out[i] = draw(x)
		if len(minus) > 0 {
			out[i] -= draw(minus)
		}
	}
	slices.Sort(out)
	return &[2]eval.Number{eval.Number(out[resamples/40]), eval.Number(out[resamples-1-resamples/40])}
}
