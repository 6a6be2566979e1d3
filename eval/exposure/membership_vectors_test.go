package exposure_test

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/eval/evaltest"
	"github.com/t5ctl/t5ctl/eval/exposure"
	"github.com/t5ctl/t5ctl/internal/overlap"
)

// rocVector is what the reference says of a curve.
type rocVector struct {
	AUC       float64
	SE        float64    `json:"auc_se"`
	CI        [2]float64 `json:"auc_ci95"`
	Balanced  float64    `json:"balanced_accuracy"`
	Advantage float64
	At        []struct {
		FPR, TPR   float64
		Reached    float64 `json:"fpr_reached"`
		TP         int
		CI         [2]float64 `json:"tpr_ci95"`
		Strict     *float64   `json:"tpr_strict"`
		Resolvable bool
	}
}

func (v rocVector) check(t *testing.T, n *evaltest.Count, id string, got exposure.ROC) {
	t.Helper()
	n.Check(t, near(got.AUC, v.AUC) && near(got.SE, v.SE) && near(got.CI[0], v.CI[0]) && near(got.CI[1], v.CI[1]) &&
		near(got.Balanced, v.Balanced) && near(got.Advantage, v.Advantage), "%s: %+v; want %+v", id, got, v)
	for i, want := range v.At {
		g := got.At[i]
		ok := g.Limit == want.FPR && near(g.TPR, want.TPR) && near(g.Reached, want.Reached) && g.Found == want.TP &&
			near(g.CI[0], want.CI[0]) && near(g.CI[1], want.CI[1]) && g.Resolvable == want.Resolvable && want.Strict != nil && near(g.Strict, *want.Strict)
		n.Check(t, ok, "%s: %+v; want %+v", id, g, want)
	}
}

func TestVectorsROC(t *testing.T) {
	n := evaltest.Count{File: "membership_roc.jsonl"}
	evaltest.JSON(t, "exposure", "membership_roc.jsonl", func(l struct {
		ID                  string
		Members, Nonmembers []float64
		Expected            rocVector
	}) {
		l.Expected.check(t, &n, l.ID, exposure.NewROC(l.Members, l.Nonmembers))
	})
	n.Done(t)
}

func TestVectorsLiRA(t *testing.T) {
	n := evaltest.Count{File: "lira.jsonl"}
	evaltest.JSON(t, "exposure", "lira.jsonl", func(l struct {
		ID     string
		Target []float64
		Member []int
		In     [][]float64 `json:"stat_in"`
		Out    [][]float64 `json:"stat_out"`
		Scores map[string][]float64
		ROC    rocVector `json:"roc_both_fixed_mean"`
	}) {
		shadows := exposure.Shadows{In: l.In, Out: l.Out}
		for name, want := range l.Scores {
			var got []float64
			switch name {
			case "calibrated-out-mean":
				got = exposure.Calibrated(l.Target, shadows, false)
			case "calibrated-mid":
				got = exposure.Calibrated(l.Target, shadows, true)
			default:
				got = attack(name).Scores(l.Target, shadows)
			}
			for i := range want {
				n.Check(t, near(got[i], want[i]), "%s %s row %d: %v; want %v", l.ID, name, i, got[i], want[i])
			}
		}
		var in, out []float64
		for i, s := range attack("both-fixed-mean").Scores(l.Target, shadows) {
			if l.Member[i] == 1 {
				in = append(in, s)
			} else {
				out = append(out, s)
			}
		}
		l.ROC.check(t, &n, l.ID, exposure.NewROC(in, out))
	})
	n.Done(t)
}

// attack reads a name of the vectors, as in "both-fixed-median".
func attack(name string) exposure.LiRA {
	parts := strings.Split(name, "-")
	a := exposure.LiRA{Kind: parts[0], Pooled: slices.Contains(parts, "fixed"), Mean: slices.Contains(parts, "mean")}
	if parts[0] == "offline" {
		a.Kind = exposure.LiRAOneSided
	}
	return a
}

