// Package registry keeps versioned models and records which version each channel serves.
//
// A version never changes once Push has returned. A channel moves by appending an Event that
// names the one it replaces, so of two promotions at once only one wins. Rollback appends too:
// history is never rewritten. Every blob is checked against its digest when it is read.
//
// The truth is the log of events: each carries the digest of the one before it, and what a
// channel serves is the fold of the log. Tags and the image index are copies for other tools,
// written after the log. Where the bytes lie is the business of a Backend; package
// registry/local keeps them in a folder.
package registry

import (
	"context"
	"sync"
	"time"

	"github.com/t5ctl/t5ctl/registry/sign"
)

// Registry is the models of one backend. It may be used by several goroutines at once.
type Registry struct {
	backend Backend
	options Options

	mu     sync.Mutex
	parsed map[string][]Record // what each log held when it was last read
}

// Options say who acts, and when.
type Options struct {
	Actor string           // who is written into the log, such as "ada@host"
	Tool  string           // program and version that writes the log
	Clock func() time.Time // nil: time.Now. It informs; it decides nothing.
	Key   *sign.PrivateKey // signs what is written; nil: nothing is signed

	Policy *Policy // whose signatures are asked for when a version is verified, pulled or moved to; nil: nobody's

	Parallel int                                        // files moved at once; 0: one
	Progress func(done bool, model string, layer Layer) // called, by several goroutines, as a file's transfer begins and ends
}

// New works on what the backend holds. A backend with nothing in it is an empty registry.
func New(backend Backend, options Options) *Registry {
	if options.Clock == nil {
		options.Clock = time.Now
	}
	return &Registry{backend: backend, options: options, parsed: map[string][]Record{}}
}

// Models names every model of the registry, sorted.
func (r *Registry) Models(ctx context.Context) ([]string, error) {
	return r.backend.Models(ctx)
}
