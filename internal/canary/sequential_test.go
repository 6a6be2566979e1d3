package canary

import (
	"math"
	"math/rand/v2"
	"testing"
)

// The expected figures are those of testdata/reference.py with scipy 1.17.1.
func TestReference(t *testing.T) {
	odds := map[string]struct {
		blocks [][2]Count
		margin float64
		sign   int
		want   float64
	}{
		"one block, worse":      {[][2]Count{{{100, 3}, {100, 9}}}, 1.5, 1, 0.46221485608920065},
		"one block, within":     {[][2]Count{{{100, 3}, {100, 9}}}, 1.5, -1, -0.9906377643333638},
		"three unequal blocks":  {[][2]Count{{{1000, 10}, {200, 4}}, {{900, 12}, {250, 9}}, {{50, 0}, {60, 2}}}, 1, 1, 2.6901057210756587},
		"two of frequent fails": {[][2]Count{{{300, 30}, {280, 25}}, {{310, 28}, {305, 31}}}, 2, -1, 4.946886182555159},
	}
	for name, tt := range odds {
		t.Run(name, func(t *testing.T) {
			test := newOddsTest(tt.margin, tt.sign)
			for _, b := range tt.blocks {
				test.add(b[0], b[1])
			}
			if got := test.evidence(); math.Abs(got-tt.want) > 1e-9 {
				t.Errorf("evidence %v; want %v", got, tt.want)
			}
		})
	}
	for _, tt := range []struct {
		c                Count
		alpha, low, high float64
	}{
		{Count{1000, 3}, .05, 0.0001238737540982768, 0.014312154132124602},
		{Count{50, 0}, .05, 0, 0.10464247710451555},
		{Count{10000, 137}, .01, 0.00924453533154723, 0.019376699001007774},
		{Count{20, 20}, .05, 0.7759938879872172, 1},
	} {
		if low, high := rateInterval(tt.c, tt.alpha); math.Abs(low-tt.low) > 1e-9 || math.Abs(high-tt.high) > 1e-9 {
			t.Errorf("rateInterval(%v, %v) = %v, %v; want %v, %v", tt.c, tt.alpha, low, high, tt.low, tt.high)
		}
	}
}

// draw counts bad ones among n events.
func draw(rng *rand.Rand, n int64, p float64) Count {
	c := Count{N: n}
	for range n {
		if rng.Float64() < p {
			c.Bad++
		}
	}
	return c
}

// rejected says how often, of some trials with 60 looks each, evidence for "worse" or "within" was
// enough at any look.
func rejected(t *testing.T, trials int, margin float64, sign int, alpha float64, rates func(look int) (baseline, canary float64)) float64 {
	t.Helper()
	rng := rand.New(rand.NewPCG(7, uint64(sign+2)))
	hits := 0
	for range trials {
		test := newOddsTest(margin, sign)
		for look := range 60 {
			b, c := rates(look)
			test.add(draw(rng, 40+rng.Int64N(200), b), draw(rng, 10+rng.Int64N(60), c))
			if test.evidence() >= math.Log(1/alpha) {
				hits++
				break
			}
		}
	}
	return float64(hits) / float64(trials)
}

// tolerance is three standard errors of a share near alpha.
func tolerance(alpha float64, trials int) float64 {
	return 3 * math.Sqrt(alpha*(1-alpha)/float64(trials))
}

// odds gives the rate whose odds are r times those of p.
func odds(p, r float64) float64 { return r * p / (1 - p + r*p) }

// A test that is looked at 60 times rejects a true hypothesis no more often than it says, on the
// border of the hypothesis, where that is hardest, and with a rate that changes all the time.
func TestFalseAlarms(t *testing.T) {
	const trials, alpha = 1500, 0.1
	wave := func(look int) float64 { return 0.06 + 0.05*math.Sin(float64(look)/4) }
	tests := map[string]struct {
		margin float64
		sign   int
		rates  func(int) (float64, float64)
	}{
		"equal, margin 1":           {1, 1, func(int) (float64, float64) { return .05, .05 }},
		"equal while rates change":  {1, 1, func(k int) (float64, float64) { return wave(k), wave(k) }},
		"on the margin, worse":      {1.5, 1, func(k int) (float64, float64) { return wave(k), odds(wave(k), 1.5) }},
		"on the margin, within":     {1.5, -1, func(k int) (float64, float64) { return wave(k), odds(wave(k), 1.5) }},
		"beyond the margin, within": {1.5, -1, func(int) (float64, float64) { return .05, .09 }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			share := rejected(t, trials, tt.margin, tt.sign, alpha, tt.rates)
			t.Logf("false alarms %.4f at alpha %v over 60 looks, %d trials", share, alpha, trials)
			if share > alpha+tolerance(alpha, trials) {
				t.Errorf("false alarms %.4f; alpha is %v", share, alpha)
			}
		})
	}
}

