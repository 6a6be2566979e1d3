package exposure

import (
	"context"
	"encoding/json"
	"fmt"
	"math"

	"github.com/t5ctl/t5ctl/eval"
)

// Row is one example whose membership is tested.
type Row struct{ ID, Input, Target string }

// TokenScorer says how likely a model finds each token of targets after their sources.
type TokenScorer interface {
	ScoreTokens(ctx context.Context, sources, targets []string) ([]TokenScores, error)
}

// Sides are what one model says of members and non-members.
type Sides struct{ Members, Nonmembers []TokenScores }

// scoreChunk is how many rows are scored between two words on progress.
const scoreChunk = 256

// ScoreRows scores the targets of rows under one model.
func ScoreRows(ctx context.Context, s TokenScorer, prefix string, rows []Row, done func(rows int)) ([]TokenScores, error) {
	out := make([]TokenScores, 0, len(rows))
	for len(out) < len(rows) {
		chunk := rows[len(out):min(len(out)+scoreChunk, len(rows))]
		sources, targets := make([]string, len(chunk)), make([]string, len(chunk))
		for i, r := range chunk {
			sources[i], targets[i] = prefix+r.Input, r.Target
		}
		scores, err := s.ScoreTokens(ctx, sources, targets)
		if err != nil {
			return nil, err
		}
		for i, t := range scores {
			if l := t.Loss(); math.IsNaN(l) || math.IsInf(l, 0) || l < -1e-3 {
				return nil, fmt.Errorf("row %s: the loss %v is impossible", chunk[i].ID, l)
			}
		}
		out = append(out, scores...)
		if done != nil {
			done(len(chunk))
		}
	}
	return out, nil
}

// Membership is what a membership test is judged from.
type Membership struct {
	Members, Nonmembers []Row
	Target              Sides
	Reference           *Sides   // a model that saw neither; nil: there is none
	Shadow              *Shadows // of members, then non-members; nil: no shadow models
	ShadowModels        int
	Fingerprint         string // of the rows
}

// TooFewError says that a test has too few rows to say anything.
type TooFewError struct {
	What       string
	Have, Need int
}

func (e *TooFewError) Error() string {
	return fmt.Sprintf("%d %s are too few: at least %d are needed", e.Have, e.What, e.Need)
}

// leastRows is how many members, and non-members, a membership test needs.
const leastRows = 20

// minKPercent is the share of least likely tokens that Min-K% looks at.
const minKPercent = 20

// MembershipDetails is what a report says beside the metrics.
type MembershipDetails struct {
	Kind       string             `json:"kind"` // "membership"
	Headline   string             `json:"headline"`
	Compressor string             `json:"compressor"`
	Control    *ControlCheck      `json:"control"`
	Shadows    int                `json:"shadow_models,omitempty"`
	Attacks    []AttackResult     `json:"attacks"`
	Means      map[string]float64 `json:"mean_loss"` // in nats a token, of members and non-members
	Bits       map[string]float64 `json:"mean_bits"` // of a whole target
	Perplexity map[string]float64 `json:"mean_perplexity"`
}

// ControlCheck is the same test of what cannot know members: it must find nothing.
type ControlCheck struct {
	What string     `json:"what"`
	AUC  float64    `json:"auc"`
	CI   [2]float64 `json:"auc_ci"`
	Void bool       `json:"void"` // its interval excludes 0.5: members and non-members differ in themselves
}

// AttackResult is one attack's curve.
type AttackResult struct {
	Attack    string       `json:"attack"`
	ROC       ROC          `json:"roc"`
	Epsilon   float64      `json:"epsilon_lower"`
	Guesses   int          `json:"epsilon_guesses"`
	Correct   int          `json:"epsilon_correct"`
	Threshold [3]float64   `json:"epsilon_threshold"` // from the largest advantage's threshold: ε, TPR's lower bound, FPR's upper
	Curve     [][2]float64 `json:"curve"`             // FPR and TPR, thinned
}

