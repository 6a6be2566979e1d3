package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/t5ctl/t5ctl/cmd/internal/settings"
	"github.com/t5ctl/t5ctl/internal/nearest"
	"github.com/t5ctl/t5ctl/trainer"
)

// exitCode is what scripts test. The codes are an interface: none is ever given another meaning.
type exitCode int

const (
	exitDone        exitCode = 0
	exitFailed      exitCode = 1
	exitUsage       exitCode = 2
	exitGate        exitCode = 3
	exitNotFound    exitCode = 4
	exitConflict    exitCode = 5
	exitCorrupt     exitCode = 6
	exitDevice      exitCode = 7
	exitNetwork     exitCode = 8
	exitInterrupted exitCode = 130
)

// exitDoc says what one exit code means.
type exitDoc struct {
	Code    exitCode `json:"code"`
	Meaning string   `json:"meaning"`
	Detail  string   `json:"detail"`
}

// exitTable is the one table that help, the documentation and a test share.
func exitTable() []exitDoc {
	return []exitDoc{
		{exitDone, "done", ""},
		{exitFailed, "failed", "disk full, loss became NaN, out of memory"},
		{exitUsage, "wrong command line, recipe, or input data", "a bad row, a wrong column, lengths that do not match"},
		{exitGate, "a gate or check did not pass", "missing or inconclusive results included"},
		{exitNotFound, "no such file, model, version, or channel", "a registry that is not there reads as empty"},
		{exitConflict, "conflict", "--expect did not hold, a run with another recipe or data, an output folder of another run"},
		{exitCorrupt, "corrupt or not verified", "a digest, a signature, or a file format does not hold"},
		{exitDevice, "no such device", "the compute backend cannot be opened"},
		{exitNetwork, "network or server", "worth retrying"},
		{exitInterrupted, "interrupted", "state saved"},
	}
}

// rule maps one kind of failure to its code and hint.
type rule func(error) (code exitCode, hint string, ok bool)

// as is the rule for errors of type E; hint may be nil.
func as[E error](code exitCode, hint func(E) string) rule {
	return func(err error) (exitCode, string, bool) {
		e, ok := errors.AsType[E](err)
		if !ok || hint == nil {
			return code, "", ok
		}
		return code, hint(e), true
	}
}

// is is the rule for one error value.
func is(target error, code exitCode, hint string) rule {
	return func(err error) (exitCode, string, bool) { return code, hint, errors.Is(err, target) }
}

// saying is a hint that does not depend on the error.
func saying[E error](hint string) func(E) string { return func(E) string { return hint } }

// rules are asked in order, the first that fits decides. One line a kind of failure; a command's
// file may keep its own list.
func rules() []rule {
	return slices.Concat(firstRules(), trainRules(), dataRules(), evalRules(), generateRules(), serveRules(), modelRules(), registryRules(), hubRules(), backendRules(), recipeRules(), runsRules(), planRules(), canaryRules(), emitRules(), doctorRules(), tokenizerRules(), lastRules())
}

// firstRules are for what wins over the thing it happened to.
func firstRules() []rule {
	return []rule{
		as(exitInterrupted, func(e *trainer.InterruptedError) string {
			return "--resume --output " + filepath.Dir(filepath.Dir(e.Checkpoint)) + " goes on from there"
		}),
		is(context.Canceled, exitInterrupted, ""),
		as(exitUsage, func(e hintedUsageError) string { return e.hint }),
		as[usageError](exitUsage, nil),
		as(exitUsage, func(e *settings.Error) string { return didYouMean(e.Nearest) }),
		as(exitFailed, (*crashError).hint),
		as(exitFailed, saying[*outputError]("stdout is closed or its disk is full")),
		is(syscall.ENOSPC, exitFailed, "free some space on that disk, then run the same command again"),
		is(syscall.EDQUOT, exitFailed, "your disk quota is used up: free some space, then run the same command again"),
	}
}

// lastRules are for causes that nothing more telling stands around.
func lastRules() []rule {
	return []rule{
		missingFile,
		is(fs.ErrNotExist, exitNotFound, ""),
		is(fs.ErrExist, exitConflict, "nothing was overwritten; choose another name, or move what is there"),
	}
}

// missingFile names the file or folder that was probably meant.
func missingFile(err error) (exitCode, string, bool) {
	e, ok := errors.AsType[*fs.PathError](err)
	if !ok || !errors.Is(err, fs.ErrNotExist) {
		return 0, "", false
	}
	return exitNotFound, didYouMean(nearestPath(e.Path)), true
}

// nearestPath is the path that is there and most like one that is not; "" where none is alike.
func nearestPath(path string) string {
	found := "."
	if filepath.IsAbs(path) {
		found = filepath.VolumeName(path) + string(filepath.Separator)
	}
	for part := range strings.SplitSeq(strings.Trim(filepath.ToSlash(path[len(filepath.VolumeName(path)):]), "/"), "/") {
		if next := filepath.Join(found, part); exists(next) {
			found = next
			continue
		}
		entries, err := os.ReadDir(found)
		if err != nil {
			return ""
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		near := nearest.Of(part, names)
		if near == "" {
			return ""
		}
		found = filepath.Join(found, near)
	}
	return found
}

// explain maps a failure to the code that scripts test and the hint that people read.
func explain(err error) (code exitCode, hint string) {
	if err == nil {
		return exitDone, ""
	}
	for _, r := range rules() {
		if code, hint, ok := r(err); ok {
			return code, hint
		}
	}
	return exitFailed, ""
}

// usageError says that the command line cannot be understood or asks for something impossible.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// usageErrorf makes a usageError of a format.
func usageErrorf(format string, args ...any) usageError {
	return usageError{fmt.Errorf(format, args...)}
}

// hintedUsageError is a usageError that knows what was probably meant.
type hintedUsageError struct {
	usageError
	hint string
}

// outputError says that a result could not be written.
type outputError struct{ cause error }

func (e *outputError) Error() string { return "writing the result: " + e.cause.Error() }
func (e *outputError) Unwrap() error { return e.cause }

// didYouMean is the hint for a name that is not known: the nearest ones, none where there is none.
func didYouMean(names ...string) string {
	var known []string
	for _, n := range names {
		if n != "" {
			known = append(known, n)
		}
	}
	if len(known) == 0 {
		return ""
	}
	return "did you mean " + strings.Join(known, " or ") + "?"
}
