package plugin

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// oldestDriver is the first branch of NVIDIA's driver that runs programs of a CUDA release
// ("CUDA Compatibility" in NVIDIA's documentation).
func oldestDriver(kind string) int { return map[string]int{CUDA12: 525, CUDA13: 580}[kind] }

// libraries are the files below nvidia/ that a CUDA plugin opens while it works, as the pinned wheels
// hold them: a * stands for the folder, which differs between releases.
func libraries(kind string) []string {
	both := []string{
		"cudnn/lib/libcudnn.so.9", "nccl/lib/libnccl.so.2", "nvshmem/lib/libnvshmem_host.so.3", "*/bin/ptxas", "*/nvvm/libdevice/libdevice.10.bc",
	}
	release := map[string][]string{
		CUDA12: {"cublas.so.12", "cublasLt.so.12", "cudart.so.12", "cufft.so.11", "cupti.so.12", "cusolver.so.11", "cusparse.so.12", "nvJitLink.so.12", "nvrtc.so.12"},
		CUDA13: {"cublas.so.13", "cublasLt.so.13", "cudart.so.13", "cufft.so.12", "cupti.so.13", "cusolver.so.12", "cusparse.so.12", "nvJitLink.so.13", "nvrtc.so.13"},
	}[kind]
	for _, name := range release {
		both = append(both, "*/lib/lib"+name)
	}
	return both
}

// DriverError says that NVIDIA's driver is not there or cannot run a plugin.
type DriverError struct {
	Kind string // of the plugin
	Have string // version of the driver; empty: there is none
	Want int    // the oldest branch that does
}

func (e *DriverError) Error() string {
	if e.Have == "" {
		return fmt.Sprintf("no NVIDIA driver is loaded; %s needs version %d or newer", e.Kind, e.Want)
	}
	return fmt.Sprintf("NVIDIA driver %s is too old for %s, which needs version %d or newer", e.Have, e.Kind, e.Want)
}

// LibrariesError says that some of NVIDIA's libraries are not where a plugin looks for them.
type LibrariesError struct {
	Kind    string
	Dir     string
	Missing []string // file names
}

func (e *LibrariesError) Error() string {
	return fmt.Sprintf("%s lacks %s, which plugin %s opens", e.Dir, strings.Join(e.Missing, ", "), e.Kind)
}

// Check says whether an NVIDIA plugin has what it needs beside itself: the system's driver, and
// NVIDIA's libraries. The system is at root, "/" but in tests. A plugin that was given by path
// without libraries may find them where the system keeps its own, and is taken at its word.
func (p Plugin) Check(root string) error {
	oldest := oldestDriver(p.Kind)
	if oldest == 0 {
		return nil
	}
	have := driverVersion(root)
	if branch, _, _ := strings.Cut(have, "."); number(branch) < oldest {
		return &DriverError{Kind: p.Kind, Have: have, Want: oldest}
	}
	return p.complete()
}

// complete says whether all of NVIDIA's libraries are beside the plugin.
func (p Plugin) complete() error {
	dir := filepath.Join(filepath.Dir(filepath.Dir(p.Path)), strings.TrimSuffix(nvidiaDir, "/"))
	if _, err := os.Stat(dir); err != nil && p.Version == Custom {
		return nil
	}
	var missing []string
	for _, name := range libraries(p.Kind) {
		found, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil || len(found) == 0 {
			missing = append(missing, filepath.Base(name))
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return &LibrariesError{Kind: p.Kind, Dir: dir, Missing: missing}
	}
	return nil
}

// incomplete says whether the plugin in a folder lacks libraries that its wheels brought.
func incomplete(dir string) bool {
	p, err := load(dir)
	return err != nil || oldestDriver(p.Kind) > 0 && p.complete() != nil
}

// driverVersion is what the loaded driver says of itself, as in "580.65.06"; empty where there is
// none.
func driverVersion(root string) string {
	text, err := os.ReadFile(filepath.Join(root, "proc", "driver", "nvidia", "version"))
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return regexp.MustCompile(`\b\d{3,}\.\d+(\.\d+)?\b`).FindString(line)
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return n
}
