package machine_test

import (
	"runtime"
	"testing"

	"github.com/t5ctl/t5ctl/internal/machine"
)

func TestFigures(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skipf("figures come from /proc, which %s has not", runtime.GOOS)
	}
	total, free := machine.Memory(), machine.FreeMemory()
	if total < 16<<20 || free <= 0 || free > total {
		t.Errorf("memory %d, free %d", total, free)
	}
	if disk := machine.FreeDisk(t.TempDir()); disk <= 0 {
		t.Errorf("free disk %d", disk)
	}
	if disk := machine.FreeDisk("/no/such/folder"); disk != 0 {
		t.Errorf("free disk of no folder: %d; want 0", disk)
	}
}
