//go:build !cgo || noxla || !unix

package device

import (
	"errors"

	"github.com/gomlx/compute"
)

func openXLA(string, string, Settings) (compute.Backend, error) {
	return nil, errors.New("this build has no XLA (it was built without cgo)")
}

func trim() {}

func compileOnce(_ []bool, compile func() error) (compiled, error) { return compiled{}, compile() }
