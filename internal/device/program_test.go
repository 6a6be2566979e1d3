package device_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
)

// compileSum compiles a + b, which may lie in the memory of a.
func compileSum(t *testing.T, b *device.Backend) *device.Program {
	t.Helper()
	shape := shapes.Make(dtypes.Float32, 1000)
	p, err := b.CompileInPlace("sum", []device.Input{{Name: "a", Shape: shape}, {Name: "b", Shape: shape}}, []bool{true, false},
		func(in []*Node) []*Node { return []*Node{Add(in[0], in[1])} })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// runSum adds 1, 2, 3, … to itself.
func runSum(t *testing.T, b *device.Backend, p *device.Program) []float32 {
	t.Helper()
	values := make([]float32, 1000)
	for i := range values {
		values[i] = float32(i + 1)
	}
	var args []*tensors.Tensor
	for range 2 {
		x, err := b.Float32(values, len(values))
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, x)
	}
	out, err := p.Run(args, nil)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := tensors.CopyFlatData[float32](out[0])
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestResultLiesInTheMemoryOfWhatIsGivenAway(t *testing.T) {
	devicetest.Each(t, func(t *testing.T, b *device.Backend) {
		p := compileSum(t, b)
		defer p.Close()
		for range 2 {
			sum := runSum(t, b, p)
			if i := slices.IndexFunc(sum, func(v float32) bool { return v == 0 }); i >= 0 || sum[0] != 2 || sum[999] != 2000 {
				t.Fatalf("sum is %g … %g", sum[0], sum[999])
			}
		}
		if b.Kind == device.Go {
			return // says nothing of memory
		}
		if m := p.Memory; m.Inputs != 8000 || m.Outputs != 4000 || m.Aliases != 4000 {
			t.Errorf("memory %+v, want 8000 bytes in, 4000 out, all of them where an input lies", m)
		}
	})
}

// TestSumProcess is the process that TestCompiledProgramsOutliveTheirProcess starts.
func TestSumProcess(t *testing.T) {
	if os.Getenv("T5CTL_TEST_SUM") == "" {
		t.Skip("started by the test of kept programs only")
	}
	b := devicetest.XLA(t)
	p := compileSum(t, b)
	fmt.Printf("reused %v, aliases %d, last %g\n", p.Reused, p.Memory.Aliases, runSum(t, b, p)[999])
}

func TestCompiledProgramsOutliveTheirProcess(t *testing.T) {
	devicetest.XLA(t)
	dir := t.TempDir()
	process := func() string {
		cmd := exec.Command(os.Args[0], "-test.run=^TestSumProcess$", "-test.v")
		cmd.Env = append(os.Environ(), "T5CTL_TEST_SUM=1", "T5CTL_PROGRAM_CACHE="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "reused ") {
				return line
			}
		}
		t.Fatalf("it says nothing of a program:\n%s", out)
		return ""
	}
	const compiled, reused = "reused false, aliases 4000, last 2000\n", "reused true, aliases 4000, last 2000\n"
	if got := process(); got != compiled {
		t.Errorf("first process: %s", got)
	}
	if got := process(); got != reused {
		t.Errorf("second process: %s", got)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.program"))
	if err != nil || len(files) != 1 {
		t.Fatalf("kept %v, %v", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(files[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := process(); got != compiled {
		t.Errorf("over a damaged file: %s", got)
	}
	if got := process(); got != reused {
		t.Errorf("after that: %s", got)
	}
}

// What no memory can hold is told apart from other failures, and the backend can be used afterwards.
func TestOutOfMemory(t *testing.T) {
	b := devicetest.XLA(t)
	p, err := b.Compile("huge", []device.Input{{Name: "x", Shape: shapes.Make(dtypes.Float32)}}, func(in []*Node) []*Node {
		return []*Node{BroadcastToDims(in[0], 1<<22, 1<<22)} // 64 TiB
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	x, err := b.Float32([]float32{1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Run([]*tensors.Tensor{x}, nil)
	if e, ok := errors.AsType[*device.MemoryError](err); !ok || e.What != "running huge" || !strings.Contains(err.Error(), ": too little memory: ") {
		t.Errorf("error %v", err)
	}
	sum := compileSum(t, b)
	defer sum.Close()
	if got := runSum(t, b, sum); got[999] != 2000 {
		t.Errorf("afterwards the sum is %g", got[999])
	}
}

func TestTooLittleMemoryIsSaid(t *testing.T) {
	b := devicetest.Go(t)
	_, err := b.Compile("t5.gradients 8 × (128 → 64)", nil, func([]*Node) []*Node {
		panic(errors.New("RESOURCE_EXHAUSTED: Out of memory allocating 1073741824 bytes.\nBuffer assignment: …"))
	})
	if e, ok := errors.AsType[*device.MemoryError](err); !ok || e.What != "compiling t5.gradients 8 × (128 → 64)" ||
		err.Error() != e.What+": too little memory: RESOURCE_EXHAUSTED: Out of memory allocating 1073741824 bytes." {
		t.Errorf("%v", err)
	}
}
