package device_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
)

// runMesh multiplies rows that four devices share by a matrix that each has, adds what came of it
// to a divided sum that is given away, and tells the whole product's sum too.
func runMesh(t *testing.T, b *device.Backend) (sum, total []float32, p *device.Program) {
	t.Helper()
	m, err := b.Mesh(4)
	if err != nil {
		t.Fatal(err)
	}
	rows, square := shapes.Make(dtypes.Float32, 8, 16), shapes.Make(dtypes.Float32, 16, 16)
	p, err = m.Compile(device.Build{
		Name:   "mesh",
		Inputs: []device.Input{{Name: "sum", Shape: rows, Split: true}, {Name: "x", Shape: rows, Split: true}, {Name: "w", Shape: square}},
		Donate: []bool{true, true, false}, Split: []bool{true, false},
		Graph: func(in []*Node) []*Node {
			product := Einsum("ij,jk->ik", in[1], in[2])
			return []*Node{Add(in[0], product), ReduceSum(product, 0)}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	values := make([]float32, 8*16)
	eye := make([]float32, 16*16)
	for i := range values {
		values[i] = float32(i)
	}
	for i := range 16 {
		eye[17*i] = 2
	}
	var args []*device.Array
	for i, in := range [][]float32{values, values, eye} {
		dims := []int{len(in) / 16, 16}
		a, err := m.Float32(in, i < 2, dims...)
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, a)
	}
	out, err := p.RunOn(args, nil)
	if err != nil {
		t.Fatal(err)
	}
	args[2].Free()
	for i, into := range []*[]float32{&sum, &total} {
		if *into, err = out[i].Float32s(); err != nil {
			t.Fatal(err)
		}
		out[i].Free()
	}
	return sum, total, p
}

func TestMeshDividesRowsAndPutsThemTogether(t *testing.T) {
	sum, total, p := runMesh(t, devicetest.XLA(t))
	for i, v := range sum {
		if v != float32(3*i) {
			t.Fatalf("sum %v, want three times the place", sum)
		}
	}
	for i, v := range total { // 2·(i + (i+16) + … + (i+112))
		if v != float32(16*i+2*448) {
			t.Fatalf("total %v", total)
		}
	}
	// Each device has 2 of the 8 rows, twice, and the whole matrix; the new sum lies where the old one was.
	if m := p.Memory; m.Inputs != 2*128+1024 || m.Aliases != 128 {
		t.Errorf("memory %+v of each device", m)
	}
}

// TestMeshProcess is the process that TestMeshProgramsOutliveTheirProcess starts.
func TestMeshProcess(t *testing.T) {
	if os.Getenv("T5CTL_TEST_MESH") == "" {
		t.Skip("started by the test of kept programs only")
	}
	sum, total, p := runMesh(t, devicetest.XLA(t))
	fmt.Printf("reused %v %v %v\n", p.Reused, slices.Max(sum), slices.Max(total))
}

func TestMeshProgramsOutliveTheirProcess(t *testing.T) {
	devicetest.XLA(t)
	dir := t.TempDir()
	for _, want := range []string{"reused false 381 1136", "reused true 381 1136"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestMeshProcess$", "-test.v")
		cmd.Env = append(os.Environ(), "T5CTL_TEST_MESH=1", "T5CTL_PROGRAM_CACHE="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Fatalf("%v, want %q:\n%s", err, want, out)
		}
	}
}

func TestMeshOfMoreDevicesThanThereAre(t *testing.T) {
	_, err := devicetest.Go(t).Mesh(2)
	if e, ok := errors.AsType[*device.DevicesError](err); !ok || e.Want != 2 || e.Have != 1 {
		t.Errorf("error %v", err)
	}
}
