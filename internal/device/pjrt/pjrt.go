//go:build cgo && !noxla && unix

// Package pjrt stands between go-xla and a PJRT plugin, for what go-xla does not offer.
//
// A plugin is a table of functions. Open hands go-xla a copy of it in which one function, the one
// that compiles, is this package's. That is enough for three things: results may take the memory
// of arguments that are given away (Donate), the compiler's own account of memory is kept, and
// compiled programs are reused by later processes (a folder of files, each named after all that
// decides its content).
package pjrt

/*
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include "hook.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"
)

// Memory is what a compiled program takes, in bytes, as its compiler says.
type Memory struct {
	Code, Inputs, Outputs int64
	Aliases               int64 // of the outputs, what lies in the memory of inputs
	Temporary             int64 // while it runs
}

// Compiled tells of one compilation.
type Compiled struct {
	Memory Memory
	Reused bool // it came from the folder of compiled programs
}

// hook is what the plugin's calls look at. One program is compiled at a time.
var hook struct {
	compiling sync.Mutex // held during a Compile
	path      string     // of the plugin
	store     *store     // nil: programs are not kept
	donate    []bool
	last      Compiled
}

// Open loads the plugin at path and gives the address of the table that go-xla is to use; 0 where
// it has that table already. Compiled programs are kept in dir; an empty one keeps none.
func Open(path, dir string) (uintptr, error) {
	if hook.path == path {
		return 0, nil
	}
	text := C.CString(path)
	defer C.free(unsafe.Pointer(text))
	var api C.uintptr_t
	if problem := C.hook_open(text, &api); problem != nil {
		return 0, errors.New(C.GoString(problem))
	}
	hook.path = path
	if dir != "" {
		s, err := openStore(dir, path)
		if err != nil {
			return 0, fmt.Errorf("preparing the folder of compiled programs: %w", err)
		}
		hook.store = s
	}
	return uintptr(api), nil
}

// Compile runs fn, which makes go-xla compile one program. The arguments marked in donate will be
// given away at each run, so that results may take their memory.
func Compile(donate []bool, fn func() error) (Compiled, error) {
	hook.compiling.Lock()
	defer hook.compiling.Unlock()
	hook.donate, hook.last = donate, Compiled{}
	defer func() { hook.donate = nil }()
	err := fn()
	return hook.last, err
}

// Trim gives memory that the plugin has freed back to the system, which the C library does not do
// by itself.
func Trim() { C.hook_trim() }

// compileProgram is the plugin's PJRT_Client_Compile as go-xla sees it.
//
//export compileProgram
func compileProgram(args *C.PJRT_Client_Compile_Args) *C.PJRT_Error {
	code := C.GoBytes(unsafe.Pointer(args.program.code), C.int(args.program.code_size))
	options := C.GoBytes(unsafe.Pointer(args.compile_options), C.int(args.compile_options_size))
	code = giveAway(code, hook.donate)
	key := ""
	if hook.store != nil {
		key = hook.store.key(code, options)
		if kept := hook.store.read(key); len(kept) > 0 {
			hook.last.Reused = C.hook_load(args, (*C.char)(unsafe.Pointer(&kept[0])), C.size_t(len(kept))) == 1
		}
	}
	if !hook.last.Reused {
		if e := C.hook_compile(args, (*C.char)(unsafe.Pointer(unsafe.SliceData(code))), C.size_t(len(code))); e != nil {
			return e
		}
		keep(key, args.executable)
	}
	var m C.hook_stats
	if C.hook_memory(args.executable, &m) == 1 {
		hook.last.Memory = Memory{Code: int64(m.code), Inputs: int64(m.inputs), Outputs: int64(m.outputs), Aliases: int64(m.aliases), Temporary: int64(m.temporary)}
	}
	return nil
}

// keep stores a program for the next process. Where that fails, the next one compiles it again.
func keep(key string, program *C.PJRT_LoadedExecutable) {
	if hook.store == nil {
		return
	}
	var size C.size_t
	bytes := C.hook_serialize(program, &size)
	if bytes == nil {
		return
	}
	defer C.free(unsafe.Pointer(bytes))
	hook.store.write(key, unsafe.Slice((*byte)(unsafe.Pointer(bytes)), int(size)))
}
