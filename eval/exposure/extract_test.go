package exposure_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/exposure"
)

// letters is a vocabulary of single letters, " " and "ab", and an end.
func letters() (pieces []string, eos int32) {
	pieces = []string{"", "a", "b", "c", "d", " ", "ab", " a"}
	return pieces, 0
}

// habits is a model whose tokens follow each other with fixed chances, whatever the source.
type habits struct{ chances [][]float64 } // by number of tokens before

func (h habits) Continue(_ context.Context, _ string, beginnings [][]int32) ([][]float32, error) {
	out := make([][]float32, len(beginnings))
	for i, b := range beginnings {
		for _, p := range h.chances[min(len(b), len(h.chances)-1)] {
			out[i] = append(out[i], float32(math.Log(p)))
		}
	}
	return out, nil
}

// ScoreTokens, Write: the model always writes "ab", and says what its habits say.
func (h habits) ScoreTokens(_ context.Context, sources, targets []string) ([]exposure.TokenScores, error) {
	out := make([]exposure.TokenScores, len(sources))
	for i := range out {
		for k := range tokensOf(targets[i]) {
			out[i].LogProbs = append(out[i].LogProbs, -1)
			out[i].Best = append(out[i].Best, targets[i] == "ab" || k == 0)
		}
	}
	return out, nil
}

func (h habits) Write(_ context.Context, sources []string, beams, _ int) ([][]string, error) {
	out := make([][]string, len(sources))
	for i := range out {
		out[i] = []string{"ab", "cd"}[:min(2, beams)]
	}
	return out, nil
}

func tokensOf(text string) []int32 {
	var ids []int32
	for _, c := range text {
		ids = append(ids, int32(c))
	}
	return append(ids, 1)
}

