package trainer

import (
	"errors"
	"fmt"
	"math"
)

// Schedule is the learning rate over a run, as a multiple of the optimizer's learning_rate.
type Schedule struct {
	Name   string `yaml:"name"`   // linear, cosine, constant or inverse_sqrt
	Warmup int    `yaml:"warmup"` // steps in which the rate rises from 0
}

// DefaultSchedule falls linearly to 0.
func DefaultSchedule() Schedule { return Schedule{Name: "linear"} }

// Validate says what is wrong with the schedule.
func (s Schedule) Validate() error {
	var errs []error
	switch s.Name {
	case "linear", "cosine", "constant", "inverse_sqrt":
	default:
		errs = append(errs, fmt.Errorf("train.schedule.name is %q; it is one of linear, cosine, constant, inverse_sqrt", s.Name))
	}
	if s.Warmup < 0 {
		errs = append(errs, fmt.Errorf("train.schedule.warmup is %d, must not be negative", s.Warmup))
	}
	return errors.Join(errs...)
}

// Factor is the multiple at a step, counted from 0, of a run of `total` steps. The formulas are
// those of transformers.optimization's get_*_schedule_with_warmup, except that the first step of
// a warm-up is not 0; inverse_sqrt falls as 1/√step from the end of the warm-up on (from step
// 10,000, as T5 did, where there is none).
func (s Schedule) Factor(step, total int) float64 {
	if step < s.Warmup {
		return float64(step+1) / float64(s.Warmup)
	}
	done := float64(step-s.Warmup) / float64(max(1, total-s.Warmup))
	switch s.Name {
	case "linear":
		return max(0, 1-done)
	case "cosine":
		return max(0, 0.5*(1+math.Cos(math.Pi*done)))
	case "inverse_sqrt":
		hold := s.Warmup
		if hold == 0 {
			hold = 10000
		}
		return math.Sqrt(float64(hold) / float64(max(hold, step+1)))
	default:
		return 1
	}
}
