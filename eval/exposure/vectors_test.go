package exposure_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/t5ctl/t5ctl/eval/evaltest"
	"github.com/t5ctl/t5ctl/eval/exposure"
)

// The figures are those of the published definitions, computed with numpy and scipy.
func TestVectorsRank(t *testing.T) {
	n := evaltest.Count{File: "exposure_rank.jsonl"}
	type expected struct {
		Secret   float64
		LE       int `json:"refs_le"`
		LT       int `json:"refs_lt"`
		Rank     int
		Exposure float64
		CI       [2]evaltest.Number `json:"exposure_ci95"`
	}
	evaltest.JSON(t, "exposure", "exposure_rank.jsonl", func(l struct {
		ID         string
		References []float64
		Expected   map[string][]expected
	}) {
		for _, list := range l.Expected {
			for _, want := range list {
				got := exposure.Rank(l.References, want.Secret)
				ok := got.AtMost == want.LE && got.Likelier == want.LT && got.Rank == want.Rank &&
					near(got.Exposure, want.Exposure) && near(got.CI[0], float64(want.CI[0])) && near(got.CI[1], float64(want.CI[1]))
				n.Check(t, ok, "%s %v: %+v; want %+v", l.ID, want.Secret, got, want)
			}
		}
	})
	n.Done(t)
}

func near(got, want float64) bool {
	return evaltest.Near(got, want, 1e-9) || math.Abs(got-want) < 1e-12
}

func TestVectorsProportions(t *testing.T) {
	n := evaltest.Count{File: "audit_stats.jsonl (proportions)"}
	evaltest.JSON(t, "exposure", "audit_stats.jsonl", func(l struct {
		Kind   string
		K, N   int
		CP     [2]float64 `json:"clopper_pearson95"`
		Wilson [2]float64 `json:"wilson95"`
	}) {
		if l.Kind != "proportion" {
			return
		}
		lo, hi := exposure.ClopperPearson(l.K, l.N, 0.05)
		n.Check(t, near(lo, l.CP[0]) && near(hi, l.CP[1]), "%d of %d: %v to %v; want %v", l.K, l.N, lo, hi, l.CP)
		lo, hi = exposure.Wilson(l.K, l.N, 0.05)
		n.Check(t, near(lo, l.Wilson[0]) && near(hi, l.Wilson[1]), "%d of %d: Wilson %v to %v; want %v", l.K, l.N, lo, hi, l.Wilson)
	})
	n.Done(t)
}

func TestVectorsSpace(t *testing.T) {
	n := evaltest.Count{File: "canary_space.jsonl"}
	evaltest.JSON(t, "exposure", "canary_space.jsonl", func(l struct {
		Format      string
		Classes     map[string]json.RawMessage
		Space       string
		MaxExposure float64 `json:"max_exposure"`
	}) {
		f := exposure.Format{Name: "f", Target: l.Format, Classes: map[string]exposure.Class{}}
		for key, raw := range l.Classes {
			var text string
			if json.Unmarshal(raw, &text) == nil {
				f.Classes[key] = exposure.Class{text}
				continue
			}
			var list []string
			if err := json.Unmarshal(raw, &list); err != nil {
				t.Fatal(err)
			}
			f.Classes[key] = list
		}
		n.Check(t, f.Space().String() == l.Space && near(f.MaxExposure(), l.MaxExposure), "%q: %v, %v; want %s, %v", l.Format, f.Space(), f.MaxExposure(), l.Space, l.MaxExposure)
	})
	n.Done(t)
}

func TestVectorsLog2CDF(t *testing.T) {
	n := evaltest.Count{File: "skewnormal_log2cdf.jsonl"}
	evaltest.JSON(t, "exposure", "skewnormal_log2cdf.jsonl", func(l struct {
		A, Z   float64
		CDF    evaltest.Number `json:"log2cdf"`
		Ignore bool
	}) {
		got := exposure.Log2CDF(l.Z, l.A)
		// 50 digits cannot tell a tail below 1e-50 from nothing: such a row says 0.
		ok := evaltest.Near(got, float64(l.CDF), 1e-6) || (l.CDF == 0 && math.Abs(got) < 1e-45)
		n.Check(t, ok, "log2 F(%v; %v) = %v; want %v", l.Z, l.A, got, l.CDF)
	})
	n.Done(t)
}

func TestVectorsExtrapolation(t *testing.T) {
	n := evaltest.Count{File: "exposure_extrapolation.jsonl"}
	evaltest.JSON(t, "exposure", "exposure_extrapolation.jsonl", func(l struct {
		ID         string
		References []float64
		Fit        struct{ A, Loc, Scale, NLL float64 }
		KS         float64 `json:"ks_d"`
		Exposures  []struct {
			Secret   float64
			Exposure evaltest.Number
		}
	}) {
		fit := exposure.FitSkewNormal(l.References)
		n.Check(t, fit.NLL <= l.Fit.NLL+1e-6, "%s: nll %v; want %v", l.ID, fit.NLL, l.Fit.NLL)
		d := fit.Distance(l.References)
		n.Check(t, math.Abs(d-l.KS) < 1e-4, "%s: distance %v; want %v", l.ID, d, l.KS)
		for _, want := range l.Exposures {
			got := fit.Exposure(want.Secret)
			w := float64(want.Exposure)
			ok := math.Abs(got-w) <= math.Max(0.02, 0.005*w*btof(w > 40))
			n.Check(t, ok, "%s: exposure of %v is %v; want %v (fit %+v, given %+v)", l.ID, want.Secret, got, w, fit, l.Fit)
		}
	})
	n.Done(t)
}

func btof(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
