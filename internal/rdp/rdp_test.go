package rdp_test

import (
	"compress/gzip"
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/t5ctl/t5ctl/internal/rdp"
)

// The table is what Opacus 1.6.0 says: testdata/reference.py.
func TestAsOpacus(t *testing.T) {
	file, err := os.Open("testdata/epsilon.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // opened for reading
	data, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var table struct {
		Cases []struct {
			Noise, Rate, Delta, Epsilon, Order float64
			Steps                              int
		}
	}
	if err := json.NewDecoder(data).Decode(&table); err != nil || len(table.Cases) < 400 {
		t.Fatalf("%d cases, %v", len(table.Cases), err)
	}
	worst := 0.0
	for _, c := range table.Cases {
		spent, err := rdp.Mechanism{Noise: c.Noise, Rate: c.Rate}.Spend(c.Steps, c.Delta)
		off := math.Abs(spent.Epsilon-c.Epsilon) / c.Epsilon
		worst = max(worst, off)
		if err != nil || !(off < 1e-6) || spent.Order != c.Order {
			t.Errorf("%+v: %+v, %v", c, spent, err)
		}
	}
	t.Logf("%d cases, largest relative difference %.1e", len(table.Cases), worst)
}

func TestEdges(t *testing.T) {
	if s, err := (rdp.Mechanism{Rate: 0.1}).Spend(1, 1e-5); err != nil || !math.IsInf(s.Epsilon, 1) {
		t.Errorf("without noise: %+v, %v", s, err)
	}
	if s, err := (rdp.Mechanism{Noise: 1, Rate: 0.1}).Spend(0, 1e-5); err != nil || s.Epsilon != 0 {
		t.Errorf("without steps: %+v, %v", s, err)
	}
	for _, m := range []rdp.Mechanism{{Noise: -1, Rate: 0.1}, {Noise: 1}, {Noise: 1, Rate: 1.1}, {Noise: math.NaN(), Rate: 0.1}} {
		if s, err := m.Spend(1, 1e-5); err == nil {
			t.Errorf("%+v: %+v", m, s)
		}
	}
	for _, delta := range []float64{0, 1, math.NaN()} {
		if s, err := (rdp.Mechanism{Noise: 1, Rate: 0.1}).Spend(1, delta); err == nil {
			t.Errorf("delta %g: %+v", delta, s)
		}
	}
}
