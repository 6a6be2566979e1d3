package local_test

import (
	"testing"

	"github.com/t5ctl/t5ctl/registry"
	"github.com/t5ctl/t5ctl/registry/local"
	"github.com/t5ctl/t5ctl/registry/registrytest"
)

func TestBackend(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registry.Backend { return local.Open(tempDir(t)) })
}
