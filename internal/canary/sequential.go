package canary

import "math"

// The three processes below may be looked at after every block, and looking may be ended for any
// reason: over all looks together, the chance that a true null hypothesis is ever rejected at
// level alpha is at most alpha (Ville's inequality for nonnegative supermartingales; Howard,
// Ramdas, McAuliffe and Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence
// sequences", Annals of Statistics 49).

// Count is how many events there were, and how many of them were bad.
type Count struct {
	N   int64 `json:"n"`
	Bad int64 `json:"bad"`
}

// Sum is how many values there were, each between 0 and 1, and their sum.
type Sum struct {
	N     int64   `json:"n"`
	Total float64 `json:"total"`
}

func (s Sum) mean() float64 { return s.Total / float64(s.N) }

// oddsTest compares the odds of a bad event in two arms. Given a block's totals, the canary's
// share of the bad events follows Fisher's noncentral hypergeometric law, in which the rate itself
// does not stand: it may differ from block to block, and no share of the traffic is needed. The
// process is the likelihood ratio of a mixture of odds ratios on one side of the margin against
// the margin (a mixture sequential probability ratio test: Robbins 1970; Johari, Koomen, Pekelis
// and Walsh 2022, "Always valid inference", Operations Research 70). The ratio is monotone, so it
// is a supermartingale for every odds ratio on the margin's other side.
type oddsTest struct {
	margin float64   // odds ratio canary : baseline of the null hypothesis
	logs   []float64 // log odds ratios of the mixture
	prior  []float64 // their log weights, which add up to 1
	sums   []float64 // log likelihood ratios so far
}

// mixtureScale is the standard deviation of the half-normal mixture over distances of log odds
// ratios from the margin: a doubling or halving is typical.
const mixtureScale = math.Ln2

// newOddsTest makes the test of "the odds ratio is at most margin" where sign is +1, of "at least
// margin" where it is -1.
func newOddsTest(margin float64, sign int) *oddsTest {
	const points = 32
	t := &oddsTest{margin: margin, sums: make([]float64, points)}
	total := 0.0
	for i := range points { // the middles of equal steps up to four standard deviations
		distance := 4 * mixtureScale * (float64(i) + 0.5) / points
		t.logs = append(t.logs, math.Log(margin)+float64(sign)*distance)
		weight := math.Exp(-distance * distance / (2 * mixtureScale * mixtureScale))
		t.prior = append(t.prior, math.Log(weight))
		total += weight
	}
	for i := range t.prior {
		t.prior[i] -= math.Log(total)
	}
	return t
}

// add takes a block of both arms.
func (t *oddsTest) add(baseline, canary Count) {
	k := baseline.Bad + canary.Bad
	low, high := max(0, k-baseline.N), min(k, canary.N)
	if low >= high {
		return // the totals alone fix the block
	}
	law := newHypergeometric(baseline.N, canary.N, k, low, high)
	null := math.Log(t.margin)
	base := float64(canary.Bad)*null - law.logTotal(null)
	for i, log := range t.logs {
		t.sums[i] += float64(canary.Bad)*log - law.logTotal(log) - base
	}
}

// evidence is the log of the process: beyond log(1/alpha), the null hypothesis is rejected.
func (t *oddsTest) evidence() float64 {
	terms := make([]float64, len(t.sums))
	for i := range terms {
		terms[i] = t.prior[i] + t.sums[i]
	}
	return logSum(terms)
}

// hypergeometric holds the log weights of how many of a block's bad events are the canary's, at
// odds ratio 1.
type hypergeometric struct {
	low     int64
	weights []float64
	buffer  []float64
}

func newHypergeometric(baseline, canary, k, low, high int64) *hypergeometric {
	h := &hypergeometric{low: low, weights: make([]float64, high-low+1), buffer: make([]float64, high-low+1)}
	for i := 1; i < len(h.weights); i++ { // C(canary, x) C(baseline, k-x) by its ratios
		x := float64(low) + float64(i)
		h.weights[i] = h.weights[i-1] + math.Log((float64(canary)-x+1)/x*((float64(k)-x+1)/(float64(baseline)-float64(k)+x)))
	}
	return h
}

// logTotal is the log of the sum of weights times odds ratio to the power of the count.
func (h *hypergeometric) logTotal(logOdds float64) float64 {
	for i, w := range h.weights {
		h.buffer[i] = w + (float64(h.low)+float64(i))*logOdds
	}
	return logSum(h.buffer)
}

// logSum is log(Σ exp(v)).
func logSum(v []float64) float64 {
	top := math.Inf(-1)
	for _, x := range v {
		top = max(top, x)
	}
	if math.IsInf(top, 0) {
		return top
	}
	total := 0.0
	for _, x := range v {
		total += math.Exp(x - top)
	}
	return top + math.Log(total)
}

// rateInterval is the confidence sequence of one rate at level 1 - alpha: the rates under which
// the beta-binomial mixture with prior Beta(1/2, 1/2) stays below 1/alpha (Robbins 1970).
func rateInterval(c Count, alpha float64) (low, high float64) {
	if c.N == 0 {
		return 0, 1
	}
	bad, good := float64(c.Bad), float64(c.N-c.Bad)
	mixture := logBeta(bad+0.5, good+0.5) - logBeta(0.5, 0.5)
	outside := func(p float64) bool { return mixture-xlogy(bad, p)-xlogy(good, 1-p) >= -math.Log(alpha) }
	estimate := bad / (bad + good)
	return border(0, estimate, outside), border(1, estimate, outside)
}

// border finds, between a point that may be outside and one that is inside, where outside begins.
func border(from, inside float64, outside func(float64) bool) float64 {
	if !outside(from) {
		return from
	}
	for range 60 {
		if middle := (from + inside) / 2; outside(middle) {
			from = middle
		} else {
			inside = middle
		}
	}
	return from
}

func logBeta(a, b float64) float64 {
	x, _ := math.Lgamma(a)
	y, _ := math.Lgamma(b)
	z, _ := math.Lgamma(a + b)
	return x + y - z
}

// xlogy is x log y, 0 where x is 0.
func xlogy(x, y float64) float64 {
	if x == 0 {
		return 0
	}
	return x * math.Log(y)
}

// meanDifference follows the difference of two means of values between 0 and 1, block by block.
// A block's difference of means, weighted by n·m/(n+m), is sub-Gaussian with variance a quarter of
// that weight (Hoeffding's lemma); the bound is the two-sided normal mixture of Howard et al.
// (2021), equation 14. The common level may differ from block to block.
type meanDifference struct{ sum, weight float64 }

func (d *meanDifference) add(baseline, canary Sum) {
	if baseline.N == 0 || canary.N == 0 {
		return
	}
	n, m := float64(baseline.N), float64(canary.N)
	weight := n * m / (n + m)
	d.sum += weight * (canary.mean() - baseline.mean())
	d.weight += weight
}

// interval is the confidence sequence of the mean difference canary - baseline.
func (d *meanDifference) interval(alpha float64) (estimate, low, high float64) {
	if d.weight == 0 {
		return math.NaN(), -1, 1
	}
	const rho = 250 / 8.0 // the bound is tightest near 250 values an arm for alpha .05
	variance := d.weight / 4
	radius := math.Sqrt((variance+rho)*math.Log((variance+rho)/(rho*alpha*alpha))) / d.weight
	estimate = d.sum / d.weight
	return estimate, max(-1, estimate-radius), min(1, estimate+radius)
}
