// Package canary judges a version that gets part of the traffic against the one that gets the
// rest, from counters of both, as often as one likes.
//
// Every objective is compared with the baseline by a test that may be repeated without an effect
// on its error (sequential.go), and what all objectives spend of one error budget is bounded in the
// same way. The verdict is Pass, Fail or Inconclusive. Over all looks together, a canary that keeps
// every margin and the budget fails with a chance of at most Alpha, and one that breaks both the
// margin and the budget of an objective passes with a chance of at most Alpha.
package canary

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/internal/nearest"
)

// Verdict is what a canary is found to be.
type Verdict string

// The verdicts, of an objective and of the whole.
const (
	Pass         Verdict = "pass"
	Fail         Verdict = "fail"
	Inconclusive Verdict = "inconclusive"
)

// Result is the judgement of one canary.
type Result struct {
	Schema     string    `json:"schema"`
	Verdict    Verdict   `json:"verdict"`
	Baseline   string    `json:"baseline"`
	Canary     string    `json:"canary"`
	Alpha      float64   `json:"alpha"`
	Blocks     int       `json:"blocks"` // looks that the counters were read at
	Objectives []Outcome `json:"objectives"`
	Budget     Budget    `json:"budget"`
	Method     string    `json:"method"`
}

// ResultSchema names the format of a Result.
const ResultSchema = "t5ctl.canary/v1"

// method says how a Result came about, for those who read it later.
const method = "shares: mixture sequential probability ratio test of the odds ratio, conditional on each block's totals; " +
	"budget: beta-binomial mixture confidence sequence; means: normal mixture confidence sequence (Howard et al. 2021). " +
	"Valid at every look."

// Outcome is the judgement of one objective.
type Outcome struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason"`
	// Shares of bad events, or means.
	Baseline Estimate `json:"baseline"`
	Canary   Estimate `json:"canary"`
	// Evidence of a share, as e-values: beyond Needed, the canary is worse than the margin (Worse)
	// or not (Within).
	Worse  float64 `json:"e_worse,omitempty"`
	Within float64 `json:"e_within,omitempty"`
	Needed float64 `json:"e_needed,omitempty"`
	// Difference of means with its confidence sequence.
	Difference *[3]float64 `json:"difference,omitempty"` // estimate, low, high
	// Burn is how fast the canary spends the objective's budget; nil for a mean.
	Burn *[3]float64 `json:"burn,omitempty"` // estimate, low, high
}

// Estimate is one arm's figure.
type Estimate struct {
	N     float64 `json:"n"`
	Value float64 `json:"value"` // 0 where N is 0
}

// Budget is the one error budget of all shares of bad events: their burn rates, by weight.
type Budget struct {
	Burn    float64 `json:"burn"`
	Low     float64 `json:"low"`
	High    float64 `json:"high"`
	Max     float64 `json:"max"`
	Verdict Verdict `json:"verdict"`
}

// MissingError says that counters do not hold what an objective needs.
type MissingError struct {
	Arm, Objective, Selector string
	Nearest                  string // a metric that is there
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("objective %s: the %s's metrics have no series %s", e.Objective, e.Arm, e.Selector)
}

// LooksError says that the two arms were not read equally often.
type LooksError struct{ Baseline, Canary int }

func (e *LooksError) Error() string {
	return fmt.Sprintf("the baseline's metrics were read %d times and the canary's %d times", e.Baseline, e.Canary)
}

// FailedError says that a canary did not pass.
type FailedError struct{ Result Result }

func (e *FailedError) Error() string {
	if e.Result.Verdict == Inconclusive {
		return fmt.Sprintf("canary %s: inconclusive: there is not yet evidence enough", e.Result.Canary)
	}
	var names []string
	for _, o := range e.Result.Objectives {
		if o.Verdict == Fail {
			names = append(names, o.Name+" "+o.Reason)
		}
	}
	if e.Result.Budget.Verdict == Fail {
		names = append(names, fmt.Sprintf("the error budget is spent %.3g times as fast as it may be", e.Result.Budget.Burn))
	}
	return fmt.Sprintf("canary %s failed: %s", e.Result.Canary, strings.Join(names, "; "))
}

// Err is a *FailedError unless the canary passed.
func (r Result) Err() error {
	if r.Verdict == Pass {
		return nil
	}
	return &FailedError{r}
}

// Judge compares two arms.
func Judge(p Plan, baseline, canary *Snapshots) (Result, error) {
	r := Result{Schema: ResultSchema, Alpha: p.Alpha, Method: method}
	weights := 0.0
	shares := 0
	for _, o := range p.Objectives {
		if !o.isMean() {
			weights += o.Weight
			shares++
		}
	}
	each := p.Alpha / float64(len(p.Objectives)) / 2 // half for the comparison, half for the budget
	r.Budget.Max = p.MaxBurn
	for _, o := range p.Objectives {
		arms, err := readArms(o, baseline, canary)
		if err != nil {
			return Result{}, err
		}
		r.Blocks = max(r.Blocks, len(arms.total[0]))
		if o.isMean() {
			r.Objectives = append(r.Objectives, o.judgeMean(arms, 2*each))
			continue
		}
		out := o.judgeShare(arms, p.MaxBurn, each)
		for i, v := range out.Burn {
			*[]*float64{&r.Budget.Burn, &r.Budget.Low, &r.Budget.High}[i] += v * o.Weight / weights
		}
		r.Objectives = append(r.Objectives, out)
	}
	r.Budget.Verdict = Inconclusive
	switch {
	case shares == 0 || r.Budget.High <= r.Budget.Max:
		r.Budget.Verdict = Pass
	case r.Budget.Low > r.Budget.Max:
		r.Budget.Verdict = Fail
	}
	r.Verdict = r.total()
	return r, nil
}