// Report judges every attack that the scores allow. The headline, in the slice of all rows, is the strongest
// that is known beforehand: LiRA, else the ratio to the reference, else the loss; picking the best
// afterwards would flatter it.
func (m Membership) Report() (eval.Report, error) {
	for what, n := range map[string]int{"members": len(m.Members), "non-members": len(m.Nonmembers)} {
		if n < leastRows {
			return eval.Report{}, &TooFewError{what, n, leastRows}
		}
	}
	d := MembershipDetails{Kind: "membership", Compressor: Compressor, Shadows: m.ShadowModels}
	d.Control = m.control()
	d.means(m.Target)
	verdict, note := eval.VerdictOK, ""
	if d.Control.Void {
		verdict = eval.VerdictVoid
		note = fmt.Sprintf("%s tells members from non-members (AUC %.3f to %.3f), so they differ in themselves", d.Control.What, d.Control.CI[0], d.Control.CI[1])
	}
	b := builder{sig: fmt.Sprintf("members:%d|nonmembers:%d|mink:%d|zip:%s|shadows:%d|version:t5ctl-1", len(m.Members), len(m.Nonmembers), minKPercent, Compressor, m.ShadowModels),
		verdict: verdict, note: note}
	for _, a := range m.attacks() {
		r := judge(a)
		d.Attacks = append(d.Attacks, r)
		d.Headline = a.name // the last is the strongest
	}
	for i := len(d.Attacks) - 1; i >= 0; i-- {
		if a := d.Attacks[i]; a.Attack == d.Headline {
			b.attack(a, "")
		}
	}
	for _, a := range d.Attacks {
		b.attack(a, "attack="+a.Attack)
	}
	b.add("membership_control_auc", "AUC of the control", "", d.Control.AUC, interval(d.Control.CI, 1), len(m.Members)+len(m.Nonmembers))
	details, err := json.Marshal(d)
	if err != nil {
		return eval.Report{}, err
	}
	return eval.Report{
		Schema: eval.ReportSchema, Kind: eval.KindExposure, Name: "membership", Decoding: json.RawMessage("{}"),
		Data:    eval.DataFacts{Fingerprint: m.Fingerprint, N: len(m.Members) + len(m.Nonmembers)},
		Metrics: b.results, Details: details,
	}, nil
}

// control runs the test without the model: with the reference's loss, or where there is none with how
// far the texts themselves can be compressed.
func (m Membership) control() *ControlCheck {
	c := ControlCheck{What: "the text alone"}
	members, nonmembers := density(m.Members), density(m.Nonmembers)
	if m.Reference != nil {
		c.What = "the reference model"
		members, nonmembers = each(m.Reference.Members, negativeLoss), each(m.Reference.Nonmembers, negativeLoss)
	}
	r := NewROC(members, nonmembers)
	c.AUC, c.CI = r.AUC, r.CI
	c.Void = r.CI[0] > 0.5 || r.CI[1] < 0.5
	return &c
}

// density is the compressed length of each row's texts for each of their bytes.
func density(rows []Row) []float64 {
	out := make([]float64, len(rows))
	for i, r := range rows {
		text := r.Input + "\n" + r.Target
		out[i] = float64(CompressedLength(text)) / float64(len(text))
	}
	return out
}

func negativeLoss(_ int, t TokenScores) float64 { return -t.Loss() }

func each(scores []TokenScores, score func(int, TokenScores) float64) []float64 {
	out := make([]float64, len(scores))
	for i, s := range scores {
		out[i] = score(i, s)
	}
	return out
}

// attack is what one attack says of every row.
type attack struct {
	name                string
	members, nonmembers []float64
}

// attacks are all that the scores allow, the weakest first.
func (m Membership) attacks() []attack {
	both := func(name string, score func(rows []Row, reference []TokenScores) func(int, TokenScores) float64) attack {
		var in, out []TokenScores
		if m.Reference != nil {
			in, out = m.Reference.Members, m.Reference.Nonmembers
		}
		return attack{name, each(m.Target.Members, score(m.Members, in)), each(m.Target.Nonmembers, score(m.Nonmembers, out))}
	}
	plain := func(name string, score func(TokenScores) float64) attack {
		return both(name, func([]Row, []TokenScores) func(int, TokenScores) float64 {
			return func(_ int, t TokenScores) float64 { return score(t) }
		})
	}
	list := []attack{
		both("zlib", func(rows []Row, _ []TokenScores) func(int, TokenScores) float64 {
			return func(i int, t TokenScores) float64 { return t.PerByte(CompressedLength(rows[i].Target)) }
		}),
		plain("min_k", func(t TokenScores) float64 { return t.MinK(minKPercent) }),
		plain("min_k_plus", func(t TokenScores) float64 { return t.MinKPlus(minKPercent) }),
		plain("loss", func(t TokenScores) float64 { return -t.Loss() }),
	}
	if m.Reference != nil {
		list = append(list, both("ratio", func(_ []Row, reference []TokenScores) func(int, TokenScores) float64 {
			return func(i int, t TokenScores) float64 { return t.Ratio(reference[i]) }
		}))
	}
	if m.Shadow != nil {
		list = append(list, m.shadowAttacks()...)
	}
	return list
}

