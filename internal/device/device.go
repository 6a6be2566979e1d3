// Package device opens a compute backend by name and runs compiled graphs on it.
//
// It is the only package that knows XLA. A Backend is opened once a process; a Program is one
// graph compiled for fixed shapes, so that a compilation (seconds on a CPU) never happens
// unasked. Graph-building functions panic; Compile and Run turn that into errors that name the
// program.
package device

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend" // the pure-Go backend, named "go"

	"github.com/t5ctl/t5ctl/internal/plugin"
)

// Names of the backends that Open takes.
const (
	Auto = "auto" // CUDA where there is a GPU and a plugin, else XLA on the CPU, else pure Go
	CUDA = "cuda"
	CPU  = "cpu"
	Go   = "go"
)

// goConfig keeps the pure-Go backend from deadlocking: with a bounded pool, matrix products that
// run side by side wait for each other's workers for ever.
const goConfig = "go:parallelism=-1"

// Backend is an open compute backend.
type Backend struct {
	compute.Backend
	Kind   string // CUDA, CPU or Go
	Plugin string // path of the PJRT plugin; empty for Go
	// Fallback says why a slower backend than asked for was taken; empty if none was.
	Fallback string
}

// UnknownBackendError says that a name is none that Open takes.
type UnknownBackendError struct{ Name string }

func (e *UnknownBackendError) Error() string {
	return fmt.Sprintf("no backend is called %q; there are %s, %s, %s and %s", e.Name, Auto, CUDA, CPU, Go)
}

// UnavailableError says that a backend is known but cannot be opened on this machine.
type UnavailableError struct {
	Name string
	Err  error
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("opening backend %s: %v", e.Name, e.Err)
}

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

// Settings say how a backend is opened.
type Settings struct {
	Devices        int     // XLA on the CPU shows at least as many; 0: as many as its plugin does by itself
	TF32           bool    // CUDA: products of fp32 matrices in TF32
	Preallocate    bool    // CUDA: take the memory at once
	MemoryFraction float64 // CUDA: largest share of a device's memory to take
	Allocator      string  // CUDA: who hands out the memory
}

// DefaultSettings are those of Open: exact products, and memory as it is needed.
func DefaultSettings() Settings { return Settings{MemoryFraction: 0.75, Allocator: "default"} }

// Open opens the backend of that name. Auto never fails for want of a plugin: it falls back to
// pure Go and says so in Fallback.
func Open(name string) (*Backend, error) { return OpenAs(name, DefaultSettings()) }

// OpenAs is Open with other settings than the usual ones.
func OpenAs(name string, s Settings) (*Backend, error) {
	switch name {
	case Auto, "":
		return openAuto(s)
	case CUDA, CPU:
		p, err := plugin.Find(name)
		if err != nil {
			return nil, &UnavailableError{Name: name, Err: err}
		}
		return openPlugin(name, p, s)
	case Go:
		return openGo("")
	default:
		return nil, &UnknownBackendError{Name: name}
	}
}

func openAuto(s Settings) (*Backend, error) {
	why := ""
	if hasGPU() {
		b, err := openFound(CUDA, s)
		if err == nil {
			return b, nil
		}
		why = err.Error()
	}
	b, err := openFound(CPU, s)
	if err != nil {
		return openGo(err.Error())
	}
	b.Fallback = why
	return b, nil
}

func openFound(kind string, s Settings) (*Backend, error) {
	p, err := plugin.Find(kind)
	if err != nil {
		return nil, err
	}
	return openPlugin(kind, p, s)
}