// The search meets texts in the order of their probability, whatever the tokens they are written in.
func TestSearchOrder(t *testing.T) {
	pieces, eos := letters()
	rng := rand.New(rand.NewPCG(3, 4))
	h := habits{}
	for range 4 {
		row, sum := make([]float64, len(pieces)), 0.0
		for i := range row {
			row[i] = rng.Float64()
			sum += row[i]
		}
		for i := range row {
			row[i] /= sum
		}
		h.chances = append(h.chances, row)
	}
	settings := exposure.Settings{
		Formats:     []exposure.Format{{Name: "f", Input: "x", Target: "#@#", Classes: map[string]exposure.Class{"#": {"a", "b", "c", "d"}, "@": {"b", "ba", "ad"}}}},
		Repetitions: []int{0}, Canaries: 40, References: 1}
	m, err := exposure.Draw(exposure.PlantOptions{Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	found, err := m.ExtractCanaries(context.Background(), exposure.CanaryAttack{
		Scorer: h, Writer: h, Tokens: tokensOf, Beams: []int{1}, Guesser: &exposure.Guesser{Model: h, Pieces: pieces, EOS: eos, Budget: 100},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range m.Canaries {
		rank := 1
		own := h.best(c.Target, pieces, eos)
		for _, s := range space() {
			if h.best(s, pieces, eos) > own {
				rank++
			}
		}
		if g := found[i].Guess; !g.Found || g.Guesses != rank || math.Abs(g.Bits+own/math.Ln2) > 1e-4 {
			t.Errorf("%s: %+v; want guess %d of %v bits", c.Target, g, rank, -own/math.Ln2)
		}
	}
}

// space lists the secrets of the format "#@#".
func space() []string {
	var out []string
	for _, a := range "abcd" {
		for _, b := range []string{"b", "ba", "ad"} {
			for _, c := range "abcd" {
				out = append(out, fmt.Sprintf("%c%s%c", a, b, c))
			}
		}
	}
	return out
}

// best is the largest log-probability of all ways to write a text.
func (h habits) best(text string, pieces []string, eos int32) float64 {
	var walk func(rest string, n int) float64
	walk = func(rest string, n int) float64 {
		chances := h.chances[min(n, len(h.chances)-1)]
		if rest == "" {
			return math.Log(chances[eos])
		}
		most := math.Inf(-1)
		for id, p := range pieces {
			if n == 0 {
				p = strings.TrimPrefix(p, " ")
			}
			if p != "" && strings.HasPrefix(rest, p) {
				most = math.Max(most, math.Log(chances[id])+walk(rest[len(p):], n+1))
			}
		}
		return most
	}
	return walk(text, 0)
}

func TestExtractionReport(t *testing.T) {
	o := exposure.NewOverlap()
	o.Add("a", []int32{1, 2, 3, 4, 5, 6, 7, 8}, []int32{1, 2, 3, 4, 5})
	o.Add("b", []int32{9, 9, 9}, nil)
	o.Feed([]int32{0, 1, 2, 3, 4, 5, 6, 7, 0})
	overlap := o.Result()
	if overlap.Longest != 7 || overlap.Fresh != 7 || overlap.FreshRow != "a" || overlap.Repetition.Distinct != 7 {
		t.Errorf("overlap %+v", overlap)
	}
	o = exposure.NewOverlap()
	o.Add("copied", []int32{1, 2, 3, 4, 5, 6, 7}, []int32{1, 2, 3, 4, 5, 6, 7})
	o.Feed([]int32{1, 2, 3, 4, 5, 6, 7})
	if r := o.Result(); r.Longest != 7 || r.Fresh != 0 || r.FreshCover[0].Found != 0 || r.Coverage[0].Found != 3 {
		t.Errorf("what is copied from the input must not count: %+v", r)
	}
	right := func(n int, wrong ...int) exposure.TokenScores {
		s := exposure.TokenScores{LogProbs: make([]float64, n), Best: make([]bool, n)}
		for i := range s.Best {
			s.Best[i] = true
		}
		for _, w := range wrong {
			s.Best[w] = false
		}
		return s
	}
	rows := exposure.NewRowExtraction([]exposure.TokenScores{right(90), right(90, 3), right(90, 40), right(5)}, []exposure.TokenScores{right(5, 4), right(5, 0)})
	if rows.Train != (exposure.Share{Count: 2, Of: 4}) || rows.Heldout != (exposure.Share{Count: 0, Of: 2}) || rows.Prefix[32] != (exposure.Share{Count: 2, Of: 3}) || rows.Matched != [2]float64{(90 + 3 + 40 + 5) / 4., 2} {
		t.Errorf("rows %+v", rows)
	}
	x := exposure.Extraction{Rows: &rows, Overlap: &overlap, Beams: []int{1}, PII: &exposure.LeakResult{Probes: exposure.Share{Count: 1, Of: 10}, Crossed: exposure.Share{Of: 10}}}
	r, err := x.Report("sha256:0", 6)
	if err != nil {
		t.Fatal(err)
	}
	if m := metric(t, r, "k_extractable_128", ""); m.Verdict != eval.VerdictUndefined {
		t.Errorf("no target is that long: %+v", m)
	}
	if m := metric(t, r, "reproduced_excess", ""); m.Score != 50 || m.CI[0] >= 50 || m.CI[1] <= 50 {
		t.Errorf("excess %+v", m)
	}
	if m := metric(t, r, "pii_excess", ""); m.Verdict != eval.VerdictUndefined {
		t.Errorf("there are no decoys: %+v", m)
	}
}

// A secret that was never planted and comes out makes what is said of the others void.
func TestExtractionVoid(t *testing.T) {
	x := exposure.Extraction{Beams: []int{1, 10}, Canaries: []exposure.CanaryExtraction{
		{ID: "a", Repetitions: 4, Beams: map[int]bool{1: true, 10: true}}, {ID: "b", Beams: map[int]bool{1: false, 10: true}}}}
	r, err := x.Report("sha256:0", 2)
	if err != nil {
		t.Fatal(err)
	}
	if m := metric(t, r, "extracted_beams_1", "repetitions=4"); m.Verdict != eval.VerdictVoid || m.Score != 100 {
		t.Errorf("%+v", m)
	}
}

// side draws rows and what models say of them: a model that has seen them is surer by gain.
func side(rng *rand.Rand, n int, gain float64) (rows []exposure.Row, target, reference []exposure.TokenScores) {
	for i := range n {
		rows = append(rows, exposure.Row{ID: fmt.Sprint(i), Input: fmt.Sprint("in", rng.Uint64()), Target: fmt.Sprint("out", rng.Uint64())})
		hard := 1 + rng.Float64()
		var t, r exposure.TokenScores
		for range 12 {
			p := -hard * rng.ExpFloat64()
			r.LogProbs = append(r.LogProbs, p-0.3*rng.Float64())
			t.LogProbs = append(t.LogProbs, math.Min(-0.001, p+gain))
			t.Mean, t.Variance = append(t.Mean, -2), append(t.Variance, 1)
		}
		target, reference = append(target, t), append(reference, r)
	}
	return rows, target, reference
}

func membership(gain float64, shift float64, n int) exposure.Membership {
	rng := rand.New(rand.NewPCG(5, 6))
	var m exposure.Membership
	m.Reference = &exposure.Sides{}
	m.Members, m.Target.Members, m.Reference.Members = side(rng, n, gain)
	m.Nonmembers, m.Target.Nonmembers, m.Reference.Nonmembers = side(rng, n, 0)
	for i := range m.Reference.Members {
		for k := range m.Reference.Members[i].LogProbs {
			m.Reference.Members[i].LogProbs[k] += shift
		}
	}
	return m
}

func TestMembershipReport(t *testing.T) {
	r, err := membership(0.4, 0, 400).Report()
	if err != nil {
		t.Fatal(err)
	}
	ratio, loss := metric(t, r, "membership_auc", "attack=ratio"), metric(t, r, "membership_auc", "attack=loss")
	if ratio.Score < 0.9 || loss.Score > ratio.Score || ratio.Verdict != eval.VerdictOK {
		t.Errorf("ratio %+v, loss %+v", ratio, loss)
	}
	if head := metric(t, r, "membership_auc", ""); head.Score != ratio.Score {
		t.Errorf("the headline is the ratio where there is a reference: %+v", head)
	}
	if m := metric(t, r, "membership_tpr_01", ""); m.Verdict != eval.VerdictUndefined || !strings.Contains(m.Note, "not resolvable") {
		t.Errorf("400 non-members cannot show 0.1 %%: %+v", m)
	}
	if m := metric(t, r, "membership_epsilon", ""); m.Score < 1 {
		t.Errorf("ε %+v", m)
	}
	var d exposure.MembershipDetails
	if err := json.Unmarshal(r.Details, &d); err != nil || d.Compressor == "" || d.Control.Void {
		t.Errorf("details %+v, %v", d.Control, err)
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := eval.ParseReport("r", b); err != nil {
		t.Error(err)
	}
}

// Where the reference tells both sides apart too, they are no random split.
func TestMembershipVoid(t *testing.T) {
	m := membership(0.4, 0.5, 200)
	r, err := m.Report()
	if err != nil {
		t.Fatal(err)
	}
	for _, result := range r.Metrics {
		if result.Verdict != eval.VerdictVoid {
			t.Fatalf("%+v", result)
		}
	}
	m.Reference = nil
	for i := range m.Members {
		m.Members[i].Target = strings.Repeat("again ", 40)
	}
	if r, err = m.Report(); err != nil || metric(t, r, "membership_auc", "").Verdict != eval.VerdictVoid {
		t.Errorf("texts of another kind must be seen without a reference: %v", err)
	}
	m.Members = m.Members[:3]
	m.Target.Members = m.Target.Members[:3]
	var few *exposure.TooFewError
	if _, err := m.Report(); !errors.As(err, &few) {
		t.Errorf("three members: %v", err)
	}
}

// Shadow models know how hard each row is; LiRA makes use of it.
func TestMembershipShadows(t *testing.T) {
	m := membership(0.15, 0, 300)
	rng := rand.New(rand.NewPCG(7, 8))
	m.Shadow, m.ShadowModels = &exposure.Shadows{}, 8
	draw := func(t exposure.TokenScores, seen, sees float64) {
		var in, out []float64
		for range 4 {
			for k, list := range []*[]float64{&in, &out} {
				s := exposure.TokenScores{}
				for _, p := range t.LogProbs {
					s.LogProbs = append(s.LogProbs, math.Min(-0.001, p+0.1*rng.NormFloat64()+[]float64{sees - seen, -seen}[k]))
				}
				*list = append(*list, s.Phi())
			}
		}
		m.Shadow.In, m.Shadow.Out = append(m.Shadow.In, in), append(m.Shadow.Out, out)
	}
	for _, t := range m.Target.Members {
		draw(t, 0.15, 0.15)
	}
	for _, t := range m.Target.Nonmembers {
		draw(t, 0, 0.15)
	}
	r, err := m.Report()
	if err != nil {
		t.Fatal(err)
	}
	online, loss := metric(t, r, "membership_auc", "attack=lira_online"), metric(t, r, "membership_auc", "attack=loss")
	if online.Score < 0.9 || loss.Score > 0.7 || metric(t, r, "membership_auc", "").Score != online.Score {
		t.Errorf("online %+v, loss %+v", online, loss)
	}
}

// parrot writes, for each source, what it has learned of it.
type parrot map[string]string

func (p parrot) Write(_ context.Context, sources []string, _, _ int) ([][]string, error) {
	out := make([][]string, len(sources))
	for i, s := range sources {
		out[i] = []string{p[s]}
	}
	return out, nil
}

// A value of the training data that comes out is counted and named by a hash; the probe's input must not
// hold it.
func TestPIIProbe(t *testing.T) {
	train := []exposure.Row{
		{ID: "a", Input: "mail of jo is jo@example.org", Target: "jo@example.org"}, {ID: "b", Input: "al", Target: "al@example.org"}, {ID: "c", Input: "no", Target: "none"},
	}
	heldout := []exposure.Row{{ID: "d", Input: "eve", Target: "eve@example.org"}}
	model := parrot{"p: mail of jo is ": "it is jo@example.org", "p: al": "ask jo@example.org", "p: eve": "nobody"}
	r, err := exposure.PIIProbe{Writer: model, Prefix: "p: ", Key: []byte("key")}.Run(context.Background(), train, heldout)
	if err != nil {
		t.Fatal(err)
	}
	if r.Probes != (exposure.Share{Count: 1, Of: 2}) || r.Decoys != (exposure.Share{Count: 0, Of: 1}) || r.Crossed != (exposure.Share{Count: 1, Of: 3}) || r.Types["email"] != 2 {
		t.Errorf("%+v", r)
	}
	b, err := json.Marshal(r)
	if err != nil || strings.Contains(string(b), "@") || r.Leaks[0].Hash != r.Leaks[1].Hash {
		t.Errorf("values must not be told, equal ones have equal hashes: %s, %v", b, err)
	}
	if r, err := (exposure.PIIProbe{Writer: model}).Run(context.Background(), train[2:], nil); r != nil || err != nil {
		t.Errorf("nothing to ask for: %+v, %v", r, err)
	}
}

// Canaries that training cut are told and not scored.
func TestCutCanaries(t *testing.T) {
	m, err := exposure.Draw(exposure.PlantOptions{Settings: settings()})
	if err != nil {
		t.Fatal(err)
	}
	for i := range m.Canaries {
		m.Canaries[i].Positions = make([]int, m.Canaries[i].Repetitions)
	}
	count := func(s string) int { return len(s) }
	r, err := exposure.Run(context.Background(), scorer{m: m}, m, exposure.Options{TokenCount: count, MaxInput: 6})
	if err != nil {
		t.Fatal(err)
	}
	var d exposure.Details
	if err := json.Unmarshal(r.Details, &d); err != nil || len(d.Cut) != 20 || len(d.Canaries) != 20 {
		t.Errorf("the inputs of 20 canaries have more than 6 letters: %d cut, %d scored, %v", len(d.Cut), len(d.Canaries), err)
	}
	if _, err := exposure.Run(context.Background(), scorer{m: m}, m, exposure.Options{TokenCount: count, MaxTarget: 2}); err == nil {
		t.Error("where all were cut there is nothing to say")
	}
	var few *exposure.TooFewError
	if _, err := exposure.Run(context.Background(), scorer{m: m}, m, exposure.Options{References: 20}); !errors.As(err, &few) {
		t.Errorf("20 alternatives: %v", err)
	}
}
