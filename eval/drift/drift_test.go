package drift_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/t5ctl/t5ctl/eval/drift"
)

func sample(rng *rand.Rand, n int, shift float64) drift.Sample {
	s := drift.Sample{Scalars: map[string][]float64{}}
	for range n {
		row := make([]float64, 12)
		for k := range row {
			row[k] = rng.NormFloat64() + shift
		}
		s.Embeddings = append(s.Embeddings, row)
		s.Scalars["tokens"] = append(s.Scalars["tokens"], 20+5*rng.NormFloat64()+10*shift)
	}
	return s
}

// What comes from the reference's own distribution rarely counts as drifted, what is shifted does.
func TestCompare(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	reference := sample(rng, 200, 0)
	alarms := 0
	for seed := range uint64(6) {
		r, err := drift.Compare(reference, sample(rng, 100, 0), drift.Options{Seed: seed, Splits: 100})
		if err != nil {
			t.Fatal(err)
		}
		if r.Drifted {
			alarms++
		}
	}
	if alarms > 1 {
		t.Errorf("%d alarms of 6 without drift", alarms)
	}
	r, err := drift.Compare(reference, sample(rng, 100, 0.4), drift.Options{Splits: 100})
	if err != nil || !r.Drifted || r.Results[0].Name != "mmd2" || r.Results[0].State != drift.Fail || *r.Results[0].P > 0.01 || r.Results[0].Effect < 1 {
		t.Errorf("a shift of 0.4 deviations: %+v, %v", r.Results, err)
	}
	var b bytes.Buffer
	r.Model = `a"b`
	if err := r.WritePrometheus(&b); err != nil || !strings.Contains(b.String(), `t5ctl_drift_detected{model="a\"b"} 1`) || !strings.Contains(b.String(), `t5ctl_drift_value{model="a\"b",statistic="mmd2"}`) {
		t.Errorf("%v\n%s", err, b.String())
	}
	var size *drift.SizeError
	if _, err := drift.Compare(reference, sample(rng, 5, 0), drift.Options{}); !errors.As(err, &size) {
		t.Errorf("five rows: %v", err)
	}
}

func TestBaseline(t *testing.T) {
	s := sample(rand.New(rand.NewPCG(1, 2)), 5, 0)
	var b bytes.Buffer
	if err := s.Keep().Encode(&b); err != nil {
		t.Fatal(err)
	}
	_, back, err := drift.ParseBaseline("b", b.Bytes())
	if err != nil || back.Size() != 5 || float32(back.Embeddings[4][11]) != float32(s.Embeddings[4][11]) || back.Scalars["tokens"][2] != s.Scalars["tokens"][2] {
		t.Errorf("%+v, %v", back, err)
	}
	if _, _, err := drift.ParseBaseline("b", bytes.Replace(b.Bytes(), []byte(`"rows":5`), []byte(`"rows":6`), 1)); err == nil {
		t.Error("a baseline that lacks a row must be refused")
	}
	winter, err := drift.ParseSeason("12-01:02-28")
	if err != nil {
		t.Fatal(err)
	}
	for day, want := range map[string]bool{"2026-12-01": true, "2026-01-15": true, "2026-03-01": false, "2026-11-30": false} {
		at, _ := time.Parse(time.DateOnly, day)
		if winter.Holds(at) != want {
			t.Errorf("%s in winter: %v", day, !want)
		}
	}
	for _, bad := range []string{"", "13-01:02-28", "1-1:2-2", "02-30:03-01"} {
		if _, err := drift.ParseSeason(bad); err == nil {
			t.Errorf("%q is no season", bad)
		}
	}
}

func FuzzParseBaseline(f *testing.F) {
	f.Add([]byte(`{"schema":1,"kind":"drift_baseline","rows":1,"dimension":1,"embeddings":"AAAAAA==","scalars":{"a":[1]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, s, err := drift.ParseBaseline("b", data); err == nil && s.Size() < 1 {
			t.Fatal("a baseline without rows")
		}
	})
}

// Of several baselines the season comes first, then what was there on the day, then what is newer.
func TestBaselineForADay(t *testing.T) {
	day := time.Date(2026, 7, 15, 9, 0, 0, 0, time.UTC)
	at := func(month time.Month, d int) time.Time { return time.Date(2026, month, d, 12, 0, 0, 0, time.UTC) }
	summer := &drift.Season{From: "06-01", To: "08-31"}
	for name, tt := range map[string]struct{ first, second drift.Baseline }{
		"the season":    {drift.Baseline{Season: summer, Made: at(1, 1)}, drift.Baseline{Made: at(7, 1)}},
		"not later":     {drift.Baseline{Made: at(7, 15)}, drift.Baseline{Made: at(7, 16)}},
		"newer":         {drift.Baseline{Made: at(6, 1)}, drift.Baseline{Made: at(5, 1)}},
		"newer, though": {drift.Baseline{Made: at(9, 1)}, drift.Baseline{Made: at(8, 1)}},
	} {
		if !tt.first.Before(tt.second, day) || tt.second.Before(tt.first, day) {
			t.Errorf("%s: the wrong one of the two", name)
		}
	}
}