// openPlugin opens an installed plugin, once what it needs beside itself is there: some plugins end
// the process where it is not.
func openPlugin(kind string, p plugin.Plugin, s Settings) (*Backend, error) {
	if err := p.Check("/"); err != nil {
		return nil, &UnavailableError{Name: kind, Err: err}
	}
	if dir := p.CUDADataDir(); dir != "" && !strings.Contains(os.Getenv(xlaFlags), "--xla_gpu_cuda_data_dir") {
		if err := os.Setenv(xlaFlags, strings.TrimSpace(os.Getenv(xlaFlags)+" --xla_gpu_cuda_data_dir="+dir)); err != nil {
			return nil, err
		}
	}
	b, err := openXLA(kind, p.Path, s)
	if err != nil {
		return nil, &UnavailableError{Name: kind, Err: err}
	}
	return &Backend{Backend: b, Kind: kind, Plugin: p.Path}, nil
}

// xlaFlags names the variable by which XLA is told where ptxas and libdevice are.
const xlaFlags = "XLA_FLAGS"

func openGo(why string) (*Backend, error) {
	b, err := quietly(func() (compute.Backend, error) { return compute.NewWithConfig(goConfig) })
	if err != nil {
		return nil, &UnavailableError{Name: Go, Err: err}
	}
	return &Backend{Backend: b, Kind: Go, Fallback: why}, nil
}

// quietly keeps what a library prints to stdout while it starts off our results.
func quietly(open func() (compute.Backend, error)) (compute.Backend, error) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return open()
	}
	stdout := os.Stdout
	os.Stdout = null
	defer func() {
		os.Stdout = stdout
		_ = null.Close() // nothing was buffered
	}()
	return open()
}

// ReleaseMemory gives what is free back to the system, of Go's memory and of the plugin's. It takes
// some milliseconds, and the next step some more: it is for where much is about to be needed.
func ReleaseMemory() {
	debug.FreeOSMemory()
	trim()
}

// hasGPU says whether an NVIDIA device is present, without loading anything.
func hasGPU() bool {
	found, err := filepath.Glob("/dev/nvidia[0-9]*")
	return err == nil && len(found) > 0
}

// Describe names the backend for logs and run records, as in "cpu (pjrt_c_api_cpu_plugin.so)".
func (b *Backend) Describe() string {
	if b.Plugin == "" {
		return b.Kind
	}
	return b.Kind + " (" + filepath.Base(b.Plugin) + ")"
}

// RunError says that a program could not be compiled or run on its devices.
type RunError struct {
	What string // "running" or "compiling", and the program's name
	Err  error
}

func (e *RunError) Error() string { return e.What + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *RunError) Unwrap() error { return e.Err }

// runError tells a lack of memory from the rest, by the name of PJRT's code for it or by its number,
// which is all that go-xla keeps.
func runError(what string, err error) error {
	if text := err.Error(); strings.Contains(text, "PJRT error (code=8)") || strings.Contains(text, "RESOURCE_EXHAUSTED") {
		return &MemoryError{What: what, Err: trimmed{err}}
	}
	return &RunError{What: what, Err: trimmed{err}}
}

// asError turns what a graph function or the engine panicked with into an error.
func asError(what string, recovered any) error {
	if err, ok := recovered.(error); ok {
		return runError(what, err)
	}
	return fmt.Errorf("%s: %v", what, recovered)
}

// MemoryError says that the device has too little memory for a program, whose name tells the shapes.
type MemoryError struct {
	What string
	Err  error
}

func (e *MemoryError) Error() string {
	text, _, _ := strings.Cut(e.Err.Error(), "\n")
	return fmt.Sprintf("%s: too little memory: %s", e.What, text)
}

func (e *MemoryError) Unwrap() error { return e.Err }

// trimmed hides the stack trace that the engine's errors carry in their text.
type trimmed struct{ err error }

func (t trimmed) Error() string {
	text, _, _ := strings.Cut(t.err.Error(), "\ngoroutine ")
	return text
}

func (t trimmed) Unwrap() error { return t.err }

// Detail is all that the engine has said, its stack included.
func (t trimmed) Detail() string {
	err := t.err
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		if _, traced := inner.(fmt.Formatter); traced { //nolint:errorlint // each of the chain is looked at
			return fmt.Sprintf("%+v", inner)
		}
	}
	return err.Error()
}
