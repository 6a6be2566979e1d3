package device

import (
	"sync"

	"github.com/t5ctl/t5ctl/internal/plugin"
)

// Opening is a backend, or one that is opened once it is needed.
type Opening interface {
	// Open gives the backend.
	Open() (*Backend, error)
	// OnHost says whether it computes on this machine's processors.
	OnHost() bool
	// Describe names it for logs and records.
	Describe() string
	// Finalize frees what was opened.
	Finalize()
}

// Open gives the backend itself.
func (b *Backend) Open() (*Backend, error) { return b, nil }

// OnHost says whether the backend computes on this machine's processors.
func (b *Backend) OnHost() bool { return b.Kind != CUDA }

// Later is a backend that is opened when it is first needed: what decodes in kernels for the CPU may never need one, and
// saves the time and the memory. It is safe for many goroutines.
type Later struct {
	open   func() (*Backend, error)
	once   sync.Once
	opened *Backend
	err    error
}

// OpenLater checks that the backend of that name can be had, and opens it when it is needed; one on a GPU is opened at
// once. told, which may be nil, is told of the one that was opened.
func OpenLater(name string, s Settings, told func(*Backend)) (Opening, error) {
	l := &Later{open: func() (*Backend, error) {
		b, err := OpenAs(name, s)
		if err == nil && told != nil {
			told(b)
		}
		return b, err
	}}
	switch name {
	case CPU:
		if _, err := plugin.Find(CPU); err != nil {
			return nil, &UnavailableError{Name: CPU, Err: err}
		}
		return l, nil
	case Go:
		return l, nil
	case Auto, "":
		if !hasGPU() {
			return l, nil
		}
	}
	return l.Open()
}

// Open opens the backend, unless it is open.
func (l *Later) Open() (*Backend, error) {
	l.once.Do(func() { l.opened, l.err = l.open() })
	return l.opened, l.err
}

// OnHost is true: a GPU is opened at once.
func (l *Later) OnHost() bool { return true }

// Describe names the backend if it was opened, and else what computed instead.
func (l *Later) Describe() string {
	if l.opened == nil {
		return "cpu (kernels)"
	}
	return l.opened.Describe()
}

// Finalize frees the backend if it was opened.
func (l *Later) Finalize() {
	if l.opened != nil {
		l.opened.Finalize()
	}
}
