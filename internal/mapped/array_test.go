package mapped_test

import (
	"os"
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/internal/mapped"
)

// An array has the values that were appended, in memory or in a file, and leaves no file behind.
func TestArray(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for _, n := range []int{0, 1, 1000, 1 << 17, 300_001} {
		var a mapped.Array[float64]
		var want []float64
		for i := range n {
			a.Append(float64(i)/3, -float64(i))
			want = append(want, float64(i)/3, -float64(i))
		}
		if err := a.Settle(); err != nil || a.Len() != 2*n || !slices.Equal(a.All(), want) {
			t.Errorf("%d values came back as %d, %v", 2*n, len(a.All()), err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%d values: %s is left", 2*n, left[0].Name())
		}
		if err := a.Close(); err != nil || a.Close() != nil || a.Len() != 0 {
			t.Errorf("closing: %v", err)
		}
	}
	var a mapped.Array[float32]
	for range 1 << 19 {
		a.Append(1)
	}
	if err := a.Close(); err != nil { // without being settled
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%s is left", left[0].Name())
	}
	t.Setenv("TMPDIR", "/nothing/there")
	for range 1 << 19 {
		a.Append(1)
	}
	if a.Settle() == nil {
		t.Error("no error without a folder for the file")
	}
}
