package server

import (
	"container/list"
	"crypto/sha256"
	"sync"
)

// cache keeps answers, those asked for last, up to a number of bytes.
type cache struct {
	limit int

	mu    sync.Mutex
	size  int
	order *list.List // of *cached, the newest first
	byKey map[[32]byte]*list.Element
}

type cached struct {
	key    [32]byte
	answer Answer
	size   int
}

// newCache gives nil, which keeps nothing, for a limit of 0.
func newCache(limit int) *cache {
	if limit <= 0 {
		return nil
	}
	return &cache{limit: limit, order: list.New(), byKey: map[[32]byte]*list.Element{}}
}

// cacheKey names a version, settings and an input.
func cacheKey(l *lane, settings, input string) [32]byte {
	v := l.version
	h := sha256.New()
	for _, part := range []string{v.Model, v.Number, v.Digest, settings, input} {
		h.Write([]byte{byte(len(part)), byte(len(part) >> 8), byte(len(part) >> 16), byte(len(part) >> 24)})
		h.Write([]byte(part))
	}
	return [32]byte(h.Sum(nil))
}

func (c *cache) find(key [32]byte) (Answer, bool) {
	if c == nil {
		return Answer{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return Answer{}, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).answer, true
}

// keep adds an answer; the ones that were not asked for longest go.
func (c *cache) keep(key [32]byte, a Answer) {
	if c == nil {
		return
	}
	size := 512 // of the entry itself
	for _, o := range a.Outputs {
		size += len(o.Text) + 64
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.byKey[key]; there || size > c.limit {
		return
	}
	c.byKey[key] = c.order.PushFront(&cached{key, a, size})
	for c.size += size; c.size > c.limit; {
		last := c.order.Remove(c.order.Back()).(*cached)
		delete(c.byKey, last.key)
		c.size -= last.size
	}
}
