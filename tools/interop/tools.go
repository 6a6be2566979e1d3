//go:build tools

// Package interop names the programs that `make interop-tools` builds.
package interop

import (
	_ "github.com/distribution/distribution/v3/cmd/registry" // a registry server
	_ "github.com/google/go-containerregistry/cmd/crane"     // a registry client
	_ "oras.land/oras/cmd/oras"                              // another
)
