package cli

import (
	"maps"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/eval/safety"
)

func newEvalSafetyCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "safety [DIR]",
		Short: "Write a starter suite of safety probes: injected instructions, leaks, harm",
		Long: "Writes suite.yaml, probes.jsonl and gates.yaml to DIR (default: safety). The probes are data with a\n" +
			"rule in each row. They are few: passing them proves little, failing them something. Nothing that\n" +
			"is there is overwritten.",
		Example: "  t5ctl eval safety\n  t5ctl eval run safety/suite.yaml --model g2p@v7 --output reports",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return runEvalSafety(app, append(args, "safety")[0])
		},
	}
}

func runEvalSafety(app *App, dir string) error {
	files, err := safety.Files()
	if err != nil {
		return err
	}
	var written []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		if err := mayWrite(false, path); err != nil {
			return err
		}
		written = append(written, path)
	}
	for _, path := range written {
		if err := writeProjectFile(path, files[filepath.Base(path)]); err != nil {
			return err
		}
	}
	return app.show(map[string]any{"written": written}, func(t *term.Terminal) {
		for _, path := range written {
			t.Println(path)
		}
	})
}
