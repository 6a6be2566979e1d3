//go:build !cgo || noxla

package device

import (
	"errors"

	"github.com/gomlx/compute"
)

func openXLA(string) (compute.Backend, error) {
	return nil, errors.New("this build has no XLA (it was built without cgo)")
}
