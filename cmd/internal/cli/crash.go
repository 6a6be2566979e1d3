package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/t5ctl/t5ctl/cmd/internal/settings"
)

// crashError is a panic that was caught: a defect of t5ctl, never of its input.
type crashError struct {
	value  any
	report string // file with the stack and no data, "" where it could not be written
	stack  string // for --debug, else ""
}

func (e *crashError) Error() string {
	text := strings.Join(strings.Fields(fmt.Sprint(e.value)), " ")
	return "internal error: " + text
}

func (e *crashError) Unwrap() error {
	if err, ok := e.value.(error); ok {
		if _, own := errors.AsType[runtime.Error](err); !own {
			return nil // a library's panic is no promise about its cause
		}
		return err
	}
	return nil
}

func (e *crashError) hint() string {
	hint := "this is a defect of t5ctl; --debug shows the stack"
	if e.report != "" {
		hint += "\n" + e.report + " holds what a report needs, and no data"
	}
	return hint
}

// newCrash is called while the panic unwinds, so that the stack still holds its cause.
func newCrash(root *cobra.Command, value any, withStack bool) *crashError {
	crash := &crashError{value: value}
	if withStack {
		crash.stack = string(debug.Stack())
	}
	path, err := writeCrashReport(crashReport(root, value))
	if err == nil {
		crash.report = path
	}
	return crash
}

// crashReport holds versions, the command and the names of its flags, and the functions on the
// stack: no argument, no value, no path of the user, and of the panic only its type.
func crashReport(root *cobra.Command, value any) string {
	var b strings.Builder
	v := versionOf()
	fmt.Fprintf(&b, "t5ctl %s (%s) %s %s/%s\n", v.Version, v.Commit, v.Go, runtime.GOOS, runtime.GOARCH)
	fmt.Fprintf(&b, "command: %s\n", strings.Join(commandShape(root), " "))
	fmt.Fprintf(&b, "panic: %T\n\n", value)
	if err, ok := value.(runtime.Error); ok {
		fmt.Fprintf(&b, "runtime: %s\n\n", err)
	}
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		frame, more := frames.Next()
		fmt.Fprintf(&b, "%s\n\t%s:%d\n", frame.Function, filepath.Base(frame.File), frame.Line)
		if !more {
			break
		}
	}
	return b.String()
}

// commandShape is the command line without its values.
func commandShape(root *cobra.Command) []string {
	cmd := root
	if found, _, err := root.Find(os.Args[1:]); err == nil {
		cmd = found
	}
	shape := []string{cmd.CommandPath()}
	cmd.Flags().Visit(func(f *pflag.Flag) { shape = append(shape, "--"+f.Name) })
	return shape
}

func writeCrashReport(text string) (string, error) {
	dir := filepath.Join(settings.StateHome(), "t5ctl", "crashes")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, time.Now().UTC().Format("20060102-150405-")+"*.txt")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(text)
	return f.Name(), errors.Join(err, f.Close())
}
