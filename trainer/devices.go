package trainer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/t5ctl/t5ctl/internal/device"
)

// Auto lets the backend decide a setting; Options.On says how it did.
const Auto = "auto"

// Devices says how many devices of this machine share a step: a number, all, or auto.
type Devices string

// AllDevices are as many as the backend has.
const AllDevices Devices = "all"

// GPU is how an NVIDIA device is opened. It says nothing where there is none.
type GPU struct {
	TF32           bool    `yaml:"tf32"`            // products of fp32 matrices in TF32: several times as fast, to about three digits
	Preallocate    bool    `yaml:"preallocate"`     // take the share of the memory at once, so that nothing else can
	MemoryFraction float64 `yaml:"memory_fraction"` // largest share of the device's memory to take
	Allocator      string  `yaml:"allocator"`       // who hands out the memory: default, bfc, cuda_async or platform
}

// Allocators lists what gpu.allocator may be.
func Allocators() []string { return []string{"default", "bfc", "cuda_async", "platform"} }

// deviceRefusals are what is wrong with how many devices there shall be, and how they are opened.
func (o Options) deviceRefusals() (all []string) {
	if n, err := strconv.Atoi(string(o.Devices)); o.Devices != Auto && o.Devices != AllDevices && (err != nil || n < 1) {
		all = append(all, fmt.Sprintf("devices is %q; it is a number from 1, all, or auto", string(o.Devices)))
	}
	if f := o.GPU.MemoryFraction; !(f > 0 && f <= 1) {
		all = append(all, fmt.Sprintf("gpu.memory_fraction is %g, must be in (0, 1]", f))
	}
	if !slices.Contains(Allocators(), o.GPU.Allocator) {
		all = append(all, fmt.Sprintf("gpu.allocator is %q; it is one of %s", o.GPU.Allocator, strings.Join(Allocators(), ", ")))
	}
	return all
}

// Open is how a backend is opened for a run.
func (o Options) Open() device.Settings {
	return device.Settings{
		Devices: o.Devices.Count(), TF32: o.GPU.TF32, Preallocate: o.GPU.Preallocate, MemoryFraction: o.GPU.MemoryFraction, Allocator: o.GPU.Allocator,
	}
}

// On settles what the backend decides: on GPUs a run computes in bf16 on all of them, elsewhere in
// fp32 on one device, unless the options say otherwise.
func (o Options) On(b *device.Backend) (Options, error) {
	gpu := b.Kind == device.CUDA
	if o.Precision == Auto {
		o.Precision = "fp32"
		if gpu {
			o.Precision = "bf16"
		}
	}
	switch {
	case o.Devices == AllDevices, o.Devices == Auto && gpu:
		o.Devices = Devices(strconv.Itoa(b.NumDevices()))
	case o.Devices == Auto:
		o.Devices = "1"
	}
	if want, have := o.Devices.Count(), b.NumDevices(); want > have {
		return o, fmt.Errorf("train.devices: %w", &device.DevicesError{Want: want, Have: have, Backend: b.Kind})
	}
	return o, nil
}

// Count is how many; 1 where the backend has not been asked yet.
func (d Devices) Count() int {
	n, err := strconv.Atoi(string(d))
	if err != nil {
		return 1
	}
	return n
}
