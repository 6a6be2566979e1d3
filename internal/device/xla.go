//go:build cgo && !noxla && unix

package device

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/gomlx/compute"
	"github.com/gomlx/go-xla/compute/xla"
	xlapjrt "github.com/gomlx/go-xla/pjrt"

	"github.com/t5ctl/t5ctl/internal/device/pjrt"
)

// openXLA opens the PJRT plugin at an absolute path. It never looks for another one and never
// downloads.
func openXLA(kind, path string, s Settings) (compute.Backend, error) {
	xla.EnableAutoInstall(false)
	return quietly(func() (compute.Backend, error) {
		table, err := pjrt.Open(path, programFolder())
		if err != nil {
			return nil, err
		}
		if table != 0 {
			if err := xlapjrt.RegisterPreloadedPlugin(path, table); err != nil {
				return nil, err
			}
		}
		config, options := path, xlapjrt.NamedValuesMap{}
		switch {
		case kind == CUDA:
			config = fmt.Sprintf("%s,tf32=%t,preallocate=%t,memory_fraction=%g,allocator=%s", path, s.TF32, s.Preallocate, s.MemoryFraction, s.Allocator)
		case s.Devices > 0:
			options["cpu_device_count"] = int64(max(s.Devices, shownDevices))
		}
		return xla.NewWithOptions(config, options)
	})
}

// shownDevices is how many devices the pinned CPU plugin shows by itself.
const shownDevices = 4

// programFolder is where compiled programs are kept for later processes; $T5CTL_PROGRAM_CACHE
// names another folder, and an empty one keeps none.
func programFolder() string {
	if dir, set := os.LookupEnv("T5CTL_PROGRAM_CACHE"); set {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "t5ctl", "programs")
}

func trim() { pjrt.Trim() }

// compileOnce compiles one program; the arguments marked in donate are given away at each run.
func compileOnce(donate []bool, compile func() error) (compiled, error) {
	c, err := pjrt.Compile(donate, compile)
	m := c.Memory
	return compiled{Memory{Code: m.Code, Inputs: m.Inputs, Outputs: m.Outputs, Aliases: m.Aliases, Temporary: m.Temporary}, c.Reused}, err
}
