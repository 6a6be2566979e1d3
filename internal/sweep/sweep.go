// Package sweep decides which settings a sweep tries, with which seeds, and which of them are given
// up early.
//
// Everything follows from the file of the sweep alone: the same file gives the same trials in the
// same order, and the same scores give the same survivors.
package sweep

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/t5ctl/t5ctl/internal/strictyaml"
)

// Methods of choosing settings.
const (
	Grid   = "grid"   // every combination of the values
	Random = "random" // so many drawn ones
)

// TrainingLoss is the metric of a sweep whose recipe has no validation data.
const TrainingLoss = "training_loss"

// Bounds: more is a mistake in the file.
const (
	mostRuns   = 10_000
	mostFactor = 100
)

// Spec is the file of a sweep.
type Spec struct {
	Version    int         `yaml:"version"`    // of this format, now 1
	Method     string      `yaml:"method"`     // grid or random
	Parameters []Parameter `yaml:"parameters"` // keys of the recipe that are varied
	Trials     int         `yaml:"trials"`     // settings to draw, where method is random
	Seed       uint64      `yaml:"seed"`       // of the draws
	Seeds      []uint64    `yaml:"seeds"`      // each setting runs once with each, as train.seed; none: with the recipe's own
	Metric     string      `yaml:"metric"`     // of the validation data, or training_loss; the mean over the seeds ranks the settings
	Higher     bool        `yaml:"higher_is_better"`
	Halving    Halving     `yaml:"halving"` // gives up hopeless settings early
}

// Parameter is a key of the recipe and what it may be: one of some values, or a number in a range.
type Parameter struct {
	Key     string   `yaml:"key"`
	Values  []string `yaml:"values"`  // YAML each, as --set takes it
	From    float64  `yaml:"from"`    // least number; for random only
	To      float64  `yaml:"to"`      // largest number
	Scale   string   `yaml:"scale"`   // linear or log: in which the numbers are spread evenly
	Integer bool     `yaml:"integer"` // whole numbers only
}

// Halving is successive halving: after First steps the best of Factor settings go on, after Factor
// times as many steps the best of Factor of those, and so on.
type Halving struct {
	Factor int `yaml:"factor"` // 0: every setting runs to its end
	First  int `yaml:"first"`
}

// Setting is one key with its value.
type Setting struct {
	Key   string `json:"key"`
	Value string `json:"value"` // YAML
}

// Trial is one combination of settings.
type Trial struct {
	Number   int // from 1
	Settings []Setting
}

// Parse reads a sweep's file. What is wrong is told all at once.
func Parse(path string, data []byte) (Spec, error) {
	s := Spec{Metric: "loss"}
	if _, err := strictyaml.Unmarshal(path, data, &s); err != nil {
		return Spec{}, err
	}
	for i := range s.Parameters {
		s.Parameters[i].Scale = cmp.Or(s.Parameters[i].Scale, "linear")
	}
	var problems []strictyaml.Problem
	for _, p := range s.validate() {
		p.Path = path
		problems = append(problems, p)
	}
	if len(problems) > 0 {
		return Spec{}, &strictyaml.Error{Problems: problems}
	}
	return s, nil
}

func (s Spec) validate() (problems []strictyaml.Problem) {
	bad := func(key, format string, args ...any) {
		problems = append(problems, strictyaml.Problem{Key: key, Reason: fmt.Sprintf(format, args...)})
	}
	if s.Version != 1 {
		bad("version", "is %d; this t5ctl reads version 1", s.Version)
	}
	if s.Method != Grid && s.Method != Random {
		bad("method", "is %q; it is grid or random", s.Method)
	}
	if (s.Method == Random) != (s.Trials > 0) {
		bad("trials", "is %d; a random sweep needs how many to draw, a grid has as many as there are", s.Trials)
	}
	if len(s.Parameters) == 0 {
		bad("parameters", "is empty")
	}
	if s.Metric == "" {
		bad("metric", "is empty")
	}
	if h := s.Halving; h != (Halving{}) && (h.Factor < 2 || h.Factor > mostFactor || h.First < 1) {
		bad("halving", "needs a factor of at least 2 and at most %d, and a positive number of first steps", mostFactor)
	}
	if len(slices.Compact(slices.Sorted(slices.Values(s.Seeds)))) < len(s.Seeds) {
		bad("seeds", "has a seed twice")
	}
	keys := map[string]bool{"train.seed": true} // seeds gives that one
	for i, p := range s.Parameters {
		at := fmt.Sprintf("parameters[%d]", i)
		if p.Key == "" || keys[p.Key] {
			bad(at+".key", "is %q: empty, there twice, or given by seeds", p.Key)
		}
		keys[p.Key] = true
		for _, err := range p.validate(s.Method) {
			bad(at, "%v", err)
		}
	}
	if len(problems) == 0 && s.size() > mostRuns {
		bad("parameters", "make more than %d runs", mostRuns)
	}
	return problems
}