// total is Fail if anything failed, Pass if every objective passed.
func (r Result) total() Verdict {
	verdicts := make([]Verdict, len(r.Objectives))
	for i, o := range r.Objectives {
		verdicts[i] = o.Verdict
	}
	switch {
	case r.Budget.Verdict == Fail || slices.Contains(verdicts, Fail):
		return Fail
	case slices.Contains(verdicts, Inconclusive):
		return Inconclusive
	}
	return Pass
}

// arms are the blocks of an objective: of events and bad ones, or of values and their sums; the
// baseline's first.
type arms struct{ total, part [2][]float64 }

func readArms(o Objective, baseline, canary *Snapshots) (arms, error) {
	var a arms
	for i, s := range []*Snapshots{baseline, canary} {
		name := []string{"baseline", "canary"}[i]
		read := func(selector string, needed bool) ([]float64, error) {
			blocks, found, err := s.increments(selector)
			if err == nil && !found && needed {
				parsed, _ := ParseSelector(selector) // it could be read before
				err = &MissingError{name, o.Name, selector, nearest.Of(parsed.Name, s.names())}
			}
			return blocks, err
		}
		total, part := o.Total, o.Bad
		if o.isMean() {
			total, part = o.Count, o.Sum
		} else if o.Good != "" {
			part = o.Good
		}
		var err error
		if a.total[i], err = read(total, true); err != nil {
			return a, err
		}
		if a.part[i], err = read(part, o.Bad == ""); err != nil { // no error yet is no series yet
			return a, err
		}
	}
	if len(a.total[0]) != len(a.total[1]) {
		return a, &LooksError{len(a.total[0]), len(a.total[1])}
	}
	if o.isMean() {
		return a, nil
	}
	for arm := range 2 {
		for i, n := range a.total[arm] {
			n = math.Round(n)
			bad := math.Round(a.part[arm][i])
			if o.Good != "" {
				bad = n - bad
			}
			a.total[arm][i], a.part[arm][i] = n, min(max(bad, 0), n) // two counters of one scrape may differ by a request under way
		}
	}
	return a, nil
}

// judgeShare judges a share of bad events at level alpha for each of its two questions.
func (o Objective) judgeShare(a arms, maxBurn, alpha float64) Outcome {
	worse, within := newOddsTest(o.WorseBy, 1), newOddsTest(o.WorseBy, -1)
	var sums [2]Count
	for i := range a.total[0] {
		var block [2]Count
		for arm := range 2 {
			block[arm] = Count{int64(a.total[arm][i]), int64(a.part[arm][i])}
			sums[arm].N, sums[arm].Bad = sums[arm].N+block[arm].N, sums[arm].Bad+block[arm].Bad
		}
		worse.add(block[0], block[1])
		within.add(block[0], block[1])
	}
	low, high := rateInterval(sums[1], alpha)
	out := Outcome{
		Name: o.Name, Verdict: Inconclusive, Baseline: estimate(sums[0]), Canary: estimate(sums[1]),
		Worse: eValue(worse), Within: eValue(within), Needed: 1 / alpha,
	}
	out.Burn = &[3]float64{out.Canary.Value / o.Budget, low / o.Budget, high / o.Budget}
	switch {
	case sums[0].N == 0 || sums[1].N == 0:
		out.Reason = "has no events yet"
	case out.Worse >= out.Needed:
		out.Verdict, out.Reason = Fail, fmt.Sprintf("is worse than the baseline's by more than %g times", o.WorseBy)
	case out.Within >= out.Needed:
		out.Verdict, out.Reason = Pass, fmt.Sprintf("is within %g times the baseline's", o.WorseBy)
	case out.Burn[2] <= maxBurn:
		out.Verdict, out.Reason = Pass, "is within its budget"
	default:
		out.Reason = "needs more events"
	}
	return out
}

// eValue is the evidence as a number that JSON can hold.
func eValue(t *oddsTest) float64 { return math.Exp(min(t.evidence(), 690)) }

func estimate(c Count) Estimate {
	if c.N == 0 {
		return Estimate{}
	}
	return Estimate{float64(c.N), float64(c.Bad) / float64(c.N)}
}

// judgeMean judges a difference of means.
func (o Objective) judgeMean(a arms, alpha float64) Outcome {
	var d meanDifference
	var sums [2]Sum
	for i := range a.total[0] {
		var block [2]Sum
		for arm := range 2 {
			block[arm] = Sum{int64(math.Round(a.total[arm][i])), a.part[arm][i]}
			sums[arm].N, sums[arm].Total = sums[arm].N+block[arm].N, sums[arm].Total+block[arm].Total
		}
		d.add(block[0], block[1])
	}
	out := Outcome{Name: o.Name, Verdict: Inconclusive, Reason: "needs more values"}
	for arm, to := range []*Estimate{&out.Baseline, &out.Canary} {
		if n := sums[arm].N; n > 0 {
			*to = Estimate{float64(n), sums[arm].mean()}
		}
	}
	value, low, high := d.interval(alpha)
	if math.IsNaN(value) {
		out.Reason = "has no values yet"
		return out
	}
	out.Difference = &[3]float64{value, low, high}
	switch {
	case high < -o.MaxDrop:
		out.Verdict, out.Reason = Fail, fmt.Sprintf("is more than %g below the baseline's", o.MaxDrop)
	case low > -o.MaxDrop:
		out.Verdict, out.Reason = Pass, fmt.Sprintf("is at most %g below the baseline's", o.MaxDrop)
	}
	return out
}
