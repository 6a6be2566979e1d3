package device

import (
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/distributed"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// axis names the one axis of every mesh.
const axis = "data"

// Mesh is some devices of a backend that run each program together. XLA's partitioner (Shardy, by
// way of GoMLX's AutoSharding) divides a program by how its inputs and results lie on them: what is
// computed is what one device would compute, sums in another order apart.
type Mesh struct {
	backend *Backend
	size    int
	mesh    *distributed.DeviceMesh // nil: one device, and nothing to divide
}

// DevicesError says that a backend has not that many devices.
type DevicesError struct {
	Want, Have int
	Backend    string
}

func (e *DevicesError) Error() string {
	return fmt.Sprintf("%d devices are asked for, and backend %s has %d", e.Want, e.Backend, e.Have)
}

// Mesh takes the first devices of the backend.
func (b *Backend) Mesh(devices int) (*Mesh, error) {
	m := &Mesh{backend: b, size: devices}
	if have := b.NumDevices(); devices < 1 || devices > have {
		return nil, &DevicesError{Want: devices, Have: have, Backend: b.Kind}
	}
	if devices == 1 {
		return m, nil
	}
	var err error
	m.mesh, err = distributed.NewDeviceMesh([]int{devices}, []string{axis})
	return m, err
}

// Size is how many devices there are.
func (m *Mesh) Size() int { return m.size }

// part is what one device holds of a shape.
func (m *Mesh) part(shape shapes.Shape, split bool) shapes.Shape {
	if !split || m.size == 1 {
		return shape
	}
	part := shape.Clone()
	part.Dimensions[0] /= m.size
	return part
}

// spec says how a tensor lies on the devices.
func (m *Mesh) spec(split bool) *distributed.ShardingSpec {
	switch {
	case m.mesh == nil:
		return nil
	case split:
		return &distributed.ShardingSpec{Mesh: m.mesh, Axes: []distributed.AxisSpec{{axis}}}
	default:
		return distributed.NewReplicatedShardingSpec(m.mesh)
	}
}

// Array is a tensor as the devices of a mesh hold it: each of them all of it, or each a part of its
// first axis.
type Array struct {
	shape shapes.Shape
	parts []*tensors.Tensor // one a device
	split bool
}

// First is the first device's tensor: all of it, unless the array is divided.
func (a *Array) First() *tensors.Tensor { return a.parts[0] }

// Size is the number of elements.
func (a *Array) Size() int { return a.shape.Size() }

// Bytes copies all of it to the host, little-endian.
func (a *Array) Bytes() ([]byte, error) {
	parts := a.parts
	if !a.split {
		parts = parts[:1]
	}
	all := make([]byte, 0, a.shape.ByteSize())
	for _, t := range parts {
		if err := t.ConstBytes(func(data []byte) { all = append(all, data...) }); err != nil {
			return nil, trimmed{err}
		}
	}
	return all, nil
}

// Float32s copies all of an fp32 array to the host.
func (a *Array) Float32s() ([]float32, error) {
	data, err := a.Bytes()
	if err != nil {
		return nil, err
	}
	values := make([]float32, len(data)/4)
	copy(dtypes.UnsafeByteSlice(values), data)
	return values, nil
}

// Free frees what the devices hold of it. An array that was given away is already free.
func (a *Array) Free() {
	for _, t := range a.parts {
		_ = t.FinalizeAll() // fails for what is free only
	}
}

// Raw places little-endian bytes; split divides them among the devices.
func (m *Mesh) Raw(dtype dtypes.DType, data []byte, split bool, dims ...int) (*Array, error) {
	a := &Array{shape: shapes.Make(dtype, dims...), split: split && m.size > 1}
	part := m.part(a.shape, a.split)
	for i := range m.size {
		own := data
		if a.split {
			n := len(data) / m.size
			own = data[i*n : (i+1)*n]
		}
		t, err := tensors.FromRaw(m.backend.Backend, compute.DeviceNum(i), part, own)
		if err != nil {
			a.Free()
			return nil, runError(fmt.Sprintf("placing a tensor %s%v", dtype, dims), err)
		}
		a.parts = append(a.parts, t)
	}
	return a, nil
}

// Float32 places values; split divides them among the devices.
func (m *Mesh) Float32(values []float32, split bool, dims ...int) (*Array, error) {
	return m.Raw(dtypes.Float32, dtypes.UnsafeByteSlice(values), split, dims...)
}

// Int32 places values; split divides them among the devices.
func (m *Mesh) Int32(values []int32, split bool, dims ...int) (*Array, error) {
	return m.Raw(dtypes.Int32, dtypes.UnsafeByteSlice(values), split, dims...)
}

// Uint32 places a number on every device.
func (m *Mesh) Uint32(value uint32) (*Array, error) {
	return m.Raw(dtypes.Uint32, dtypes.UnsafeByteSlice([]uint32{value}), false)
}

// Spread gives every device a copy of tensors that are on the first. They become the arrays'.
func (m *Mesh) Spread(ts []*tensors.Tensor) ([]*Array, error) {
	all := make([]*Array, len(ts))
	for i, t := range ts {
		all[i] = &Array{shape: t.Shape(), parts: []*tensors.Tensor{t}}
		for d := 1; d < m.size; d++ {
			copied, err := t.OnDeviceClone(m.backend.Backend, compute.DeviceNum(d))
			if err != nil {
				return nil, runError(fmt.Sprintf("copying a tensor %s to device %d", t.Shape(), d), err)
			}
			all[i].parts = append(all[i].parts, copied)
		}
	}
	return all, nil
}

// Build is a graph to compile for a mesh.
type Build struct {
	Name   string
	Inputs []Input
	Donate []bool // inputs that each run is given: results may lie in their memory; nil: none
	Split  []bool // results of which each device keeps a part of the first axis; nil: none
	Graph  func(in []*graph.Node) []*graph.Node
}

// Compile compiles a program that all devices run together.
func (m *Mesh) Compile(b Build) (*Program, error) { return m.backend.compile(m, b) }