// validate says what is wrong with a parameter.
func (p Parameter) validate(method string) (errs []error) {
	ranged := p.From != 0 || p.To != 0
	if ranged == (len(p.Values) > 0) {
		return []error{errors.New("give either values, or from and to")}
	}
	if !ranged {
		return nil
	}
	if method == Grid {
		errs = append(errs, errors.New("a grid needs values; from and to are for random"))
	}
	if p.From >= p.To {
		errs = append(errs, fmt.Errorf("from %g must be less than to %g", p.From, p.To))
	}
	if p.Scale != "linear" && p.Scale != "log" {
		errs = append(errs, fmt.Errorf("scale is %q; it is linear or log", p.Scale))
	}
	if p.Scale == "log" && p.From <= 0 {
		errs = append(errs, fmt.Errorf("from %g must be positive on a log scale", p.From))
	}
	return errs
}

// size is the number of runs, or some number above mostRuns.
func (s Spec) size() int {
	n := max(1, len(s.Seeds))
	if s.Method == Random {
		return n * min(s.Trials, mostRuns+1)
	}
	for _, p := range s.Parameters {
		n = min(n*len(p.Values), mostRuns+1)
	}
	return n
}

// All lists the trials of a sweep. A random one may have fewer than it asks for: what was drawn
// twice is tried once.
func (s Spec) All() []Trial {
	var all []Trial
	if s.Method == Grid {
		for _, settings := range s.grid(0) {
			all = append(all, Trial{Number: len(all) + 1, Settings: settings})
		}
		return all
	}
	random, known := rand.New(rand.NewPCG(s.Seed, 0)), map[string]bool{}
	for range s.Trials {
		var settings []Setting
		for _, p := range s.Parameters {
			settings = append(settings, Setting{p.Key, p.draw(random)})
		}
		if name := fmt.Sprint(settings); !known[name] {
			known[name] = true
			all = append(all, Trial{Number: len(all) + 1, Settings: settings})
		}
	}
	return all
}

// grid lists the combinations of the parameters from the i-th on; the last one varies fastest.
func (s Spec) grid(i int) [][]Setting {
	if i == len(s.Parameters) {
		return [][]Setting{nil}
	}
	var all [][]Setting
	rest := s.grid(i + 1)
	for _, value := range s.Parameters[i].Values {
		for _, others := range rest {
			all = append(all, append([]Setting{{s.Parameters[i].Key, value}}, others...))
		}
	}
	return all
}

// draw takes one value; numbers are rounded to four digits, so that they can be read and typed.
func (p Parameter) draw(random *rand.Rand) string {
	if len(p.Values) > 0 {
		return p.Values[random.IntN(len(p.Values))]
	}
	share := random.Float64()
	v := p.From + share*(p.To-p.From)
	if p.Scale == "log" {
		v = math.Exp(math.Log(p.From) + share*(math.Log(p.To)-math.Log(p.From)))
	}
	if p.Integer {
		return strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	}
	text := strconv.FormatFloat(v, 'g', 4, 64)
	if mantissa, exponent, ok := strings.Cut(text, "e"); ok && !strings.Contains(mantissa, ".") {
		text = mantissa + ".0e" + exponent // 1e-05 is a text to some readers of YAML
	}
	return text
}

// Rungs are the steps after which settings are given up, in order, all before the last step.
func (h Halving) Rungs(total int) []int {
	var rungs []int
	for at := h.First; h.Factor > 1 && at < total; at *= h.Factor {
		rungs = append(rungs, at)
	}
	return rungs
}

// Survivors are the places of the scores that go on, in their order: the best of Factor, at least
// one. NaN stands for a setting that failed, which never goes on; of equal ones the first does.
func (h Halving) Survivors(scores []float64, higher bool) []int {
	var places []int
	for i, score := range scores {
		if !math.IsNaN(score) {
			places = append(places, i)
		}
	}
	Rank(places, scores, higher)
	places = places[:min(len(places), (len(scores)+h.Factor-1)/h.Factor)]
	slices.Sort(places)
	return places
}

// Rank sorts places of scores, the best first; NaN comes last, and equal ones stay in their order.
func Rank(places []int, scores []float64, higher bool) {
	slices.SortStableFunc(places, func(a, b int) int {
		x, y := scores[a], scores[b]
		switch {
		case math.IsNaN(x) || math.IsNaN(y):
			return cmp.Compare(bit(math.IsNaN(x)), bit(math.IsNaN(y)))
		case higher:
			return cmp.Compare(y, x)
		default:
			return cmp.Compare(x, y)
		}
	})
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
