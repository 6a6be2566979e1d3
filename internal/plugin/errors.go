package plugin

import (
	"errors"
	"fmt"
	"strings"
)

// NotInstalledError says that there is no plugin of the kind in the folder.
type NotInstalledError struct {
	Kind string // cpu, cuda, cuda12 or cuda13
	Dir  string // where it was looked for
}

func (e *NotInstalledError) Error() string {
	return fmt.Sprintf("compute plugin %s is not installed in %s", e.Kind, e.Dir)
}

// DamagedError says that an installed plugin is not what was installed. Installing it again
// replaces it.
type DamagedError struct {
	Dir    string
	Reason string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("compute plugin in %s is damaged: %s", e.Dir, e.Reason)
}

// ChecksumError says that a wheel is not the one that is pinned. It has not been unpacked.
type ChecksumError struct {
	File string // the file or address it came from
	Want string // the pinned digest, "sha256:…"
	Got  string
}

func (e *ChecksumError) Error() string {
	return fmt.Sprintf("%s has digest %s, pinned is %s", e.File, e.Got, e.Want)
}

// NoRouteError says that a wheel could not be fetched in any way, and why not.
type NoRouteError struct {
	Kind  string
	Wheel string  // file name of the wheel
	Tried []error // one a route
}

func (e *NoRouteError) Error() string {
	reasons := make([]string, len(e.Tried))
	for i, err := range e.Tried {
		reasons[i] = err.Error()
	}
	return fmt.Sprintf("cannot fetch %s: %s", e.Wheel, strings.Join(reasons, "; "))
}

// Unwrap gives the failure of each route.
func (e *NoRouteError) Unwrap() []error { return e.Tried }

// MissingWheelsError says that the files given do not make up the plugin.
type MissingWheelsError struct {
	Kind    string
	Missing []string // file names of the wheels that are wanted as well
}

func (e *MissingWheelsError) Error() string {
	return fmt.Sprintf("plugin %s also needs %s", e.Kind, strings.Join(e.Missing, ", "))
}

// UnsupportedPlatformError says that no plugin of the kind is known for this machine.
type UnsupportedPlatformError struct {
	Kind, OS, Arch string
	Supported      []string // the platforms there is one for, as os/arch
}

func (e *UnsupportedPlatformError) Error() string {
	return fmt.Sprintf("no %s plugin for %s/%s, only for %s", e.Kind, e.OS, e.Arch, strings.Join(e.Supported, ", "))
}

// UnknownKindError says that there is no such kind of plugin.
type UnknownKindError struct {
	Kind  string
	Known []string
}

func (e *UnknownKindError) Error() string {
	return fmt.Sprintf("no compute plugin is called %q, known are %s", e.Kind, strings.Join(e.Known, ", "))
}

// errPipAbsent says that there is no Python with pip on this machine.
var errPipAbsent = errors.New("no python3 with pip")
