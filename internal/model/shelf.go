package model

import (
	"sync"

	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/t5"
)

// Shelf opens models so that those on one base, with other adapters or none, share its weights; they are freed
// with the last of them. It is for one backend, and for many goroutines.
type Shelf struct {
	mu    sync.Mutex
	bases map[string]*base
}

// base is a model's weights.
type base struct {
	once       sync.Once
	err        error
	checkpoint *t5.Checkpoint
	weights    decode.Weights
	users      int
}

// Open reads a model folder onto a backend, or finds that it is there.
func (s *Shelf) Open(b device.Opening, dir string, o Options) (*Model, error) {
	under, release, err := s.take(b, dir, o.Precision)
	if err != nil {
		return nil, err
	}
	m, err := under.open(b, dir, o)
	if err != nil {
		release()
		return nil, err
	}
	updates := m.release
	m.release = func() { updates(); release() }
	return m, nil
}

// take gives a base and the function that gives it back.
func (s *Shelf) take(b device.Opening, dir, precision string) (*base, func(), error) {
	key := identity(dir, "model") + " " + precision
	s.mu.Lock()
	if s.bases == nil {
		s.bases = map[string]*base{}
	}
	if s.bases[key] == nil {
		s.bases[key] = &base{}
	}
	one := s.bases[key]
	one.users++
	s.mu.Unlock()
	release := func() { s.leave(key, one) }
	one.once.Do(func() {
		if one.checkpoint, one.err = t5.Open(dir); one.err == nil {
			c := one.checkpoint
			one.weights = decode.Weights{Config: c.Config, Base: decode.InFolder(b, c)}.In(precision)
		}
	})
	if one.err != nil {
		release()
		return nil, nil, one.err
	}
	return one, release, nil
}

// leave frees a base with its last user.
func (s *Shelf) leave(key string, one *base) {
	s.mu.Lock()
	one.users--
	last := one.users == 0
	if last {
		delete(s.bases, key)
	}
	s.mu.Unlock()
	if !last {
		return
	}
	if one.checkpoint != nil {
		one.weights.Close()
		_ = one.checkpoint.Close() // it was read only
	}
}

// open makes a model of a base, with the options' adapter if they name one.
func (one *base) open(b device.Opening, dir string, o Options) (*Model, error) {
	w, metadata := one.weights, one.checkpoint.Metadata
	if o.Adapter != "" {
		var err error
		if metadata, err = putAdapter(b, &w, o.Adapter, metadata); err != nil {
			return nil, err
		}
	}
	tok, err := OpenTokenizer(dir, o.TokenizerPath, o.TokenizerMode, metadata)
	if err != nil {
		return nil, err
	}
	generation, err := decode.ReadOptions(dir, decode.DefaultOptions())
	if err != nil {
		return nil, err
	}
	if o.Adapter != "" {
		if generation, err = decode.ReadOptions(o.Adapter, generation); err != nil {
			return nil, err
		}
	}
	m := Over(b, w, tok, o)
	m.Generation, m.Prefix = generation, metadata[metaPrefix]
	m.base = one.weights
	m.identity = identity(dir, "model") + " " + identity(o.Adapter, "adapter_model")
	if w.Update != nil {
		m.release = w.Update.Close
	}
	return m, nil
}
