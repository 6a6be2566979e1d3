package decode

import (
	"context"
	"fmt"
)

// Request is one source for Stream, with settings of its own.
type Request struct {
	Source  Source
	Options Options
	Wrote   func(token int32)                   // told of each token where the search writes one output (no beams); may be nil
	Gone    <-chan struct{}                     // closed: nobody waits for the outputs any more, and the row gives up its slot; may be nil
	Done    func(outputs []Sequence, err error) // called once
}

// Stream decodes sources that come while others are under way (continuous batching): each takes a free slot
// at the next step and leaves it when it ends, whatever the others do. What a row becomes does not
// depend on those beside it.
//
// The options are the frame: BatchRows is the number of slots, MaxNewTokens the most that a request may
// have. A request must have as many decoder rows as the frame (Beams, or NumReturnSequences in sampling), and one
// that samples or changes scores (penalties, bad words, a constraint, …) needs a frame that does one of these too;
// others are refused through Done. length is that of the longest source, in tokens.
//
// Before each step that finds free slots, next is asked for at most that many requests. idle says that
// nothing is under way: next may wait then, and Stream ends when it gives none. Otherwise it must not wait. next,
// Wrote and Done are called from the goroutine of Stream. When Stream ends with an error, Done has been
// called with it for all requests that it took.
func (e *Engine) Stream(ctx context.Context, frame Options, length int, next func(free int, idle bool) []Request) error {
	if err := frame.ValidateFor(e.weights.Config); err != nil {
		return err
	}
	sh := shape{slots: frame.BatchRows, length: Bucket(length), steps: frame.MaxNewTokens, share: frame.share(), kind: frame.kind(newAdjuster(frame, e.weights.Config) != nil)}
	open := map[int]func([]Sequence, error){}
	taken := 0
	err := e.decode(ctx, sh, func(free int, idle bool, _ int) []job {
		for {
			requests := next(free, idle)
			var jobs []job
			for _, r := range requests {
				adjust := newAdjuster(r.Options, e.weights.Config)
				if err := e.fits(sh, r, adjust != nil); err != nil {
					r.Done(nil, err)
					continue
				}
				id := taken
				taken++
				open[id] = r.Done
				jobs = append(jobs, job{
					source: r.Source, search: newSearcher(r.Options, e.weights.Config, adjust, r.Source.Stream), wrote: r.Wrote, gone: r.Gone,
					done: func(outputs []Sequence) {
						delete(open, id)
						if outputs == nil {
							r.Done(nil, context.Canceled)
							return
						}
						r.Done(outputs, nil)
					},
				})
			}
			if len(jobs) > 0 || len(requests) == 0 || !idle {
				return jobs
			}
		}
	})
	for _, done := range open {
		done(nil, err)
	}
	return err
}

// fits says why a request cannot be decoded in a shape.
func (e *Engine) fits(sh shape, r Request, adjusts bool) error {
	kind := r.Options.kind(adjusts)
	switch {
	case r.Options.share() != sh.share || kind != sh.kind && (kind != bestToken || sh.kind != logits):
		return fmt.Errorf("a request of %d rows cannot be decoded among such of %d, or not in this way", r.Options.share(), sh.share)
	case r.Options.MaxNewTokens > sh.steps:
		return fmt.Errorf("a request for %d tokens among such of at most %d", r.Options.MaxNewTokens, sh.steps)
	case len(r.Source.Tokens) > sh.length:
		return fmt.Errorf("a source of %d tokens among such of at most %d", len(r.Source.Tokens), sh.length)
	}
	return r.Options.ValidateFor(e.weights.Config)
}

// Class is what requests have in common that one frame takes.
type Class struct {
	share int
	kind  scoreKind
}

// Class gives the class of a request with these options; a frame with the options of one of the class
// takes all of it.
func (e *Engine) Class(o Options) Class {
	return Class{share: o.share(), kind: o.kind(newAdjuster(o, e.weights.Config) != nil)}
}
