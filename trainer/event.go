package trainer

import (
	"time"

	"github.com/t5ctl/t5ctl/internal/device"
)

// Event is one thing that happened in a run. The types below are all there are.
//
//sumtype:decl
type Event interface{ event() }

// Sink receives the events in order, from the training goroutine. It must not block.
type Sink func(Event)

// Started is sent once, before the first step.
type Started struct {
	Step, Total          int // steps done (of a resumed run) and steps of the whole run
	Parameters, Learning int // weights of the model, adapter included, and those of them that learn
	Backend              string
}

// Compiled is sent when a program was compiled for one shape of batch.
type Compiled struct {
	Program string
	Took    time.Duration
	Memory  device.Memory // as the compiler says; of several programs, of the one that takes most beside its inputs
	Reused  bool          // an earlier process compiled it
}

// Stepped is sent for every step that log_every asks for, and for the last one. Loss and Tokens
// cover all the steps since the one before.
type Stepped struct {
	Step, Total     int
	Epoch           float64 // passes over the data, with the part of the one that runs
	Loss            float64 // mean over tokens, smoothing and z-loss included
	LearningRate    float64
	GradientNorm    float64       // before clipping, of this step
	Tokens          int           // labels that counted
	Elements        int           // of the batches, padding included
	Took            time.Duration // without compiling and evaluating
	PaddedShare     float64       // share of the batch elements that were padding
	TokensPerSecond float64       // input and target tokens, without padding
	Remaining       time.Duration
	Memory          int64  // resident bytes of the process, 0 where the system does not say
	Privacy         *Spent // what the steps so far cost, nil where the run is not private
}

// Evaluated is sent after each evaluation on the validation data.
type Evaluated struct {
	Step    int
	Metrics map[string]float64 // loss, token_accuracy (of pairs: preference_accuracy), and what the Evaluator gives
	Best    bool               // by train.metric
	Took    time.Duration
}

// Saved is sent once a checkpoint is on disk and has been read back.
type Saved struct {
	Step  int
	Path  string
	Bytes int64
	Took  time.Duration
}

// Stopped is sent once, at the end of a run that ended by itself.
type Stopped struct {
	Step   int
	Reason string // steps, early_stopping
}

func (Started) event()   {}
func (Compiled) event()  {}
func (Stepped) event()   {}
func (Evaluated) event() {}
func (Saved) event()     {}
func (Stopped) event()   {}

// Damaged is sent for a checkpoint that a resumed run could not use and went past.
type Damaged struct {
	Path string
	Err  error
}

func (Damaged) event() {}
