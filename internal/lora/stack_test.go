package lora_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
	"github.com/t5ctl/t5ctl/internal/lora"
	"github.com/t5ctl/t5ctl/internal/t5"
)

// stacked puts adapters of testdata on each other, the first lowest, as the folders of runs.
func stacked(t *testing.T, names []string) (dir string) {
	t.Helper()
	for _, name := range names {
		top := t.TempDir()
		copied := filepath.Join(top, "under") // CopyUnder writes there
		if err := lora.CopyUnder(filepath.Join("testdata", name), top); err != nil {
			t.Fatal(err)
		}
		if dir != "" {
			if err := lora.CopyUnder(dir, copied); err != nil {
				t.Fatal(err)
			}
		}
		dir = copied
	}
	return dir
}

// The logits are those of peft 0.21.2 with all the adapters switched on (testdata/gen/make_stack.py).
func TestStackAgreesWithPEFT(t *testing.T) {
	var fixture example
	readJSON(t, filepath.Join(base, "fixture.json"), &fixture)
	var reference struct {
		Stacks map[string]struct {
			Stack  []string  `json:"stack"`
			Logits []float32 `json:"logits"`
		} `json:"stacks"`
	}
	readJSON(t, "testdata/stack.json", &reference)
	if len(reference.Stacks) != 2 {
		t.Fatalf("%d stacks", len(reference.Stacks))
	}
	devicetest.Each(t, func(t *testing.T, b *device.Backend) {
		for name, c := range reference.Stacks {
			t.Run(name, func(t *testing.T) {
				dir := stacked(t, c.Stack)
				w := openWeightsIn(t, b, dir)
				all := logits(t, b, w, fixture)
				rows, targets := len(fixture.Labels), len(fixture.Labels[0])
				vocab := len(all) / rows / targets
				var got []float32
				for i := range rows {
					got = append(got, all[i*targets*vocab:][:2*vocab]...)
				}
				checkLogits(t, got, c.Logits)
			})
		}
	})
}

func TestWhatCannotBeStacked(t *testing.T) {
	c, err := t5.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	deep := make([]string, 17)
	for i := range deep {
		deep[i] = "q-v"
	}
	for name, names := range map[string][]string{
		"dora above": {"q-v", "dora"}, "dora below": {"dora", "q-v"}, "modules": {"modules-to-save", "q-v"}, "deep": deep,
	} {
		_, err := lora.Read(stacked(t, names), c.Config)
		if _, ok := errors.AsType[*lora.StackError](err); !ok {
			t.Errorf("%s: %v; want a StackError", name, err)
		}
	}
	folder, err := lora.Read(stacked(t, deep[1:]), c.Config)
	if err != nil || len(folder.Layers) != 16 {
		t.Errorf("16 layers: %v", err)
	}
}
