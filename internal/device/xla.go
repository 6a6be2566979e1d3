//go:build cgo && !noxla

package device

import (
	"github.com/gomlx/compute"
	"github.com/gomlx/go-xla/compute/xla"
)

// openXLA opens the PJRT plugin at an absolute path. It never looks for another one and never
// downloads.
func openXLA(path string) (compute.Backend, error) {
	xla.EnableAutoInstall(false)
	return quietly(func() (compute.Backend, error) { return xla.New(path) })
}