// A test that pretends each look is the only one alarms far too often: the simulation would see it.
func TestNaiveLooksAlarm(t *testing.T) {
	const trials, alpha = 400, 0.1
	rng := rand.New(rand.NewPCG(7, 3))
	hits := 0
	for range trials {
		var b, c Count
		for range 60 {
			x, y := draw(rng, 140, .05), draw(rng, 40, .05)
			b, c = Count{b.N + x.N, b.Bad + x.Bad}, Count{c.N + y.N, c.Bad + y.Bad}
			p := float64(b.Bad+c.Bad) / float64(b.N+c.N)
			z := (float64(c.Bad)/float64(c.N) - float64(b.Bad)/float64(b.N)) / math.Sqrt(p*(1-p)*(1/float64(b.N)+1/float64(c.N)))
			if z > 1.2816 { // one-sided 10 %
				hits++
				break
			}
		}
	}
	share := float64(hits) / trials
	t.Logf("false alarms of a repeated z-test: %.3f at alpha %v", share, alpha)
	if share < 2*alpha {
		t.Errorf("the naive test alarms in %.3f only: the simulation cannot tell", share)
	}
}

// The power that docs/guides/canary.md states: 60 looks, about 8,400 baseline and 2,370 canary events
// in all, baseline rate 5 %, margin 1.5, alpha .05.
func TestPower(t *testing.T) {
	const trials = 300
	for _, tt := range []struct {
		ratio float64
		sign  int
		least float64
	}{{2, 1, .6}, {2.5, 1, .98}, {1, -1, .8}} {
		share := rejected(t, trials, 1.5, tt.sign, .05, func(int) (float64, float64) { return .05, odds(.05, tt.ratio) })
		t.Logf("odds ratio %g, sign %+d: decided in %.3f of %d trials", tt.ratio, tt.sign, share, trials)
		if share < tt.least {
			t.Errorf("odds ratio %g, sign %+d: decided in %.3f; want %v", tt.ratio, tt.sign, share, tt.least)
		}
	}
}

// A confidence sequence of a rate covers it at all looks at once.
func TestRateCoverage(t *testing.T) {
	const trials, alpha = 600, 0.1
	for _, p := range []float64{.002, .05, .5} {
		rng := rand.New(rand.NewPCG(11, 5))
		missed := 0
		for range trials {
			var c Count
			for range 60 {
				x := draw(rng, 50, p)
				c = Count{c.N + x.N, c.Bad + x.Bad}
				if low, high := rateInterval(c, alpha); p < low || p > high {
					missed++
					break
				}
			}
		}
		share := float64(missed) / trials
		t.Logf("rate %v: missed at some look in %.4f", p, share)
		if share > alpha+tolerance(alpha, trials) {
			t.Errorf("rate %v: missed in %.4f; alpha is %v", p, share, alpha)
		}
	}
}

// The same for a difference of means, whose common level changes all the time; values are 0 or 1,
// which vary most.
func TestMeanCoverage(t *testing.T) {
	const trials, alpha, gap = 1500, 0.1, -0.1
	rng := rand.New(rand.NewPCG(13, 5))
	missed, decided := 0, 0
	for range trials {
		var d meanDifference
		for look := range 60 {
			level := 0.5 + 0.2*math.Sin(float64(look)/4)
			b, c := draw(rng, 60, level), draw(rng, 20, level+gap)
			d.add(Sum{b.N, float64(b.Bad)}, Sum{c.N, float64(c.Bad)})
			_, low, high := d.interval(alpha)
			if gap < low || gap > high {
				missed++
				break
			}
			if look == 59 && high < 0 {
				decided++
			}
		}
	}
	share := float64(missed) / trials
	t.Logf("missed at some look in %.4f; a drop of %v shown by the last in %.3f", share, -gap, float64(decided)/trials)
	if share > alpha+tolerance(alpha, trials) {
		t.Errorf("missed in %.4f; alpha is %v", share, alpha)
	}
	if float64(decided) < 0.8*trials {
		t.Errorf("a drop of %v was shown in %d of %d", -gap, decided, trials)
	}
}