// pooledBelow is the number of shadow models below which one variance serves all rows: those of
// single rows would be noise.
const pooledBelow = 64

func (m Membership) shadowAttacks() []attack {
	target := append(each(m.Target.Members, phi), each(m.Target.Nonmembers, phi)...)
	n := len(m.Members)
	pooled := m.ShadowModels < pooledBelow
	cut := func(name string, scores []float64) attack { return attack{name, scores[:n], scores[n:]} }
	return []attack{
		cut("calibrated", Calibrated(target, *m.Shadow, false)),
		cut("calibrated_mid", Calibrated(target, *m.Shadow, true)),
		cut("lira_offline", LiRA{Kind: LiRAOneSided, Pooled: pooled}.Scores(target, *m.Shadow)),
		cut("lira_online", LiRA{Kind: LiRABoth, Pooled: pooled, Mean: true}.Scores(target, *m.Shadow)),
	}
}

func phi(_ int, t TokenScores) float64 { return t.Phi() }

func judge(a attack) AttackResult {
	r := AttackResult{Attack: a.name, ROC: NewROC(a.members, a.nonmembers)}
	k := min(len(a.members), len(a.nonmembers)) / 5
	r.Epsilon, r.Guesses, r.Correct = epsilonBest(a.members, a.nonmembers, k)
	best := 0
	for i, p := range r.ROC.Points {
		if q := r.ROC.Points[best]; p.TPR-p.FPR > q.TPR-q.FPR {
			best = i
		}
	}
	p, n, q := r.ROC.Points[best], r.ROC.Members, r.ROC.Nonmembers
	r.Threshold[0], r.Threshold[1], r.Threshold[2] = EpsilonThreshold(int(math.Round(p.TPR*float64(n))), n, int(math.Round(p.FPR*float64(q))), q, 0, 0.05)
	step := max(1, len(r.ROC.Points)/200)
	for i, p := range r.ROC.Points {
		if i%step == 0 || i == len(r.ROC.Points)-1 {
			r.Curve = append(r.Curve, [2]float64{p.FPR, p.TPR})
		}
	}
	return r
}

func (d *MembershipDetails) means(s Sides) {
	d.Means, d.Bits, d.Perplexity = map[string]float64{}, map[string]float64{}, map[string]float64{}
	for side, scores := range map[string][]TokenScores{"members": s.Members, "nonmembers": s.Nonmembers} {
		d.Means[side] = -mean(each(scores, negativeLoss))
		d.Bits[side] = mean(each(scores, func(_ int, t TokenScores) float64 { return t.Bits() }))
		d.Perplexity[side] = mean(each(scores, func(_ int, t TokenScores) float64 { return t.Perplexity() }))
	}
}

func interval(ci [2]float64, scale float64) *[2]eval.Number {
	return &[2]eval.Number{eval.Number(scale * ci[0]), eval.Number(scale * ci[1])}
}

// attack adds the metrics of one attack.
func (b *builder) attack(a AttackResult, slice string) {
	n := a.ROC.Members + a.ROC.Nonmembers
	b.add("membership_auc", "AUC", slice, a.ROC.AUC, interval(a.ROC.CI, 1), n)
	for i, name := range []string{"membership_tpr_10", "membership_tpr_1", "membership_tpr_01"} {
		o := a.ROC.At[i]
		b.add(name, fmt.Sprintf("TPR at %g %% FPR", 100*o.Limit), slice, 100*o.TPR, interval(o.CI, 100), a.ROC.Members)
		if last := &b.results[len(b.results)-1]; !o.Resolvable {
			last.Score, last.CI = eval.Number(math.NaN()), nil
			if last.Verdict == eval.VerdictOK {
				last.Verdict = eval.VerdictUndefined
				last.Note = fmt.Sprintf("not resolvable: %d non-members, %.0f are needed", a.ROC.Nonmembers, math.Ceil(1/o.Limit))
			}
		}
	}
	b.add("membership_balanced_accuracy", "best balanced accuracy", slice, 100*a.ROC.Balanced, nil, n)
	b.add("membership_epsilon", "lower bound of ε", slice, a.Epsilon, nil, a.Guesses)
}
