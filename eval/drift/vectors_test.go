package drift_test

import (
	"math"
	"testing"

	"github.com/t5ctl/t5ctl/eval/drift"
	"github.com/t5ctl/t5ctl/eval/evaltest"
)

// The figures are those of the published definitions, computed with numpy and scipy.
func TestVectorsDrift(t *testing.T) {
	n := evaltest.Count{File: "drift.jsonl"}
	near := func(got, want float64) bool { return evaltest.Near(got, want, 1e-9) || math.Abs(got-want) < 1e-12 }
	evaltest.JSON(t, "exposure", "drift.jsonl", func(l struct {
		ID                 string
		Reference, Current [][]float64
		Median             float64 `json:"median_sq_distance"`
		Gamma              float64
		Biased             float64 `json:"mmd2_biased"`
		Unbiased           float64 `json:"mmd2_unbiased"`
		Frechet            float64
		KS                 []struct {
			D float64
			P float64 `json:"p_asymp"`
		}
		PSI          []float64
		Edges        [][]float64 `json:"psi_edges"`
		Neighbour    float64     `json:"knn_accuracy"`
		Cosine       float64     `json:"mean_cosine_distance"`
		Permutations []struct {
			Order    []int
			Unbiased float64 `json:"mmd2_unbiased"`
		}
	}) {
		k := drift.NewKernel(l.Reference, l.Current)
		biased, unbiased := k.MMD2(nil)
		n.Check(t, near(k.Median, l.Median) && near(k.Gamma, l.Gamma) && near(biased, l.Biased) && near(unbiased, l.Unbiased), "%s: MMD² %v, %v; want %v, %v", l.ID, biased, unbiased, l.Biased, l.Unbiased)
		for _, p := range l.Permutations {
			_, got := k.MMD2(p.Order)
			n.Check(t, near(got, p.Unbiased), "%s: permuted %v; want %v", l.ID, got, p.Unbiased)
		}
		f := drift.Frechet(l.Reference, l.Current)
		n.Check(t, near(f, l.Frechet), "%s: Fréchet %v; want %v", l.ID, f, l.Frechet)
		n.Check(t, near(k.Neighbour(nil), l.Neighbour), "%s: 1-NN %v; want %v", l.ID, k.Neighbour(nil), l.Neighbour)
		c := drift.CosineDistance(l.Reference, l.Current)
		n.Check(t, near(c, l.Cosine), "%s: cosine %v; want %v", l.ID, c, l.Cosine)
		for j := range l.KS {
			x, y := column(l.Reference, j), column(l.Current, j)
			d, p := drift.KolmogorovSmirnov(x, y)
			n.Check(t, near(d, l.KS[j].D) && near(p, l.KS[j].P), "%s %d: KS %v, %v; want %v", l.ID, j, d, p, l.KS[j])
			ok := near(drift.PSI(x, y), l.PSI[j])
			edges := drift.Deciles(x)
			for i, e := range l.Edges[j] {
				ok = ok && near(edges[i], e)
			}
			n.Check(t, ok, "%s %d: PSI %v over %v; want %v over %v", l.ID, j, drift.PSI(x, y), edges, l.PSI[j], l.Edges[j])
		}
	})
	n.Done(t)
}

func column(rows [][]float64, j int) []float64 {
	out := make([]float64, len(rows))
	for i, r := range rows {
		out[i] = r[j]
	}
	return out
}

// The expansion for many points continues what is exact for few.
func TestKolmogorovExpansion(t *testing.T) {
	for _, n := range []int{141, 300} {
		for _, d := range []float64{0.06, 0.08, 0.1} {
			if exact, got := drift.Marsaglia(n, d), drift.PelzGood(n, d); math.Abs(exact-got) > 2e-6 {
				t.Errorf("n %d, d %v: %v; exactly %v", n, d, got, exact)
			}
		}
	}
}
