package oci_test

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/registry"
	"github.com/t5ctl/t5ctl/registry/registrytest"
)

// TestBackend runs the tests of every backend against servers with and without tags that move.
func TestBackend(t *testing.T) {
	for name, start := range kinds() {
		t.Run(name, func(t *testing.T) {
			shared := start(t)
			registrytest.Run(t, func(t *testing.T) registry.Backend {
				s := shared
				s.prefix = "team/" + strings.ToLower(rand.Text()[:8])
				return open(t, s)
			})
		})
	}
}
