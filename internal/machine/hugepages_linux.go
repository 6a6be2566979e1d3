package machine

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// tunable asks glibc to advise huge pages for its large blocks; it is read once, when a process
// starts.
const tunable = "glibc.malloc.hugetlb"

// UseHugePages lets large blocks of the C library's memory lie in huge pages, where the kernel
// gives these on advice only: it starts this program again, in the same process, with the
// library's switch set. XLA takes its working memory anew at each step; with pages of 4 KiB, a
// quarter of a small model's step goes into page faults. Where nothing is to be gained, or the
// user has set the switch, it does nothing.
func UseHugePages() {
	mode, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	have := os.Getenv("GLIBC_TUNABLES")
	if err != nil || !strings.Contains(string(mode), "[madvise]") || strings.Contains(have, tunable) {
		return
	}
	self, err := os.Executable()
	if err != nil {
		return
	}
	if have != "" {
		have += ":"
	}
	if os.Setenv("GLIBC_TUNABLES", have+tunable+"=1") == nil {
		_ = unix.Exec(self, os.Args, os.Environ()) // where it fails, the program goes on as it is
	}
}
