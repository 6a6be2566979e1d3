package local_test

import (
	"testing"

	"github.com/t5ctl/t5ctl/registry/registrytest"
)

func BenchmarkPush(b *testing.B) {
	root := tempDir(b)
	dir := registrytest.WriteModel(b, tempDir(b), 1)
	for b.Loop() {
		if err := pushFolder(open(root), dir); err != nil {
			b.Fatal(err)
		}
	}
}