func TestVectorsTokenScores(t *testing.T) {
	n := evaltest.Count{File: "token_scores.jsonl"}
	evaltest.JSON(t, "exposure", "token_scores.jsonl", func(l struct {
		ID        string
		LogProbs  []float64 `json:"token_logprobs"`
		Mu        []float64
		Sigma2    []float64
		Text      string
		Reference []float64 `json:"reference_logprobs"`
		Expected  struct {
			Tokens     int     `json:"n_tokens"`
			NLL        float64 `json:"nll_sum"`
			Loss, Bits float64
			Perplexity float64
			ScoreLoss  float64            `json:"score_loss"`
			Ratio      float64            `json:"score_ratio_ref"`
			MinK       map[string]float64 `json:"min_k"`
			MinKPlus   map[string]float64 `json:"min_k_pp"`
			Zlib       int                `json:"zlib_len"`
			PerByte    float64            `json:"score_zlib"`
		}
	}) {
		s := exposure.TokenScores{LogProbs: l.LogProbs, Mean: l.Mu, Variance: l.Sigma2}
		w := l.Expected
		n.Check(t, len(s.LogProbs) == w.Tokens && near(-s.Sum(), w.NLL) && near(s.Loss(), w.Loss) && near(s.Bits(), w.Bits) && near(-s.Loss(), w.ScoreLoss) &&
			near(s.Perplexity(), w.Perplexity) && near(s.PerByte(w.Zlib), w.PerByte), "%s: %+v", l.ID, w)
		n.Check(t, near(s.Ratio(exposure.TokenScores{LogProbs: l.Reference}), w.Ratio), "%s: ratio %v", l.ID, w.Ratio)
		for k, want := range w.MinK {
			percent, _ := strconv.Atoi(k)
			n.Check(t, near(s.MinK(percent), want), "%s: Min-%s%% %v; want %v", l.ID, k, s.MinK(percent), want)
			n.Check(t, near(s.MinKPlus(percent), w.MinKPlus[k]), "%s: Min-%s%%++ %v; want %v", l.ID, k, s.MinKPlus(percent), w.MinKPlus[k])
		}
		if got := exposure.CompressedLength(l.Text); math.Abs(float64(got-w.Zlib)) > 0.1*float64(w.Zlib)+8 {
			t.Errorf("%s: %d bytes compressed; C's zlib needs %d", l.ID, got, w.Zlib)
		}
	})
	n.Done(t)
}

func TestVectorsMemorization(t *testing.T) {
	n := evaltest.Count{File: "memorization.jsonl"}
	evaltest.JSON(t, "exposure", "memorization.jsonl", func(l struct {
		ID        string
		Documents [][]int32
		Queries   []struct {
			Output   []int32
			Longest  int
			Start    int `json:"longest_start"`
			Coverage []exposure.Coverage
		}
		Distinct int `json:"distinct_3grams"`
		Most     int `json:"max_3gram_count"`
		Repeated int `json:"repeated_3grams"`
		Cases    []struct {
			True, Generated []int32
			Expected        exposure.Reproduced
		}
	}) {
		index := overlap.New()
		for _, q := range l.Queries {
			index.Add(q.Output)
		}
		for _, d := range l.Documents {
			index.Feed(d)
		}
		for i, q := range l.Queries {
			found := index.Found(i)
			length, start := exposure.LongestRun(found, nil)
			n.Check(t, length == q.Longest && start == q.Start, "%s %d: longest run %d at %d; want %d at %d", l.ID, i, length, start, q.Longest, q.Start)
			for _, want := range q.Coverage {
				got := exposure.Cover(found, want.N)
				ok := near(got.Fraction, want.Fraction)
				got.Fraction = want.Fraction
				n.Check(t, ok && got == want, "%s %d: %+v; want %+v", l.ID, i, got, want)
			}
		}
		if len(l.Documents) > 0 {
			got := exposure.CountNgrams(l.Documents, 3)
			n.Check(t, got == exposure.Ngrams{N: 3, Distinct: l.Distinct, Repeated: l.Repeated, Most: l.Most}, "%s: %+v; want %d, %d, %d", l.ID, got, l.Distinct, l.Repeated, l.Most)
		}
		for i, c := range l.Cases {
			got := exposure.Compare(c.True, c.Generated)
			ok := near(got.Accuracy, c.Expected.Accuracy) && near(got.EditSimilarity, c.Expected.EditSimilarity)
			got.Accuracy, got.EditSimilarity = c.Expected.Accuracy, c.Expected.EditSimilarity
			n.Check(t, ok && got == c.Expected, "extraction %d: %+v; want %+v", i, got, c.Expected)
		}
	})
	n.Done(t)
}

func TestVectorsEpsilon(t *testing.T) {
	n := evaltest.Count{File: "audit_stats.jsonl (epsilon)"}
	evaltest.JSON(t, "exposure", "audit_stats.jsonl", func(l struct {
		Kind                        string
		TP, Members, FP, Nonmembers int
		Delta, Confidence, P, Eps   float64
		Guesses, Correct            int
		Expected                    struct {
			Low  float64 `json:"tpr_low"`
			High float64 `json:"fpr_high"`
			Eps  float64
		}
	}) {
		switch l.Kind {
		case "eps_threshold":
			eps, low, high := exposure.EpsilonThreshold(l.TP, l.Members, l.FP, l.Nonmembers, l.Delta, 1-l.Confidence)
			n.Check(t, near(eps, l.Expected.Eps) && near(low, l.Expected.Low) && near(high, l.Expected.High), "%+v: %v, %v, %v", l, eps, low, high)
		case "eps_one_run":
			eps := exposure.EpsilonOneRun(l.Guesses, l.Correct, l.P)
			n.Check(t, near(eps, l.Eps), "%d of %d: %v; want %v", l.Correct, l.Guesses, eps, l.Eps)
		}
	})
	n.Done(t)
}
