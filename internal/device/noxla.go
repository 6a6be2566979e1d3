//go:build !cgo || noxla

package device

import "github.com/gomlx/compute"

func openXLA(string) (compute.Backend, error) { return nil, errNoXLA }
